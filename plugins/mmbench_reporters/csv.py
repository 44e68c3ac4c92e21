"""The whole leaderboard as one tidy table: a line for each method, label, column and metric."""

from __future__ import annotations

from typing import Any

import pandas as pd

import mmbench
from mmbench.leaderboard import AVERAGE, DIGITS, Section
from mmbench.numbers import fixed
from mmbench.texts import field

ORDER = [
    "dataset",
    "synthetic",
    "data_sha256",
    "protocol",
    "method",
    "metric",
    "label",
    "column",
    "mean",
    "spread",
    "mask_spread",
    "seeds",
    "floor",
    "below_floor",
    "best",
    "star",
]


TEXT = ["dataset", "data_sha256", "protocol", "method", "metric", "label", "column"]
"""Columns that hold what somebody wrote, and no number."""


class Csv(mmbench.Reporter):
    """Every number, shares as shares; an empty field where one seed has no spread. Of a hash its first 12 digits."""

    name = "csv"
    summary = "every number of a leaderboard, a line each"
    suffix = ".csv"

    def render(self, leaderboard: mmbench.Leaderboard) -> str:
        """CSV with a header."""
        parts = [_table(leaderboard.dataset, section) for section in leaderboard.sections]
        table = pd.concat(parts) if parts else pd.DataFrame(columns=ORDER)
        return table[ORDER].to_csv(index=False, float_format=_text, lineterminator="\n")


def _text(value: Any) -> str:
    return fixed(value, DIGITS)


def _table(dataset: str, section: Section) -> pd.DataFrame:
    facts = section.facts
    averages = {name: p["average"] for name, p in facts["protocols"].items()}
    ids = {name: p["id"] for name, p in facts["protocols"].items()}
    cells = section.cells
    table = cells.assign(
        dataset=dataset,
        synthetic=facts["data"]["synthetic"],
        data_sha256=facts["data"]["sha256"][:12],
        column=cells["column"].where(cells["column"] != AVERAGE, cells["protocol"].map(averages)),
        protocol=cells["protocol"].map(ids),
    )
    return table.assign(**{name: table[name].map(field) for name in TEXT})


@mmbench.hookimpl
def mmbench_register_reporters() -> type[mmbench.Reporter]:
    """CSV."""
    return Csv
