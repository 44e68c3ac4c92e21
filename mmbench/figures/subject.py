"""What figures draw of a leaderboard: its newest section, the headline metric, the rows asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmbench.figures import Undrawable
from mmbench.figures.looks import Look, look
from mmbench.leaderboard import Leaderboard, Row, Section
from mmbench.numbers import fixed
from mmbench.registry import unknown
from mmbench.summary import overall


@dataclass(frozen=True)
class Subject:
    """A section and those of its rows that are drawn."""

    board: Leaderboard
    section: Section
    rows: Sequence[Row]
    """Without what stands for the ceiling; in the order that was asked for."""

    @classmethod
    def of(cls, board: Leaderboard, methods: Collection[str] = ()) -> Subject:
        """The newest section's rows with these labels, or all that compete; others only if none does, and
        quick ones only if nothing else is there.

        Undrawable where there is none, or no row of such a name.
        """
        if not board.sections:
            raise Undrawable(f"{board.dataset} has no finished result yet")
        section = board.sections[0]
        rows = [row for row in section.rows if not row.ceiling]
        labels = [row.label for row in rows]
        for name in methods:
            if name not in labels:
                raise Undrawable(f"{board.dataset}: {unknown('method', name, labels)}")
        full = [row for row in rows if not row.quick]
        wanted = methods or [r.label for r in [r for r in full if r.competes] or full] or labels
        by_label = dict(zip(labels, rows, strict=True))
        return cls(board, section, [by_label[label] for label in dict.fromkeys(wanted)])

    @property
    def facts(self) -> Mapping[str, Any]:
        """The section's."""
        return self.section.facts

    @property
    def labels(self) -> Sequence[str]:
        """The task's."""
        return list(self.facts["labels"])

    @property
    def overall(self) -> str:
        """The label that stands for all."""
        return overall(self.labels)

    @property
    def metric(self) -> Mapping[str, Any]:
        """The headline metric as a manifest describes it."""
        return self.facts["metrics"][self.facts["headline"]]

    @property
    def sign(self) -> int:
        """1 where a higher score is better, else -1."""
        return 1 if self.metric["higher_is_better"] else -1

    @property
    def scale(self) -> int:
        """What scores are drawn times: 100 for shares."""
        return 100 if self.metric["unit"] == "%" else 1

    @property
    def axis(self) -> str:
        """What the axis of scores says."""
        unit = f" ({self.metric['unit']})" if self.metric["unit"] else ""
        return f"{self.metric['title']}{unit}" + ("" if self.sign > 0 else ", lower is better")

    def number(self, score: float) -> str:
        """A score as text, scaled."""
        return fixed(self.scale * score, 1 if self.scale > 1 else 3)

    @property
    def name(self) -> str:
        """The data set's, with a word where it is made up."""
        return named(self.board.dataset, synthetic=self.board.synthetic)

    @property
    def seeds(self) -> str:
        """How many seeds the rows have, e.g. "5 seeds" or "2 to 5 seeds"."""
        few, many = (f(row.seeds for row in self.rows) for f in (min, max))
        return (
            ("1 seed" if many == 1 else f"{many} seeds")
            if few == many
            else f"{few} to {many} seeds"
        )

    def over_seeds(self, what: str) -> str:
        """Of what a number is, e.g. "mean of 5 seeds"; one seed has no mean, nor a spread."""
        return f"{what} of {self.seeds}" if self.seeds != "1 seed" else self.seeds

    @property
    def ceiling(self) -> str | None:
        """The label of the row that stands for the best possible."""
        return next((row.label for row in self.section.rows if row.ceiling), None)

    def floor(self, label: str) -> float:
        """The best constant's score; for all labels the mean."""
        floors = self.facts["floor"][self.facts["headline"]]
        meant = self.labels if label == self.overall else [label]
        return sum(floors[name] for name in meant) / len(meant)

    @cached_property
    def looks(self) -> Mapping[str, Look]:
        """By label, of every row that might be drawn: choosing some changes no colour."""
        rows = [row for row in self.section.rows if not row.ceiling]
        labels = [row.label for row in sorted(rows, key=lambda row: not row.competes)]
        return {label: look(number) for number, label in enumerate(labels)}

    @cached_property
    def cells(self) -> Mapping[tuple[str, str, str, str], Mapping[Any, Any]]:
        """The headline metric's, by protocol, label, method and column."""
        cells = self.section.cells
        own = cells[cells["metric"] == self.facts["headline"]]
        keys = ("protocol", "label", "method", "column")
        return {tuple(c[k] for k in keys): c for c in own.to_dict("records")}

    @cached_property
    def quantities(self) -> Mapping[tuple[str, str, str, str], float]:
        """Summary columns by protocol, label, method and quantity."""
        table = self.section.summaries
        keys = ("protocol", "label", "method", "quantity")
        return {tuple(q[k] for k in keys): q["value"] for q in table.to_dict("records")}

    def score(self, protocol: str, method: str) -> float | None:
        """The protocol's summary column, for all labels; None if there is none."""
        return self.quantities.get((protocol, self.overall, method, "score"))

    def ordered(self, protocol: str) -> list[Row]:
        """The rows that have a score, best first."""
        scores = {row.label: self.score(protocol, row.label) for row in self.rows}
        found = [row for row in self.rows if scores[row.label] is not None]
        return sorted(found, key=lambda row: -self.sign * (scores[row.label] or 0.0))


def named(dataset: str, *, synthetic: bool) -> str:
    """A data set, with a word where it is made up."""
    return dataset + (" (synthetic data)" if synthetic else "")
