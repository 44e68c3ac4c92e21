"""`mmbench run`: train, test under every condition, write leaderboards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.cli.options import LEADERBOARDS, STORE, console, names, warn_damaged
from mmbench.cli.running import do, show_failures, show_spent, show_summary, show_there
from mmbench.errors import UsageError

if TYPE_CHECKING:
    from mmbench.registry import Registry


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
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="MINUTES",
    help="How long a job may take; one that takes longer has failed.  [default: any time]",
)
@click.option("--retry-failed", is_flag=True, help="Do jobs again that failed.")
@click.option("--force", is_flag=True, help="Do every job again, also those that finished.")
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
    time_limit: float | None,
    retry_failed: bool,
    force: bool,
    dry_run: bool,
) -> int:
    """Train methods, test them under every missing condition, and write leaderboards.

    Results that the store already has are not trained again, so an interrupted run goes on. A job that failed
    by its method's own making stays a row with its reason; one that lost its worker is done again.
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
    from mmbench.runner import Grid, expand, resolve, survey
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
        time_limit=60 * (time_limit or 0.0),
    )
    every = expand(grid, registry, content)
    found = survey(every, results, retry_failed=retry_failed, force=force)
    if dry_run:
        show_plan(Plan.of(every, found, results, content, runs_on, registry), store)
        return 0
    content.clear()  # workers read their own
    show_there(results, found)
    failures = found.failures + do(found.todo, runs_on, results, registry)
    due = {job.key for job in found.todo}
    reporters = [registry.find("reporter", name)() for name in chosen["reporter"]]
    for name in grid.datasets:
        show_spent([m for m in results.manifests(name) if m["key"] in due])
        board = Leaderboard.from_store(results, name, registry)
        show_summary(board)
        for path in write_leaderboard(board, Path(leaderboards), reporters):
            console().print(f"wrote {path}")
    return show_failures(failures)


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
