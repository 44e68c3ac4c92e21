"""A critical-difference diagram, with the leaderboard's own tests."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmbench.figures import Undrawable
from mmbench.figures.looks import NOTE, sheet, styled
from mmbench.figures.subject import Subject
from mmbench.numbers import fixed
from mmbench.statistics import ALPHA
from mmbench.summary import AVERAGE


def critical_difference(subject: Subject) -> Figure:
    """Which methods differ in a protocol's summary column: a panel for each protocol that was tested.

    Demsar's diagram (JMLR 7, 2006) turned upright, on scores in place of mean ranks, for that is what is
    tested here. Two methods have a dot on the same bar exactly if the leaderboard does not call them
    different: in its table of tests, p adjusted by Holm over all pairs is not below `ALPHA`, by the
    paired test over training seeds and test samples of `mmbench/statistics.py`, for the mean over labels
    where there are several. The number before a name is the leaderboard's rank.
    """
    panels = {}
    for protocol in subject.facts["protocols"]:
        names = [
            row.label
            for row in subject.ordered(protocol)
            if (protocol, subject.overall, row.label, "rank") in subject.quantities
        ]
        if len(names) > 1:
            panels[protocol] = names, bars(names, different(subject, protocol))
    if not panels:
        why = [f"{row.label}: {row.untested}" for row in subject.rows if row.untested]
        raise Undrawable(
            f"{subject.board.dataset} has no tests between methods; " + "; ".join(why[:3])
        )
    most = max(len(names) for names, _ in panels.values())
    wide = max(max(len(found) for _, found in panels.values()), 1)
    with styled():
        figure = sheet(
            4.6 * len(panels) + 0.3,
            0.25 * most + 1.5,
            f"{subject.name}: which methods differ",
        )
        axes = figure.subplots(
            1, 2 * len(panels), squeeze=False, width_ratios=[3.3, 0.18 * wide] * len(panels)
        )[0]
        for number, (protocol, (names, found)) in enumerate(panels.items()):
            _scores(axes[2 * number], subject, protocol, names)
            _bars(axes[2 * number + 1], names, found, wide)
        note = (
            "Dots on the same bar: no significant difference (paired test over training seeds and\n"
            f"test samples, p < {ALPHA} after Holm over all pairs). Number before a name: its rank."
        )
        figure.supxlabel(note, **NOTE)
    return figure


def different(subject: Subject, protocol: str) -> set[frozenset[str]]:
    """The pairs that the leaderboard calls significantly different in the summary column."""
    tests = subject.section.tests
    own = tests[
        (tests["protocol"] == protocol)
        & (tests["label"] == subject.overall)
        & (tests["column"] == AVERAGE)
        & (tests["p_adjusted"] < ALPHA)
    ]
    return set(map(frozenset, zip(own["method"], own["other"], strict=True)))


def bars(names: Sequence[str], apart: Collection[frozenset[str]]) -> list[tuple[str, ...]]:
    """The largest sets of two or more methods of which no pair is apart, each in the order of `names`."""
    near = {a: {b for b in names if b != a and frozenset((a, b)) not in apart} for a in names}
    found = [s for s in _cliques(frozenset(), set(names), set(), near) if len(s) > 1]
    places = sorted(sorted(map(names.index, members)) for members in found)
    return [tuple(names[place] for place in members) for members in places]


def _cliques(
    chosen: frozenset[str], left: set[str], done: set[str], near: dict[str, set[str]]
) -> Iterator[frozenset[str]]:
    """Maximal cliques that hold `chosen`: Bron and Kerbosch, Comm. ACM 16 (1973), with a pivot."""
    if not left and not done:
        yield chosen
        return
    pivot = max(sorted(left | done), key=lambda name: len(near[name] & left))
    for name in sorted(left - near[pivot]):
        yield from _cliques(chosen | {name}, left & near[name], done & near[name], near)
        left, done = left - {name}, done | {name}


def _scores(ax: Axes, subject: Subject, protocol: str, names: Sequence[str]) -> None:
    ax.grid(axis="x")
    scores = [subject.score(protocol, name) or 0.0 for name in names]
    for place, (name, score) in enumerate(zip(names, scores, strict=True)):
        look = subject.looks[name]
        ax.plot([subject.scale * score], [place], look.marker, color=look.colour, markersize=6)
        ax.annotate(
            subject.number(score),
            (subject.scale * score, place),
            (7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    ranks = [subject.quantities[protocol, subject.overall, name, "rank"] for name in names]
    ax.set_yticks(
        range(len(names)),
        [f"{fixed(rank, 0)}  {name}" for rank, name in zip(ranks, names, strict=True)],
    )
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.margins(x=0.2)
    described = subject.facts["protocols"][protocol]
    ax.set_title(f"{described['id']}, {described['average']}")
    ax.set_xlabel(subject.axis)


def _bars(ax: Axes, names: Sequence[str], found: Sequence[Sequence[str]], wide: int) -> None:
    ax.set_axis_off()
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(-0.5, wide - 0.5)
    for number, members in enumerate(found):
        places = [names.index(name) for name in members]
        ax.plot([number] * len(places), places, "o-", color="#444444", linewidth=2.2, markersize=5)
