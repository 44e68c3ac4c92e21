"""Scores by metric and label, and the floor: the best constant, from class counts alone."""

import numpy as np
import pytest

from mmbench.metrics import floor, score
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench_metrics.classification import WeightedF1
from mmbench_metrics.regression import F1, MAE, F1Has0

SCORE = Regression(-3, 3)
EMOTIONS = MultiBinary(("happy", "sad", "angry", "neutral"))


def signs(negative: int, zero: int, positive: int) -> np.ndarray:
    """Truth (N, 1) of these counts."""
    return np.repeat(np.array([[-1], [0], [1]], np.float32), [negative, zero, positive], 0)


MOSI, MOSEI = signs(379, 30, 277), signs(1350, 1025, 2284)
IEMOCAP = np.stack([np.arange(938) < count for count in (135, 193, 227, 383)], 1).astype(np.int64)


def percent(value: float) -> float:
    return round(100 * value, 2)


@pytest.mark.parametrize(
    ("truth", "metric", "negative", "positive"),
    [
        (MOSI, F1(), 42.31, 25.07),
        (MOSI, F1Has0(), 39.32, 27.67),
        (MOSEI, F1(), 20.12, 48.51),
        (MOSEI, F1Has0(), 13.02, 58.99),
    ],
)
def test_floor_of_a_score_is_the_better_sign(truth, metric, negative, positive):
    for value, expected in ((-0.5, negative), (0.5, positive)):
        scores = score(SCORE, [metric], truth, np.full(truth.shape, value))
        assert percent(scores[metric.name]["sentiment"]) == expected
    floors = floor(SCORE, [metric], truth)
    assert percent(floors[metric.name]["sentiment"]) == max(negative, positive)


def test_floor_of_each_emotion():
    metric = WeightedF1()
    never, always = (
        score(EMOTIONS, [metric], IEMOCAP, np.full(IEMOCAP.shape, value))["weighted_f1"]
        for value in (0, 1)
    )
    assert [percent(v) for v in never.values()] == [78.97, 70.32, 65.37, 43.99]
    assert [percent(v) for v in always.values()] == [3.62, 7.02, 9.43, 23.68]
    assert floor(EMOTIONS, [metric], IEMOCAP) == {"weighted_f1": never}


def test_floor_takes_the_best_for_each_label():
    truth = np.array([[1, 0]] * 3 + [[0, 0]])
    floors = floor(MultiBinary(("often", "no")), [WeightedF1()], truth)
    assert floors["weighted_f1"] == pytest.approx({"often": 9 / 14, "no": 1.0})


def test_floor_of_an_error_is_the_smallest():
    truth = np.array([[-2], [-1.4], [-1.3], [3], [0]], np.float32)
    by_hand = min(np.abs(truth - c).mean() for c in (float(np.median(truth)), *range(-3, 4)))
    assert floor(SCORE, [MAE()], truth)["mae"]["sentiment"] == pytest.approx(by_hand)


def test_floor_of_classes():
    task = MultiClass(("a", "b", "c"))
    floors = floor(task, [WeightedF1()], np.array([[0], [1], [1], [1]]))
    assert floors["weighted_f1"]["class"] == pytest.approx(9 / 14)


def test_score_keeps_labels_apart():
    task = MultiBinary(("x", "y"))
    truth, prediction = np.array([[1, 0], [0, 1]]), np.array([[1, 1], [0, 0]])
    assert score(task, [WeightedF1()], truth, prediction) == {"weighted_f1": {"x": 1.0, "y": 0.0}}


def test_a_metric_describes_itself():
    assert MAE.describe() == {
        "id": "mae@1",
        "title": "MAE",
        "formula": "mean of |prediction - truth|",
        "unit": "",
        "higher_is_better": False,
        "in_tables": True,
    }
