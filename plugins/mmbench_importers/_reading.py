"""What every importer does with the arrays of a file: checks them, and says what it changed.

Memory is what imports run out of. Here an array is converted by itself, so that its source can be
dropped before the next one, and nothing makes a second array of its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data import Data, Dataset, Notice, Samples
from mmbench.errors import DataError
from mmbench.importers import sha256_of

PUBLISHED = {
    "d3994fd2": "MMSA's aligned MOSI",
    "78e0f8b5": "MMSA's unaligned MOSI",
    "45eccfb7": "MMSA's aligned MOSEI",
    "ad8b23d5": "MMSA's unaligned MOSEI",
}
"""Files that were published with their SHA-256, by its first digits."""


class Reader:
    """Reads the arrays of one file, whose splits must agree with each other.

    A *place* is where something lies in the file, as messages show it, e.g. "['train']['text']".
    """

    def __init__(self, path: Path, dataset: Dataset) -> None:
        self.path, self.dataset = path, dataset
        self.notices: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.not_finite = 0

    def fail(self, place: str, what: str) -> DataError:
        """The error that says what is wrong at a place."""
        return DataError(f"{self.path}: {place}: {what}")

    def numbers(self, place: str, x: Any) -> np.ndarray:
        """`x` if it is an array of numbers, with a first axis for the samples."""
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub" or not x.ndim:
            raise self.fail(place, f"expected an array of numbers, got {kind_of(x)}")
        if not len(x):
            raise self.fail(place, "empty, expected at least one sample")
        return x

    def features(self, place: str, name: str, split: str, x: Any) -> np.ndarray:
        """Modality `name` of one split as float32 (N, T, D), finite, in memory of its own."""
        x = self.numbers(place, x)
        if x.ndim != 3 or 0 in x.shape:
            raise self.fail(place, f"expected the shape (N, T, D), got {x.shape}")
        if self.shapes.setdefault(name, x.shape[1:]) != x.shape[1:]:
            raise self.fail(place, f"(T, D) is {x.shape[1:]}, in train it is {self.shapes[name]}")
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            x = x.astype(np.float32, order="C")
        if not np.isfinite([x.min(), x.max()]).all():
            count = 0
            for sample in x:
                bad = ~np.isfinite(sample)
                count += int(bad.sum())
                sample[bad] = 0.0
            self.not_finite += count
            self.notices.append(f"{count} values of {name} in {split} were not finite, now 0")
        return x

    def hide(self, name: str, split: str, x: np.ndarray, valid: np.ndarray) -> None:
        """Makes zero what lies in padding. x (N, T, D), valid (N, T)."""
        outside = x.any(-1) & ~valid
        if outside.any():
            x[outside] = 0.0
            self.notices.append(
                f"{outside.sum()} frames of {name} in {split} lie in what the file calls padding, now 0"
            )

    def targets(
        self,
        place: str,
        x: Any,
        features: Mapping[str, np.ndarray],
        convert: Callable[[np.ndarray], np.ndarray] = lambda x: x,
    ) -> np.ndarray:
        """As the task wants them, as many as there are samples; `features` by place."""
        labels = self.numbers(place, x)
        with np.errstate(over="ignore"):
            labels = labels.astype(np.float32)
        if not np.isfinite(labels).all():
            raise self.fail(place, f"{(~np.isfinite(labels)).sum()} are not finite")
        for there, samples in features.items():
            if len(samples) != len(labels):
                raise self.fail(there, f"{len(samples)} samples, but {len(labels)} labels")
        try:
            return self.dataset.task.check(convert(labels))
        except DataError as error:
            raise self.fail(place, str(error)) from None

    def ids(self, place: str, split: str, given: Any, count: int) -> tuple[str, ...]:
        """Unique names; "<split>-<row>" where the file has none."""
        if given is None:
            return tuple(f"{split}-{row}" for row in range(count))
        rows = given.tolist() if isinstance(given, np.ndarray) else given
        if not isinstance(rows, (list, tuple)) or len(rows) != count:
            raise self.fail(place, f"expected {count} ids, got {kind_of(given)}")
        names: dict[str, None] = {}
        seen: Counter[str] = Counter()
        repeated = 0
        for row in rows:
            parts = row if isinstance(row, (list, tuple)) else [row]
            if not all(isinstance(part, (str, bytes, int, float)) for part in parts):
                raise self.fail(place, "expected text or numbers, (N,) or (N, k)")
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

    def without(self, name: str, valid: Sequence[np.ndarray]) -> None:
        """Says how many samples, of all splits, have no frame of a modality."""
        count = sum(int((~v.any(1)).sum()) for v in valid)
        if count:
            self.notices.append(f"{count} samples have no {name}, it is zero throughout")

    def data(self, splits: Mapping[str, Samples]) -> tuple[Data, list[Notice]]:
        """The data set with its source, and all that is to be told."""
        source = {"file": self.path.name, "sha256": sha256_of(self.path)}
        if self.not_finite:
            source["not_finite"] = str(self.not_finite)
        known = PUBLISHED.get(source["sha256"][:8])
        if known:
            source["recognised"] = known
            self.notices.append(f"recognised by its SHA-256: {known}")
        return (
            Data(self.dataset.name, self.dataset.task, splits, synthetic=False, source=source),
            [Notice(f"{self.path.name}: {text}") for text in self.notices],
        )


def after_first(filled: np.ndarray) -> np.ndarray:
    """From the first filled frame on, bool (N, T)."""
    return np.logical_or.accumulate(filled, 1)


def before_last(filled: np.ndarray) -> np.ndarray:
    """Up to the last filled frame, bool (N, T)."""
    return np.logical_or.accumulate(filled[:, ::-1], 1)[:, ::-1]


def kind_of(value: Any) -> str:
    """What a value is, for a message."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return type(value).__name__


def _text(part: Any) -> str:
    """Text that HDF5 can hold: valid Unicode, without the NUL that ends a string there."""
    text = part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")
