"""What tables have in common, whatever the format: which cell stands where, and how numbers read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmbench.leaderboard import Row, Section
from mmbench.numbers import score
from mmbench.statistics import ALPHA, RESAMPLES

Cell = Mapping[Any, Any]
"""One of `Section.cells`, by its columns."""

SYNTHETIC = (
    "Synthetic data: a made-up twin with the shapes, sizes and label shares of a real data set. These "
    "scores say nothing about real data, and compare with no paper."
)


def reading(section: Section) -> Iterator[tuple[str, str]]:
    """How to read stars and ranks, and what the test behind them is: a word and its meaning; none without tests."""
    if not len(section.tests):
        return
    yield (
        "Tests",
        "of the headline metric, two-sided, paired by sample, mask and training seed. A score could have "
        "come out otherwise in two ways: from other training seeds, and from other test samples. The error "
        "of a difference is from its variance over the seeds and, the test split being drawn anew "
        f"{RESAMPLES} times, over the samples (`mmbench/statistics.py`).",
    )
    yield (
        "*",
        f"in a condition: the best is significantly better than the best other method, p < {ALPHA} after "
        "Holm's correction over the protocol's conditions; in the summary column: alone at rank 1.",
    )
    yield (
        "Rank",
        "`1 1 3` means that the first two cannot be told apart, and that the third is significantly worse than "
        f"the first, p < {ALPHA} after Holm's correction over all pairs of methods. A shared rank does not say "
        "that methods are equal, only that the test could not tell.",
    )


def untested(section: Section) -> list[tuple[str, list[str]]]:
    """Why rows have neither rank nor test, each reason once, with their labels."""
    found: dict[str, list[str]] = {}
    for row in section.rows:
        if row.untested:
            found.setdefault(row.untested, []).append(row.label)
    return list(found.items())


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
