"""What the paper reports: its tables 1 to 3, laid out as leaderboards/paper/README.md says.

The file lies in `leaderboards/paper/`, where people read it; a wheel has it beside this module.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mmbench.errors import UsageError
from mmbench.markdown import table
from mmbench.registry import unknown

PAPER = "paper"
"""The word that stands for these tables where a command takes a store or a leaderboard."""


SHIPPED = Path(__file__).parent / "paper" / "tables.csv"
READ = Path(__file__).parents[1] / "leaderboards" / "paper" / "tables.csv"


def tables() -> pd.DataFrame:
    """Every cell, as text, in the paper's order."""
    file = SHIPPED if SHIPPED.is_file() else READ
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def render(dataset: str) -> str:
    """The paper's tables of one data set as Markdown; UsageError if it has none."""
    every = tables()
    cells = every[every["dataset"] == dataset]
    if cells.empty:
        raise UsageError(f"{PAPER}: {unknown('data set', dataset, set(every['dataset']))}")
    blocks = [
        f"# {dataset}, as the paper reports it",
        "From `tables.csv`; `README.md` names the paper and says what the columns are.",
    ]
    for number, part in cells.groupby("table"):
        columns = list(part["column"].unique())
        header = ["Method", "Here", "Label", *columns]
        lines = []
        for row, values in part.groupby(["name", "method", "label"], sort=False):
            shown = values["value"] + values["significant"].map({"1": "*", "0": ""})
            lines.append([*row, *shown.set_axis(values["column"])[columns]])
        metric = ", ".join(part["metric"].unique())
        blocks += [f"## Table {number}: {metric} (%)", table(header, lines, left=header[:3])]
    return "\n\n".join(blocks) + "\n"
