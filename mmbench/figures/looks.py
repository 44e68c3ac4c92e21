"""How figures look: colours that the colour-blind can tell apart, and shapes that survive in grey."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#882255", "#999933", "#332288"),
)
"""Of Okabe and Ito, Color Universal Design (2008), less yellow, pale on white, and black, the ceiling's; then
wine, olive and indigo of Tol's muted scheme (SRON/EPS/TN/09-002)."""
MARKERS = "os^DvPX<>ph*d"
DASHES: Sequence[Any] = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)))
CEILING: dict[str, Any] = {"color": "black", "linestyle": (0, (7, 3)), "linewidth": 1.2}
FLOOR: dict[str, Any] = {"color": "#666666", "linestyle": (0, (1, 1.5)), "linewidth": 1.6}
NOTE: dict[str, Any] = {"fontsize": 8, "color": "#444444"}
"""Of the text that says how to read a figure."""
SETTINGS = {
    "svg.hashsalt": "mmbench",  # else ids in the file are random
    "svg.fonttype": "path",  # letters as wide for the reader as they were when they were placed
    "savefig.dpi": 150,
    "text.parse_math": False,  # a name may have a dollar
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Look:
    """One method's, the same in every figure of a leaderboard."""

    colour: str
    marker: str
    dash: Any

    def line(self) -> dict[str, Any]:
        """For `Axes.plot`."""
        return {
            "color": self.colour,
            "linestyle": self.dash,
            "marker": self.marker,
            "markersize": 4.5,
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
            "linewidth": 1.4,
        }


def look(number: int) -> Look:
    """That of the method with a number: the first 9 differ in their colour, 12 in their shape, 27 in two of
    colour, shape and dashes."""
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return Look(COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], dash)


def styled() -> AbstractContextManager[None]:
    """Settings of matplotlib that hold while a figure is made or written, whatever a user's own are."""
    settings: Any = {**mpl.rcParamsDefault, **SETTINGS}
    settings.pop("backend", None)
    return mpl.rc_context(settings)


def sheet(width: float, height: float, title: str) -> Figure:
    """An empty figure, inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title)
    return figure


def references() -> list[Line2D]:
    """What a legend says of floor and ceiling."""
    return [Line2D([], [], label="ceiling", **CEILING), Line2D([], [], label="floor", **FLOOR)]
