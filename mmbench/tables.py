"""What tables have in common, whatever the format: which cell stands where, and how numbers read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmbench.leaderboard import Row, Section
from mmbench.numbers import score

Cell = Mapping[Any, Any]
"""One of `Section.cells`, by its columns."""

SYNTHETIC = (
    "Synthetic data: a made-up twin with the shapes, sizes and label shares of a real data set. These "
    "scores say nothing about real data, and compare with no paper."
)


def metrics(section: Section) -> list[str]:
    """Names: the headline first, then what tables have, then the others."""
    known = section.facts["metrics"]
    return sorted(known, key=lambda m: (m != section.facts["headline"], not known[m]["in_tables"]))


def heading(about: Mapping[str, Any]) -> str:
    """A metric's title and unit, e.g. "F1 (%)"."""
    return about["title"] + (f" ({about['unit']})" if about["unit"] else "")


def number(value: float, about: Mapping[str, Any], sign: str = "") -> str:
    """A score as its metric is written: shares times 100."""
    return score(value, about["unit"], sign)


def defined(value: float) -> bool:
    """Whether it is a number: one seed has no spread, which is NaN."""
    return value == value


def lines(
    section: Section, protocol: str, metric: str
) -> Iterator[tuple[Row, str, Sequence[Cell | None]]]:
    """Each row's cells under each label, in the order of `Section.columns`.

    None where a result is older than the metric.
    """
    cells = section.cells
    chosen = cells[(cells["protocol"] == protocol) & (cells["metric"] == metric)]
    found = {(c["method"], c["label"], c["column"]): c for c in chosen.to_dict("records")}
    columns = [name for name, _ in section.columns(protocol)]
    for row in section.rows:
        for label in section.facts["labels"]:
            yield row, label, [found.get((row.label, label, name)) for name in columns]
