"""Leaderboards: a pure function of results, in numbers; reporters turn them into text.

Rows are methods with their settings; columns the conditions of a protocol and its summary. The mean is
over training seeds of the mean over mask seeds; the spread is the standard deviation of the former.

A leaderboard has all that a reporter needs and no sample's prediction, so that a file of it
(`mmbench/board.py`) renders as the store does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mmbench.datafile import replacing
from mmbench.errors import DataError, MmbenchError, UsageError
from mmbench.forms import FACTS as FACTS_FORM
from mmbench.forms import Wrong, check, check_row, check_section
from mmbench.significance import Tests, no_tests, ranked, starred
from mmbench.summary import AVERAGE as AVERAGE
from mmbench.summary import summarise
from mmbench.texts import harmless
from mmbench.tidy import Columns, typed

if TYPE_CHECKING:
    from mmbench.registry import Registry
    from mmbench.reporters import Reporter
    from mmbench.store import Store

Manifest = Mapping[str, Any]
SLACK = 1e-9
DIGITS = 9
"""Of a number in a leaderboard: more would say nothing and fill its file."""

FACTS = ("data", "protocols", "metrics", "headline", "labels", "floor")
"""Parts of a manifest that are the same for all rows of a section."""
OWN = (
    *(
        "status",
        "key",
        "config",
        "job",
        "method",
        "metrics",
        "parameters",
        "seconds",
        "side_by_side",
    ),
    *("peak_memory_mib", "environment", "finished", "kind", "reason", "predictions_sha256"),
)
"""Parts of a manifest that a row keeps."""
CELL_COLUMNS: Columns = {
    **dict.fromkeys(("protocol", "method", "label", "column", "metric"), str),
    **dict.fromkeys(("mean", "spread", "mask_spread"), float),
    "seeds": int,
    "floor": float,
    **dict.fromkeys(("below_floor", "best", "star"), bool),
}


@dataclass(frozen=True)
class Row:
    """One method with its settings: its finished results and its failures."""

    label: str
    """As tables name it, e.g. "hrlf[depth=2] (quick)"."""
    finished: Sequence[Manifest]
    """A manifest's parts `OWN` for each training seed, ascending. Of metrics the id alone, by name."""
    failed: Sequence[Manifest]
    """Those of newer configurations, too: a success of older code does not hide them."""
    superseded: int = 0
    """Results of the same label left out, because newer ones differ in code, versions or schedule."""
    untested: str = ""
    """Why no test compares it with others; empty where it is compared."""

    @property
    def quick(self) -> bool:
        """Whether it is a first look, which does not compete."""
        return bool((*self.finished, *self.failed)[0]["job"]["quick"])

    @property
    def competes(self) -> bool:
        """Whether it may be the best of a column: a finished method that could be used."""
        return not self.quick and all(m["method"].get("competes", True) for m in self.finished)

    @property
    def ceiling(self) -> bool:
        """Whether it stands for the best possible: it does not compete, for it knows what no method may."""
        about = self.finished[0]["method"] if self.finished else {}
        return not self.quick and not about.get("competes", True) and bool(about.get("privileges"))

    @property
    def seeds(self) -> int:
        """Training seeds that finished."""
        return len(self.finished)


@dataclass(frozen=True)
class Section:
    """Results that may be compared: the same data, the same masks, the same headline metric."""

    facts: Manifest
    """A manifest's parts `FACTS`, which speak for all: data (name, synthetic, sha256, source, modalities,
    splits), protocols by name (id, sha256, mask_seeds, average, average_formula, conditions,
    effective_rate by condition and modality), headline (a metric's name), labels, and every row's
    metrics by name (id, title, formula, unit, higher_is_better, in_tables) and floors by metric and label."""
    rows: Sequence[Row]
    """Full ones before quick ones, each by name."""
    cells: pd.DataFrame = field(repr=False)
    """Tidy: protocol, method (a row's label), label, column (a condition's name or AVERAGE), metric, mean,
    spread, mask_spread, seeds, floor, below_floor, best, star. best: of those that compete; star: the best
    is significantly better than the best other one (headline metric only)."""
    tests: pd.DataFrame = field(repr=False)
    """Tidy, of the headline metric: protocol, label (or ALL: the mean over labels), column, method, other,
    seeds, difference (method less other), error (its standard error), df, p, p_adjusted. AVERAGE has every
    pair of rows that compete, p adjusted over the pairs; a condition has the best and the best other one,
    p adjusted over the conditions. How: `mmbench/significance.py`."""
    summaries: pd.DataFrame = field(repr=False)
    """Tidy, of the headline metric: protocol, label (or ALL), method, quantity, value; only values that are
    defined. Quantities, their titles and formulas: `mmbench/summary.py`."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Its tables by name."""
        return {"cells": self.cells, "tests": self.tests, "summaries": self.summaries}

    def columns(self, protocol: str) -> list[tuple[str, str]]:
        """Names and headings: the incomplete conditions, the summary, the complete ones."""
        described = self.facts["protocols"][protocol]
        conditions = described["conditions"]
        return [
            *((c["name"], c["title"]) for c in conditions if not c["complete"]),
            (AVERAGE, described["average"]),
            *((c["name"], c["title"]) for c in conditions if c["complete"]),
        ]


@dataclass(frozen=True)
class Leaderboard:
    """All results of one data set."""

    dataset: str
    sections: Sequence[Section]
    """Newest first."""
    unfinished: Sequence[Row]
    """Rows without a single finished result."""

    @property
    def synthetic(self) -> bool:
        """Whether the data is made up; a failure may not tell."""
        facts = [section.facts for section in self.sections]
        facts += [manifest for row in self.unfinished for manifest in row.failed]
        return any(manifest.get("data", {}).get("synthetic", False) for manifest in facts)

    @classmethod
    def from_store(
        cls, store: Store, dataset: str, registry: Registry | None = None
    ) -> Leaderboard:
        """The leaderboard of a store's results, with tests from its predictions if a registry has their metrics.

        DataError if they are not laid out as this version writes them: they may be a stranger's.
        """
        tests = None if registry is None else Tests(store, registry)
        try:
            board = cls.from_manifests(dataset, store.manifests(dataset), tests)
            for section in board.sections:
                check(section.facts, FACTS_FORM, "")
                for row in section.rows:
                    check_row(row.finished, row.failed, row.label)
                labels = [row.label for row in section.rows]
                check_section(section.facts, labels, section.tables, "the leaderboard")
            for row in board.unfinished:
                check_row((), row.failed, row.label)
        except MmbenchError:
            raise
        except Exception as error:  # of whatever is lacking, or of another type
            what = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
            raise DataError(
                f"{store.root}: results of {dataset} are not laid out as this version writes them "
                f"({' '.join(what.split())}); `mmbench verify {store.root}` names the place"
            ) from error
        return board

    @classmethod
    def from_manifests(
        cls, dataset: str, manifests: Iterable[Manifest], tests: Tests | None = None
    ) -> Leaderboard:
        """Groups results by what may be compared, then by method and settings; newest first.

        Without `tests` no row is compared with another.
        """
        rows = _rows(manifests)
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if row.finished:
                groups.setdefault(_comparable(row.finished[0]), []).append(row)
        order = sorted(
            groups.values(), key=lambda group: max(_newest(row) for row in group), reverse=True
        )
        return cls(
            dataset,
            [_section(group, tests) for group in order],
            [_brief(row) for row in rows if not row.finished],
        )


def render(board: Leaderboard, reporter: Reporter) -> str:
    """What a reporter makes of a leaderboard, harmless on a terminal whoever wrote the results."""
    return harmless(reporter.render(board))


def write_leaderboard(
    board: Leaderboard, folder: Path, reporters: Sequence[Reporter]
) -> list[Path]:
    """Renders a leaderboard with each reporter to `<folder>/<dataset><suffix>`; UsageError if it cannot be written."""
    paths = []
    for reporter in reporters:
        path, text = folder / f"{board.dataset}{reporter.suffix}", render(board, reporter)
        try:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
                temporary.chmod(0o644)
        except OSError as error:
            raise UsageError(
                f"cannot write {path}: {error.strerror or error}. The results are kept: give the same command "
                "again when that is mended"
            ) from error
        paths.append(path)
    return paths


def _rows(manifests: Iterable[Manifest]) -> list[Row]:
    """One row for each label on the same data and masks: of its configurations the newest.

    Full rows come before quick ones, each by name.
    """
    by_label: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in sorted(manifests, key=lambda m: (m["job"]["seed"], m["key"])):
        job = manifest["job"]
        alike = json.dumps([job["data_sha256"], sorted(job["protocols"])])
        by_label.setdefault((job["label"], alike), []).append(manifest)
    rows = []
    for (label, _), results in by_label.items():
        failed = [m for m in results if not _finished(m)]
        # An id promises masks; their hash tells whether the promise was kept.
        groups: dict[str, list[Manifest]] = {}
        for manifest in filter(_finished, results):
            groups.setdefault(_comparable(manifest), []).append(manifest)
        *others, newest = sorted(groups.values(), key=lambda g: max(map(_age, g))) or [[]]
        rows += [_row(label, group, []) for group in others]
        rows.append(_row(label, newest, failed))
    return sorted(rows, key=lambda row: (row.quick, row.label))


def _row(label: str, finished: Sequence[Manifest], failed: Sequence[Manifest]) -> Row:
    """The newest configuration that finished, with whatever has failed since."""
    latest = max(finished or failed, key=_age)
    shown = [m for m in finished if m["config"] == latest["config"]]
    since = [
        m
        for m in failed
        if m["config"] == latest["config"] or (shown and m["finished"] >= latest["finished"])
    ]
    return Row(label, shown, since, len(finished) + len(failed) - len(shown) - len(since))


def _finished(manifest: Manifest) -> bool:
    return manifest["status"] == "finished"


def _age(manifest: Manifest) -> tuple[str, str]:
    return manifest["finished"], manifest["config"]


def _newest(row: Row) -> str:
    return max(m["finished"] for m in row.finished)


def _comparable(manifest: Manifest) -> str:
    """The same for results on the same data under the same masks, by the same headline metric."""
    masks = {name: (p["id"], p["sha256"]) for name, p in manifest["protocols"].items()}
    headline = manifest["metrics"][manifest["headline"]]["id"]
    return json.dumps([manifest["data"]["sha256"], headline, sorted(masks.items())])


def _brief(row: Row) -> Row:
    """A row with no more of its manifests than a reporter needs."""

    def own(manifest: Manifest) -> Manifest:
        kept = {name: manifest[name] for name in OWN if name in manifest}
        if "metrics" in kept:
            kept["metrics"] = {name: about["id"] for name, about in kept["metrics"].items()}
        if "data" in manifest and not _finished(manifest):
            kept["data"] = {"synthetic": manifest["data"]["synthetic"]}
        return kept

    finished, failed = map(own, row.finished), map(own, row.failed)
    return replace(row, finished=list(finished), failed=list(failed))


def _section(rows: Sequence[Row], tests: Tests | None) -> Section:
    oldest_first = sorted((r.finished[0] for r in rows), key=lambda m: (m["finished"], m["key"]))
    metrics: dict[str, Any] = {}
    floors: dict[str, Any] = {}
    for manifest in oldest_first:  # metrics come and go with plugins
        metrics |= manifest["metrics"]
        floors |= manifest["floor"]
    speaks = {**oldest_first[-1], "metrics": dict(sorted(metrics.items())), "floor": floors}
    facts = {name: speaks[name] for name in FACTS}
    cells = pd.concat([_cells(row, metrics) for row in rows], ignore_index=True)
    cells["floor"] = [
        floors[metric][label] for metric, label in zip(cells["metric"], cells["label"], strict=True)
    ]
    sign = cells["metric"].map(lambda name: 1 if metrics[name]["higher_is_better"] else -1)
    gain = sign * cells["mean"]
    cells["below_floor"] = gain < sign * cells["floor"] - SLACK
    competing = gain.where(cells["competes"])
    top = competing.groupby([cells[k] for k in ("protocol", "column", "metric", "label")])
    cells["best"] = competing >= top.transform("max") - SLACK
    rows = [_brief(row) for row in rows]
    if tests is None:
        found, why = no_tests(), {row.label: "its predictions are not at hand" for row in rows}
    else:
        found, why = tests.of(facts, rows)
    rows = [replace(row, untested=why.get(row.label, "")) for row in rows]
    ranks = ranked(facts, rows, cells, found)
    stars = starred(found, ranks)
    places = zip(*(cells[k] for k in ("protocol", "label", "column", "method")), strict=True)
    cells["star"] = [place in stars for place in places]
    cells["star"] &= cells["metric"] == facts["headline"]
    ceiling = next((row.label for row in rows if row.ceiling), None)
    summaries = summarise(facts, cells, ranks, ceiling)
    for name in ("mean", "spread", "mask_spread", "floor"):
        cells[name] = [float(f"{value:.{DIGITS}g}") for value in cells[name]]
    return Section(facts, rows, typed(cells, CELL_COLUMNS), found, summaries)


def _cells(row: Row, metrics: Manifest) -> pd.DataFrame:
    """Mean and spreads of every column, metric and label of one row.

    Without what another version of a metric says than the section's.
    """
    places: dict[tuple[str, ...], int] = {}  # numbered, for pandas takes long over text
    scores = pd.DataFrame(
        [
            (places.setdefault(_place(score), len(places)), m["job"]["seed"], score["value"])
            for m in row.finished
            for score in (*m["scores"], *m["averages"])
        ],
        columns=["place", "seed", "value"],
    )
    over_masks = scores.groupby(["place", "seed"], sort=False)["value"].agg(["mean", "std"])
    over_seeds = over_masks.groupby("place")
    cells = pd.DataFrame(list(places), columns=["protocol", "column", "metric", "label"])
    cells["mean"], cells["spread"] = over_seeds["mean"].mean(), over_seeds["mean"].std()
    cells["mask_spread"] = over_seeds["std"].mean()
    own = row.finished[0]["metrics"]
    current = [name for name, about in own.items() if about["id"] == metrics[name]["id"]]
    cells = cells[cells["metric"].isin(current)]
    return cells.assign(method=row.label, seeds=row.seeds, competes=row.competes)


def _place(score: Manifest) -> tuple[str, ...]:
    """Of a score or an average."""
    column = score.get("condition", AVERAGE)
    return score["protocol"], column, score["metric"], score["label"]
