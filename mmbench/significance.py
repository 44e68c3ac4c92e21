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

from mmbench.resampling import Rules, Samples, Untestable, find
from mmbench.statistics import ALPHA, LEAST, compare, holm, ranks
from mmbench.summary import ALL, AVERAGE
from mmbench.tidy import Columns, tidy

if TYPE_CHECKING:
    from mmbench.leaderboard import Manifest, Row
    from mmbench.metrics import Metric
    from mmbench.registry import Registry
    from mmbench.store import Store

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
            rules = Rules.of(facts, self.registry)
            headline = facts["metrics"][facts["headline"]]["id"]
            metric = find(self.registry, "metric", headline)()
        except Untestable as error:
            return no_tests(), {row.label: str(error) for row in rows} | untested
        decided: dict[str, dict[int, np.ndarray]] = {}
        samples: Samples | None = None
        for row in rows:
            if row.label in untested:
                continue
            try:
                own, here = rules.decided(self.store, row)
                samples = samples or here
                samples.check(here)
                decided[row.label] = own
            except Untestable as error:
                untested[row.label] = str(error)
        if samples is None or len(decided) < 2:
            alone = "there is no other row to compare it with"
            return no_tests(), {row.label: untested.get(row.label, alone) for row in rows}
        return _tests(facts, rules, metric, decided, samples.targets), untested


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


def _excluded(row: Row) -> str:
    if not row.competes:
        return "it does not compete"
    few = f"fewer than {LEAST} training seeds cannot tell luck from method"
    return few if row.seeds < LEAST else ""


def _tests(
    facts: Manifest,
    rules: Rules,
    metric: Metric,
    decided: Mapping[str, Mapping[int, np.ndarray]],
    targets: np.ndarray,
) -> pd.DataFrame:
    """decided: by row and seed (L, N, K); targets (N, L)."""
    scores = rules.scored(metric, list(decided.values()), targets, list(facts["labels"]))
    sign = 1 if metric.higher_is_better else -1
    lines = [
        (protocol, label, *line)
        for protocol, described in facts["protocols"].items()
        for label, values in scores[protocol].items()
        for line in _protocol(
            [*(c["name"] for c in described["conditions"]), AVERAGE],
            list(decided),
            values,
            len(targets),
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
            yield (columns[column], names[a], names[b], seeds, *brief(*result, p))


def brief(*values: np.ndarray | float) -> Iterator[float]:
    """Numbers with as many digits as a table of tests has."""
    return (float(f"{value:.{DIGITS}g}") for value in values)
