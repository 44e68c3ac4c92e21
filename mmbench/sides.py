"""One side of a comparison: the scores of a store, of a leaderboard's JSON or CSV, or of the paper.

Scores are shares where their metric is one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mmbench import board as boards
from mmbench import bounded, reported
from mmbench.errors import DataError, UsageError
from mmbench.leaderboard import Leaderboard, Manifest, Row
from mmbench.numbers import fixed
from mmbench.registry import Registry
from mmbench.store import Store

KEYS = ["protocol", "metric", "label", "column", "method"]
"""What names a cell of one data set. The version of a protocol is told where it differs."""

Facts = Mapping[str, str]
Names = tuple[str, str]
"""Of a data set and of a row, which is a method with its settings."""


@dataclass(frozen=True)
class Side:
    """Scores and what is known of them."""

    origin: str
    """As it was asked for."""
    cells: pd.DataFrame = field(repr=False)
    """Tidy: dataset, KEYS, mean, spread, floor, synthetic; as the paper has it table, name, incomplete,
    printed and half, half a unit of its last digit."""
    facts: Mapping[Names, Facts] = field(default_factory=dict)
    """What may decide the numbers of a data set's row, as far as this side knows."""
    store: Store | None = None
    """Where its predictions are, if it is a store."""
    rows: Mapping[Names, tuple[Manifest, Row]] = field(default_factory=dict)
    """The newest rows, each with its section's facts; of a CSV and of the paper none."""

    @property
    def reported(self) -> bool:
        """Whether somebody else's text says so, and no run of ours."""
        return "printed" in self.cells


def read(origin: str, registry: Registry) -> Side:
    """A side from the word `paper`, a folder of results or a leaderboard's JSON or CSV.

    UsageError if it is none of them; DataError if the file is not such a leaderboard.
    """
    path = Path(origin)
    if origin == reported.PAPER:
        return _paper()
    if path.is_dir():
        return _store(origin, registry)
    if path.is_file() and path.suffix == boards.SUFFIX:
        return _boards(origin, [boards.read(path)], registry)
    if path.is_file() and path.suffix == ".csv":
        text = bounded.read(path, boards.LARGEST).decode("utf-8", "replace")
        return _csv(origin, text)
    hint = "; the JSON beside it has every number" if path.suffix in (".md", ".html") else ""
    raise UsageError(
        f"{origin}: expected a store, a leaderboard's .json or .csv, or the word {reported.PAPER}"
        + (hint if path.is_file() else ", and there is no such file")
    )


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
        if cells.empty:
            raise ValueError("it has no line below its header")
        if np.isinf(numbers).any(axis=None) or numbers[["mean", "seeds"]].isna().any(axis=None):
            raise ValueError("a mean or a count of seeds is no number, or another one is infinite")
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
    store = Store(Path(origin))
    found = [Leaderboard.from_store(store, name) for name in store.datasets()]
    if not any(board.sections for board in found):
        raise UsageError(f"{origin}: a folder without a finished result; expected a store")
    return replace(_boards(origin, found, registry), store=store)


def _boards(origin: str, found: Sequence[Leaderboard], registry: Registry) -> Side:
    """As the CSV of each leaderboard, and what the manifests know beyond it."""
    found = [board for board in found if board.sections]
    if not found:
        raise UsageError(f"{origin}: a leaderboard without a finished result")
    reporter = registry.find("reporter", "csv")()
    sides = [_csv(origin, reporter.render(board)) for board in found]
    facts = {key: dict(own) for side in sides for key, own in side.facts.items()}
    rows = {}
    for board in found:
        for section in reversed(board.sections):  # the newest is the first, and has the last word
            for row in section.rows:
                facts[board.dataset, row.label] |= _known(section.facts, row.finished[0])
                rows[board.dataset, row.label] = section.facts, row
    cells = pd.concat([side.cells for side in sides], ignore_index=True)
    return Side(origin, cells, facts, rows=rows)


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
        "code of protocols and metrics": job.get("rules_sha256", "unknown")[:12],
        "sampler": job.get("sampler", "unknown"),
        **settings,
        **schedule,
        **versions,
    }
