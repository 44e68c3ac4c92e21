"""Metrics with one thing wrong."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

import mmbench
from mmbench_metrics.classification import weighted_f1
from tests.checks.rogues.table import rogue


class Error(mmbench.Metric):
    """The honest one: the mean absolute error."""

    name, title, formula = "error", "Error", "mean of |prediction - truth|"
    tasks, higher_is_better = (mmbench.Regression,), False
    vectors: ClassVar[tuple[mmbench.Vector, ...]] = (mmbench.Vector((1, -1), (0, 1), 1.5),)

    def score(self, truth, prediction):
        return float(np.abs(prediction - truth).mean())


class F1(mmbench.Metric):
    """Another honest one."""

    name, title, formula = "f", "F1", "weighted F1"
    tasks = (mmbench.MultiClass,)
    vectors = (mmbench.Vector((1, 0, 0, 0), (1, 1, 0, 0), 23 / 30),)

    def score(self, truth, prediction):
        return weighted_f1(truth, prediction)


@rogue("its vectors come out")
class AnotherFormula(Error):
    """Squares the error."""

    def score(self, truth, prediction):
        return float(np.square(prediction - truth).mean())


@rogue("its vectors come out")
class NeverTried(Error):
    """Has no case that is known without its code."""

    vectors = ()


@rogue("truth comes first", {"its vectors come out": "they are of the right order"})
class SwapsItsArguments(F1):
    """Hands truth and prediction on in the wrong order."""

    def score(self, truth, prediction):
        return weighted_f1(prediction, truth)


@rogue("truth comes first")
class TellsNoOrder(F1):
    """Has one vector, which is right in either order."""

    vectors = (mmbench.Vector((1, 0), (1, 0), 1.0),)


@rogue("it is one finite number, of constants too")
class NaNForConstants(Error):
    """Is a correlation, and 0 / 0 for a prediction that is constant."""

    higher_is_better = True
    vectors = (mmbench.Vector((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), -1.0),)

    def score(self, truth, prediction):
        t, p = (x - x.mean(dtype=float) for x in (truth, prediction))
        with np.errstate(all="ignore"):
            return float((t * p).sum() / np.sqrt((t * t).sum() * (p * p).sum()))


@rogue("nothing is better than a perfect prediction")
class WrongWayRound(Error):
    """Is an error, and says that higher is better."""

    higher_is_better = True


@rogue("order never matters")
class WeighsByPlace(Error):
    """Gives later samples more weight."""

    vectors = (mmbench.Vector((1, 2), (0, 1), 1.0),)

    def score(self, truth, prediction):
        return float(np.average(np.abs(prediction - truth), weights=1 + np.arange(len(truth))))


@rogue("what it is given is left as it was")
class ClipsInPlace(Error):
    """Clips the prediction where it lies."""

    def score(self, truth, prediction):
        return super().score(truth, prediction.clip(-3, 3, out=prediction))


@rogue("drawn anew, samples score as if repeated")
class IgnoresCounts(Error):
    """Draws anew without drawing."""

    def resampled(self, truth, predictions, counts):
        row = [self.score(truth, p) for p in predictions.T]
        return np.array([row] * len(counts))
