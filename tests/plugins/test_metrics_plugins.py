"""The built-in metrics against vectors, plain numpy, and what must hold for any prediction."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmbench_metrics.classification
import mmbench_metrics.regression
from mmbench.metrics import Metric
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench_metrics.classification import Accuracy, WeightedF1
from mmbench_metrics.regression import F1, MAE, Acc2, Acc5, Acc7, Corr, LegacySwappedF1

METRICS = [
    metric()
    for module in (mmbench_metrics.regression, mmbench_metrics.classification)
    for metric in module.mmbench_register_metrics()
]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
BY_NAME = {metric.name: metric for metric in METRICS}
OF_SCORES = [metric for metric in METRICS if Regression in metric.tasks]
NON_ZERO = [BY_NAME[name] for name in ("f1", "acc2", "legacy_swapped_f1")]

relaxed = settings(deadline=None)  # whichever runs first imports scikit-learn

# Scores of a tenth's step, so that zeros and halves are common.
scores = st.integers(-40, 40).map(lambda n: n / 10)
pairs = st.lists(st.tuples(scores, scores), min_size=1, max_size=30).map(lambda p: np.array(p).T)
classes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def plain_weighted_f1(truth: np.ndarray, prediction: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN) of each true class, weighted by its share."""
    total = 0.0
    for c in np.unique(truth):
        true, said = truth == c, prediction == c
        total += true.mean() * 2 * (true & said).sum() / (true.sum() + said.sum())
    return total


def test_registered_names():
    assert len(BY_NAME) == len(METRICS)
    assert set(BY_NAME) == {
        *("f1", "f1_has0", "acc2", "acc2_has0", "acc5", "acc7", "mae", "corr"),
        *("legacy_swapped_f1", "weighted_f1", "accuracy"),
    }
    assert {m.name for m in METRICS if m.in_tables} == {"f1", "mae", "weighted_f1"}
    for task in (Regression, MultiBinary, MultiClass):
        assert task in BY_NAME[task.headline].tasks


@each_metric
def test_vectors(metric: Metric):
    assert metric.vectors
    for vector in metric.vectors:
        value = metric.score(np.array(vector.truth), np.array(vector.prediction))
        assert value == pytest.approx(vector.value, abs=1e-12)
        assert isinstance(value, float)


@each_metric
def test_description(metric: Metric):
    described = metric.describe()
    assert described["title"] and described["formula"]
    assert described["unit"] == ("" if metric.name in ("mae", "corr") else "%")
    assert inspect.getdoc(type(metric))


@relaxed
@given(pairs)
def test_f1_of_signs_is_what_numpy_says(pair):
    truth, prediction = pair
    polar = truth != 0
    expected = plain_weighted_f1(truth[polar] > 0, prediction[polar] > 0) if polar.any() else 0
    assert F1().score(truth, prediction) == pytest.approx(expected)
    swapped = plain_weighted_f1(prediction[polar] > 0, truth[polar] > 0) if polar.any() else 0
    assert LegacySwappedF1().score(truth, prediction) == pytest.approx(swapped)
    has0 = plain_weighted_f1(truth >= 0, prediction >= 0)
    assert BY_NAME["f1_has0"].score(truth, prediction) == pytest.approx(has0)


@relaxed
@given(classes)
def test_weighted_f1_and_accuracy_of_classes_are_what_numpy_says(pair):
    truth, prediction = np.array(pair).T
    assert WeightedF1().score(truth, prediction) == pytest.approx(
        plain_weighted_f1(truth, prediction)
    )
    assert Accuracy().score(truth, prediction) == pytest.approx((truth == prediction).mean())


@relaxed
@given(pairs)
def test_the_other_scores_are_what_numpy_says(pair):
    truth, prediction = pair
    assert MAE().score(truth, prediction) == pytest.approx(np.abs(truth - prediction).mean())
    for metric, bound in ((Acc5(), 2), (Acc7(), 3)):
        # Python's round is half to even, too
        expected = [
            round(max(min(t, bound), -bound)) == round(max(min(p, bound), -bound))
            for t, p in zip(truth.tolist(), prediction.tolist(), strict=True)
        ]
        assert metric.score(truth, prediction) == pytest.approx(np.mean(expected))
    expected_corr = 0.0
    if np.ptp(truth) and np.ptp(prediction):
        expected_corr = np.corrcoef(truth, prediction)[0, 1]
    assert Corr().score(truth, prediction) == pytest.approx(expected_corr, abs=1e-9)


@pytest.mark.parametrize("metric", OF_SCORES, ids=lambda metric: metric.name)
@relaxed
@given(pair=pairs)
def test_order_of_samples_does_not_matter(metric, pair):
    shuffled = pair[:, np.random.default_rng(0).permutation(pair.shape[1])]
    assert metric.score(*shuffled) == pytest.approx(metric.score(*pair), abs=1e-12)


@each_metric
def test_perfect_prediction(metric: Metric):
    truth = np.array([1, 0, 2, 1, 0, 2]) - (1 if Regression in metric.tasks else 0)
    assert metric.score(truth, truth) == pytest.approx(0 if metric.name == "mae" else 1)


@each_metric
def test_no_samples_one_sample_and_float32_stay_finite(metric: Metric):
    assert metric.score(np.zeros(0), np.zeros(0)) == 0
    assert np.isfinite(metric.score(np.ones(1), np.zeros(1)))
    truth = np.array([1, 0, 1, 0])
    for first in (truth, truth.astype(np.float32)):
        assert metric.score(first, truth) == metric.score(truth, truth)


@relaxed
@given(pairs, st.floats(0.01, 100))
def test_only_the_sign_decides_f1_and_acc2(pair, factor):
    truth, prediction = pair
    for name in ("f1", "f1_has0", "acc2", "acc2_has0"):
        metric = BY_NAME[name]
        assert metric.score(truth, prediction * factor) == metric.score(truth, prediction)


@relaxed
@given(pairs, st.lists(scores, max_size=10))
def test_zero_truths_do_not_change_non_zero_scores(pair, extra):
    longer = np.concatenate([pair, [np.zeros(len(extra)), extra]], 1)
    for metric in NON_ZERO:
        assert metric.score(*longer) == metric.score(*pair)


@pytest.mark.parametrize("metric", NON_ZERO, ids=lambda metric: metric.name)
def test_all_truths_zero(metric: Metric):
    assert metric.score(np.zeros(3), np.array([-1.0, 0.0, 1.0])) == 0


def test_swapped_f1_rewards_collapse():
    truth = np.repeat([-1.0, 0.0, 1.0], [379, 30, 277])  # MOSI
    for constant, right, swapped in ((-1, 42.31, 73.24), (1, 25.07, 59.38)):
        prediction = np.full(len(truth), float(constant))
        assert round(100 * F1().score(truth, prediction), 2) == right
        assert round(100 * LegacySwappedF1().score(truth, prediction), 2) == swapped


@relaxed
@given(pairs)
def test_swapping_changes_nothing_where_counts_agree(pair):
    truth, prediction = pair
    polar = truth != 0
    if (truth[polar] > 0).sum() == (prediction[polar] > 0).sum():
        assert LegacySwappedF1().score(truth, prediction) == pytest.approx(
            F1().score(truth, prediction)
        )


def test_zero_is_negative_for_non_zero_metrics_and_positive_for_has0():
    truth, zero = np.array([-1.0, -2.0]), np.zeros(2)
    assert Acc2().score(truth, zero) == 1
    assert BY_NAME["acc2_has0"].score(truth, zero) == 0


@pytest.mark.parametrize("value", [0.0, 0.1, -2.7, 1e9, 1e-9])
def test_corr_of_a_constant_is_zero(value):
    rng = np.random.default_rng(0)
    truth, constant = rng.normal(size=100), np.full(100, value)
    noisy = (constant * (1 + 1e-7 * rng.normal(size=100))).astype(np.float32)
    for prediction in (constant, constant.astype(np.float32), noisy):
        assert Corr().score(truth, prediction) == 0
        assert Corr().score(prediction, truth) == 0


def test_corr_of_small_differences_counts():
    truth = np.arange(5.0)
    assert Corr().score(truth, 1 + 1e-3 * truth) == pytest.approx(1)


@relaxed
@each_metric
@given(data=st.data())
def test_resampled_is_the_score_of_samples_that_are_repeated(metric: Metric, data):
    drawn = data.draw(pairs if Regression in metric.tasks else classes.map(lambda p: np.array(p).T))
    truth, prediction = drawn
    n = len(truth)
    predictions = np.stack([prediction, prediction[::-1], truth], 1)
    counts = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), max_size=3))
    counts = np.array([*counts, [1] * n], np.float32)
    found = metric.resampled(truth, predictions, counts)
    for row, values in zip(counts.astype(int), found, strict=True):
        at = np.repeat(np.arange(n), row)
        expected = [metric.score(truth[at], column[at]) for column in predictions.T]
        assert list(values) == pytest.approx(expected, abs=1e-6)
