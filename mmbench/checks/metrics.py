"""Checks of metrics, on made-up truths and predictions of every kind of task that they judge."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from mmbench.checks.core import check
from mmbench.checks.failures import NotApplicable, fail
from mmbench.metrics import Metric
from mmbench.registry import Registry
from mmbench.streams import stream
from mmbench.tasks import MultiBinary, MultiClass, Regression, Task

COUNT = 60


class Subject:
    """A metric, and cases for it."""

    def __init__(self, cls: type[Metric], registry: Registry) -> None:
        self.cls = cls

    @cached_property
    def made(self) -> Metric:
        """One that is made without arguments, as jobs make it."""
        return self.cls()

    def cases(self) -> Iterator[tuple[type[Task], np.ndarray, np.ndarray]]:
        """For each kind of task ten pairs of truth (N,) and prediction (N,), as tasks decide them."""
        rng = stream("checks", "metrics")
        for task in self.cls.tasks:
            for _ in range(10):
                if issubclass(task, Regression):
                    score = (rng.integers(-15, 16, COUNT) / 5).astype(np.float32)
                    yield task, score, score + rng.standard_normal(COUNT)
                elif issubclass(task, MultiBinary | MultiClass):
                    classes = 2 if issubclass(task, MultiBinary) else 3
                    shares = np.arange(classes, 0, -1.0) / np.arange(classes + 1).sum()
                    truth = rng.choice(classes, COUNT, p=shares)
                    wrong = rng.random(COUNT) < 0.3
                    yield task, truth, np.where(wrong, rng.integers(0, classes, COUNT), truth)


def close(a: float, b: float) -> bool:
    """Whether two values are the same but for rounding."""
    return bool(np.isclose(a, b, rtol=1e-6, atol=1e-9))


@check("metric", "its vectors come out", Subject)
def vectors(subject: Subject) -> None:
    """Cases whose value is known without this code are what says that the formula is the one it states."""
    if not subject.cls.vectors:
        fail(
            "it has no vectors",
            expected="at least one case worked out by hand",
            mend="Give `vectors` a Vector(truth, prediction, value) whose value needs no code.",
        )
    for vector in subject.cls.vectors:
        value = subject.made.score(np.array(vector.truth), np.array(vector.prediction))
        if not np.isclose(value, vector.value, rtol=1e-6, atol=1e-9):
            fail(
                f"truth {tuple(vector.truth)}, prediction {tuple(vector.prediction)} score {value:.6g}",
                expected=f"{vector.value:.6g}, as its vector says",
                mend="Mend the formula, or the vector if it is wrong.",
            )


@check("metric", "truth comes first", Subject)
def argument_order(subject: Subject) -> None:
    """score(truth, prediction): swapped, a weighted F1 rewards constant predictions. A vector must tell the two."""
    asymmetric = any(
        not close(subject.made.score(truth, guess), subject.made.score(guess, truth))
        for task, truth, guess in subject.cases()
    )
    for vector in subject.cls.vectors:
        truth, guess = np.array(vector.truth), np.array(vector.prediction)
        straight, swapped = subject.made.score(truth, guess), subject.made.score(guess, truth)
        if close(swapped, vector.value) and not close(straight, vector.value):
            fail(
                f"truth {tuple(vector.truth)}, prediction {tuple(vector.prediction)} score as if swapped",
                expected="truth as the first argument, prediction as the second",
                mend="Swap the arguments where they are handed on.",
            )
        if close(straight, vector.value) and not close(swapped, straight):
            return
    if asymmetric:
        fail(
            "its value changes when truth and prediction are swapped, and no vector says which is right",
            expected="a vector whose value is another one if they are swapped",
            mend="Add a Vector in which truth and prediction have different shares of classes.",
        )


@check("metric", "it is one finite number, of constants too", Subject)
def finite(subject: Subject) -> None:
    """A method that predicts one constant is a row of the table, not its end; so is a split of one label."""
    for task, truth, guess in subject.cases():
        ones, zeros = np.ones_like(truth), np.zeros_like(truth)
        pairs = [(truth, guess), (truth, ones), (truth, zeros), (ones, guess), (zeros, guess)]
        pairs += [(zeros, zeros), (ones, zeros), (truth[:1], guess[:1])]
        for t, p in pairs:
            value = subject.made.score(t, p)
            if np.ndim(value) or not np.isfinite(value):
                fail(
                    f"{len(t)} samples of {task.kind}, {len(set(p))} different predictions, score {value}",
                    expected="one finite number",
                    mend="Say what it is where it is not defined, e.g. 0 for a correlation of a constant.",
                )


@check("metric", "nothing is better than a perfect prediction", Subject)
def perfect(subject: Subject) -> None:
    """Else higher_is_better is wrong, and the worst method leads the table."""
    sign = 1 if subject.cls.higher_is_better else -1
    for task, truth, guess in subject.cases():
        best, other = subject.made.score(truth, truth), subject.made.score(truth, guess)
        if sign * (other - best) > 1e-9:
            fail(
                f"a prediction of {task.kind} equal to the truth scores {best:.6g}, a noisy one {other:.6g}",
                expected=f"that the perfect one is the {'highest' if sign > 0 else 'lowest'}",
                mend="Look at higher_is_better, and at the sign of the formula.",
            )


@check("metric", "order never matters", Subject)
def order(subject: Subject) -> None:
    """Samples have no order: the store's is that of the file."""
    rng = stream("checks", "metrics", "order")
    for task, truth, guess in subject.cases():
        at = rng.permutation(COUNT)
        value, other = subject.made.score(truth, guess), subject.made.score(truth[at], guess[at])
        if not close(value, other):
            fail(
                f"samples of {task.kind} score {value:.9g} in one order and {other:.9g} in another",
                expected="the same value",
                mend="Let it be made of sums and counts over samples, and compare no neighbours.",
            )


@check("metric", "what it is given is left as it was", Subject)
def unchanged(subject: Subject) -> None:
    """All metrics are given the same arrays, one after the other."""
    for _, truth, guess in subject.cases():
        kept = truth.copy(), guess.copy()
        subject.made.score(truth, guess)
        if not (np.array_equal(truth, kept[0]) and np.array_equal(guess, kept[1])):
            fail(
                "score writes into the truth or the prediction",
                expected="arrays that are only read",
                mend="Work on a copy, or with functions that return a new array.",
            )


@check("metric", "drawn anew, samples score as if repeated", Subject)
def resampled(subject: Subject) -> None:
    """Tests of significance draw test samples anew by `resampled`: wrong there, every star and rank is."""
    if subject.cls.resampled is Metric.resampled:
        raise NotApplicable("it has no way of its own to draw samples anew")
    rng = stream("checks", "metrics", "counts")
    for task, truth, guess in subject.cases():
        counts = rng.poisson(1.0, (3, COUNT)).astype(np.float32)
        guesses = np.stack([guess, guess[::-1]], 1)
        found = subject.made.resampled(truth, guesses, counts)
        expected = Metric.resampled(subject.made, truth, guesses, counts)
        if np.shape(found) != expected.shape or not np.allclose(found, expected, atol=1e-9):
            fail(
                f"resampled() of {task.kind} differs from the score of repeated samples",
                expected=f"{expected[0, 0]:.9g}, for one, not {np.ravel(found)[0]:.9g}",
                mend="Weight every sum over samples by counts, or leave resampled() out.",
            )
