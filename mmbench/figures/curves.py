"""Scores over the share of frames that are missing, as in HRLF's figures 3 to 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmbench.figures import Undrawable
from mmbench.figures.looks import CEILING, FLOOR, references, sheet, styled
from mmbench.figures.subject import Subject

COLUMNS = 2
MANY = 6
"""Rows; bands of more are paler, for they lie on each other."""


def curves(subject: Subject) -> Figure:
    """A panel for each label and each protocol whose conditions differ in their rate alone.

    Lines: mean over seeds of the headline metric; bands: one standard deviation over seeds to either
    side; dashed black: the best possible predictor; dotted grey: the best constant.
    """
    protocols = [name for name, told in subject.facts["protocols"].items() if is_curve(told)]
    if not protocols:
        raise Undrawable(
            f"{subject.board.dataset} has no curves: in none of its protocols "
            f"({', '.join(subject.facts['protocols'])}) do conditions differ in their rate alone"
        )
    panels = [(protocol, label) for protocol in protocols for label in subject.labels]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with styled():
        figure = sheet(
            (3.6 if columns > 1 else 4.8) * columns + 1.9,
            max(2.6 * rows + 0.7, 4.4, 0.22 * len(subject.rows) + 1.8),
            f"{subject.name}: {subject.metric['title']} when frames are missing",
        )
        axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
        for ax, (protocol, label) in zip(axes, panels, strict=False):
            _panel(ax, subject, protocol, label)
            several = [label] if len(subject.labels) > 1 else []
            several += [protocol] if len(protocols) > 1 else []
            ax.set_title(", ".join(several))
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        figure.supxlabel(
            f"share of frames missing\n{subject.over_seeds('mean and standard deviation')}",
            fontsize=9,
        )
        figure.supylabel(subject.axis, fontsize=9)
        figure.legend(handles=_legend(subject, protocols[0]), loc="outside right center")
    return figure


def is_curve(protocol: Mapping[str, Any]) -> bool:
    """Whether a protocol, as a manifest describes it, shows the same modalities at different rates."""
    conditions = protocol["conditions"]
    rates = {c["rate"] for c in conditions}
    observed = {tuple(c["observed"]) for c in conditions}
    return len(observed) == 1 and len(rates) == len(conditions) > 1


def _panel(ax: Axes, subject: Subject, protocol: str, label: str) -> None:
    conditions = sorted(subject.facts["protocols"][protocol]["conditions"], key=lambda c: c["rate"])
    ax.grid(axis="y")
    ax.axhline(subject.scale * subject.floor(label), **FLOOR)
    if subject.ceiling is not None:
        rates, means, _ = _line(subject, protocol, label, subject.ceiling, conditions)
        ax.plot(rates, means, label=subject.ceiling, **CEILING)
    for row in reversed(subject.ordered(protocol)):  # the best lies on top
        rates, means, spreads = _line(subject, protocol, label, row.label, conditions)
        look = subject.looks[row.label]
        ax.fill_between(
            rates,
            means - spreads,
            means + spreads,
            color=look.colour,
            alpha=0.12 if len(subject.rows) <= MANY else 0.05,
            linewidth=0,
        )
        ax.plot(rates, means, label=row.label, **look.line())
    ax.set_xticks([c["rate"] for c in conditions][1::2])


def _line(
    subject: Subject,
    protocol: str,
    label: str,
    method: str,
    conditions: Sequence[Mapping[str, Any]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates, means and spreads (C,) of the conditions that a method has; a spread of none is 0."""
    found = [
        (c["rate"], cell["mean"], cell["spread"])
        for c in conditions
        if (cell := subject.cells.get((protocol, label, method, c["name"])))
    ]
    rates, means, spreads = np.array(found, dtype=np.float64).reshape(-1, 3).T
    return rates, subject.scale * means, subject.scale * np.nan_to_num(spreads)


def _legend(subject: Subject, protocol: str) -> list[Line2D]:
    """Best first, as most of the lines stand."""
    methods = [
        Line2D([], [], label=row.label, **subject.looks[row.label].line())
        for row in subject.ordered(protocol)
    ]
    ceiling, floor = references()
    return [*([ceiling] if subject.ceiling is not None else []), *methods, floor]
