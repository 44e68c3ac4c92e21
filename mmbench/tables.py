"""What tables have in common, whatever the format: which cell stands where, and how numbers read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmbench.leaderboard import Row, Section
from mmbench.numbers import fixed, score, share
from mmbench.statistics import ALPHA, RESAMPLES
from mmbench.summary import QUANTITIES, SHAPLEY, overall, quantity, violations_of

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


def in_short(
    section: Section, protocol: str
) -> tuple[list[str], list[tuple[str, list[tuple[float, str] | None]]]]:
    """The quantities that a protocol has, and each method's, as number and text, best first.

    Of the headline metric, over all labels. Those without a rank come last; None where a method lacks one.
    """
    facts, every = section.facts, section.summaries
    about = facts["metrics"][facts["headline"]]
    chosen = every[(every["protocol"] == protocol) & (every["label"] == overall(facts["labels"]))]
    found = {(v["method"], v["quantity"]): v["value"] for v in chosen.to_dict("records")}
    there = set(chosen["quantity"])
    order = [*QUANTITIES, *(f"{SHAPLEY}:{m}" for m in facts["data"]["modalities"])]
    names = [name for name in order if name in there]
    pairs = violations_of(facts["protocols"][protocol], facts["data"]["modalities"])

    def text(value: float, name: str) -> str:
        if quantity(name).whole:
            return fixed(value, 0) + (f" of {pairs}" if name == "violations" else "")
        return share(value) if quantity(name).share else number(value, about)

    def place(label: str) -> tuple[float, float]:
        sign = -1 if about["higher_is_better"] else 1
        reached = found.get((label, "score"), sign * math.inf)
        return found.get((label, "rank"), math.inf), sign * reached

    ordered = sorted((row.label for row in section.rows), key=place)
    return names, [
        (
            label,
            [(v, text(v, n)) if (v := found.get((label, n))) is not None else None for n in names],
        )
        for label in ordered
    ]
