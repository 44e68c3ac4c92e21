"""What the modalities of a data set hold, measured a few samples at a time: MOSEI is too large for a copy.

Letters: N samples, T frames and D columns of a modality, F valid frames of some samples. A padding frame
is no content: values and frames are those of valid frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from mmbench.data import SPLITS, Data

CHUNK = 4 << 20
"""Bytes of features looked at together."""
LARGE = 1e4
"""No feature that is scaled, or means something, is larger."""
SPARSE = 0.99
"""A column with more zeros than this is nearly all zero."""


@dataclass(frozen=True)
class Lengths:
    """Valid frames of the samples of one split that have the modality."""

    least: int
    mean: float
    most: int
    without: int
    """Samples that have no valid frame of it."""


@dataclass(frozen=True)
class ModalityFacts:
    """One modality. Columns are counted from 0."""

    length: int
    width: int
    lengths: Mapping[str, Lengths]
    padding: float
    """Share of frames, of samples that have the modality."""
    side: str
    """Where the padding is: front, back, mixed, or none."""
    low: float
    high: float
    mean: float
    std: float
    large: int
    """Values beyond 1e4."""
    not_finite: int
    zero_frames: float
    """Share of valid frames in which every value is zero."""
    constant: tuple[int, ...]
    """Columns with one value in all valid frames of train."""
    duplicate: tuple[tuple[int, ...], ...]
    """Columns that are the same bits throughout train, and not constant."""
    sparse: tuple[int, ...]
    """Columns nearly all zero in train, and not constant."""


def measure(data: Data) -> tuple[dict[str, ModalityFacts], dict[str, list[bytes]]]:
    """Every modality, and a digest of each sample by split; reads each feature once."""
    digests = {s: [_digest() for _ in data.splits[s].ids] for s in SPLITS}
    facts = {m: _modality(data, m, digests) for m in data.modalities()}
    return facts, {s: [digest.digest() for digest in of_split] for s, of_split in digests.items()}


def _modality(data: Data, m: str, digests: Mapping[str, Sequence[blake2b]]) -> ModalityFacts:
    shape = data.modalities()[m]
    values, columns = _Values(), _Columns(shape.width)
    for split in SPLITS:
        x, valid = data.splits[split].features[m], data.splits[split].valid[m]
        for rows in _chunks(x):
            part = x[rows]
            frames = part[valid[rows]]  # (F, D), a copy
            for digest, sample, seen in zip(digests[split][rows], part, valid[rows], strict=True):
                digest.update(np.packbits(seen).data)
                digest.update(np.ascontiguousarray(sample).data)
            values.add(frames)
            if split == "train":
                columns.add(part, frames)
    valids = {split: data.splits[split].valid[m] for split in SPLITS}
    has = np.concatenate([v[v.any(1)] for v in valids.values()])  # (N', T)
    return ModalityFacts(
        length=shape.length,
        width=shape.width,
        lengths={split: _lengths(v.sum(1)) for split, v in valids.items()},
        padding=float(1 - has.mean()) if has.size else 0.0,
        side=_side(has),
        low=values.low,
        high=values.high,
        mean=values.mean,
        std=values.std,
        large=values.large,
        not_finite=values.not_finite,
        zero_frames=values.zero_frames / max(values.frames, 1),
        constant=columns.constant(),
        duplicate=columns.duplicate(),
        sparse=columns.sparse(),
    )


@dataclass
class _Values:
    """Statistics of all values of a modality; those that are not finite are counted, and then are 0."""

    frames: int = 0
    zero_frames: int = 0
    not_finite: int = 0
    large: int = 0
    low: float = 0.0
    high: float = 0.0
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / max(self.count, 1)))

    def add(self, frames: np.ndarray) -> None:
        """(F, D), which it may alter."""
        if not frames.size:
            return
        bad = ~np.isfinite(frames)
        self.not_finite += int(bad.sum())
        frames[bad] = 0
        low, high = float(frames.min()), float(frames.max())
        self.low, self.high = (
            (min(self.low, low), max(self.high, high)) if self.count else (low, high)
        )
        if max(-low, high) > LARGE:
            self.large += int((np.abs(frames) > LARGE).sum())
        self.frames += len(frames)
        self.zero_frames += len(frames) - int(frames.any(1).sum())
        # squares of differences from the mean, merged: sums of squares would cancel
        mean = float(frames.mean(dtype=np.float64))
        off = (frames - np.float64(mean)).reshape(-1)
        total, apart = self.count + frames.size, mean - self.mean
        self.squares += float(off @ off) + apart**2 * self.count * frames.size / total
        self.mean += apart * frames.size / total
        self.count = total


class _Columns:
    """What each column of a modality is in train."""

    def __init__(self, width: int) -> None:
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        self.zeros: np.ndarray = np.zeros(width, np.int64)
        self.frames = 0
        self.digests = [_digest() for _ in range(width)]

    def add(self, part: np.ndarray, frames: np.ndarray) -> None:
        """Some samples (n, T, D) and their valid frames (F, D)."""
        for digest, column in zip(
            self.digests,
            np.ascontiguousarray(part.reshape(-1, len(self.digests)).T),
            strict=True,
        ):
            digest.update(column.data)
        self.low = np.minimum(self.low, frames.min(0, initial=np.inf))
        self.high = np.maximum(self.high, frames.max(0, initial=-np.inf))
        self.zeros += len(frames) - np.count_nonzero(frames, axis=0)
        self.frames += len(frames)

    def constant(self) -> tuple[int, ...]:
        # a single frame says nothing of what varies
        return _numbers(self.low == self.high) if self.frames > 1 else ()

    def sparse(self) -> tuple[int, ...]:
        sparse = self.zeros > SPARSE * self.frames
        return _numbers(sparse & (self.low < self.high))

    def duplicate(self) -> tuple[tuple[int, ...], ...]:
        places: dict[bytes, list[int]] = defaultdict(list)
        for column in _numbers(self.low < self.high):
            places[self.digests[column].digest()].append(column)
        return tuple(tuple(same) for same in places.values() if len(same) > 1)


def _lengths(frames: np.ndarray) -> Lengths:
    """Of samples with these numbers of valid frames, (N,)."""
    has = frames[frames > 0]
    return Lengths(
        least=int(has.min(initial=frames.max(initial=0))),
        mean=float(has.mean()) if len(has) else 0.0,
        most=int(has.max(initial=0)),
        without=len(frames) - len(has),
    )


def _side(valid: np.ndarray) -> str:
    """Where the samples (N, T), each with a valid frame, are padded."""
    steps = np.diff(valid[~valid.all(1)].astype(np.int8), axis=1)
    if not len(steps):
        return "none"
    if (steps >= 0).all():
        return "front"
    return "back" if (steps <= 0).all() else "mixed"


def _chunks(x: np.ndarray) -> Iterator[slice]:
    """Slices of the samples of x (N, T, D), some of whose bytes each holds."""
    rows = max(1, CHUNK * len(x) // max(x.nbytes, 1))
    for start in range(0, len(x), rows):
        yield slice(start, start + rows)


def _numbers(marked: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(marked).tolist())


def _digest() -> blake2b:
    return blake2b(digest_size=16)
