"""From what a person asks for to a folder of results: the grid, what is left of it, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmbench import datafile
from mmbench.checkpoints import forget
from mmbench.data import Data, Dataset
from mmbench.errors import UsageError
from mmbench.executors import Executor
from mmbench.jobs import Job, Progress
from mmbench.listeners import Listeners
from mmbench.registry import Registry
from mmbench.store import Store
from mmbench.work import QUICK_EPOCHS, code_sha256, do


@dataclass(frozen=True)
class Grid:
    """What was asked for: every method on every data set from every seed."""

    methods: Sequence[str]
    datasets: Sequence[str]
    """As resolved: a twin's name where a twin stands in."""
    protocols: Sequence[str]
    """Ids."""
    seeds: Sequence[int]
    changed: Mapping[str, Mapping[str, Any]]
    quick: bool = False
    device: str = "cpu"
    plugin_files: tuple[str, ...] = ()
    profile: str = ""
    """Folder for traces."""
    embeddings: bool = False


def resolve(registry: Registry, name: str) -> tuple[type[Dataset], str | None]:
    """The data set called `name` or, where its real data is not there, its twin, with a notice."""
    cls: type[Dataset] = registry.find("dataset", name)
    if cls.stand_in is None or datafile.is_there(cls()):
        return cls, None
    twin: type[Dataset] = registry.find("dataset", cls.stand_in)
    return twin, (
        f"{name} has not been imported, so its synthetic twin {twin.name} stands in: its scores say "
        f"nothing about {name}. For the real data: mmbench data import {name} FILE"
    )


def expand(grid: Grid, registry: Registry, data: Mapping[str, Data]) -> list[Job]:
    """The jobs of a grid; seed by seed, so that an interrupted run has whole seeds to show."""
    versions = {name: entry.cls.version for name, entry in registry.classes["metric"].items()}
    code = {name: code_sha256(registry.find("method", name)) for name in grid.methods}
    return [
        Job(
            method=method,
            dataset=dataset,
            seed=seed,
            protocols=tuple(grid.protocols),
            data_sha256=data[dataset].sha256,
            code_sha256=code[method],
            sampler=registry.find("sampler", registry.find("method", method).sampler)().id,
            schedule=_schedule(registry.find("dataset", dataset), grid.quick),
            changed=dict(grid.changed.get(method, {})),
            quick=grid.quick,
            versions=versions,
            plugin_files=grid.plugin_files,
            device=grid.device,
            profile=grid.profile,
            embeddings=grid.embeddings,
        )
        for dataset in grid.datasets
        for seed in grid.seeds
        for method in grid.methods
    ]


def _schedule(dataset: type[Dataset], quick: bool) -> Any:
    schedule = dataset.schedule
    return replace(schedule, epochs=min(QUICK_EPOCHS, schedule.epochs)) if quick else schedule


def outstanding(jobs: Iterable[Job], store: Store) -> list[Job]:
    """Those that the store has no finished result of."""
    return [job for job in jobs if not store.finished(job)]


@dataclass(frozen=True)
class Event:
    """Something to show while a run goes on."""

    job: Job
    share: float
    doing: str
    reason: str | None = None
    """Why it failed, in its last event."""


def run(
    jobs: Sequence[Job],
    executor: Executor,
    store: Store,
    show: Callable[[Event], None],
    listeners: Listeners | None = None,
) -> list[tuple[Job, str]]:
    """Does the jobs and stores each outcome as it comes; the failed ones with their reasons."""
    tell = (listeners or Listeners()).tell
    by_key = {job.key: job for job in jobs}
    if len(by_key) != len(jobs):
        raise UsageError("the same job was asked for twice")

    started: set[str] = set()

    def start(job: Job) -> None:
        if job.key not in started:
            started.add(job.key)
            tell("mmbench_job_started", job=job)

    def report(key: str, progress: Progress) -> None:
        job = by_key[key]
        start(job)
        show(Event(job, progress.share, progress.doing))
        if epoch := progress.epochs.get(job.seed):
            tell("mmbench_epoch_finished", job=job, epoch=epoch)

    failures: list[tuple[Job, str]] = []
    tell("mmbench_run_started", jobs=jobs)
    try:
        for job, outcome in executor.run(jobs, do, report):
            start(job)  # of a worker that died before it could tell
            store.save(outcome)
            reason = outcome.manifest.get("reason")
            if not reason:
                forget(job)
            show(Event(job, 1.0, "failed" if reason else "done", reason))
            tell("mmbench_job_finished", job=job, manifest=outcome.manifest)
            if reason:
                failures.append((job, reason))
    finally:
        tell("mmbench_run_finished", jobs=jobs, failures=failures)
    return failures
