"""Summary columns: what one number says of a row of conditions. Pure functions of a table's means.

A *gain* is a score where higher is better, or its negative; letters: f the gain of the floor, C the
complete condition, K conditions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mmbench.tidy import Columns, tidy

AVERAGE = "average"
"""Name of the summary column, which each protocol heads in its own way."""
ALL = "all labels"
"""Stands for the mean over labels, where there is more than one."""
SLACK = 1e-9

Subset = frozenset[str]
"""Modalities that are there."""


@dataclass(frozen=True)
class Quantity:
    """One summary column."""

    title: str
    formula: str
    share: bool = False
    """Whether it is a share, which tables show times 100, whatever the metric's unit."""
    whole: bool = False
    """Whether it counts something."""


QUANTITIES = {
    "rank": Quantity(
        "Rank",
        "going down the order of the summary column, whoever is significantly worse than the best of its "
        "group (p < 0.05, Holm over all pairs of methods) opens the next group; a group shares a rank",
        whole=True,
    ),
    "score": Quantity("Score", "the protocol's summary column"),
    "worst": Quantity("Worst", "the worst of the incomplete conditions"),
    "retention": Quantity(
        "Retention", "(score - floor) / (complete - floor), each of the same method", share=True
    ),
    "ceiling_share": Quantity(
        "Of ceiling",
        "(score - floor) / (ceiling - floor), the ceiling being the best possible predictor's score",
        share=True,
    ),
    "violations": Quantity(
        "Violations",
        "pairs of nested sets of modalities of which the larger one scores less",
        whole=True,
    ),
}
"""By name; that of each modality, "shapley:l", follows them."""
SHAPLEY = "shapley"
QUANTITY_COLUMNS: Columns = {
    **dict.fromkeys(("protocol", "label", "method", "quantity"), str),
    "value": float,
}


def quantity(name: str) -> Quantity:
    """That of a name, e.g. "worst" or "shapley:l"."""
    kind, _, modality = name.partition(":")
    if kind != SHAPLEY:
        return QUANTITIES[name]
    return Quantity(
        f"Shapley {modality}",
        f"what {modality} adds to the score, mean over the orders in which modalities may come; the empty "
        "set scores the floor, and all modalities together add complete - floor",
    )


def known_quantity(name: str) -> bool:
    """Whether `quantity` knows it."""
    return name in QUANTITIES or name.partition(":")[0] == SHAPLEY


def overall(labels: Sequence[str]) -> str:
    """The label that stands for all of them: the only one, or ALL."""
    return labels[0] if len(labels) == 1 else ALL


def share(score: float, low: float, high: float) -> float:
    """How much of the way from `low` to `high` a score has come; NaN where there is no way up.

    All three are gains: (score - low) / (high - low).
    """
    return (score - low) / (high - low) if high - low > SLACK else math.nan


def shapley(gains: Mapping[Subset, float]) -> dict[str, float]:
    """What each modality adds: the mean, over all orders of adding modalities, of the step that it makes.

    gains: of every subset, the empty one included. The values add up to gains[all] - gains[none].
    """
    players = sorted(frozenset[str]().union(*gains))
    n = len(players)
    return {
        m: sum(
            (gains[frozenset(rest) | {m}] - gains[frozenset(rest)])
            * math.factorial(size)
            * math.factorial(n - size - 1)
            / math.factorial(n)
            for size in range(n)
            for rest in combinations([p for p in players if p != m], size)
        )
        for m in players
    }


def nested(subsets: Collection[Subset]) -> list[tuple[Subset, Subset]]:
    """All pairs of a set and a larger one that holds it."""
    return [(a, b) for a in subsets for b in subsets if a < b]


def violations(gains: Mapping[Subset, float]) -> int:
    """Pairs of nested sets of which the larger one gains less: more modalities have hurt."""
    return sum(gains[b] < gains[a] - SLACK for a, b in nested(gains))


def effective_rate(protocol: Mapping[str, Any], condition: str) -> float:
    """The share of valid frames that a condition really hides, mean over modalities.

    protocol: as a manifest describes it. For AVERAGE the mean over the incomplete conditions.
    """
    if condition == AVERAGE:
        every = [c["name"] for c in protocol["conditions"] if not c["complete"]]
        return float(np.mean([effective_rate(protocol, name) for name in every]))
    return float(np.mean(list(protocol["effective_rate"][condition].values())))


def lattice(protocol: Mapping[str, Any], modalities: Collection[str]) -> dict[Subset, str]:
    """The condition of each subset of modalities; empty unless every non-empty one is tested once."""
    whole = [c for c in protocol["conditions"] if c["rate"] == 0]
    found = {frozenset(c["observed"]): c["name"] for c in whole}
    every = 2 ** len(modalities) - 1
    return found if len(found) == len(protocol["conditions"]) == every else {}


def violations_of(protocol: Mapping[str, Any], modalities: Collection[str]) -> int:
    """How many pairs of nested sets a protocol tests."""
    return len(nested(lattice(protocol, modalities)))


def summarise(
    facts: Mapping[str, Any],
    cells: pd.DataFrame,
    ranks: Mapping[tuple[str, str, str], int],
    ceiling: str | None,
) -> pd.DataFrame:
    """The quantities of a section's headline metric, tidy: QUANTITY_COLUMNS.

    cells: the section's; ranks: by (protocol, label, method); ceiling: the label of the row that stands
    for the best possible. What is not defined is left out.
    """
    sign = 1 if facts["metrics"][facts["headline"]]["higher_is_better"] else -1
    rows = list(_gains(facts, cells, sign))
    complete: dict[tuple[str, str], float] = {}  # of any protocol, by label and method
    tops: dict[tuple[str, str], float] = {}
    for protocol, label, method, gains, _ in rows:
        for condition in facts["protocols"][protocol]["conditions"]:
            if condition["complete"]:
                complete[label, method] = gains[condition["name"]]
        if method == ceiling:
            tops[protocol, label] = gains[AVERAGE]
    lines = []
    for protocol, label, method, gains, floor in rows:
        described = facts["protocols"][protocol]
        incomplete = [gains[c["name"]] for c in described["conditions"] if not c["complete"]]
        score = gains[AVERAGE]
        found: dict[str, float] = {
            "rank": ranks.get((protocol, label, method), math.nan),
            "score": sign * score,
            "worst": sign * float(np.min(incomplete)),
            "retention": share(score, floor, complete.get((label, method), math.nan)),
            "ceiling_share": share(score, floor, tops.get((protocol, label), math.nan)),
        }
        if sets := lattice(described, facts["data"]["modalities"]):
            values = {subset: gains[name] for subset, name in sets.items()}
            known = not any(map(math.isnan, values.values()))
            found["violations"] = violations(values) if known else math.nan
            every = {**values, frozenset[str](): floor}
            found |= {f"{SHAPLEY}:{m}": value for m, value in shapley(every).items()}
        lines += [
            (protocol, label, method, name, float(value))
            for name, value in found.items()
            if not math.isnan(value)
        ]
    return tidy(lines, QUANTITY_COLUMNS)


def _gains(
    facts: Mapping[str, Any], cells: pd.DataFrame, sign: int
) -> Iterator[tuple[str, str, str, dict[str, float], float]]:
    """Protocol, label, method, gains of its columns, NaN where one is lacking, and of the floor.

    ALL comes first where there are several labels.
    """
    labels: list[str] = list(facts["labels"])
    floors = facts["floor"][facts["headline"]]
    table: dict[tuple[str, str, str], dict[str, float]] = {}
    for cell in cells[cells["metric"] == facts["headline"]].to_dict("records"):
        key = cell["protocol"], cell["label"], cell["method"]
        table.setdefault(key, {})[cell["column"]] = sign * cell["mean"]
    methods = dict.fromkeys(method for _, _, method in table)
    for protocol, described in facts["protocols"].items():
        columns = [AVERAGE, *(c["name"] for c in described["conditions"])]
        for label in dict.fromkeys([overall(labels), *labels]):
            meant = labels if label == ALL else [label]
            floor = sign * float(np.mean([floors[name] for name in meant]))
            for method in methods:
                parts = [table[protocol, name, method] for name in meant]
                means = {c: float(np.mean([p.get(c, math.nan) for p in parts])) for c in columns}
                yield protocol, label, method, means, floor
