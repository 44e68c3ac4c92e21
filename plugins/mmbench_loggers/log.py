"""Writes a CSV file for each job, a row for each epoch, below the folder that $MMBENCH_LOG names.

    MMBENCH_LOG=logs mmbench run ...      logs/<dataset>/<method>/seed-<n>-<key>.csv

A variable and no option, for mmbench itself knows of no logger: whoever writes another one, for a service
say, has it set up in the same way, without a line of mmbench changed.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import mmbench

FIRST = ("stage", "epoch", "seconds", "valid")
"""Columns that every row has; one for each loss term follows."""


@mmbench.hookimpl
def mmbench_run_started(jobs: Sequence[mmbench.Job]) -> None:
    """Says before an hour is spent that nothing can be written there."""
    if folder := os.environ.get("MMBENCH_LOG"):
        Path(folder).mkdir(parents=True, exist_ok=True)


@mmbench.hookimpl
def mmbench_job_started(job: mmbench.Job) -> None:
    """A job that is done again begins its file anew."""
    if file := _file(job):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)


@mmbench.hookimpl
def mmbench_epoch_finished(job: mmbench.Job, epoch: mmbench.Epoch) -> None:
    """One more row. A stage with losses of its own adds columns, so the file is written whole."""
    if file := _file(job):
        rows = _read(file)
        facts = (epoch.stage, epoch.number, round(epoch.seconds, 3), epoch.valid)
        losses = {f"loss.{name}": value for name, value in epoch.loss.items()}
        rows.append({**dict(zip(FIRST, facts, strict=True)), **losses})
        columns = dict.fromkeys(name for row in rows for name in row)
        beside = file.with_suffix(".tmp")
        with beside.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, list(columns), restval="")
            writer.writeheader()
            writer.writerows(rows)
        beside.replace(file)  # whoever looks while it is written sees whole rows


def _file(job: mmbench.Job) -> Path | None:
    """Named as its result in the store; None where no log is wanted."""
    folder = os.environ.get("MMBENCH_LOG")
    if not folder:
        return None
    return Path(folder) / job.dataset / job.method / f"seed-{job.seed}-{job.key}.csv"


def _read(file: Path) -> list[dict[str, object]]:
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))
