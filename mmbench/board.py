"""A leaderboard as a JSON file: all that a reporter needs, so that it renders as the store did.

    format "mmbench-leaderboard", version, dataset
    sections    facts, rows, and the tables cells, tests and summaries, as `mmbench.leaderboard.Section`
                documents them
    unfinished  rows

A table has `columns` and `rows`, null for a number that is not defined. A row has `label`, `superseded`,
`untested`, and its manifests: `failed`, and `finished` less what all of those share, which is `common`.
There is no sample's prediction in it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmbench import plainjson
from mmbench.errors import DataError
from mmbench.forms import FACTS, NUMBER, ROW, TABLE, Wrong, check, check_row, check_section
from mmbench.leaderboard import CELL_COLUMNS, Leaderboard, Row, Section
from mmbench.significance import TEST_COLUMNS
from mmbench.summary import QUANTITY_COLUMNS
from mmbench.tidy import Columns, tidy

SUFFIX = ".json"
FORMAT, VERSION = "mmbench-leaderboard", 1
LARGEST = 64 * 2**20
"""Bytes of a file that is read: the largest of ours has less than one million."""
TABLES: Mapping[str, Columns] = {
    "cells": CELL_COLUMNS,
    "tests": TEST_COLUMNS,
    "summaries": QUANTITY_COLUMNS,
}


def write(board: Leaderboard) -> str:
    """The file; the same leaderboard gives the same text, and `read` the same leaderboard again."""
    told = {
        "format": FORMAT,
        "version": VERSION,
        "dataset": board.dataset,
        "sections": [
            {
                "facts": section.facts,
                "rows": [_row(row) for row in section.rows],
                **{name: _table(table) for name, table in section.tables.items()},
            }
            for section in board.sections
        ],
        "unfinished": [_row(row) for row in board.unfinished],
    }
    return text(told) + "\n"


def read(path: Path) -> Leaderboard:
    """A leaderboard from its file; DataError, with the place in it, if it is not one.

    Whether its numbers are true, only the store that it came from can tell.
    """
    told = plainjson.read(path, LARGEST)
    try:
        return _leaderboard(told)
    except Wrong as error:
        raise DataError(
            f"{path}: {error}; make it anew: mmbench leaderboard DATASET --format json"
        ) from error


def _row(row: Row) -> dict[str, Any]:
    first = row.finished[0] if row.finished else {}
    common = {
        name: value
        for name, value in first.items()
        if all(name in m and _same(m[name], value) for m in row.finished)
    }
    own = [{k: v for k, v in m.items() if k not in common} for m in row.finished]
    return {
        "label": row.label,
        "superseded": row.superseded,
        "untested": row.untested,
        "common": common,
        "finished": own,
        "failed": row.failed,
    }


def _same(a: object, b: object) -> bool:
    """Whether JSON has one text for both: 1, 1.0 and true are three."""
    return json.dumps(a) == json.dumps(b)


def _table(table: pd.DataFrame) -> dict[str, Any]:
    rows = [
        [None if isinstance(v, float) and math.isnan(v) else v for v in row]
        for row in table.astype(object).to_numpy().tolist()
    ]
    return {"columns": list(table.columns), "rows": rows}


def text(value: Any, indent: str = "") -> str:
    """As JSON, with a line for each thing that holds nothing else, as a table's row is."""
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(v, dict | list) and v for v in within):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    deeper = indent + " "
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(k, ensure_ascii=False)}: {text(v, deeper)}" for k, v in value.items()
        ]
    else:
        parts = [text(v, deeper) for v in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{closing}"


# -- Reading --------------------------------------------------------------------------------------


NAME = re.compile(r"\w[\w.+-]*")
BOARD = {
    "format": str,
    "version": int,
    "dataset": str,
    "sections": [{"facts": FACTS, "rows": [ROW], **dict.fromkeys(TABLES, TABLE)}],
    "unfinished": [ROW],
}


def _leaderboard(told: Any) -> Leaderboard:
    check(told, {"format": str, "version": int}, "")
    if (told["format"], told["version"]) != (FORMAT, VERSION):
        got = [told["format"], told["version"]]
        raise Wrong("format and version", f"{FORMAT!r}, {VERSION}", got)
    check(told, BOARD, "")
    if not NAME.fullmatch(told["dataset"]):
        raise Wrong("dataset", "letters, digits, - _ . +", told["dataset"])
    return Leaderboard(
        told["dataset"],
        [_section(section, f"sections[{n}]") for n, section in enumerate(told["sections"])],
        _rows(told["unfinished"], "unfinished", finished=False),
    )


def _section(told: Mapping[str, Any], where: str) -> Section:
    rows = _rows(told["rows"], f"{where}.rows", finished=True)
    tables = {name: _frame(told[name], kinds, f"{where}.{name}") for name, kinds in TABLES.items()}
    check_section(told["facts"], [row.label for row in rows], tables, where)
    return Section(told["facts"], rows, **tables)


def _frame(told: Mapping[str, Any], columns: Columns, where: str) -> pd.DataFrame:
    if told["columns"] != list(columns):
        raise Wrong(f"{where}.columns", ", ".join(columns), told["columns"])
    for number, line in enumerate(told["rows"]):
        at = f"{where}.rows[{number}]"
        if len(line) != len(columns):
            raise Wrong(at, f"{len(columns)} values", line)
        for value, (name, kind) in zip(line, columns.items(), strict=True):
            if value is not None or name not in UNDEFINED:
                check(value, NUMBER if kind is float else kind, f"{at}, {name}")
    return tidy(told["rows"], columns)


UNDEFINED = ("spread", "mask_spread")
"""Numbers that may be null: one seed, or mask, has no spread."""


def _rows(told: Sequence[Mapping[str, Any]], where: str, *, finished: bool) -> list[Row]:
    rows = []
    for number, row in enumerate(told):
        at = f"{where}[{number}]"
        parts = {
            "finished": [{**row["common"], **own} for own in row["finished"]],
            "failed": list(row["failed"]),
        }
        check_row(parts["finished"], parts["failed"], at)
        if bool(parts["finished"]) != finished or not (finished or parts["failed"]):
            expected = "at least one finished result" if finished else "failures alone"
            raise Wrong(at, expected, [len(parts["finished"]), len(parts["failed"])])
        rows.append(
            Row(
                row["label"], parts["finished"], parts["failed"], row["superseded"], row["untested"]
            )
        )
    labels = [row.label for row in rows]
    for label in labels:
        if finished and labels.count(label) > 1:
            raise Wrong(where, "each label once", label)
    return rows
