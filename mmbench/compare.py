"""Two sets of scores, cell by cell: of stores, of leaderboards written as CSV, of the paper.

Scores are shares where their metric is one; a difference is left less right.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmbench import reported
from mmbench.errors import DataError, UsageError
from mmbench.leaderboard import Leaderboard, Manifest
from mmbench.numbers import fixed
from mmbench.registry import Registry
from mmbench.store import Store

KEYS = ["protocol", "metric", "label", "column", "method"]
"""What names a cell of one data set. The version of a protocol is told where it differs."""
SPREADS = 3
"""A regression is worse by more than so many standard deviations over seeds, the larger of both sides'."""
SLACK = 1.5e-6
"""A CSV has six digits."""

Facts = Mapping[str, str]


@dataclass(frozen=True)
class Side:
    """One of the two."""

    origin: str
    """As it was asked for."""
    cells: pd.DataFrame = field(repr=False)
    """Tidy: dataset, KEYS, mean, spread, floor, synthetic; as the paper has it table, name, incomplete,
    printed and half, half a unit of its last digit."""
    facts: Mapping[tuple[str, str], Facts] = field(default_factory=dict)
    """What may decide the numbers of a data set's method, as far as this side knows."""

    @property
    def reported(self) -> bool:
        """Whether somebody else's text says so, and no run of ours."""
        return "printed" in self.cells


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
    the left is better), regressed (never where `mixed`), and printed_by, the side that a text reports."""
    only: tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]
    """What just one side has, by column of KEYS."""
    reasons: Sequence[Reason]


def read(origin: str, registry: Registry) -> Side:
    """A side from the word `paper`, a folder of results or a leaderboard's CSV.

    UsageError if it is none of them; DataError if the file is not such a CSV.
    """
    path = Path(origin)
    if origin == reported.PAPER:
        return _paper()
    if path.is_dir():
        return _store(origin, registry)
    if path.is_file() and path.suffix == ".csv":
        return _csv(origin, path.read_text(encoding="utf-8", errors="replace"))
    hint = "; the CSV beside it has every number" if path.suffix == ".md" else ""
    raise UsageError(
        f"{origin}: expected a store, a leaderboard's .csv or the word {reported.PAPER}"
        + (hint if path.is_file() else ", and there is no such file")
    )


def compare(left: Side, right: Side, registry: Registry) -> list[Pair]:
    """A pair for each data set of the left that the right has, or whose twin or real form it has."""
    data = {name: found.cls for name, found in registry.classes["dataset"].items()}
    if left.reported and right.reported:
        raise UsageError(f"both sides are the {reported.PAPER}; one of them has to be measured")
    twins = {name: cls.stand_in for name, cls in data.items() if cls.stand_in}
    other: dict[str, str] = twins | {twin: name for name, twin in twins.items()}
    have = [list(side.cells["dataset"].unique()) for side in (left, right)]
    matches = [(name, name if name in have[1] else other.get(name, name)) for name in have[0]]
    pairs = [
        _pair(left, mine, right, theirs, registry) for mine, theirs in matches if theirs in have[1]
    ]
    if not pairs:
        raise UsageError(
            f"nothing to compare: {left.origin} has data sets {', '.join(have[0]) or '(none)'}; "
            f"{right.origin} has {', '.join(have[1]) or '(none)'}"
        )
    return pairs


def _pair(left: Side, mine: str, right: Side, theirs: str, registry: Registry) -> Pair:
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
    both = b.merge(a, on=[*KEYS, "sign"], suffixes=("_right", "_left"))
    both["printed_by"] = "left" if left.reported else "right" if right.reported else ""
    both["difference"] = both["mean_left"] - both["mean_right"]
    both["gain"] = both["sign"] * both["difference"]
    spread = both[["spread_left", "spread_right"]].max(axis=1).fillna(0.0)
    mixed = bool(a["synthetic"].any()) != bool(b["synthetic"].any())
    both["regressed"] = (-both["gain"] > SPREADS * spread + SLACK) & (not mixed)
    only = (_only(a, b), _only(b, a))
    reasons = list(_reasons(left, mine, right, theirs, list(both["method"].unique())))
    return Pair(mine, theirs, mixed, (a, b), both, only, reasons)


def _judged(cells: pd.DataFrame, floors: pd.Series, metrics: Mapping[str, Any]) -> pd.DataFrame:
    """With each cell's floor, sign (1 where higher is better, else -1), and whether it is below."""
    keys = zip(cells["metric"], cells["label"], strict=True)
    known = cells["floor"].fillna(pd.Series([floors[key] for key in keys], cells.index, float))
    sign = [1 if getattr(metrics.get(m), "higher_is_better", True) else -1 for m in cells["metric"]]
    below = sign * cells["mean"] < sign * known - SLACK
    return cells.assign(floor=known, sign=sign, below=below)


def _only(mine: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, list[str]]:
    """What of `mine` the other side lacks: whole protocols, then metrics, ..., and last single cells."""
    found = {}
    for key in KEYS:
        extra = [name for name in mine[key].unique() if name not in set(theirs[key])]
        if extra:
            found[key] = extra
        mine = mine[~mine[key].isin(extra)]
    have = set(theirs[KEYS].itertuples(index=False, name=None))
    cells = [cell for cell in mine[KEYS].itertuples(index=False, name=None) if cell not in have]
    return found | ({"cell": [" ".join(cell) for cell in cells]} if cells else {})


def _reasons(
    left: Side, mine: str, right: Side, theirs: str, methods: Sequence[str]
) -> Iterator[Reason]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for method in methods:
        a = left.facts.get((mine, method), {})
        b = right.facts.get((theirs, method), {})
        for what in a:
            if what in b and a[what] != b[what]:
                found.setdefault((what, a[what], b[what]), []).append(method)
    for (what, here, there), own in found.items():
        yield Reason(what, here, there, own)


# -- Where scores come from ----------------------------------------------------------------------


def _paper() -> Side:
    cells = reported.tables()
    digits = cells["value"].str.partition(".")[2].str.len()
    return Side(
        reported.PAPER,
        cells.assign(
            mean=cells["value"].astype(float) / 100,
            half=0.5 * 10.0**-digits / 100,
            printed=cells["value"] + cells["significant"].map({"1": "*", "0": ""}),
            incomplete=cells["incomplete"] == "1",
            spread=np.nan,
            floor=np.nan,
            synthetic=False,
        ),
    )


NUMBERS = ["mean", "spread", "floor", "seeds"]
NEEDED = ["dataset", "synthetic", "data_sha256", *KEYS, *NUMBERS]


def _csv(origin: str, text: str) -> Side:
    """Of each label the newest results, which stand first."""
    try:
        cells = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        lacking = [name for name in NEEDED if name not in cells]
        if lacking:
            raise ValueError(f"it has no column {', '.join(lacking)}")
        numbers = cells[NUMBERS].replace("", "nan").astype(float)
    except ValueError as error:
        why = " ".join(str(error).split())
        raise DataError(
            f"{origin}: not a leaderboard as `mmbench leaderboard --format csv` writes it: {why}"
        ) from error
    ids = cells["protocol"]
    cells = cells.assign(
        **{name: numbers[name] for name in NUMBERS},
        synthetic=cells["synthetic"] == "True",
        protocol=ids.str.partition("@")[0],
        id=ids,
    ).drop_duplicates(["dataset", *KEYS])
    facts: dict[tuple[str, str], dict[str, str]] = {}
    for row in cells.drop_duplicates(["dataset", "method", "protocol"]).to_dict("records"):
        key = row["dataset"], row["method"]
        facts[key] = {
            "data": row["data_sha256"][:12],
            "seeds": fixed(row["seeds"], 0),
            f"protocol {row['protocol']}": row["id"],
            **facts.get(key, {}),
        }
    return Side(origin, cells, facts)


def _store(origin: str, registry: Registry) -> Side:
    """As the CSV of each leaderboard, and what the manifests know beyond it."""
    store = Store(Path(origin))
    boards = [Leaderboard.from_manifests(d, store.manifests(d)) for d in store.datasets()]
    boards = [board for board in boards if board.sections]
    if not boards:
        raise UsageError(f"{origin}: a folder without a finished result; expected a store")
    reporter = registry.find("reporter", "csv")()
    sides = [_csv(origin, reporter.render(board)) for board in boards]
    facts = {key: dict(own) for side in sides for key, own in side.facts.items()}
    for board in boards:
        for section in reversed(board.sections):  # the newest is the first, and has the last word
            for row in section.rows:
                facts[board.dataset, row.label] |= _known(section.facts, row.finished[0])
    return Side(origin, pd.concat([side.cells for side in sides], ignore_index=True), facts)


def _known(facts: Manifest, manifest: Manifest) -> dict[str, str]:
    """What a section and a manifest tell of how a result was made."""
    job, environment = manifest["job"], manifest["environment"]
    masks = {f"masks of {n}": p["sha256"][:12] for n, p in facts["protocols"].items()}
    metrics = {f"metric {name}": version for name, version in manifest["metrics"].items()}
    settings = {f"setting {k}": repr(v) for k, v in job.get("hyperparameters", {}).items()}
    schedule = {f"schedule {k}": repr(v) for k, v in job["schedule"].items()}
    versions = {name: str(value) for name, value in environment.items() if name != "dirty"}
    if environment.get("dirty"):
        versions["commit"] = f"{versions.get('commit', '')} with changes"
    return {
        **masks,
        **metrics,
        "code": job["code_sha256"][:12],
        "sampler": job.get("sampler", "unknown"),
        **settings,
        **schedule,
        **versions,
    }
