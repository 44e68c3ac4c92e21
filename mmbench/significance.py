"""Tests between the rows of a leaderboard, from the predictions that a store keeps.

How two methods are compared stands in `mmbench/statistics.py`; what is compared, here: the headline
metric, for each label and for the mean over labels, in the summary column and in each condition, on the
training seeds that both rows have. In the summary column every pair of rows that compete is tested, and p
adjusted over the pairs: that gives ranks. In a condition the best is tested against the best other one,
and p adjusted over the conditions of the protocol: that gives stars.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmbench.errors import DataError, UsageError
from mmbench.statistics import ALPHA, LEAST, compare, holm, ranks, resamples
from mmbench.summary import ALL, AVERAGE, overall
from mmbench.tidy import Columns, tidy

if TYPE_CHECKING:
    from mmbench.leaderboard import Manifest, Row
    from mmbench.metrics import Metric
    from mmbench.missingness import MissingnessProtocol
    from mmbench.registry import Registry
    from mmbench.store import Store
    from mmbench.tasks import Task

TEST_COLUMNS: Columns = {
    **dict.fromkeys(("protocol", "label", "column", "method", "other"), str),
    "seeds": int,
    **dict.fromkeys(("difference", "error", "df", "p", "p_adjusted"), float),
}
DIGITS = 6
"""Of a number in a table of tests: more would say nothing."""


@dataclass(frozen=True)
class Tests:
    """What tests are made from."""

    store: Store
    registry: Registry

    def of(self, facts: Manifest, rows: Sequence[Row]) -> tuple[pd.DataFrame, dict[str, str]]:
        """The tests between rows of a section, tidy: TEST_COLUMNS; and, by label, why rows have none."""
        untested = {row.label: _excluded(row) for row in rows if _excluded(row)}
        try:
            rules = _Rules.of(facts, self.registry)
        except _Untestable as error:
            return no_tests(), {row.label: str(error) for row in rows} | untested
        decided: dict[str, dict[int, np.ndarray]] = {}
        samples: _Samples | None = None
        for row in rows:
            if row.label in untested:
                continue
            try:
                own = {}
                for manifest in row.finished:
                    arrays = self._predictions(manifest)
                    own[manifest["job"]["seed"]] = rules.decide(arrays)
                    here = _Samples(arrays["ids"], arrays["targets"])
                    samples = samples or here
                    samples.check(here)
                decided[row.label] = own
            except _Untestable as error:
                untested[row.label] = str(error)
        if samples is None or len(decided) < 2:
            alone = "there is no other row to compare it with"
            return no_tests(), {row.label: untested.get(row.label, alone) for row in rows}
        return _tests(facts, rules, decided, samples.targets), untested

    def _predictions(self, manifest: Manifest) -> dict[str, np.ndarray]:
        try:
            return self.store.predictions(manifest)
        except (DataError, KeyError) as error:
            seed = manifest["job"]["seed"]
            raise _Untestable(f"the predictions of seed {seed} are missing or altered") from error


def no_tests() -> pd.DataFrame:
    """A table of tests without any."""
    return tidy([], TEST_COLUMNS)


def ranked(
    facts: Manifest, rows: Sequence[Row], cells: pd.DataFrame, tests: pd.DataFrame
) -> dict[tuple[str, str, str], int]:
    """The ranks of the rows that were tested in the summary column, by (protocol, label, method)."""
    sign = 1 if facts["metrics"][facts["headline"]]["higher_is_better"] else -1
    own = cells[(cells["metric"] == facts["headline"]) & (cells["column"] == AVERAGE)]
    means = {(c["protocol"], c["label"], c["method"]): c["mean"] for c in own.to_dict("records")}
    names = [row.label for row in rows if not row.untested]
    labels: list[str] = list(facts["labels"])
    found: dict[tuple[str, str, str], int] = {}
    summary = tests[tests["column"] == AVERAGE]
    families = dict.fromkeys(zip(summary["protocol"], summary["label"], strict=True))
    for protocol, label in families:
        group = summary[(summary["protocol"] == protocol) & (summary["label"] == label)]
        meant = labels if label == ALL else [label]
        score = {n: sign * float(np.mean([means[protocol, k, n] for k in meant])) for n in names}
        order = sorted(names, key=lambda name: -score[name])
        significant = group[group["p_adjusted"] < ALPHA]
        different = set(
            map(frozenset, zip(significant["method"], significant["other"], strict=True))
        )
        for name, rank in zip(order, ranks(order, different), strict=True):
            found[protocol, label, name] = rank
    return found


def starred(
    tests: pd.DataFrame, ranks: Mapping[tuple[str, str, str], int]
) -> set[tuple[str, str, str, str]]:
    """(protocol, label, column, method) where the best is significantly better than the best other one.

    In the summary column that is whoever is alone at rank 1.
    """
    found = {
        (test["protocol"], test["label"], test["column"], test["method"])
        for test in tests.to_dict("records")
        if test["column"] != AVERAGE and test["p_adjusted"] < ALPHA
    }
    first: dict[tuple[str, str], list[str]] = {}
    for (protocol, label, method), rank in ranks.items():
        if rank == 1:
            first.setdefault((protocol, label), []).append(method)
    return found | {(p, n, AVERAGE, who[0]) for (p, n), who in first.items() if len(who) == 1}


# -- How ------------------------------------------------------------------------------------------


class _Untestable(Exception):
    """Why there are no tests, of one row or of all."""


def _excluded(row: Row) -> str:
    if not row.competes:
        return "it does not compete"
    few = f"fewer than {LEAST} training seeds cannot tell luck from method"
    return few if row.seeds < LEAST else ""


@dataclass(frozen=True)
class _Samples:
    ids: np.ndarray
    targets: np.ndarray

    def check(self, other: _Samples) -> None:
        for mine, theirs in ((self.ids, other.ids), (self.targets, other.targets)):
            if not np.array_equal(mine, theirs):
                raise _Untestable("its predictions are of other samples")


@dataclass(frozen=True)
class _Rules:
    """What turns predictions into the numbers of a table."""

    task: Task
    metric: Metric
    trials: Mapping[str, Sequence[Sequence[str]]]
    """By protocol, for each condition, the keys of its mask seeds' predictions."""
    weights: Mapping[str, np.ndarray]
    """By protocol, that of each condition in the summary column (C,)."""

    @classmethod
    def of(cls, facts: Manifest, registry: Registry) -> _Rules:
        def find(kind: str, name: str) -> Any:
            try:
                return registry.find(kind, name)
            except UsageError as error:
                raise _Untestable(f"{kind} {name} is not installed here") from error

        trials, weights = {}, {}
        for name, described in facts["protocols"].items():
            protocol = find("protocol", described["id"])()
            weights[name] = _weights(protocol, list(facts["data"]["modalities"]))
            trials[name] = [
                [f"{name}/{c['name']}/{seed}" for seed in range(described["mask_seeds"])]
                for c in described["conditions"]
            ]
        headline = facts["metrics"][facts["headline"]]["id"]
        task = find("dataset", facts["data"]["name"]).task
        return cls(task, find("metric", headline)(), trials, weights)

    def decide(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """What a result says of every sample under every trial, (L, N, trials)."""
        try:
            every = [arrays[k] for c in self.trials.values() for keys in c for k in keys]
            decided = np.stack([self.task.decide(outputs) for outputs in every], -1)  # (N, L, K)
        except (KeyError, ValueError) as error:
            raise _Untestable(f"its predictions do not fit the protocols: {error}") from error
        return decided.swapaxes(0, 1)

    def columns(self, scores: np.ndarray, protocol: str) -> np.ndarray:
        """Scores (..., trials) of a protocol's conditions and, last, of its summary, (..., C + 1)."""
        start = 0
        for name, conditions in self.trials.items():
            stop = start + sum(map(len, conditions))
            if name == protocol:
                break
            start = stop
        parts = scores[..., start:stop].reshape(*scores.shape[:-1], len(conditions), -1)
        means = parts.mean(-1)  # over mask seeds; the summary is linear
        return np.concatenate([means, (means @ self.weights[protocol])[..., None]], -1)


def _weights(protocol: MissingnessProtocol, modalities: Sequence[str]) -> np.ndarray:
    """The weight of each condition in the summary column, which is linear by contract."""
    conditions = protocol.conditions(modalities)

    def summary(values: np.ndarray) -> float:
        scores = {c.name: float(v) for c, v in zip(conditions, values, strict=True)}
        return protocol.summarise(scores, conditions)

    weights = np.array([summary(unit) for unit in np.eye(len(conditions))])
    probe = np.sqrt(np.arange(2, len(conditions) + 2))  # of no simple ratio
    if not np.isclose(summary(probe), probe @ weights):
        raise _Untestable(f"the summary of {protocol.id} is not linear in the scores")
    return weights


def _tests(
    facts: Manifest,
    rules: _Rules,
    decided: Mapping[str, Mapping[int, np.ndarray]],
    targets: np.ndarray,
) -> pd.DataFrame:
    """decided: by row and seed (L, N, trials); targets (N, L)."""
    n, labels = len(targets), list(facts["labels"])
    drawn = np.concatenate(
        [np.ones((1, n), np.float32), resamples(n)]
    )  # (1 + B, N): as it is, first
    seeds = sorted({seed for own in decided.values() for seed in own})
    scores: dict[
        str, np.ndarray
    ] = {}  # by label (1 + B, M, S, trials), NaN where a seed is lacking
    for number, label in enumerate(labels):
        every = [own[number] for by_seed in decided.values() for own in by_seed.values()]
        found = rules.metric.resampled(targets[:, number], np.concatenate(every, -1), drawn)
        found = found.reshape(len(drawn), len(every), -1)
        scores[label] = np.full((len(drawn), len(decided), len(seeds), found.shape[-1]), np.nan)
        have = [(m, seeds.index(s)) for m, own in enumerate(decided.values()) for s in own]
        for at, (m, s) in enumerate(have):
            scores[label][:, m, s] = found[:, at]
    if overall(labels) == ALL:
        scores = {ALL: np.mean(list(scores.values()), axis=0), **scores}
    sign = 1 if rules.metric.higher_is_better else -1
    lines = [
        (protocol, label, *line)
        for protocol, described in facts["protocols"].items()
        for label, values in scores.items()
        for line in _protocol(
            [*(c["name"] for c in described["conditions"]), AVERAGE],
            list(decided),
            rules.columns(values, protocol),
            n,
            sign,
        )
    ]
    return tidy(lines, TEST_COLUMNS)


def _protocol(
    columns: Sequence[str], names: Sequence[str], scores: np.ndarray, samples: int, sign: int
) -> Iterator[tuple[Any, ...]]:
    """One label's tests under one protocol. scores (1 + B, M, S, C + 1), the summary last."""
    means = np.nanmean(scores[0], axis=1)  # (M, C + 1)
    order = np.argsort(-sign * means, axis=0, kind="stable")
    pairs = [(a, b, len(columns) - 1) for a, b in combinations(order[:, -1], 2)]
    tops = [(*order[:2, column], column) for column in range(len(columns) - 1)]
    for family in (pairs, tops):
        tested = []
        for a, b, column in family:
            both = scores[:, a, :, column] - scores[:, b, :, column]
            both = both[:, ~np.isnan(both[0])]  # (1 + B, S of both)
            if both.shape[1] >= LEAST:
                result = compare(both[0], both[1:], samples)
                tested.append((a, b, column, both.shape[1], result))
        adjusted = holm([float(result.p) for *_, result in tested])
        for (a, b, column, seeds, result), p in zip(tested, adjusted, strict=True):
            numbers = (float(f"{value:.{DIGITS}g}") for value in (*result, p))
            yield (columns[column], names[a], names[b], seeds, *numbers)
