"""What `mmbench run` shows: bars while jobs run, what time was spent on, scores, what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mmbench.cli.options import console, show
from mmbench.numbers import fixed, share

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mmbench.executors import Executor
    from mmbench.jobs import Job
    from mmbench.leaderboard import Leaderboard
    from mmbench.registry import Registry
    from mmbench.runner import Event, Failure, Survey
    from mmbench.store import Store


def show_there(results: Store, found: Survey) -> None:
    """What of the grid the store has already."""
    total = found.there + len(found.failures) + len(found.todo)
    if found.there:
        console().print(f"{found.there} of {total} jobs are in {results.root} already")
    if found.made_by:
        click.echo(
            f"warning: some of them were made by {'; '.join(found.made_by)}, which is not what is here: "
            "numbers may differ in their last digits. --force makes them anew.",
            err=True,
        )


def show_failures(failures: Sequence[Failure]) -> int:
    """A line for each, and what can be done about them; the exit status.

    That a method does not apply to some data is a row of the table, and nothing that went wrong.
    """
    out = console()
    told: set[str] = set()
    for failure in failures:
        job = failure.job
        if failure.kind == "not applicable":
            said = f"{job.label} on {job.dataset}: {failure.why}"  # from whatever seed
            if said not in told:
                told.add(said)
                out.print(said, markup=False)
        else:
            out.print("[bold red]failed:[/] ", end="")
            out.print(f"{job.label} on {job.dataset}, seed {job.seed}: {failure.why}", markup=False)
    wrong = [failure for failure in failures if failure.kind != "not applicable"]
    kept = sum(failure.before for failure in wrong)
    if kept:
        out.print(f"{kept} of them failed before, and were not tried again: --retry-failed does")
    return 1 if wrong else 0


def do(
    todo: Sequence[Job], executor: Executor, results: Store, registry: Registry
) -> list[Failure]:
    """Runs the jobs under a progress bar; the failed ones."""
    if not todo:
        return []
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from mmbench.listeners import Listeners
    from mmbench.runner import run as run_jobs

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console()) as progress:
        # the bars let what is written to standard error pass above them
        listeners = Listeners(
            registry.listeners, lambda text: click.echo(f"warning: {text}", err=True)
        )
        return run_jobs(todo, executor, results, _Bars(progress, len(todo)).show, listeners)


def show_spent(manifests: Sequence[Mapping[str, Any]]) -> None:
    """What the jobs just done spent their time on, a row for each method."""
    spent: dict[str, list[Mapping[str, Any]]] = {}
    for manifest in manifests:
        if manifest["status"] == "finished":
            spent.setdefault(manifest["job"]["label"], []).append(manifest)
    rows = []
    for label, own in sorted(spent.items()):
        stages = [stage for manifest in own for stage in manifest["training"]]
        kinds = {kind: sum(stage["spent"].get(kind, 0.0) for stage in stages) for kind in KINDS}
        kinds["evaluation"] = sum(manifest["seconds"]["evaluate"] for manifest in own)
        total = sum(kinds.values()) or 1.0
        training = sum(stage["seconds"] for stage in stages)
        steps = sum(stage["steps"] for stage in stages)
        rows.append(
            (
                label,
                str(len(own)),
                fixed(total / len(own), 1),
                fixed(steps / training, 1) if training else "-",
                ", ".join(f"{kind} {share(value / total, 0)}" for kind, value in kinds.items()),
            )
        )
    if rows:
        show("time spent", ("method", "seeds", "s per seed", "steps per s", "spent on"), rows)


KINDS = ("data", "forward", "backward", "validation")
"""What a stage's log tells its seconds apart by."""


def show_summary(board: Leaderboard) -> None:
    """The headline metric of the newest results: each protocol's summary and complete column."""
    from mmbench.leaderboard import AVERAGE

    for section in board.sections[:1]:
        facts = section.facts
        about = facts["metrics"][facts["headline"]]
        scale = 100 if about["unit"] == "%" else 1
        cells = section.cells[section.cells["metric"] == facts["headline"]]
        complete = {
            c["name"] for p in facts["protocols"].values() for c in p["conditions"] if c["complete"]
        }
        columns = [
            (protocol, name, f"{title} ({protocol})" if name == AVERAGE else title)
            for protocol in facts["protocols"]
            for name, title in section.columns(protocol)
            if name == AVERAGE or name in complete
        ]
        found = cells.set_index(["method", "label", "protocol", "column"])["mean"]
        kind = ", synthetic" if board.synthetic else ""
        show(
            f"{board.dataset}{kind}: {about['title']}{' x 100' if scale == 100 else ''}, mean over seeds",
            ("method", "label", "seeds", *(title for *_, title in columns)),
            [
                (
                    row.label,
                    label,
                    str(row.seeds),
                    *(fixed(scale * found[row.label, label, p, name], 2) for p, name, _ in columns),
                )
                for row in section.rows
                for label in facts["labels"]
            ],
        )


class _Bars:
    """A bar for all jobs and one for each that runs."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total = progress, total
        self.whole = progress.add_task("all jobs", total=float(total))
        self.bars: dict[str, TaskID] = {}
        self.shares: dict[str, float] = {}

    def show(self, event: Event) -> None:
        """Moves the bars; says in a line of its own that a job has ended."""
        job = event.job
        name = f"{job.label}, {job.dataset}, seed {job.seed}"
        self.shares[job.key] = event.share
        if event.doing in ("done", "failed", "lost"):
            if job.key in self.bars:
                self.progress.remove_task(self.bars.pop(job.key))
            said = f", {event.reason}" if event.reason else ""
            more = "; it is begun again when the others are through" * (event.doing == "lost")
            self.progress.console.print(f"{name}: {event.doing}{said}{more}", markup=False)
        else:
            if job.key not in self.bars:
                self.bars[job.key] = self.progress.add_task(name, total=1.0)
            self.progress.update(
                self.bars[job.key], completed=event.share, description=f"{name}: {event.doing}"
            )
        self.progress.update(self.whole, completed=sum(self.shares.values()))
