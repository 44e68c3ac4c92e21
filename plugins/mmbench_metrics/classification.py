"""Scores of yes-or-no labels and of classes, each label judged by itself. Letter: N samples.

As MulT's `eval_iemocap` scores IEMOCAP: truth first, prediction second. scikit-learn takes a second to
import, so it is imported where it is used: the command line answers without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import mmbench


def weighted_f1(truth: np.ndarray, prediction: np.ndarray) -> float:
    """F1 of each class, weighted by how often it is true; 0 of no samples. truth, prediction (N,)."""
    from sklearn.metrics import f1_score

    if not len(truth):
        return 0.0
    return float(f1_score(truth, prediction, average="weighted", zero_division=0))


def accuracy(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Share of equal pairs; 0 of no samples. truth, prediction (N,)."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth, prediction)) if len(truth) else 0.0


BLOCK = 256
"""Predictions judged at a time, so that what is on the way to their scores fits a cache."""


def resampled_f1(truth: np.ndarray, predictions: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`weighted_f1` of K predictions under B counts of samples, float64 (B, K): see `Metric.resampled`.

    F1 of a class is 2 TP / (true + predicted), sums over samples, and so products with the counts. They
    are of whole numbers, which float32 holds up to 2^24.
    """
    drawn = np.maximum(counts.sum(1, dtype=np.float64), 1)[:, None]  # (B, 1)
    own = {c: truth == c for c in np.unique(truth)}
    parts = {c: counts[:, true] for c, true in own.items()}
    n = {c: part.sum(1, dtype=np.float64)[:, None] for c, part in parts.items()}
    said = {c: predictions == c for c in own}
    complete = bool(own) and sum(map(np.count_nonzero, said.values())) == predictions.size
    *others, last = own if complete else [*own, None]
    total = np.zeros((len(counts), predictions.shape[1]))
    for start in range(0, total.shape[1], BLOCK):
        at = slice(start, start + BLOCK)
        left: dict[Any, Any] = dict(n)  # by truth, how many are not predicted one of those before
        for c in others:
            here = said[c][:, at].astype(np.float32)
            by_truth = {t: parts[t] @ here[true] for t, true in own.items()}
            left = {t: left[t] - by_truth[t] for t in own}
            total[:, at] += _weighted(n[c], by_truth, c)
        if last is not None:
            total[:, at] += _weighted(n[last], left, last)
    total /= drawn
    return total


def _weighted(n: np.ndarray, by_truth: Mapping[Any, np.ndarray], c: Any) -> np.ndarray:
    """n F1 of a class, float64; by_truth: how many of each are predicted it."""
    below = n + by_truth[c]
    for other in by_truth.keys() - {c}:
        below += by_truth[other]
    np.maximum(below, 1, out=below)
    return np.divide(2 * n * by_truth[c], below, out=below)


class WeightedF1(mmbench.Metric):
    """F1 of each class (of no and yes, for a yes-or-no label), weighted by its share of the truth."""

    name = "weighted_f1"
    title = "F1"
    formula = "sum over classes c of n_c / N * 2 P_c R_c / (P_c + R_c), n_c counted in the truth"
    unit = "%"
    tasks = (mmbench.MultiBinary, mmbench.MultiClass)
    in_tables = True
    vectors = (
        mmbench.Vector((1, 0, 1, 0), (1, 0, 1, 0), 1.0),
        mmbench.Vector((1, 0, 1, 0), (1, 0, 0, 0), 11 / 15),  # yes 2/3, no 4/5, two of each
        mmbench.Vector((1, 0, 0, 0), (0, 0, 0, 0), 9 / 14),  # never: no 6/7, of weight 3/4
        mmbench.Vector((1, 1), (0, 0), 0.0),
        mmbench.Vector((0, 0, 1, 2), (0, 1, 1, 1), 11 / 24),  # 2/3, 1/2, 0 of weight 2, 1, 1
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [0, 1], from int truth (N,) and prediction (N,)."""
        return weighted_f1(truth, prediction)

    def resampled(
        self, truth: np.ndarray, predictions: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """By counts of each class."""
        return resampled_f1(truth, predictions, counts)


class Accuracy(mmbench.Metric):
    """Share of samples whose class, or yes-or-no label, is right."""

    name = "accuracy"
    title = "Accuracy"
    formula = "share of samples with prediction = truth"
    unit = "%"
    tasks = (mmbench.MultiBinary, mmbench.MultiClass)
    vectors = (
        mmbench.Vector((1, 0, 1, 0), (1, 0, 0, 0), 0.75),
        mmbench.Vector((0, 0, 1, 2), (0, 1, 1, 1), 0.5),
        mmbench.Vector((1, 1), (0, 0), 0.0),
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [0, 1], from int truth (N,) and prediction (N,)."""
        return accuracy(truth, prediction)


@mmbench.hookimpl
def mmbench_register_metrics() -> Iterable[type[mmbench.Metric]]:
    """Weighted F1 and accuracy."""
    return WeightedF1, Accuracy
