"""Tidy tables: columns with types, a line for each number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

Columns = Mapping[str, type]
"""The type, str, int, float or bool, of each column, in order."""


def tidy(lines: Iterable[Sequence[object]], columns: Columns) -> pd.DataFrame:
    """A table of these lines; of none it has its columns, too, with their types."""
    table = pd.DataFrame(lines, columns=list(columns))
    return typed(table, columns)


def typed(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The columns in their order, with their types; text as it is."""
    kinds = {name: object if kind is str else kind for name, kind in columns.items()}
    return table[list(columns)].astype(kinds).reset_index(drop=True)
