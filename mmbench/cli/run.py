"""`mmbench run`: train, test under every condition, write leaderboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmbench.cli.options import LEADERBOARDS, STORE, console, names, show, warn_damaged
from mmbench.errors import UsageError
from mmbench.numbers import fixed, share

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mmbench.executors import Executor
    from mmbench.jobs import Job
    from mmbench.leaderboard import Leaderboard
    from mmbench.registry import Registry
    from mmbench.runner import Event
    from mmbench.store import Store


@click.command()
@click.option(
    "--method",
    "methods",
    required=True,
    help="Names, separated by commas, or 'all', which is without ablations.",
)
@click.option("--dataset", "datasets", required=True, help="Names, separated by commas, or 'all'.")
@click.option(
    "--protocol", "protocols", default="inter,intra", show_default=True, help="Names, or 'all'."
)
@click.option(
    "--seeds", type=click.IntRange(1), default=None, help="How many training seeds.  [default: 5]"
)
@click.option("--quick", is_flag=True, help="A first look: few samples and epochs, one seed.")
@STORE
@LEADERBOARDS
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--jobs", type=click.IntRange(1), help="Jobs at a time.  [default: one per core]")
@click.option(
    "--side-by-side",
    type=click.IntRange(1),
    help="Seeds of a method that one worker trains as one.  [default: 1 on a CPU, all on a GPU]",
)
@click.option("--executor", default="local", show_default=True, help="Where jobs run.")
@click.option(
    "--address", help="Of a cluster: auto or HOST:PORT. Short for --set EXECUTOR.address=..."
)
@click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(), help="A Python file with plugins."
)
@click.option(
    "--format",
    "formats",
    default="csv,html,json,md",
    show_default=True,
    help="Reporters that write leaderboards, or 'all'.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    help="A setting of a method or of the executor, e.g. hrlf.depth=2.",
)
@click.option("--profile", type=click.Path(), help="A folder for traces of a few updates.")
@click.option(
    "--embeddings", is_flag=True, help="Keep representations of test samples, for figures."
)
@click.option("--dry-run", is_flag=True, help="Show what would run.")
def run(
    methods: str,
    datasets: str,
    protocols: str,
    seeds: int | None,
    quick: bool,
    store: str,
    leaderboards: str,
    device: str,
    jobs: int | None,
    side_by_side: int | None,
    executor: str,
    address: str | None,
    plugins: tuple[str, ...],
    formats: str,
    settings: tuple[str, ...],
    profile: str | None,
    embeddings: bool,
    dry_run: bool,
) -> int:
    """Train methods, test them under every missing condition, and write leaderboards.

    Results that the store already has are not trained again, so an interrupted run goes on.
    """
    wanted = {
        "method": methods,
        "dataset": datasets,
        "protocol": protocols,
        "executor": executor,
        "reporter": formats,
    }
    for kind, text in wanted.items():
        if not names(text):
            option = "format" if kind == "reporter" else kind
            raise UsageError(f"--{option} is empty; expected names, separated by commas, or 'all'")
    if not plugins:  # mistakes in names are told at once, before torch is imported
        from mmbench.catalogue import catalogue

        known = catalogue()
        for kind, text in wanted.items():
            for name in names(text):
                if name != "all":
                    known.check(kind, name)

    from mmbench import datafile
    from mmbench.cli.plan import show_plan
    from mmbench.leaderboard import Leaderboard, write_leaderboard
    from mmbench.plan import Plan
    from mmbench.registry import discover
    from mmbench.runner import Grid, expand, outstanding, resolve
    from mmbench.settings import parse
    from mmbench.store import Store

    registry = discover(plugins)
    results = Store(Path(store))
    results.check_writable()
    warn_damaged(results)
    check_folder(Path(leaderboards), "tables", "--leaderboards")
    if profile:
        check_folder(Path(profile), "traces", "--profile")
    chosen = {kind: _chosen(registry, kind, text) for kind, text in wanted.items()}
    if methods == "all" or datasets == "all":
        console().print(f"{len(chosen['method'])} methods on {len(chosen['dataset'])} data sets")
    if address is not None:
        settings = (*settings, f"{executor}.address={address}")
    where = registry.find("executor", executor)
    if reason := where.missing():
        raise UsageError(f"executor {executor!r} {reason}")
    changed = parse(
        settings,
        {**{name: registry.find("method", name) for name in chosen["method"]}, executor: where},
    )
    runs_on = where(jobs, side_by_side, **changed.pop(executor))

    content = {}
    for name in chosen["dataset"]:
        cls, notice = resolve(registry, name)
        if notice:
            console().print(f"[bold yellow]synthetic:[/] {notice}")
        if cls.name not in content:
            with console().status(f"reading {cls.name} (a twin is made on first use)"):
                content[cls.name] = datafile.obtain(cls())
    grid = Grid(
        methods=chosen["method"],
        datasets=list(content),
        protocols=[registry.find("protocol", name)().id for name in chosen["protocol"]],
        seeds=range(seeds or (1 if quick else 5)),
        changed=changed,
        quick=quick,
        device=runs_on.device(device),
        plugin_files=tuple(str(Path(file).resolve()) for file in plugins),
        profile=str(Path(profile).resolve()) if profile else "",
        embeddings=embeddings,
    )
    every = expand(grid, registry, content)
    todo = outstanding(every, results)
    if dry_run:
        show_plan(Plan.of(every, todo, results, content, runs_on, registry), store)
        return 0
    content.clear()  # workers read their own
    failures = _do(todo, len(every), runs_on, results, registry)
    reporters = [registry.find("reporter", name)() for name in chosen["reporter"]]
    for name in grid.datasets:
        _show_spent([m for m in results.manifests(name) if m["key"] in {job.key for job in todo}])
        board = Leaderboard.from_store(results, name, registry)
        _show_summary(board)
        for path in write_leaderboard(board, Path(leaderboards), reporters):
            console().print(f"wrote {path}")
    for job, reason in failures:
        console().print(
            f"[bold red]failed:[/] {job.label} on {job.dataset}, seed {job.seed}: {reason}"
        )
    return 1 if failures else 0


def _chosen(registry: Registry, kind: str, text: str) -> list[str]:
    """The names asked for, each of which exists; "all" is every one that mmbench can make or has.

    "all" is without twins, for each stands in for its real data set, and without ablations, which are
    compared with their own method and not with others.
    """
    if text != "all":
        for name in names(text):
            registry.find(kind, name)
        return names(text)
    known = registry.classes[kind]
    twins = {getattr(found.cls, "stand_in", None) for found in known.values()}
    return sorted(
        name
        for name, found in known.items()
        if name not in twins and not getattr(found.cls, "ablates", "")
    )


def check_folder(folder: Path, what: str, option: str) -> None:
    """UsageError if `what` could not be written there, before hours are spent on it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".mmbench-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot write {what} to {folder}: {error.strerror}; choose another {option}"
        ) from error


def _do(
    todo: Sequence[Job], total: int, executor: Executor, results: Store, registry: Registry
) -> list[tuple[Job, str]]:
    """Runs the jobs under a progress bar; the failed ones."""
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

    out = console()
    if len(todo) < total:
        out.print(f"{total - len(todo)} of {total} jobs are in {results.root} already")
    if not todo:
        return []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as progress:
        # the bars let what is written to standard error pass above them
        listeners = Listeners(
            registry.listeners, lambda text: click.echo(f"warning: {text}", err=True)
        )
        return run_jobs(todo, executor, results, _Bars(progress, len(todo)).show, listeners)


def _show_spent(manifests: Sequence[Mapping[str, Any]]) -> None:
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


def _show_summary(board: Leaderboard) -> None:
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
        if event.doing in ("done", "failed"):
            if job.key in self.bars:
                self.progress.remove_task(self.bars.pop(job.key))
            self.progress.console.print(
                f"{name}: {event.doing}" + (f", {event.reason}" if event.reason else "")
            )
        else:
            if job.key not in self.bars:
                self.bars[job.key] = self.progress.add_task(name, total=1.0)
            self.progress.update(
                self.bars[job.key], completed=event.share, description=f"{name}: {event.doing}"
            )
        self.progress.update(self.whole, completed=sum(self.shares.values()))
