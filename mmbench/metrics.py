"""Scores: from what is true and what was predicted to one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmbench.tasks import Task


@dataclass(frozen=True)
class Vector:
    """A case whose value is known without this code."""

    truth: Sequence[float]
    prediction: Sequence[float]
    value: float


class Metric(ABC):
    """One number from N truths and N predictions, in this order. Subclass and register it as a plugin."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    title: ClassVar[str]
    formula: ClassVar[str]
    unit: ClassVar[str] = ""
    """"%" for a share, which tables show times 100."""
    higher_is_better: ClassVar[bool] = True
    tasks: ClassVar[tuple[type[Task], ...]]
    """The kinds of task that it can judge."""
    in_tables: ClassVar[bool] = False
    """Whether Markdown shows a table of it; the CSV always has it."""
    vectors: ClassVar[tuple[Vector, ...]]

    @abstractmethod
    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """The value for truth (N,) and prediction (N,), always finite."""

    def resampled(
        self, truth: np.ndarray, predictions: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """The values, float64 (B, K), if each sample stood there as often as `counts` (B, N) says.

        truth (N,), predictions (N, K). This is slow and right for any metric; one that is made of sums
        over samples does it with a product of matrices.
        """
        every = [np.repeat(np.arange(len(truth)), row.astype(np.int64)) for row in counts]
        return np.array(
            [
                [self.score(truth[drawn], column[drawn]) for column in predictions.T]
                for drawn in every
            ]
        )

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """What a table says of it."""
        return {
            "id": f"{cls.name}@{cls.version}",
            "title": cls.title,
            "formula": cls.formula,
            "unit": cls.unit,
            "higher_is_better": cls.higher_is_better,
            "in_tables": cls.in_tables,
        }


Scores = dict[str, dict[str, float]]
"""By metric name, then by label."""


def score(
    task: Task, metrics: Sequence[Metric], truth: np.ndarray, prediction: np.ndarray
) -> Scores:
    """Every metric of every label. truth and prediction (N, L), as the task decides them."""
    return {
        metric.name: {
            label: metric.score(truth[:, column], prediction[:, column])
            for column, label in enumerate(task.labels)
        }
        for metric in metrics
    }


def floor(task: Task, metrics: Sequence[Metric], truth: np.ndarray) -> Scores:
    """The best score that a constant prediction gets: what any method has to beat."""
    rows = [
        score(task, metrics, truth, np.broadcast_to(constant, truth.shape))
        for constant in task.constants(truth)
    ]
    return {
        metric.name: {
            label: (max if metric.higher_is_better else min)(
                row[metric.name][label] for row in rows
            )
            for label in task.labels
        }
        for metric in metrics
    }
