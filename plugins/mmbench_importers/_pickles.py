"""Pickles of a dict of splits, each a dict of `text`, `audio`, `vision` (N, T, D), labels and ids."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import mmbench
from mmbench import unpickling
from mmbench.data import SPLITS, Data, Dataset, Notice, Samples
from mmbench.errors import DataError
from mmbench_importers._reading import Reader, after_first, before_last

MODALITIES = {"l": "text", "a": "audio", "v": "vision"}

Frames = dict[str, dict[str, np.ndarray]]
"""By split and modality: features, float32 (N, T, D), or frames, bool (N, T)."""


class PickleImporter(mmbench.Importer):
    """One such file. Subclass it and say whose it is, and what is special about it."""

    origin: ClassVar[str]
    """Whose pickles they are."""
    labels: ClassVar[str]
    """The key of the labels."""

    def read(self, paths: Sequence[Path], dataset: Dataset) -> tuple[Data, list[Notice]]:
        """From one file with two modalities or three, of any T and D.

        Raises DataError, naming the file and the key, for anything that does not fit.
        """
        if len(paths) != 1:
            raise DataError(
                f"{dataset.name} is imported from one pickle of {self.origin}, got {len(paths)} files"
            )
        reader = Reader(Path(paths[0]), dataset)
        content = _splits(reader.path)
        keys = {m: key for m, key in MODALITIES.items() if any(key in content[s] for s in SPLITS)}
        if len(keys) < 2:
            raise reader.fail(
                "['train']",
                "expected at least two of text, audio and vision; "
                f"there are {_names(content['train'])}",
            )
        for split in SPLITS:
            for key in (*keys.values(), self.labels):
                if key not in content[split]:
                    there = _names(content[split])
                    raise reader.fail(place(split, key), f"missing; there are {there}")
        features: Frames = {split: {} for split in SPLITS}
        for split in SPLITS:
            for m, key in keys.items():
                # popped, the source is dropped when it has been converted: that bounds the memory
                features[split][m] = reader.features(
                    place(split, key), key, split, content[split].pop(key)
                )
        targets = {
            split: self.targets(
                reader,
                split,
                content[split][self.labels],
                {place(split, keys[m]): x for m, x in features[split].items()},
            )
            for split in SPLITS
        }
        valid = self.valid(reader, content, features)
        for m, key in keys.items():
            reader.without(key, [valid[split][m] for split in SPLITS])
        return reader.data(
            {
                split: Samples(
                    reader.ids(
                        place(split, "id"), split, content[split].get("id"), len(targets[split])
                    ),
                    features[split],
                    valid[split],
                    targets[split],
                )
                for split in SPLITS
            }
        )

    @abstractmethod
    def targets(
        self, reader: Reader, split: str, labels: Any, features: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """The labels of one split as the task wants them; `features` by place."""

    def valid(self, reader: Reader, content: Mapping[str, Any], features: Frames) -> Frames:
        """Which frames are not padding, bool (N, T)."""
        return inferred(features)


def place(split: str, key: str) -> str:
    """Where something lies."""
    return f"[{split!r}][{key!r}]"


def inferred(features: Frames) -> Frames:
    """Which frames are not padding, guessed from zeros, bool (N, T).

    Padding is a run of zero frames at one side, the same side in the whole file. Word-aligned
    modalities share it: a word is there if any modality has something of it. A modality that is
    zero throughout a sample has no valid frame.
    """
    lengths = {x.shape[1] for f in features.values() for x in f.values()}
    filled = {s: {m: np.asarray(x.any(-1)) for m, x in f.items()} for s, f in features.items()}
    frames = filled
    if len(lengths) == 1 and lengths != {1}:  # word-aligned
        union = {s: np.logical_or.reduce(list(f.values())) for s, f in filled.items()}
        frames = {s: dict.fromkeys(f, union[s]) for s, f in filled.items()}
    every = [x for f in frames.values() for x in f.values()]
    # a tie, such as no padding at all, goes to the front, where MulT pads
    front = sum(after_first(x).sum() for x in every) <= sum(before_last(x).sum() for x in every)
    cut = after_first if front else before_last
    return {
        s: {m: cut(x) & filled[s][m].any(1, keepdims=True) for m, x in f.items()}
        for s, f in frames.items()
    }


def _splits(path: Path) -> dict[str, dict[str, Any]]:
    content = unpickling.load(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a dict of splits, got {type(content).__name__}")
    for split in SPLITS:
        if not isinstance(content.get(split), dict):
            raise DataError(f"{path}: [{split!r}]: expected a dict; there are {_names(content)}")
    # copies: two splits may be one and the same dict, from which a key is taken twice
    return {split: dict(content[split]) for split in SPLITS}


def _names(content: Mapping[Any, Any]) -> str:
    return ", ".join(repr(key) for key in list(content)[:9] if isinstance(key, str)) or "no keys"
