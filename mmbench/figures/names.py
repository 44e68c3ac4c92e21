"""Names beside markers, where they cover neither each other nor anything else, as far as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

LEADER = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
"""Leads from a name to a marker that is not next to it."""
REACHES = (0.0, 9.0, 18.0, 28.0, 40.0, 54.0)
"""How far from a marker a name may stand, points; nearer ones are preferred."""
GAP = 2.0
"""Points between a marker and a name next to it."""
APART = 8.0
"""Points between a name and another's marker: nearer, it would be taken for that one's."""
NEAR = 40.0
"""Points; whoever has the most markers so near is named first."""
CROSSING = 20.0
"""Square pixels of something covered that a point of a line through a name is as bad as."""
Way: TypeAlias = tuple[float, float, str, str]
WAYS: Sequence[Way] = (
    *((1, 0, "left", "center"), (-1, 0, "right", "center"), (0, 1, "center", "bottom")),
    *((0, -1, "center", "top"), (0.7, 0.7, "left", "bottom"), (-0.7, 0.7, "right", "bottom")),
    *((0.7, -0.7, "left", "top"), (-0.7, -0.7, "right", "top")),
)
"""Where from a marker a name may stand, and how the text is aligned there."""


@dataclass(frozen=True)
class Marked:
    """A marker and its name."""

    name: str
    at: tuple[float, float]
    """In the data's units."""
    half: float
    """Half its width, points."""


def name_markers(
    ax: Axes, marked: Sequence[Marked], lines: Sequence[Sequence[tuple[float, float]]] = ()
) -> None:
    """Writes each name; a leader goes to it where it is not next to its marker. lines: to stay clear of."""
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # places are known once the layout is
    sheet = _Sheet(figure.dpi / 72, ax.get_window_extent())
    for each in marked:
        (x, y), half = ax.transData.transform(each.at), each.half * sheet.pixel
        sheet.markers.append(Bbox.from_extents(x - half, y - half, x + half, y + half))
    for line in lines:
        for a, b in pairwise(ax.transData.transform(line)):
            sheet.lines += sheet.dots(a, b)
    for own in sorted(range(len(marked)), key=lambda own: -sheet.neighbours(own)):
        text = ax.annotate(
            marked[own].name,
            marked[own].at,
            (0, 0),
            textcoords="offset points",
            fontsize=8,
            color="#222222",
        )
        choices = [(reach, way) for reach in REACHES for way in WAYS]
        half = marked[own].half
        best = min(choices, key=lambda choice: sheet.cost(own, text, half, *choice))
        sheet.taken.append(_put(text, half, *best))
        if best[0]:
            sheet.lines += sheet.leader(own, text)
            at = text.get_position()
            ax.annotate("", marked[own].at, at, textcoords="offset points", arrowprops=LEADER)


def _put(text: Annotation, half: float, reach: float, way: Way) -> Bbox:
    dx, dy, horizontal, vertical = way
    far = half + GAP + reach
    text.set(position=(dx * far, dy * far), ha=horizontal, va=vertical)
    return text.get_window_extent()


@dataclass
class _Sheet:
    """What stands where, in pixels."""

    pixel: float
    """Pixels of a point."""
    frame: Bbox
    markers: list[Bbox] = field(default_factory=list)
    taken: list[Bbox] = field(default_factory=list)
    """By names."""
    lines: list[np.ndarray] = field(default_factory=list)
    """Points on lines."""

    def cost(self, own: int, text: Annotation, half: float, reach: float, way: Way) -> float:
        """Square pixels of a name that cover something or lie outside, and what lines add."""
        box = _put(text, half, reach, way)
        others = [b.padded(APART * self.pixel) for n, b in enumerate(self.markers) if n != own]
        found = box.width * box.height - _overlap(box, self.frame)
        found += sum(_overlap(box, other) for other in (self.markers[own], *others, *self.taken))
        found += CROSSING * sum(box.contains(*dot) for dot in self.lines)
        if reach:
            dots = self.leader(own, text)
            found += CROSSING * sum(name.contains(*dot) for dot in dots for name in self.taken)
            found += sum(other.contains(*dot) for dot in dots for other in others)
        return found

    def leader(self, own: int, text: Annotation) -> list[np.ndarray]:
        """Points on the line from a marker to its name."""
        middle = _middle(self.markers[own])
        return self.dots(middle, middle + np.array(text.get_position()) * self.pixel)

    def dots(self, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        """Points on a line, about two apart, without its ends."""
        count = int(np.hypot(*(b - a)) / (2 * self.pixel)) + 2
        return [a + (b - a) * share for share in np.linspace(0, 1, count)[1:-1]]

    def neighbours(self, own: int) -> int:
        """How many markers are near one."""
        middle = _middle(self.markers[own])
        far = [np.hypot(*(_middle(box) - middle)) for box in self.markers]
        return int(np.sum(np.array(far) < NEAR * self.pixel))


def _middle(box: Bbox) -> np.ndarray:
    return np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])


def _overlap(a: Bbox, b: Bbox) -> float:
    shared = Bbox.intersection(a, b)
    return 0.0 if shared is None else float(shared.width * shared.height)
