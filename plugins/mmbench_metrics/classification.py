"""Scores of yes-or-no labels and of classes, each label judged by itself. Letter: N samples.

As MulT's `eval_iemocap` scores IEMOCAP: truth first, prediction second. scikit-learn takes a second to
import, so it is imported where it is used: the command line answers without it.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def resampled_f1(truth: np.ndarray, predictions: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`weighted_f1` of K predictions under B counts of samples, float64 (B, K): see `Metric.resampled`.

    F1 of a class is 2 TP / (true + predicted), sums over samples, and so products with the counts. They
    are of whole numbers, which float32 holds up to 2^24.
    """
    total = np.zeros((len(counts), predictions.shape[1]))
    for c in np.unique(truth):
        true, predicted = truth == c, (predictions == c).astype(np.float32)
        n = counts[:, true].sum(1, dtype=np.float64)[:, None]  # (B, 1)
        hits = (counts[:, true] @ predicted[true]).astype(np.float64)  # (B, K)
        total += n * 2 * hits / np.maximum(n + counts @ predicted, 1)
    return total / np.maximum(counts.sum(1, dtype=np.float64), 1)[:, None]


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
