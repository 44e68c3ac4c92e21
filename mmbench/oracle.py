"""The ceiling: what the best possible predictor scores, where the generator of the data is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmbench.streams import stream

if TYPE_CHECKING:
    from mmbench.data import Data
    from mmbench.metrics import Metric, Scores
    from mmbench.missingness import MissingnessProtocol

DRAWS = 20
"""Sets of targets drawn from the posterior, over which a ceiling is the mean."""


class Oracle(ABC):
    """A synthetic data set's knowledge of itself. V values that a sample's targets may take."""

    @abstractmethod
    def posterior(
        self, features: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """The probability of each value given what is observed of the test split, float64 (N, V)."""

    @abstractmethod
    def outputs(self, posterior: np.ndarray) -> np.ndarray:
        """What the best predictor says, as a method would: (N, n_out)."""

    @abstractmethod
    def draw(self, posterior: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Targets (N, L), drawn from it."""


def ceilings(
    oracle: Oracle,
    data: Data,
    protocol: MissingnessProtocol,
    metrics: Sequence[Metric],
    report: Callable[[float], None] = lambda share: None,
) -> dict[str, Scores]:
    """By condition, what the oracle may expect to score on the test split: the mean over targets that
    are drawn from its own posterior. The targets that the split has take no part."""
    from mmbench.evaluation import trials
    from mmbench.metrics import score

    samples = data.splits["test"]
    every = list(trials([protocol], list(samples.features), quick=True))
    found = {}
    for done, trial in enumerate(every):
        masks = trial.masks(samples, data.name)
        posterior = oracle.posterior(samples.features, masks)
        decided = data.task.decide(oracle.outputs(posterior))
        rng = stream("ceiling", data.name, trial.key)
        rows = [
            score(data.task, metrics, oracle.draw(posterior, rng), decided) for _ in range(DRAWS)
        ]
        found[trial.condition.name] = {
            metric.name: {
                label: float(np.mean([row[metric.name][label] for row in rows]))
                for label in data.task.labels
            }
            for metric in metrics
        }
        report((done + 1) / len(every))
    return found
