"""Whether two sides put the methods in the same order: Kendall's tau, column by column.

Scores of a twin and of real data cannot be subtracted from each other, but what holds of the methods
should show in their order on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from scipy.stats import kendalltau

FEWEST = 4
"""Methods; of three, the order is the same by chance once in six times."""


@dataclass(frozen=True)
class Order:
    """One column of a protocol, as both sides see it."""

    metric: str
    protocol: str
    column: str
    tau: float
    """Kendall's tau-b: 1 the same order, 0 none in common, -1 the reverse; nan if a side has one score only."""
    p: float
    """Of the hypothesis that the orders have nothing in common."""
    left: tuple[str, ...]
    right: tuple[str, ...]
    """The methods, best first."""


def orders(cells: pd.DataFrame) -> Iterator[Order]:
    """For each metric, protocol and column that both sides have of `FEWEST` methods or more.

    cells: as in `mmbench.compare.Pair`. A method's score is its mean over the labels.
    """
    sides = ["mean_left", "mean_right"]
    by = ["metric", "protocol", "column"]
    for key, own in cells.groupby(by, sort=False):
        if own["method"].nunique() < FEWEST:
            continue
        sign = own["sign"].iloc[0]
        scores = sign * own.groupby("method", sort=False)[sides].mean()
        found = kendalltau(*(scores[side] for side in sides))
        best_first = (
            tuple(scores.sort_values(side, ascending=False, kind="stable").index) for side in sides
        )
        metric, protocol, column = map(str, key)
        tau, p = float(found.statistic), float(found.pvalue)
        yield Order(metric, protocol, column, tau, p, *best_first)
