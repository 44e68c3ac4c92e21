"""Leaderboards: a pure function of manifests, in numbers; reporters turn them into text.

Rows are methods with their settings; columns the conditions of a protocol and its summary. The mean is
over training seeds of the mean over mask seeds; the spread is the standard deviation of the former.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mmbench.datafile import replacing

if TYPE_CHECKING:
    from mmbench.reporters import Reporter
    from mmbench.store import Store

Manifest = Mapping[str, Any]
AVERAGE = "average"
"""Name of the summary column, which each protocol heads in its own way."""
SLACK = 1e-9


@dataclass(frozen=True)
class Row:
    """One method with its settings: its finished results and its failures."""

    label: str
    finished: Sequence[Manifest]
    failed: Sequence[Manifest]
    superseded: int = 0
    """Results of the same label left out, because newer ones differ in code or data of the job."""

    @property
    def quick(self) -> bool:
        """Whether it is a first look, which does not compete."""
        return bool((*self.finished, *self.failed)[0]["job"]["quick"])

    @property
    def seeds(self) -> int:
        """Training seeds that finished."""
        return len(self.finished)


@dataclass(frozen=True)
class Section:
    """Results that may be compared: the same data, the same masks."""

    facts: Manifest
    """A manifest that speaks for all: data, protocols, metrics, labels, floor."""
    rows: Sequence[Row]
    cells: pd.DataFrame = field(repr=False)
    """Tidy: protocol, method, label, column, metric, mean, spread, mask_spread, seeds, floor,
    below_floor, best."""

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
    unfinished: Sequence[Row]
    """Rows without a single finished result."""

    @property
    def synthetic(self) -> bool:
        """Whether the data is made up; a failure may not tell."""
        facts = [section.facts for section in self.sections]
        facts += [manifest for row in self.unfinished for manifest in row.failed]
        return any(manifest.get("data", {}).get("synthetic", False) for manifest in facts)

    @classmethod
    def from_manifests(cls, dataset: str, manifests: Iterable[Manifest]) -> Leaderboard:
        """Groups results by what may be compared, then by method and settings; newest first."""
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
            [_section(group) for group in order],
            [row for row in rows if not row.finished],
        )


def write_leaderboard(
    store: Store, dataset: str, folder: Path, reporters: Sequence[Reporter]
) -> list[Path]:
    """Renders a data set's leaderboard with each reporter to `<folder>/<dataset><suffix>`."""
    board = Leaderboard.from_manifests(dataset, store.manifests(dataset))
    paths = []
    for reporter in reporters:
        path = folder / f"{dataset}{reporter.suffix}"
        with replacing(path) as temporary:
            temporary.write_text(reporter.render(board), encoding="utf-8")
            temporary.chmod(0o644)
        paths.append(path)
    return paths


def _rows(manifests: Iterable[Manifest]) -> list[Row]:
    """One row for each label on the same data and masks: of its configurations the newest.

    Full rows come before quick ones, each by name.
    """
    by_config: dict[str, list[Manifest]] = {}
    for manifest in sorted(manifests, key=lambda m: (m["job"]["seed"], m["key"])):
        by_config.setdefault(manifest["config"], []).append(manifest)
    by_label: dict[tuple[str, str], list[list[Manifest]]] = {}
    for results in by_config.values():
        job = results[0]["job"]
        alike = json.dumps([job["data_sha256"], sorted(job["protocols"])])
        by_label.setdefault((job["label"], alike), []).append(results)
    rows = []
    for (label, _), configs in by_label.items():
        # the newest configuration, and one with finished results before one with none
        *older, newest = sorted(
            configs,
            key=lambda c: (any(map(_finished, c)), max(m["finished"] for m in c), c[0]["config"]),
        )
        rows.append(
            Row(
                label,
                [m for m in newest if _finished(m)],
                [m for m in newest if not _finished(m)],
                sum(map(len, older)),
            )
        )
    return sorted(rows, key=lambda row: (row.quick, row.label))


def _finished(manifest: Manifest) -> bool:
    return manifest["status"] == "finished"


def _newest(row: Row) -> str:
    return max(m["finished"] for m in row.finished)


def _comparable(manifest: Manifest) -> str:
    """The same for results on the same data under the same masks."""
    masks = {name: (p["id"], p["sha256"]) for name, p in manifest["protocols"].items()}
    return json.dumps([manifest["data"]["sha256"], sorted(masks.items())])


def _section(rows: Sequence[Row]) -> Section:
    facts = max((row.finished[0] for row in rows), key=lambda m: (m["finished"], m["key"]))
    cells = pd.concat([_cells(row) for row in rows], ignore_index=True)
    metrics = facts["metrics"]
    cells["floor"] = [
        facts["floor"][metric][label]
        for metric, label in zip(cells["metric"], cells["label"], strict=True)
    ]
    sign = cells["metric"].map(lambda name: 1 if metrics[name]["higher_is_better"] else -1)
    gain = sign * cells["mean"]
    cells["below_floor"] = gain < sign * cells["floor"] - SLACK
    competing = gain.where(~cells["quick"])
    top = competing.groupby([cells[k] for k in ("protocol", "column", "metric", "label")])
    cells["best"] = competing >= top.transform("max") - SLACK
    return Section(facts, rows, cells.drop(columns="quick"))


def _cells(row: Row) -> pd.DataFrame:
    """Mean and spreads of every column, metric and label of one row."""
    scores = pd.DataFrame(
        [
            {**score, "column": score.get("condition", AVERAGE), "seed": m["job"]["seed"]}
            for m in row.finished
            for score in (*m["scores"], *m["averages"])
        ]
    )
    keys = ["protocol", "column", "metric", "label"]
    over_masks = scores.groupby([*keys, "seed"], sort=False)["value"].agg(["mean", "std"])
    over_seeds = over_masks.groupby(keys, sort=False)
    cells = over_seeds["mean"].agg(mean="mean", spread="std").reset_index()
    cells["mask_spread"] = over_seeds["std"].mean().to_numpy()
    return cells.assign(method=row.label, seeds=row.seeds, quick=row.quick)
