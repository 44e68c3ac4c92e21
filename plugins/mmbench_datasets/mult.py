"""The pickles of MulT: `mosi_data.pkl`, `mosei_senti_data_noalign.pkl`, `iemocap_data.pkl`, ...

A dict of splits, each a dict of `text`, `audio`, `vision` (N, T, D), `labels` and perhaps `id`. Tsai et
al., Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019, introduced them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import unpickling
from mmbench.data import SPLITS, Data, Dataset, Notice, Samples
from mmbench.errors import DataError
from mmbench.tasks import MultiBinary

MODALITIES = {"l": "text", "a": "audio", "v": "vision"}
EMOTIONS = ("neutral", "happy", "sad", "angry")
"""Columns of the labels of `iemocap_data.pkl`."""


def read_mult_pickle(paths: Sequence[Path], dataset: Dataset) -> tuple[Data, list[Notice]]:
    """Reads one pickle as `dataset`: two modalities or three, any T and width.

    Raises DataError, naming the file and the key, for anything that does not fit.
    """
    if len(paths) != 1:
        raise DataError(f"{dataset.name} is imported from one pickle, got {len(paths)} files")
    path = Path(paths[0])
    content = unpickling.load(path)
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: expected a dict of splits, got {type(content).__name__}")
    for split in SPLITS:
        if not isinstance(content.get(split), Mapping):
            raise DataError(
                f"{path}: [{split!r}]: expected a dict; there are {_names(content)}"
            )
    keys = {m: key for m, key in MODALITIES.items() if any(key in content[s] for s in SPLITS)}
    if len(keys) < 2:
        raise DataError(
            f"{path}: expected at least two of text, audio and vision, "
            f"['train'] has {_names(content['train'])}"
        )
    reader = _Reader(path, keys, dataset)
    splits = {split: reader.split(split, content[split]) for split in SPLITS}
    reader.check_labels(splits["train"].targets)
    return (
        Data(
            name=dataset.name,
            task=dataset.task,
            splits=splits,
            synthetic=False,
            source={"file": path.name, "format": "MulT pickle", "sha256": _sha256(path)},
        ),
        reader.notices(),
    )


class _Reader:
    """Reads the splits of one file, which must agree with each other."""

    def __init__(self, path: Path, keys: Mapping[str, str], dataset: Dataset) -> None:
        self.path, self.keys, self.dataset = path, keys, dataset
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.not_finite: Counter[str] = Counter()
        self.renamed = 0
        self.without: Counter[str] = Counter()

    def fail(self, split: str, key: str, what: str) -> DataError:
        return DataError(f"{self.path}: [{split!r}][{key!r}]: {what}")

    def split(self, split: str, content: Mapping[str, Any]) -> Samples:
        features = {m: self.features(split, key, content) for m, key in self.keys.items()}
        targets = self.targets(split, content)
        for m, x in features.items():
            if len(x) != len(targets):
                raise self.fail(
                    split, self.keys[m], f"{len(x)} samples, but there are {len(targets)} labels"
                )
        valid = _valid(features)
        for m, frames in valid.items():
            features[m][~frames] = 0.0
            self.without[m] += int((~frames.any(1)).sum())
        return Samples(self.ids(split, content, len(targets)), features, valid, targets)

    def features(self, split: str, key: str, content: Mapping[str, Any]) -> np.ndarray:
        """Float32 (N, T, D), finite."""
        if key not in content:
            raise self.fail(split, key, f"missing; there are {_names(content)}")
        x = content[key]
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
            raise self.fail(split, key, f"expected an array of numbers, got {_kind(x)}")
        if x.ndim != 3 or 0 in x.shape[1:]:
            raise self.fail(split, key, f"expected the shape (N, T, D), got {x.shape}")
        if not len(x):
            raise self.fail(split, key, "the split is empty")
        if self.shapes.setdefault(key, x.shape[1:]) != x.shape[1:]:
            raise self.fail(split, key, f"(T, D) = {x.shape[1:]}, elsewhere {self.shapes[key]}")
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, then 0
            x = x.astype(np.float32)
        bad = ~np.isfinite(x)
        self.not_finite[key] += int(bad.sum())
        x[bad] = 0.0
        return x

    def targets(self, split: str, content: Mapping[str, Any]) -> np.ndarray:
        """As the task wants them."""
        if "labels" not in content:
            raise self.fail(split, "labels", f"missing; there are {_names(content)}")
        labels = content["labels"]
        if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "fiub":
            raise self.fail(split, "labels", f"expected an array of numbers, got {_kind(labels)}")
        if not np.isfinite(labels).all():
            raise self.fail(split, "labels", f"{int((~np.isfinite(labels)).sum())} are not finite")
        task = self.dataset.task
        try:
            if isinstance(task, MultiBinary):
                return task.check(_emotions(labels, task.labels))
            return task.check(labels)
        except DataError as error:
            raise self.fail(split, "labels", str(error)) from None

    def check_labels(self, targets: np.ndarray) -> None:
        """An emotion that most utterances have is one whose columns were swapped."""
        if isinstance(self.dataset.task, MultiBinary):
            for label, share in zip(self.dataset.task.labels, targets.mean(0), strict=True):
                if share >= 0.5:
                    raise self.fail(
                        "train",
                        "labels",
                        f"{label} is present in {share:.0%} of the samples; the two columns of each "
                        "emotion seem to be swapped, expected (absent, present)",
                    )

    def ids(self, split: str, content: Mapping[str, Any], count: int) -> tuple[str, ...]:
        """Unique names; "<split>-<row>" where the file has none."""
        if "id" not in content:
            return tuple(f"{split}-{row}" for row in range(count))
        given = content["id"]
        if not isinstance(given, (np.ndarray, list, tuple)) or len(given) != count:
            raise self.fail(split, "id", f"expected {count} ids, got {_kind(given)}")
        names = ["_".join(_text(part) for part in np.ravel(row)) for row in given]
        seen: Counter[str] = Counter()
        unique = []
        for name in names:
            seen[name] += 1
            self.renamed += seen[name] > 1
            unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
        return tuple(unique)

    def notices(self) -> list[Notice]:
        found = [
            Notice(f"{self.path.name}: {count} values of {key} were not finite and are 0 now")
            for key, count in self.not_finite.items()
            if count
        ]
        found += [
            Notice(f"{self.path.name}: {count} samples have no {self.keys[m]} at all")
            for m, count in self.without.items()
            if count
        ]
        if self.renamed:
            found.append(
                Notice(f"{self.path.name}: {self.renamed} ids repeat and have a number added")
            )
        return found


def _emotions(labels: np.ndarray, order: Sequence[str]) -> np.ndarray:
    """One-hot pairs (N, 4, 2), in the file's order, to 0 and 1 (N, 4) in the task's."""
    if labels.ndim != 3 or labels.shape[1:] != (len(EMOTIONS), 2):
        raise DataError(f"expected the shape (N, {len(EMOTIONS)}, 2), got {labels.shape}")
    if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(-1) == 1).all():
        raise DataError("expected one-hot pairs (absent, present)")
    return labels.argmax(-1)[:, [EMOTIONS.index(label) for label in order]]


def _valid(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which frames are not padding, bool (N, T) by modality.

    Padding is a run of zero frames at one side, the same in the whole file. Word-aligned modalities
    share their padding: a word is there if any modality has something of it. A modality that is zero
    throughout a sample has no valid frame.
    """
    filled = {m: (x != 0).any(-1) for m, x in features.items()}  # (N, T)
    lengths = {x.shape[1] for x in features.values()}
    aligned = len(lengths) == 1 and lengths != {1}
    words = {m: np.logical_or.reduce(list(filled.values())) if aligned else f for m, f in filled.items()}
    # MulT pads in front; take the other side only where more is zero there
    front = sum(int((~np.logical_or.accumulate(f, 1)).sum()) for f in words.values())
    back = sum(int((~np.logical_or.accumulate(f[:, ::-1], 1)).sum()) for f in words.values())
    side = slice(None, None, 1 if front >= back else -1)
    return {
        m: np.logical_or.accumulate(words[m][:, side], 1)[:, side] & filled[m].any(1, keepdims=True)
        for m in features
    }


def _text(part: Any) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return type(value).__name__


def _names(content: Mapping[Any, Any]) -> str:
    return ", ".join(sorted(map(str, content))) or "no keys"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
