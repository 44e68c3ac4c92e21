"""The pickles of MulT: `mosi_data.pkl`, `mosei_senti_data_noalign.pkl`, `iemocap_data.pkl`, ...

A dict of splits, each a dict of `text`, `audio`, `vision` (N, T, D), `labels` and perhaps `id`. Tsai et
al., Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019, introduced them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mmbench
from mmbench import unpickling
from mmbench.data import SPLITS, Data, Dataset, Notice, Samples
from mmbench.errors import DataError
from mmbench.importers import sha256_of
from mmbench.tasks import MultiBinary

MODALITIES = {"l": "text", "a": "audio", "v": "vision"}
EMOTIONS = ("neutral", "happy", "sad", "angry")
"""Columns of the labels of `iemocap_data.pkl`."""


class MulT(mmbench.Importer):
    """One such file."""

    name = "mult"
    summary = "a pickle of MulT: *_data.pkl or *_data_noalign.pkl with text, audio, vision, labels"

    def recognises(self, paths: Sequence[Path]) -> bool:
        """One pickle, without the key that only MMSA's have."""
        return (
            len(paths) == 1
            and unpickling.looks_like_pickle(paths[0])
            and not unpickling.mentions(paths[0], b"regression_labels")
        )

    def read(self, paths: Sequence[Path], dataset: Dataset) -> tuple[Data, list[Notice]]:
        """From one file; DataError if it does not fit."""
        if len(paths) != 1:
            raise DataError(
                f"{dataset.name} is imported from one pickle of MulT, got {len(paths)} files"
            )
        return read_mult_pickle(Path(paths[0]), dataset)


def read_mult_pickle(path: Path, dataset: Dataset) -> tuple[Data, list[Notice]]:
    """Reads a file as `dataset`: two modalities or three, any T and D.

    Raises DataError, naming the file and the key, for anything that does not fit.
    """
    content = unpickling.load(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a dict of splits, got {_kind(content)}")
    for split in SPLITS:
        if not isinstance(content.get(split), dict):
            raise DataError(f"{path}: [{split!r}]: expected a dict; there are {_names(content)}")
    keys = {m: key for m, key in MODALITIES.items() if any(key in content[s] for s in SPLITS)}
    if len(keys) < 2:
        raise DataError(
            f"{path}: ['train']: expected at least two of text, audio and vision; "
            f"there are {_names(content['train'])}"
        )
    reader = _Reader(path, keys, dataset)
    features = {split: reader.features(split, content[split]) for split in SPLITS}
    targets = {split: reader.targets(split, content[split]) for split in SPLITS}
    valid = reader.valid(features)
    splits = {
        split: Samples(
            reader.ids(split, content[split], len(targets[split])),
            features[split],
            valid[split],
            targets[split],
        )
        for split in SPLITS
    }
    return (
        Data(
            name=dataset.name,
            task=dataset.task,
            splits=splits,
            synthetic=False,
            source={"file": path.name, "sha256": sha256_of(path), **reader.said()},
        ),
        [Notice(f"{path.name}: {text}") for text in reader.notices],
    )


class _Reader:
    """Reads the splits of one file, which must agree with each other."""

    def __init__(self, path: Path, keys: Mapping[str, str], dataset: Dataset) -> None:
        self.path, self.keys, self.task = path, keys, dataset.task
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.notices: list[str] = []
        self.not_finite = 0

    def said(self) -> dict[str, str]:
        """What the source says beside the file."""
        return {"not_finite": str(self.not_finite)} if self.not_finite else {}

    def fail(self, split: str, key: str, what: str) -> DataError:
        return DataError(f"{self.path}: [{split!r}][{key!r}]: {what}")

    def array(self, split: str, key: str, content: Mapping[str, Any]) -> np.ndarray:
        """An array of numbers, with a first axis for the samples."""
        if key not in content:
            raise self.fail(split, key, f"missing; there are {_names(content)}")
        x = content[key]
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub" or not x.ndim:
            raise self.fail(split, key, f"expected an array of numbers, got {_kind(x)}")
        if not len(x):
            raise self.fail(split, key, "empty, expected at least one sample")
        return x

    def features(self, split: str, content: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """By modality float32 (N, T, D), finite."""
        features = {}
        for m, key in self.keys.items():
            x = self.array(split, key, content)
            if x.ndim != 3 or 0 in x.shape:
                raise self.fail(split, key, f"expected the shape (N, T, D), got {x.shape}")
            if self.shapes.setdefault(key, x.shape[1:]) != x.shape[1:]:
                raise self.fail(
                    split, key, f"(T, D) is {x.shape[1:]}, in ['train'] it is {self.shapes[key]}"
                )
            with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
                x = x.astype(np.float32)
            bad = ~np.isfinite(x)
            if bad.any():
                self.not_finite += int(bad.sum())
                self.notices.append(
                    f"{bad.sum()} values of {key} in {split} were not finite, now 0"
                )
                x[bad] = 0.0
            features[m] = x
        return features

    def targets(self, split: str, content: Mapping[str, Any]) -> np.ndarray:
        """As the task wants them, as many as there are samples of each modality."""
        labels = self.array(split, "labels", content)
        with np.errstate(over="ignore"):
            labels = labels.astype(np.float32)
        if not np.isfinite(labels).all():
            raise self.fail(split, "labels", f"{(~np.isfinite(labels)).sum()} are not finite")
        for key in self.keys.values():
            if len(content[key]) != len(labels):
                raise self.fail(
                    split, key, f"{len(content[key])} samples, but {len(labels)} labels"
                )
        try:
            if not isinstance(self.task, MultiBinary):
                return self.task.check(labels)
            targets = self.task.check(_emotions(labels, self.task.labels))
        except DataError as error:
            raise self.fail(split, "labels", str(error)) from None
        shares = dict(zip(self.task.labels, targets.mean(0), strict=True))
        often = [f"{label} in {share:.0%}" for label, share in shares.items() if share >= 0.5]
        if often and split == "train":
            raise self.fail(
                split,
                "labels",
                f"{', '.join(often)} of the samples, expected less than half: the orientation seems "
                "reversed; each pair must be (absent, present)",
            )
        return targets

    def valid(
        self, features: Mapping[str, Mapping[str, np.ndarray]]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Which frames are not padding: by split and modality, bool (N, T).

        Padding is a run of zero frames at one side, the same side in the whole file. Word-aligned
        modalities share it: a word is there if any modality has something of it. A modality that is
        zero throughout a sample has no valid frame.
        """
        lengths = {shape[0] for shape in self.shapes.values()}
        filled: dict[str, dict[str, np.ndarray]] = {
            s: {m: np.asarray(x.any(-1)) for m, x in f.items()} for s, f in features.items()
        }  # (N, T)
        frames = filled
        if len(lengths) == 1 and lengths != {1}:  # word-aligned
            union = {s: np.logical_or.reduce(list(f.values())) for s, f in filled.items()}
            frames = {s: dict.fromkeys(f, union[s]) for s, f in filled.items()}
        every = [x for f in frames.values() for x in f.values()]
        # a tie, such as no padding at all, goes to the front, where MulT pads
        front = sum(_after_first(x).sum() for x in every) <= sum(
            _before_last(x).sum() for x in every
        )
        cut = _after_first if front else _before_last
        valid = {
            s: {m: cut(x) & filled[s][m].any(1, keepdims=True) for m, x in f.items()}
            for s, f in frames.items()
        }
        for m, key in self.keys.items():
            without = sum(int((~v[m].any(1)).sum()) for v in valid.values())
            if without:
                self.notices.append(f"{without} samples have no {key}, it is zero throughout")
        return valid

    def ids(self, split: str, content: Mapping[str, Any], count: int) -> tuple[str, ...]:
        """Unique names; "<split>-<row>" where the file has none."""
        if "id" not in content:
            return tuple(f"{split}-{row}" for row in range(count))
        given = content["id"]
        if isinstance(given, np.ndarray):
            given = given.tolist()
        if not isinstance(given, (list, tuple)) or len(given) != count:
            raise self.fail(split, "id", f"expected {count} ids, got {_kind(content['id'])}")
        names: dict[str, None] = {}
        seen: Counter[str] = Counter()
        repeated = 0
        for row in given:
            parts = row if isinstance(row, (list, tuple)) else [row]
            if not all(isinstance(part, (str, bytes, int, float)) for part in parts):
                raise self.fail(split, "id", "expected text or numbers, (N,) or (N, k)")
            name = first = "_".join(map(_text, parts))
            seen[first] += 1
            while name in names:
                name = f"{first}#{seen[first]}"
                seen[first] += name in names  # the file itself may call another one that
            repeated += name != first
            names[name] = None
        if repeated:
            self.notices.append(f"{repeated} ids in {split} repeat and have a number added")
        return tuple(names)


def _emotions(labels: np.ndarray, order: Sequence[str]) -> np.ndarray:
    """One-hot pairs (N, 4, 2), in the file's order, to 0 and 1 (N, 4) in the task's."""
    if labels.ndim != 3 or labels.shape[1:] != (len(EMOTIONS), 2):
        raise DataError(f"expected the shape (N, {len(EMOTIONS)}, 2), got {labels.shape}")
    if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(-1) == 1).all():
        raise DataError("expected one-hot pairs (absent, present)")
    return labels.argmax(-1)[:, [EMOTIONS.index(label) for label in order]]


def _after_first(filled: np.ndarray) -> np.ndarray:
    """From the first filled frame on, bool (N, T)."""
    return np.logical_or.accumulate(filled, 1)


def _before_last(filled: np.ndarray) -> np.ndarray:
    """Up to the last filled frame, bool (N, T)."""
    return np.logical_or.accumulate(filled[:, ::-1], 1)[:, ::-1]


def _text(part: Any) -> str:
    """Text that HDF5 can hold: valid Unicode, without the NUL that ends a string there."""
    text = part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return type(value).__name__


def _names(content: Mapping[Any, Any]) -> str:
    return ", ".join(repr(key) for key in list(content)[:9] if isinstance(key, str)) or "no keys"


@mmbench.hookimpl
def mmbench_register_importers() -> type[mmbench.Importer]:
    """MulT's pickles."""
    return MulT
