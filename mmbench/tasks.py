"""What is predicted: a real score, several yes-or-no labels, or one of several classes.

A task gives the width of a method's output, the loss, the decision that a metric judges, and the
constant predictions that make the floor. Letters: N samples, L labels, K classes.

torch is imported where it is first needed: data sets and the command line use tasks without it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmbench.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


class Task(ABC):
    """What a data set asks for. `targets` are arrays of one split, `outputs` a method's raw outputs."""

    kind: ClassVar[str]
    headline: ClassVar[str]
    """Name of the metric that tables lead with."""
    labels: tuple[str, ...]
    """What is scored, one name for each column of the targets."""

    @property
    @abstractmethod
    def n_out(self) -> int:
        """Width of a method's output."""

    @abstractmethod
    def check(self, targets: np.ndarray) -> np.ndarray:
        """`targets` (N, ...) as float32 (N, 1) or int64 (N, L); DataError if they do not fit."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task loss, a scalar, mean over the batch. outputs (B, n_out), targets (B, L)."""

    @abstractmethod
    def divergence(self, teacher: Tensor, student: Tensor) -> Tensor:
        """How far the student's outputs are from the teacher's: KL(teacher || student), a scalar."""

    @abstractmethod
    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """What the outputs (N, n_out) say, in the form of the targets (N, L)."""

    @abstractmethod
    def constants(self, targets: np.ndarray) -> Iterator[np.ndarray]:
        """Predictions (L,) that are the same for every sample; the best of them is the floor."""

    @abstractmethod
    def prior(self, targets: np.ndarray) -> np.ndarray:
        """The outputs (n_out,) of a predictor that knows nothing but these targets (N, L)."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which `task_from_dict` makes this task again."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Regression(Task):
    """One real score in [low, high]: mean squared error; outputs (N, 1), targets float32 (N, 1)."""

    low: float
    high: float
    labels: tuple[str, ...] = ("sentiment",)
    kind: ClassVar[str] = "regression"
    headline: ClassVar[str] = "f1"

    @property
    def n_out(self) -> int:
        """One output: the score."""
        return 1

    def check(self, targets: np.ndarray) -> np.ndarray:
        """Float32 (N, 1), finite and inside [low, high]."""
        scores = _columns(np.asarray(targets, dtype=np.float32))
        if scores.shape[1] != 1:
            raise DataError(f"expected one score per sample, got {scores.shape[1]}")
        if not np.isfinite(scores).all():
            raise DataError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
        if len(scores) and (scores.min() < self.low or scores.max() > self.high):
            raise DataError(
                f"scores must lie in [{self.low:g}, {self.high:g}], "
                f"got [{scores.min():g}, {scores.max():g}]"
            )
        return scores

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error."""
        return (outputs - targets).square().mean()

    def divergence(self, teacher: Tensor, student: Tensor) -> Tensor:
        """KL between Gaussians of unit variance, the likelihood that the squared error implies."""
        return 0.5 * (teacher - student).square().sum(-1).mean()

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """The score itself."""
        return outputs.astype(np.float64)

    def constants(self, targets: np.ndarray) -> Iterator[np.ndarray]:
        """A hair below and above zero, each whole score, and the median (the best MAE)."""
        tiny = 1e-3
        whole = np.arange(np.ceil(self.low), np.floor(self.high) + 1)
        for value in (-tiny, tiny, float(np.median(targets)), *whole):
            yield np.array([value])

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """The mean score, which minimises the squared error."""
        return targets.mean(0, dtype=np.float64)


@dataclass(frozen=True)
class MultiBinary(Task):
    """L yes-or-no labels, two logits each: outputs (N, 2L) as (no, yes) pairs, targets int64 (N, L)."""

    labels: tuple[str, ...]
    kind: ClassVar[str] = "multi-binary"
    headline: ClassVar[str] = "weighted_f1"

    @property
    def n_out(self) -> int:
        """Two logits per label."""
        return 2 * len(self.labels)

    def check(self, targets: np.ndarray) -> np.ndarray:
        """Int64 (N, L) of zeros and ones."""
        values = np.asarray(targets)
        if values.shape != (len(values), len(self.labels)) or not np.isin(values, (0, 1)).all():
            raise DataError(
                f"expected zeros and ones of shape (N, {len(self.labels)}), got shape {values.shape}"
            )
        return values.astype(np.int64)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each label's two logits, mean over samples and labels."""
        from torch.nn import functional as F

        return F.cross_entropy(outputs.reshape(-1, 2), targets.reshape(-1))

    def divergence(self, teacher: Tensor, student: Tensor) -> Tensor:
        """KL(teacher || student) over each label's two logits, mean over samples and labels."""
        return _kl(teacher.reshape(-1, 2), student.reshape(-1, 2))

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """The larger logit of each pair; a tie is a no."""
        return outputs.reshape(len(outputs), len(self.labels), 2).argmax(-1)

    def constants(self, targets: np.ndarray) -> Iterator[np.ndarray]:
        """Never, and always."""
        yield np.zeros(len(self.labels), np.int64)
        yield np.ones(len(self.labels), np.int64)

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """The log-probabilities of no and yes, each count smoothed by one half."""
        yes = (targets.sum(0) + 0.5) / (len(targets) + 1)
        return np.log(np.stack([1 - yes, yes], -1)).reshape(-1)


@dataclass(frozen=True)
class MultiClass(Task):
    """One of K classes: outputs (N, K) logits, targets int64 (N, 1)."""

    classes: tuple[str, ...]
    labels: tuple[str, ...] = ("class",)
    kind: ClassVar[str] = "multi-class"
    headline: ClassVar[str] = "weighted_f1"

    @property
    def n_out(self) -> int:
        """One logit per class."""
        return len(self.classes)

    def check(self, targets: np.ndarray) -> np.ndarray:
        """Int64 (N, 1) in 0 ... K-1."""
        values = _columns(np.asarray(targets))
        if values.shape[1] != 1 or not np.isin(values, np.arange(len(self.classes))).all():
            raise DataError(
                f"expected one class number in 0 ... {len(self.classes) - 1} per sample"
            )
        return values.astype(np.int64)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        from torch.nn import functional as F

        return F.cross_entropy(outputs, targets.squeeze(-1))

    def divergence(self, teacher: Tensor, student: Tensor) -> Tensor:
        """KL(teacher || student) over the classes, mean over samples."""
        return _kl(teacher, student)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """The class of the largest logit."""
        return outputs.argmax(-1, keepdims=True)

    def constants(self, targets: np.ndarray) -> Iterator[np.ndarray]:
        """Each class."""
        for number in range(len(self.classes)):
            yield np.array([number])

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """The log-probabilities of the classes, each count smoothed by one half."""
        counts = np.bincount(targets[:, 0], minlength=len(self.classes)) + 0.5
        return np.log(counts / counts.sum())


def _columns(values: np.ndarray) -> np.ndarray:
    """(N,) or (N, 1, ...) as (N, columns), of no samples too."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) over the last axis, mean over the first."""
    from torch.nn import functional as F

    return F.kl_div(
        F.log_softmax(student, -1),
        F.log_softmax(teacher, -1),
        reduction="batchmean",
        log_target=True,
    )


TASKS: dict[str, type[Task]] = {task.kind: task for task in (Regression, MultiBinary, MultiClass)}


def task_from_dict(values: Mapping[str, Any]) -> Task:
    """The task that `Task.to_dict` described."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"}
    return TASKS[values["kind"]](**fields)
