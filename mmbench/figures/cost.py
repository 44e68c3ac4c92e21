"""Score against cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mmbench.figures import Undrawable
from mmbench.figures.looks import CEILING, NOTE, references, sheet, styled
from mmbench.figures.names import Marked, name_markers
from mmbench.figures.subject import Subject

SMALLEST, LARGEST = 16.0, 150.0
"""Areas of markers, points squared."""
FRONT: dict[str, Any] = {"color": "#999999", "linewidth": 2.5, "alpha": 0.6}
INSTANT = 0.01
"""Seconds: what learns in less, if it learns at all, would leave a logarithmic axis to itself."""


@dataclass(frozen=True)
class Point:
    """One method under one protocol."""

    method: str
    seconds: float
    """To train one seed, mean over seeds."""
    score: float
    parameters: int
    """That a prediction needs."""


def cost(subject: Subject) -> Figure:
    """A panel for each protocol: its summary column against the seconds that training took.

    Marker area: parameters that a prediction needs. Line: the Pareto front, methods that no other one
    beats in score without taking longer. For the mean over labels where there are several. Seconds are
    of whatever machine made a row. What takes less than `INSTANT` is named below, not drawn.
    """
    every = {protocol: points(subject, protocol) for protocol in subject.facts["protocols"]}
    panels = {name: [p for p in found if p.seconds >= INSTANT] for name, found in every.items()}
    panels = {name: found for name, found in panels.items() if found}
    if not panels:
        raise Undrawable(f"{subject.board.dataset} has no method that took time to train")
    at_once = dict.fromkeys(
        p.method for found in every.values() for p in found if p.seconds < INSTANT
    )
    fronts = any(len(pareto(found, subject.sign)) > 1 for found in panels.values())
    note = f"{subject.over_seeds('Mean')}."
    if fronts:
        note += " Line: nothing scores better without taking longer."
    if at_once:
        note += f"\nNot drawn, for training takes no time: {', '.join(at_once)}."
    with styled():
        figure = sheet(
            4.6 * len(panels) + 1.4, 4.4, f"{subject.name}: score against cost of training"
        )
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        largest = max(p.parameters for found in panels.values() for p in found)
        for ax, (protocol, found) in zip(axes, panels.items(), strict=True):
            _panel(ax, subject, protocol, found, largest)
        figure.legend(
            handles=_legend(subject, largest, fronts=fronts),
            loc="outside right center",
            labelspacing=0.9,
        )
        figure.supxlabel(note, **NOTE)
        for ax, (protocol, found) in zip(axes, panels.items(), strict=True):
            _name(ax, subject, protocol, found, largest)
    return figure


def points(subject: Subject, protocol: str) -> list[Point]:
    """The rows that have a score, best first."""
    return [
        Point(
            row.label,
            sum(m["seconds"]["train"] for m in row.finished) / row.seeds,
            subject.scale * (subject.score(protocol, row.label) or 0.0),
            row.finished[0]["parameters"]["deployed"],
        )
        for row in subject.ordered(protocol)
    ]


def pareto(found: Sequence[Point], sign: int) -> list[Point]:
    """Those that are better than every other one that takes no longer, fastest first; of equals one."""
    front: list[Point] = []
    for point in sorted(found, key=lambda p: (p.seconds, -sign * p.score)):
        if not front or sign * point.score > sign * front[-1].score:
            front.append(point)
    return front


def area(parameters: int, largest: int) -> float:
    """Of a marker: grows as the square root of its parameters, for they differ a thousandfold."""
    return SMALLEST + (LARGEST - SMALLEST) * (parameters / max(largest, 1)) ** 0.5


def _panel(ax: Axes, subject: Subject, protocol: str, found: Sequence[Point], largest: int) -> None:
    ax.grid()
    ax.set_xscale("log")
    seconds = [point.seconds for point in found]
    narrow = max(seconds) < 100 * min(seconds)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if (top := _ceiling(subject, protocol)) is not None:
        ax.axhline(top, **CEILING)
    front = pareto(found, subject.sign)
    ax.plot(
        [p.seconds for p in front],
        [p.score for p in front],
        label="Pareto front",
        **FRONT,
    )
    for point in sorted(found, key=lambda p: -p.parameters):  # small ones on top
        look = subject.looks[point.method]
        ax.scatter(
            [point.seconds],
            [point.score],
            s=area(point.parameters, largest),
            marker=look.marker,
            color=look.colour,
            edgecolors="white",
            linewidths=0.6,
            zorder=3,
            label=point.method,
        )
    ax.margins(x=0.14, y=0.1)
    described = subject.facts["protocols"][protocol]
    ax.set_title(f"{described['id']}, {described['average']}")
    ax.set_xlabel("seconds to train a seed")
    ax.set_ylabel(subject.axis)


def _legend(subject: Subject, largest: int, *, fronts: bool) -> list[Line2D]:
    power = len(str(max(largest, 1))) - 1
    sizes = [10**k for k in range(power, max(power - 3, -1), -1)]
    ceiling, _ = references()
    return [
        *([ceiling] if subject.ceiling is not None else []),
        *([Line2D([], [], label="Pareto front", **FRONT)] if fronts else []),
        *(
            Line2D(
                [],
                [],
                color="#444444",
                marker="o",
                linestyle="",
                markersize=area(size, largest) ** 0.5,
                label=f"{size:,} parameters",
            )
            for size in sizes
        ),
    ]


def _name(ax: Axes, subject: Subject, protocol: str, found: Sequence[Point], largest: int) -> None:
    lines = [[(point.seconds, point.score) for point in pareto(found, subject.sign)]]
    if (top := _ceiling(subject, protocol)) is not None:
        lines.append([(x, top) for x in ax.get_xlim()])
    name_markers(
        ax,
        [
            Marked(p.method, (p.seconds, p.score), area(p.parameters, largest) ** 0.5 / 2)
            for p in found
        ],
        lines,
    )


def _ceiling(subject: Subject, protocol: str) -> float | None:
    """As it is drawn; None if there is none."""
    top = None if subject.ceiling is None else subject.score(protocol, subject.ceiling)
    return None if top is None else subject.scale * top
