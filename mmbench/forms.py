"""What the parts of a leaderboard have to be, whoever wrote them: types, by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mmbench.summary import ALL, AVERAGE, known_quantity


class Wrong(Exception):
    """What stands in one place, and what was expected there."""

    def __init__(self, where: str, expected: str, got: object) -> None:
        shown = json.dumps(got)
        super().__init__(
            f"{where or 'it'}: expected {expected}, "
            f"got {shown if len(shown) <= 60 else shown[:57] + '...'}"
        )


NUMBER = (int, float)


@dataclass(frozen=True)
class Each:
    """An object whose names are free."""

    value: Any


CONDITION = {
    "name": str,
    "title": str,
    "observed": [str],
    "rate": NUMBER,
    "complete": bool,
}
PROTOCOL = {
    "id": str,
    "sha256": str,
    "mask_seeds": int,
    "average": str,
    "average_formula": str,
    "conditions": [CONDITION],
    "effective_rate": Each(Each(NUMBER)),
}
METRIC = {
    "id": str,
    "title": str,
    "formula": str,
    "unit": str,
    "higher_is_better": bool,
    "in_tables": bool,
}
FACTS = {
    "data": {
        "name": str,
        "synthetic": bool,
        "sha256": str,
        "source": Each(str),
        "modalities": Each({"length": int, "width": int}),
        "splits": {"train": int, "valid": int, "test": int},
    },
    "protocols": Each(PROTOCOL),
    "metrics": Each(METRIC),
    "headline": str,
    "labels": [str],
    "floor": Each(Each(NUMBER)),
}
TABLE = {"columns": [str], "rows": [list]}
ROW = {
    "label": str,
    "superseded": int,
    "untested": str,
    "common": dict,
    "finished": [dict],
    "failed": [dict],
}
FAILED = {
    "status": str,
    "key": str,
    "config": str,
    "finished": str,
    "reason": str,
    "job": {
        **dict.fromkeys(("label", "method", "dataset", "code_sha256"), str),
        **{"seed": int, "quick": bool, "schedule": dict},
    },
}
FINISHED = {
    **{name: kind for name, kind in FAILED.items() if name != "reason"},
    "method": dict,
    "metrics": Each(str),
    "parameters": {"deployed": int, "total": int},
    "seconds": {"train": NUMBER, "evaluate": NUMBER},
    "environment": dict,
}
OPTIONAL: Mapping[str, Mapping[str, Any]] = {
    "job": {"hyperparameters": dict, "rules_sha256": str, "sampler": str},
    "method": {
        "summary": str,
        "paper": str,
        "competes": bool,
        "deviations": [str],
        "privileges": [str],
    },
    "environment": {"mmbench": str, "torch": str, "commit": str, "dirty": bool},
}
"""Parts that old results may lack."""


def check(value: Any, form: Any, where: str) -> None:
    """Wrong unless `value` has a form: a type or several, an object's parts, a list of one form."""
    if isinstance(form, dict):
        check(value, dict, where)
        for name, inner in form.items():
            if name not in value:
                raise Wrong(where, f"a part {name!r}", sorted(value))
            check(value[name], inner, f"{where}.{name}".lstrip("."))
    elif isinstance(form, list):
        check(value, list, where)
        for number, item in enumerate(value):
            check(item, form[0], f"{where}[{number}]")
    elif isinstance(form, Each):
        check(value, dict, where)
        for name, item in value.items():
            check(item, form.value, f"{where}.{name}")
    else:
        kinds = form if isinstance(form, tuple) else (form,)
        real = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        if not real or (isinstance(value, float) and not math.isfinite(value)):
            raise Wrong(where, KINDS[kinds[0]], value)


def check_row(
    finished: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]], where: str
) -> None:
    """Wrong unless the manifests of a row of a leaderboard, as `mmbench.leaderboard.Row` has them, are such."""
    for part, form, manifests in (("finished", FINISHED, finished), ("failed", FAILED, failed)):
        for n, manifest in enumerate(manifests):
            at = f"{where}.{part}[{n}]"
            check(manifest, form, at)
            for name, optional in OPTIONAL.items():
                part_of = manifest.get(name, {})
                check(part_of, dict, f"{at}.{name}")
                here = {key: kind for key, kind in optional.items() if key in part_of}
                check(part_of, here, f"{at}.{name}")


def check_section(
    facts: Mapping[str, Any], labels: Sequence[str], tables: Mapping[str, pd.DataFrame], where: str
) -> None:
    """Wrong unless the parts of a section, each of its form, are of each other: a table names what facts have.

    labels: of the rows; tables: `cells`, `tests` and `summaries`.
    """
    for metric in facts["metrics"]:
        by_label = {metric: dict.fromkeys(facts["labels"], NUMBER)}
        check(facts["floor"], by_label, f"{where}.facts.floor")
    if facts["headline"] not in facts["metrics"]:
        raise Wrong(f"{where}.facts.headline", "one of the metrics", facts["headline"])
    columns = {}
    for name, described in facts["protocols"].items():
        conditions = [c["name"] for c in described["conditions"]]
        rates = dict.fromkeys(facts["data"]["modalities"], NUMBER)
        at = f"{where}.facts.protocols.{name}.effective_rate"
        check(described["effective_rate"], dict.fromkeys(conditions, rates), at)
        columns[name] = {AVERAGE, *conditions}
    known = {
        "protocol": set(facts["protocols"]),
        "method": set(labels),
        "other": set(labels),
        "label": {*facts["labels"], ALL},
        "metric": set(facts["metrics"]),
    }
    own, tested = "one of the leaderboard's own", "a condition of its protocol"
    for name, table in tables.items():
        at = f"{where}.{name}"
        for key, names in known.items():
            if key in table:
                _check_column(table[key], table[key].isin(names), own, at)
        if "column" in table:
            named = zip(table["protocol"], table["column"], strict=True)
            right = (column in columns[protocol] for protocol, column in named)
            _check_column(table["column"], right, tested, at)
        if "quantity" in table:
            known_here = map(known_quantity, table["quantity"])
            _check_column(table["quantity"], known_here, "one that is known", at)


def _check_column(column: pd.Series[Any], right: Iterable[bool], expected: str, at: str) -> None:
    for n, (value, good) in enumerate(zip(column, right, strict=True)):
        if not good:
            raise Wrong(f"{at}.rows[{n}], {column.name}", expected, value)


KINDS = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
