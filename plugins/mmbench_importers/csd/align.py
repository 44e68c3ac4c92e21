"""Alignment by time: what overlaps what, and means over it.

Intervals are float64 (n, 2), start and end in seconds, in any order. Two overlap if they share more than
`EPSILON` seconds; one that is shorter, reversed or not finite overlaps nothing.
"""

from __future__ import annotations

import numpy as np

EPSILON = 1e-5


class Intervals:
    """Rows to search in. Sorted, so that a search takes the time of what it finds, where few nest."""

    def __init__(self, intervals: np.ndarray) -> None:
        there = np.flatnonzero(np.isfinite(intervals).all(1))
        self.order = there[np.argsort(intervals[there, 0], kind="stable")]
        self.start, self.end = intervals[self.order].T
        self.latest = np.maximum.accumulate(self.end)  # rises, as `end` itself may not

    def overlapping(self, start: float, end: float) -> np.ndarray:
        """The rows, in order of their start, that overlap one interval."""
        start, end = float(start), float(end)  # of numpy's, inf - inf would warn
        if not EPSILON < end - start < np.inf:  # also where one is not a number
            return np.empty(0, np.intp)
        few = slice(
            np.searchsorted(self.latest, start, "right"), np.searchsorted(self.start, end, "left")
        )
        with np.errstate(over="ignore"):
            shared = np.minimum(self.end[few], end) - np.maximum(self.start[few], start)
        return self.order[few][shared > EPSILON]


def means(features: np.ndarray, intervals: np.ndarray, words: np.ndarray) -> np.ndarray:
    """For each of the intervals `words` (m, 2), the mean of the rows that overlap it: float32 (m, D).

    `features` are float32 (n, D), finite. Every row that overlaps weighs the same, however long. An
    interval that nothing overlaps gets zeros.
    """
    rows = Intervals(intervals)
    out = np.zeros((len(words), features.shape[1]), np.float32)
    for number, (start, end) in enumerate(words):
        found = rows.overlapping(start, end)
        if len(found):
            out[number] = features[found].mean(0, dtype=np.float64)
    return out
