"""What `mmbench run --dry-run` shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mmbench.cli.options import console, show
from mmbench.numbers import fixed

if TYPE_CHECKING:
    from mmbench.plan import Plan

COLUMNS = (
    *("method", "data set", "jobs", "there", "failed", "left"),
    *("a seed", "those left", "memory", "from"),
)


def show_plan(plan: Plan, store: str) -> None:
    """A row for each method on each data set, and the totals; aligned text where nobody looks."""
    rows = list(_rows(plan))
    if console().is_terminal:
        show("plan", COLUMNS, rows)
    else:
        from tabulate import tabulate

        click.echo(tabulate(rows, COLUMNS, "plain", disable_numparse=True))
    for line in _totals(plan, store):
        click.echo(line)


def duration(seconds: float) -> str:
    """In one unit, e.g. "90 s", "12 min", "3.5 h", "2.1 days"."""
    for size, unit, digits in ((86400, "days", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * size:
            return f"{fixed(seconds / size, digits)} {unit}"
    return f"{fixed(seconds, 0)} s"


def _memory(mib: float) -> str:
    return f"{fixed(mib / 1024, 1)} GiB"


def _rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    for cell in plan.cells:
        counts = map(str, (cell.jobs, cell.there, cell.failed, cell.left))
        told = ("unknown", "unknown", "unknown", "nothing measured")
        if (estimate := cell.estimate) is not None:
            seconds, memory = duration(estimate.seconds), _memory(estimate.mib)
            told = (seconds, duration(estimate.seconds * cell.left), memory, estimate.source)
        yield (cell.label, cell.dataset, *counts, *told)


def _totals(plan: Plan, store: str) -> Iterator[str]:
    yield f"{plan.left} of {plan.jobs} jobs to do"
    if plan.left == plan.unknown:
        if plan.left:
            yield "how long they take is unknown: nothing like them was ever measured"
        return
    without = f", without {plan.unknown} of which nothing was measured" if plan.unknown else ""
    if plan.span is None or plan.mib is None:
        yield f"about {duration(plan.seconds)} of one worker's time{without}; how many there are is not known yet"
    else:
        workers = "1 worker" if plan.workers == 1 else f"{plan.workers} workers"
        yield (
            f"about {duration(plan.span)} on {workers}, longest jobs first, {duration(plan.seconds)} of one "
            f"worker's time{without}; up to {_memory(plan.mib)} of memory at a time{_there()}"
        )
    yield "a job takes a few seconds more to start, and more where others use the machine"
    if any(cell.left and cell.estimate and not cell.estimate.published for cell in plan.cells):
        yield f"here: what the results in {store} took, wherever they were made"
    if plan.devices:
        yield (
            f"published: what those of the published leaderboards took on {', '.join(plan.devices)}, on one core; "
            "this machine may be several times as fast or slow"
        )


def _there() -> str:
    """How much this machine has, if it tells."""
    try:
        return f", of {_memory(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**20)}"
    except (AttributeError, OSError, ValueError):
        return ""
