"""From the predictions that a store keeps to what would have been scored on other draws of the test split.

Letters: B resamples, M rows, S training seeds, K trials (every mask of every condition of every protocol),
C conditions, L labels, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmbench.errors import DataError, UsageError
from mmbench.statistics import resamples
from mmbench.summary import ALL, overall

if TYPE_CHECKING:
    from mmbench.leaderboard import Manifest, Row
    from mmbench.metrics import Metric
    from mmbench.missingness import MissingnessProtocol
    from mmbench.registry import Registry
    from mmbench.store import Store
    from mmbench.tasks import Task


TOGETHER = 1024
"""Predictions that a metric judges at a time: of a whole grid they would fill the memory."""


class Untestable(Exception):
    """Why there are no tests, of one row or of all."""


@dataclass(frozen=True)
class Samples:
    """What was predicted: ids (N,), targets (N, L)."""

    ids: np.ndarray
    targets: np.ndarray

    def check(self, other: Samples) -> None:
        """Untestable if the others are not the same, in the same order."""
        for mine, theirs in ((self.ids, other.ids), (self.targets, other.targets)):
            if not np.array_equal(mine, theirs):
                raise Untestable("its predictions are of other samples")


@dataclass(frozen=True)
class Rules:
    """What turns predictions into the numbers of a table."""

    task: Task
    trials: Mapping[str, Sequence[Sequence[str]]]
    """By protocol, for each condition, the names of its arrays in a file of predictions."""
    weights: Mapping[str, np.ndarray]
    """By protocol, that of each condition in the summary column (C,)."""

    @classmethod
    def of(cls, facts: Manifest, registry: Registry) -> Rules:
        """Those of a section; Untestable if a plugin that they need is not here."""
        trials, weights = {}, {}
        for name, described in facts["protocols"].items():
            protocol = find(registry, "protocol", described["id"])()
            weights[name] = _weights(protocol, list(facts["data"]["modalities"]))
            trials[name] = [
                [f"{name}/{c['name']}/{seed}" for seed in range(described["mask_seeds"])]
                for c in described["conditions"]
            ]
        return cls(find(registry, "dataset", facts["data"]["name"]).task, trials, weights)

    def decided(self, store: Store, row: Row) -> tuple[dict[int, np.ndarray], Samples]:
        """What a row says under every trial, (L, N, K) by seed, and of which samples.

        Untestable if predictions are missing, altered, of several test splits or of other trials.
        """
        own: dict[int, np.ndarray] = {}
        samples: Samples | None = None
        for manifest in row.finished:
            seed = manifest["job"]["seed"]
            try:
                arrays = store.predictions(manifest)
            except (DataError, KeyError) as error:
                raise Untestable(
                    f"the predictions of seed {seed} are missing or altered"
                ) from error
            own[seed] = self._decide(arrays)
            here = Samples(arrays["ids"], arrays["targets"])
            samples = samples or here
            samples.check(here)
        if samples is None:
            raise Untestable("it has no finished result")
        return own, samples

    def _decide(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        try:
            every = [arrays[k] for c in self.trials.values() for keys in c for k in keys]
            outputs = np.stack(every)  # (K, N, n_out)
            decided = self.task.decide(outputs.reshape(-1, outputs.shape[-1]))  # (K N, L)
        except (KeyError, ValueError, IndexError) as error:
            raise Untestable(f"its predictions do not fit the protocols: {error}") from error
        decided = decided.reshape(*outputs.shape[:2], -1)
        return np.ascontiguousarray(decided.transpose(2, 1, 0))  # (L, N, K)

    def scored(
        self,
        metric: Metric,
        decided: Sequence[Mapping[int, np.ndarray]],
        targets: np.ndarray,
        labels: Sequence[str],
    ) -> dict[str, dict[str, np.ndarray]]:
        """By protocol and label what rows score, of the test split as it is, first, and of its resamples.

        float64 (1 + B, M, S, C + 1), the summary column last. decided: of each row, by seed, (L, N, K);
        targets (N, L). S: every seed that any row has, ascending, NaN where a row lacks it. ALL, the mean
        over labels, comes first where there are several.
        """
        drawn = np.concatenate([np.ones((1, len(targets)), np.float32), resamples(len(targets))])
        seeds = sorted({seed for own in decided for seed in own})
        shape = len(drawn), len(decided), len(seeds)
        scores: dict[str, dict[str, np.ndarray]] = {
            protocol: {label: np.full((*shape, len(conditions) + 1), np.nan) for label in labels}
            for protocol, conditions in self.trials.items()
        }
        rows = [(m, seeds.index(s), own[s]) for m, own in enumerate(decided) for s in own]
        at_once = max(TOGETHER // rows[0][2].shape[-1], 1)
        for number, label in enumerate(labels):
            for start in range(0, len(rows), at_once):
                some = rows[start : start + at_once]
                every = np.concatenate([own[number] for _, _, own in some], -1)
                found = metric.resampled(targets[:, number], every, drawn)
                found = found.reshape(len(drawn), len(some), -1)  # (1 + B, rows, K)
                for protocol, by_label in scores.items():
                    columns = self._columns(found, protocol)
                    for at, (m, s, _) in enumerate(some):
                        by_label[label][:, m, s] = columns[:, at]
        if overall(labels) == ALL:
            return {name: {ALL: _mean(list(by.values())), **by} for name, by in scores.items()}
        return scores

    def _columns(self, scores: np.ndarray, protocol: str) -> np.ndarray:
        """Scores (..., K) of a protocol's conditions and, last, of its summary, (..., C + 1)."""
        start = 0
        for name, conditions in self.trials.items():
            stop = start + sum(map(len, conditions))
            if name == protocol:
                break
            start = stop
        masks = (stop - start) // len(conditions)
        means = _mean([scores[..., start + mask : stop : masks] for mask in range(masks)])
        summary = means @ self.weights[protocol]  # which is linear
        return np.concatenate([means, summary[..., None]], -1)


def find(registry: Registry, kind: str, name: str) -> Any:
    """A plugin's class; Untestable if it is not here in that version."""
    try:
        return registry.find(kind, name)
    except UsageError as error:
        raise Untestable(f"{kind} {name} is not installed here") from error


def _mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Of arrays of one shape, each with all others: `np.mean` would hold them all once more, and be slower."""
    total = arrays[0].copy()
    for array in arrays[1:]:
        total += array
    total /= len(arrays)
    return total


def _weights(protocol: MissingnessProtocol, modalities: Sequence[str]) -> np.ndarray:
    """The weight of each condition in the summary column, which is linear by contract."""
    conditions = protocol.conditions(modalities)

    def summary(values: np.ndarray) -> float:
        scores = {c.name: float(v) for c, v in zip(conditions, values, strict=True)}
        return protocol.summarise(scores, conditions)

    weights = np.array([summary(unit) for unit in np.eye(len(conditions))])
    probe = np.sqrt(np.arange(2, len(conditions) + 2))  # of no simple ratio
    if not np.isclose(summary(probe), probe @ weights):
        raise Untestable(f"the summary of {protocol.id} is not linear in the scores")
    return weights
