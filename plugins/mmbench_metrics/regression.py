"""Scores of a sentiment score whose sign is a polarity. Letter: N samples.

Two conventions for the sign live side by side in the literature and differ by points:

- *non-zero*: neutral truths are left out, positive is > 0 (MMSA's Non0, GCNet; the headline);
- *has-0*: every sample counts, >= 0 against < 0 (MMSA's Has0).

scikit-learn and scipy take a second to import, so they are imported where they are used: the command
line answers without them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

import mmbench
from mmbench_metrics.classification import accuracy, resampled_f1, weighted_f1


def polarity(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positive or not, of the n <= N samples whose truth is not zero: two arrays, bool (n,)."""
    polar = truth != 0
    return truth[polar] > 0, prediction[polar] > 0


def rounded(scores: np.ndarray, bound: int) -> np.ndarray:
    """The nearest whole scores in [-bound, bound], a half to the even one. scores (N,)."""
    return np.rint(np.clip(scores, -bound, bound))


# One case for all that judge the sign: non-zero truth + - + -, prediction + - - -.
TRUTH = (1.0, -1.0, 2.0, -2.0, 0.0)
PREDICTION = (0.5, -0.5, -1.0, 0.0, 3.0)
ALL_ZERO = mmbench.Vector((0.0, 0.0), (1.0, -1.0), 0.0)


class F1(mmbench.Metric):
    """Weighted F1 of positive against negative, as MMSA's Non0_F1_score and GCNet."""

    name = "f1"
    title = "F1"
    formula = (
        "weighted F1 of truth > 0 against prediction > 0 on truth != 0; "
        "a class weighs as much as it has truths"
    )
    unit = "%"
    tasks = (mmbench.Regression,)
    in_tables = True
    vectors = (
        mmbench.Vector(TRUTH, PREDICTION, 11 / 15),  # positive 2/3, negative 4/5, two of each
        mmbench.Vector((1.0, -1.0), (0.1, -3.0), 1.0),
        mmbench.Vector((1.0, 1.0, -1.0), (-1.0, -1.0, 1.0), 0.0),
        ALL_ZERO,
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [0, 1], from float truth (N,) and prediction (N,); 0 where every truth is zero."""
        return weighted_f1(*polarity(truth, prediction))

    def resampled(
        self, truth: np.ndarray, predictions: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """By counts of each sign."""
        return resampled_f1(*polarity(truth, predictions), counts[:, truth != 0])


class F1Has0(mmbench.Metric):
    """Weighted F1 of not negative against negative, as MMSA's Has0_F1_score."""

    name = "f1_has0"
    title = "F1 (has-0)"
    formula = "weighted F1 of truth >= 0 against prediction >= 0 on all samples"
    unit = "%"
    tasks = (mmbench.Regression,)
    vectors = (
        mmbench.Vector(TRUTH, PREDICTION, 3 / 5),  # not negative 2/3 of three, negative 1/2 of two
        mmbench.Vector((0.0, -1.0), (0.0, -0.1), 1.0),
        mmbench.Vector((1, -1, -1, -1), (1, 0, -1, -1), 23 / 30),  # 2/3 of one, 4/5 of three
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [0, 1], from float truth (N,) and prediction (N,)."""
        return weighted_f1(truth >= 0, prediction >= 0)


class Acc2(mmbench.Metric):
    """Share of right signs, as MMSA's Non0_acc_2."""

    name = "acc2"
    title = "Acc-2"
    formula = "share of truth != 0 where (truth > 0) = (prediction > 0)"
    unit = "%"
    tasks = (mmbench.Regression,)
    vectors = (mmbench.Vector(TRUTH, PREDICTION, 3 / 4), ALL_ZERO)

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [0, 1], from float truth (N,) and prediction (N,); 0 where every truth is zero."""
        return accuracy(*polarity(truth, prediction))


class Acc2Has0(mmbench.Metric):
    """Share of right signs where zero is not negative, as MMSA's Has0_acc_2."""

    name = "acc2_has0"
    title = "Acc-2 (has-0)"
    formula = "share of all samples where (truth >= 0) = (prediction >= 0)"
    unit = "%"
    tasks = (mmbench.Regression,)
    vectors = (mmbench.Vector(TRUTH, PREDICTION, 3 / 5),)

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [0, 1], from float truth (N,) and prediction (N,)."""
        return accuracy(truth >= 0, prediction >= 0)


class Acc5(mmbench.Metric):
    """Share of scores in the right one of five bins, as MulT and MMSA."""

    name = "acc5"
    title = "Acc-5"
    formula = "share of rint(clip(truth, -2, 2)) = rint(clip(prediction, -2, 2)), a half to even"
    unit = "%"
    tasks = (mmbench.Regression,)
    vectors = (
        mmbench.Vector((3.0, -2.6, 1.5, 0.5, -1.5), (1.6, -9.0, 1.4, 1.0, -2.0), 3 / 5),
        mmbench.Vector((0.5, -0.5, 1.5, -1.5), (0.0, 0.0, 2.0, -2.0), 1.0),
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [0, 1], from float truth (N,) and prediction (N,)."""
        return accuracy(rounded(truth, 2), rounded(prediction, 2))


class Acc7(mmbench.Metric):
    """Share of scores in the right one of seven bins, as MulT and MMSA."""

    name = "acc7"
    title = "Acc-7"
    formula = "share of rint(clip(truth, -3, 3)) = rint(clip(prediction, -3, 3)), a half to even"
    unit = "%"
    tasks = (mmbench.Regression,)
    vectors = (
        mmbench.Vector((0.5, 1.5, 2.5, -3.0, 3.0), (0.0, 2.0, 2.4, -7.0, 2.5), 4 / 5),
        mmbench.Vector((-0.5, -1.5, -2.5, 1.0), (0.0, -2.0, -2.0, 0.5), 3 / 4),
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [0, 1], from float truth (N,) and prediction (N,)."""
        return accuracy(rounded(truth, 3), rounded(prediction, 3))


class MAE(mmbench.Metric):
    """Mean absolute error, in points of sentiment."""

    name = "mae"
    title = "MAE"
    formula = "mean of |prediction - truth|"
    higher_is_better = False
    tasks = (mmbench.Regression,)
    in_tables = True
    vectors = (
        mmbench.Vector((1.0, -1.0), (0.0, 1.0), 1.5),
        mmbench.Vector((2.0, -0.5), (2.0, -0.5), 0.0),
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """At least 0, from float truth (N,) and prediction (N,)."""
        from sklearn.metrics import mean_absolute_error

        return float(mean_absolute_error(truth, prediction)) if len(truth) else 0.0

    def resampled(
        self, truth: np.ndarray, predictions: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """By sums of errors, which are weighted with the counts."""
        total = np.maximum(counts.sum(1, dtype=np.float64), 1)[:, None]  # (B, 1)
        return counts.astype(np.float64) @ np.abs(predictions - truth[:, None]) / total


class Corr(mmbench.Metric):
    """Pearson's correlation; 0 where the truth or the prediction is constant."""

    name = "corr"
    title = "Corr"
    formula = "Pearson correlation of truth and prediction; 0 if one of them is constant"
    tasks = (mmbench.Regression,)
    vectors = (
        mmbench.Vector((1.0, 2.0, 3.0, 4.0), (1.0, 3.0, 2.0, 4.0), 4 / 5),
        mmbench.Vector((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), -1.0),
        mmbench.Vector((1.0, 2.0, 3.0), (0.1, 0.1, 0.1), 0.0),
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [-1, 1], from float truth (N,) and prediction (N,)."""
        from scipy.stats import pearsonr

        # Outputs are float32: what differs by less is a constant with noise, which must not correlate.
        for x in (truth, prediction):
            if len(x) < 2 or np.ptp(x) <= 1e-6 * np.abs(x).max():
                return 0.0
        return float(pearsonr(truth.astype(np.float64), prediction.astype(np.float64)).statistic)


class LegacySwappedF1(mmbench.Metric):
    """F1 with truth and prediction swapped, as MulT's `eval_mosei_senti` calls scikit-learn.

    Only to reproduce old tables. Classes weigh what was *predicted*, which rewards collapse: on MOSI
    a predictor that always says negative gets 73.24 instead of 42.31.
    """

    name = "legacy_swapped_f1"
    title = "F1 (MulT, swapped)"
    formula = "as f1, but a class weighs as much as it was predicted; rewards constant predictions"
    unit = "%"
    tasks = (mmbench.Regression,)
    vectors = (
        mmbench.Vector(TRUTH, PREDICTION, 23 / 30),  # positive 2/3 of one, negative 4/5 of three
        mmbench.Vector((1.0, -1.0, -1.0), (-1.0, -1.0, -1.0), 4 / 5),
        ALL_ZERO,
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """In [0, 1], from float truth (N,) and prediction (N,)."""
        true, predicted = polarity(truth, prediction)
        return weighted_f1(predicted, true)


@mmbench.hookimpl
def mmbench_register_metrics() -> Iterable[type[mmbench.Metric]]:
    """Nine of them: two in tables, the others in the CSV."""
    return F1, F1Has0, Acc2, Acc2Has0, Acc5, Acc7, MAE, Corr, LegacySwappedF1
