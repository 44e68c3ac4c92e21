"""One `.csd` file: HDF5 with, for each video, rows of features and the interval of each.

/<root name>/data/<video>/features (n, D), intervals (n, 2) in seconds; /<root name>/metadata/<key>, text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from mmbench import hdf5
from mmbench.errors import DataError

HINTS = {
    "labels": ("label",),
    "a": ("covarep", "opensmile"),
    "v": ("facet", "openface"),
    "l": ("glove", "word"),
}
"""What the names of a file say, in small letters: "Opinion Segment Labels", "FACET_4.2", "glove_vectors"."""
PAUSE = "sp"


class Words(NamedTuple):
    """The words of one video, without pauses."""

    text: list[str]
    intervals: np.ndarray
    """Float64 (n, 2)."""


class Rows(NamedTuple):
    """What one video has in one file."""

    features: np.ndarray
    """(n, D): numbers as they are, or fixed-width bytes."""
    intervals: np.ndarray
    """Float64 (n, 2)."""


class Sequence:
    """One file, open until it is closed; DataError, naming it, for all that does not fit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.not_finite = 0
        self._file = hdf5.open_plain(path)
        try:
            with hdf5.reading(path):
                root = next(iter(self._file), None)
                data = self._file[root].get("data") if root else None
                if not isinstance(data, h5py.Group) or not len(data):
                    raise DataError(f"{path}: no computational sequence: no /<root name>/data")
                self._data = data
                self.videos = frozenset(data)
                self.kind = self._kind(str(root), self._file[root].get("metadata"))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def rows(self, video: str) -> Rows | None:
        """All of one video; None if the file has nothing of it."""
        if video not in self.videos:
            return None
        place = f"{self.path}: {video!r}"
        with hdf5.reading(self.path):
            group = self._data[video]
            found = (
                [group.get(key) for key in Rows._fields] if isinstance(group, h5py.Group) else []
            )
            if len(found) < 2 or not all(isinstance(part, h5py.Dataset) for part in found):
                raise DataError(f"{place}: expected features and intervals")
            features, intervals = found
            n = len(intervals) if intervals.ndim else 0
            if intervals.shape != (n, 2) or intervals.dtype.kind not in "fiu":
                raise DataError(
                    f"{place}: intervals must be numbers (n, 2), got {_what(intervals)}"
                )
            width = math.prod(features.shape[1:])
            if features.ndim < 2 or len(features) != n or not width:
                raise DataError(f"{place}: features must be ({n}, D), got {_what(features)}")
            if features.dtype.kind not in "fiubS":
                raise DataError(
                    f"{place}: features must be numbers or fixed-width text, got {_what(features)}"
                )
            return Rows(features[()].reshape(n, width), intervals[()].astype(np.float64))

    def numbers(self, video: str) -> Rows | None:
        """One video as float32 (n, D), finite: what is not becomes 0, and is counted."""
        rows = self.rows(video)
        if rows is None:
            return None
        if rows.features.dtype.kind == "S":
            raise DataError(f"{self.path}: {video!r}: expected numbers, got text")
        with np.errstate(over="ignore", invalid="ignore"):  # too large for float32: infinite
            x = rows.features.astype(np.float32)
        bad = ~np.isfinite(x)
        self.not_finite += int(bad.sum())
        x[bad] = 0.0
        return Rows(x, rows.intervals)

    def words(self, video: str) -> Words | None:
        """The words of one video, in the file's order; pauses, which it calls "sp", are dropped."""
        rows = self.rows(video)
        if rows is None:
            return None
        if rows.features.dtype.kind != "S" or rows.features.shape[1] != 1:
            raise DataError(f"{self.path}: {video!r}: expected one word a row")
        text = [word.decode("utf-8", "replace").strip() for word in rows.features[:, 0].tolist()]
        keep = [row for row, word in enumerate(text) if word != PAUSE]
        return Words([text[row] for row in keep], rows.intervals[keep])

    def _kind(self, root: str, metadata: h5py.Group | None) -> str:
        """`labels`, `a`, `v`, `l`, or `words`, which are an `l` that is text."""
        for name in self._names(root, metadata):
            plain = re.sub("[^a-z0-9]", "", name.lower())
            for kind, hints in HINTS.items():
                if any(hint in plain for hint in hints):
                    return "words" if kind == "l" and self._is_text() else kind
        known = ", ".join(hint for hints in HINTS.values() for hint in hints)
        raise DataError(
            f"{self.path}: called {root[:80]!r}, which is nothing known: expected a name with one of "
            f"{known}; leave the file out if it is something else"
        )

    def _names(self, root: str, metadata: h5py.Group | None) -> Iterator[str]:
        """What may say what the sequence is, the root's own name first."""
        yield root
        for key in ("root name", "computational sequence description"):
            if metadata is not None and isinstance(metadata.get(key), h5py.Dataset):
                yield hdf5.text(metadata[key], 1 << 16)

    def _is_text(self) -> bool:
        for video in self._data:
            features = self._data[video].get("features")
            return isinstance(features, h5py.Dataset) and features.dtype.kind == "S"
        return False


def _what(dataset: h5py.Dataset) -> str:
    return f"{dataset.dtype} {dataset.shape}"
