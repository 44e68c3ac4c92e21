"""Two sets of scores, cell by cell; of two stores with tests of what differs.

Rows are set side by side if their labels are the same, which are a method and what was changed of its
settings; rows of one method with other settings only if that is asked for. A difference is left less
right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mmbench import reported
from mmbench.changes import changes
from mmbench.errors import UsageError
from mmbench.registry import Registry
from mmbench.sides import KEYS, Side
from mmbench.statistics import ALPHA

SPREADS = 3
"""Where no test says more, a regression is worse by more than so many standard deviations over seeds, the
larger of both sides'."""
SLACK = 1.5e-9
"""A CSV has nine digits."""
Show = Callable[[float, str], None]
BESIDE = " beside "
"""Between the labels of two rows of one method whose settings differ."""


@dataclass(frozen=True)
class Reason:
    """A fact in which the two sides differ, and of which methods."""

    what: str
    left: str
    right: str
    methods: Sequence[str]


@dataclass(frozen=True)
class Pair:
    """The scores of one data set on both sides, or of a twin and of what it stands in for."""

    left: str
    right: str
    """Names of the data set."""
    mixed: bool
    """Whether one side's data is synthetic and the other's real."""
    sides: tuple[pd.DataFrame, pd.DataFrame] = field(repr=False)
    """All cells of each side, with floors (those of the other side where it knows none) and `below`."""
    cells: pd.DataFrame = field(repr=False)
    """What both have: KEYS, the columns of each side with _left and _right, difference, gain (> 0 where
    the left is better), tested, significant (after Holm over the columns of its protocol), regressed (never
    where `mixed` or settings differ), and printed_by, the side that a text reports. method: a row's label,
    or two labels with BESIDE between them."""
    only: tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]
    """What just one side has, by column of KEYS."""
    settings: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    """By method, the rows of either side if only their settings differ from what the other side has."""
    reasons: Sequence[Reason]
    tests: pd.DataFrame = field(repr=False)
    """Of two stores, tidy: `mmbench.changes.CHANGE_COLUMNS`."""
    untested: Mapping[str, str] = field(default_factory=dict)
    """By label, why a row that both have was not tested."""

    @property
    def lost(self) -> pd.DataFrame:
        """The tests, also of the mean over labels, in which the left is worse after Holm over all of them."""
        sign = self.cells.drop_duplicates("metric").set_index("metric")["sign"]
        worse = self.tests["difference"] * self.tests["metric"].map(sign) < 0
        return self.tests[worse & (self.tests["p_overall"] < ALPHA) & (not self.mixed)]

    @property
    def regressed(self) -> bool:
        """Whether the left is worse somewhere."""
        return bool(self.cells["regressed"].any()) or not self.lost.empty


def method_of(label: str) -> str:
    """The method that a row is of, without its settings: "hrlf" of "hrlf[depth=1] (quick)"."""
    return re.split(r"\[| \(", label)[0]


def compare(
    left: Side,
    right: Side,
    registry: Registry,
    *,
    other_settings: bool = False,
    show: Show = lambda share, doing: None,
) -> list[Pair]:
    """A pair for each data set of the left that the right has, or whose twin or real form it has.

    other_settings: whether rows of one method are compared whose settings differ, too.
    """
    data = {name: found.cls for name, found in registry.classes["dataset"].items()}
    if left.reported and right.reported:
        raise UsageError(f"both sides are the {reported.PAPER}; one of them has to be measured")
    twins = {name: cls.stand_in for name, cls in data.items() if cls.stand_in}
    other: dict[str, str] = twins | {twin: name for name, twin in twins.items()}
    have = [list(side.cells["dataset"].unique()) for side in (left, right)]
    matches = [(name, name if name in have[1] else other.get(name, name)) for name in have[0]]
    pairs = [
        _pair(left, mine, right, theirs, registry, other_settings, show)
        for mine, theirs in matches
        if theirs in have[1]
    ]
    if not pairs:
        raise UsageError(
            f"nothing to compare: {left.origin} has data sets {', '.join(have[0]) or '(none)'}; "
            f"{right.origin} has {', '.join(have[1]) or '(none)'}"
        )
    return pairs


def _pair(
    left: Side,
    mine: str,
    right: Side,
    theirs: str,
    registry: Registry,
    other_settings: bool,
    show: Show,
) -> Pair:
    metrics = {name: found.cls for name, found in registry.classes["metric"].items()}

    def shown(side: Side, dataset: str) -> pd.DataFrame:
        """Of the metrics that leaderboards show, and of those whose plugin is not here."""
        metric = side.cells["metric"]
        hidden = [name for name, cls in metrics.items() if not cls.in_tables]
        return side.cells[(side.cells["dataset"] == dataset) & ~metric.isin(hidden)]

    a, b = shown(left, mine), shown(right, theirs)
    by_label = ["metric", "label"]
    floors = pd.concat([a, b])[[*by_label, "floor"]].groupby(by_label)["floor"].first()
    a, b = (_judged(cells, floors, metrics) for cells in (a, b))
    mixed = bool(a["synthetic"].any()) != bool(b["synthetic"].any())
    both = b.merge(a, on=[*KEYS, "sign"], suffixes=("_right", "_left"))
    like = list(both["method"].unique())
    tests, untested = changes(left, mine, right, theirs, [] if mixed else like, registry, show)
    if left.store is None or right.store is None:
        untested = {}  # nobody expects any
    beside = {name: (name, name) for name in like}
    if other_settings:
        changed = _beside(a, b)
        beside |= {m: (x, y) for m, x, y in changed[["method", "mine", "theirs"]].to_numpy()}
        both = pd.concat([both, changed], ignore_index=True)
    both["printed_by"] = "left" if left.reported else "right" if right.reported else ""
    both["difference"] = both["mean_left"] - both["mean_right"]
    both["gain"] = both["sign"] * both["difference"]
    found = both[KEYS].merge(tests, "left", on=KEYS)
    both["tested"] = found["p"].notna().to_numpy()
    both["significant"] = (found["p_adjusted"] < ALPHA).to_numpy()
    spread = both[["spread_left", "spread_right"]].max(axis=1).fillna(0.0)
    far = -both["gain"] > SPREADS * spread + SLACK
    proven = (both["gain"] < -SLACK) & (found["p_overall"] < ALPHA).to_numpy()
    both["regressed"] = proven.where(both["tested"], far) & both["method"].isin(like) & (not mixed)
    settings = _settings(a, b)
    only = _only(a, b, settings), _only(b, a, settings)
    reasons = list(_reasons(left, mine, right, theirs, beside))
    return Pair(mine, theirs, mixed, (a, b), both, only, settings, reasons, tests, untested)


def _beside(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Each row of a method beside each one of the same method whose label is another."""
    a, b = (c.assign(base=c["method"].map(method_of)) for c in (a, b))
    on = [*(key for key in KEYS if key != "method"), "sign", "base"]
    found = b.merge(a, on=on, suffixes=("_right", "_left"))
    found = found[found["method_left"] != found["method_right"]]
    names = found["method_left"] + BESIDE + found["method_right"]
    renamed = found.rename(columns={"method_left": "mine", "method_right": "theirs"})
    return renamed.assign(method=names)


def _settings(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, tuple[list[str], list[str]]]:
    """Rows of a method that both sides have, of which one has settings that the other has not."""
    found = {}
    sides = [list(cells["method"].unique()) for cells in (a, b)]
    for method in dict.fromkeys(map(method_of, (*sides[0], *sides[1]))):
        own = [[n for n in names if method_of(n) == method] for names in sides]
        if all(own) and set(own[0]) != set(own[1]):
            found[method] = own[0], own[1]
    return found


def _judged(cells: pd.DataFrame, floors: pd.Series, metrics: Mapping[str, Any]) -> pd.DataFrame:
    """With each cell's floor, sign (1 where higher is better, else -1), and whether it is below."""
    keys = zip(cells["metric"], cells["label"], strict=True)
    known = cells["floor"].fillna(pd.Series([floors[key] for key in keys], cells.index, float))
    sign = [1 if getattr(metrics.get(m), "higher_is_better", True) else -1 for m in cells["metric"]]
    below = sign * cells["mean"] < sign * known - SLACK
    return cells.assign(floor=known, sign=sign, below=below)


def _only(
    mine: pd.DataFrame, theirs: pd.DataFrame, settings: Mapping[str, Any]
) -> dict[str, list[str]]:
    """What of `mine` the other side lacks: whole protocols, then metrics, ..., and last single cells.

    Without rows of which only the settings differ.
    """
    found = {}
    for key in KEYS:
        extra = [name for name in mine[key].unique() if name not in set(theirs[key])]
        mine = mine[~mine[key].isin(extra)]
        if key == "method":
            extra = [name for name in extra if method_of(name) not in settings]
        if extra:
            found[key] = extra
    have = set(theirs[KEYS].itertuples(index=False, name=None))
    cells = [cell for cell in mine[KEYS].itertuples(index=False, name=None) if cell not in have]
    return found | ({"cell": [" ".join(cell) for cell in cells]} if cells else {})


def _reasons(
    left: Side, mine: str, right: Side, theirs: str, methods: Mapping[str, tuple[str, str]]
) -> Iterator[Reason]:
    """methods: by what a row is called here, its labels on either side."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for method, (own, other) in methods.items():
        a = left.facts.get((mine, own), {})
        b = right.facts.get((theirs, other), {})
        for what in a:
            if what in b and a[what] != b[what]:
                found.setdefault((what, a[what], b[what]), []).append(method)
    for (what, here, there), whose in found.items():
        yield Reason(what, here, there, whose)
