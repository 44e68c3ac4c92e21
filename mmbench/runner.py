"""From what a person asks for to a folder of results: the grid, what is left of it, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from mmbench import datafile
from mmbench.checkpoints import forget
from mmbench.data import Data, Dataset
from mmbench.errors import UsageError
from mmbench.executors import Executor
from mmbench.jobs import INFRASTRUCTURE, Job, Kind, Progress, kind_of, rules, why
from mmbench.listeners import Listeners
from mmbench.plan import brief
from mmbench.registry import Registry
from mmbench.sources import code_sha256, rules_sha256
from mmbench.start import schedule_of
from mmbench.store import Store
from mmbench.work import do, versions


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
    time_limit: float = 0.0
    """Seconds for each job; 0 for as many as it likes."""


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
    jobs = [
        Job(
            method=method,
            dataset=dataset,
            seed=seed,
            protocols=tuple(grid.protocols),
            data_sha256=data[dataset].sha256,
            code_sha256="",
            sampler=registry.find("sampler", registry.find("method", method).sampler)().id,
            schedule=schedule_of(registry.find("dataset", dataset).schedule, quick=grid.quick),
            changed=dict(grid.changed.get(method, {})),
            quick=grid.quick,
            versions=_versions(registry, data[dataset]),
            plugin_files=grid.plugin_files,
            device=grid.device,
            profile=grid.profile,
            embeddings=grid.embeddings,
            time_limit=grid.time_limit,
        )
        for dataset in grid.datasets
        for seed in grid.seeds
        for method in grid.methods
    ]

    @cache
    def code(method: str, dataset: str) -> str:
        return code_sha256(registry.find("method", method), registry.find("dataset", dataset))

    @cache
    def tested(*rules: tuple[str, str]) -> str:
        return rules_sha256(registry, rules)

    return [
        replace(job, code_sha256=code(job.method, job.dataset), rules_sha256=tested(*rules(job)))
        for job in jobs
    ]


def _versions(registry: Registry, data: Data) -> dict[str, int]:
    """Of the metrics that can judge it; others decide nothing."""
    every = {name: entry.cls for name, entry in registry.classes["metric"].items()}
    return {name: cls.version for name, cls in every.items() if isinstance(data.task, cls.tasks)}


@dataclass(frozen=True)
class Failure:
    """A job that failed."""

    job: Job
    kind: Kind
    why: str
    """For a person."""
    before: bool = False
    """Whether that was in a run before this one."""


@dataclass(frozen=True)
class Survey:
    """How jobs stand in a store."""

    todo: list[Job]
    """Those that are to be done."""
    failures: list[Failure]
    """Those that failed, and are not to be done again."""
    there: int
    """How many have finished."""
    made_by: list[str]
    """By which libraries, where they are not those of this process."""
    manifests: dict[str, Mapping[str, Any]]
    """Of each that has a result, finished or failed, what a plan needs, by the job's key."""


def survey(
    jobs: Iterable[Job], store: Store, *, retry_failed: bool = False, force: bool = False
) -> Survey:
    """What is left to do of some jobs.

    By default that is what has no outcome yet, or lost it to a machine. A failure of the method's own making
    would be the same again, and stays a row until `retry_failed`. `force` is everything.
    """
    todo, failures, there, made = [], [], 0, set()
    manifests: dict[str, Mapping[str, Any]] = {}
    here = versions()
    for job in jobs:
        manifest = None if force else store.manifest(job)
        if manifest is not None:
            manifests[job.key] = brief(manifest)
        kind = None if manifest is None else kind_of(manifest)
        if manifest is not None and store.answers(job, manifest):
            there += 1
            made.add(_made_by(manifest.get("environment", {}), here))
        elif manifest is None or kind is None or kind in INFRASTRUCTURE or retry_failed:
            todo.append(job)
        else:
            failures.append(Failure(job, kind, why(manifest), before=True))
    return Survey(todo, failures, there, sorted(made - {""}), manifests)


def _made_by(environment: Mapping[str, Any], here: Mapping[str, str]) -> str:
    """The libraries of a result that are of another version here."""
    other = {n: environment.get(n, "unknown") for n in here if environment.get(n) != here[n]}
    return ", ".join(f"{name} {version}" for name, version in other.items())


@dataclass(frozen=True)
class Event:
    """Something to show while a run goes on."""

    job: Job
    share: float
    doing: str
    """In its last event "done" or "failed"; "lost" if it has to be begun again."""
    reason: str | None = None
    """Why it failed or was lost."""


def run(
    jobs: Sequence[Job],
    executor: Executor,
    store: Store,
    show: Callable[[Event], None],
    listeners: Listeners | None = None,
) -> list[Failure]:
    """Does the jobs and stores each outcome as it comes; those that failed.

    A job that lost its worker is done again when all others are through, up to `TRIES` times in all, and each
    for itself: one that ends its worker every time takes no other along. Whatever else fails would fail again.
    A failure never takes the place of a finished result.
    """
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

    failures: list[Failure] = []
    tell("mmbench_run_started", jobs=jobs)
    left = list(jobs)
    try:
        for attempt in range(1, TRIES + 1):
            lost: list[Job] = []
            for job, outcome in executor.run(left, do, report):
                start(job)  # of a worker that died before it could tell
                manifest = outcome.manifest
                kind = kind_of(manifest)
                if kind == "lost" and attempt < TRIES:
                    lost.append(job)
                    started.discard(job.key)
                    show(Event(job, 0.0, "lost", manifest["reason"]))
                    continue
                if kind == "lost":
                    reason = f"{manifest['reason']} ({TRIES} times, each for itself at last)"
                    outcome = replace(outcome, manifest={**manifest, "reason": reason})
                    manifest = outcome.manifest
                store.save(outcome)
                if kind is None:
                    forget(job)
                said = why(manifest) if kind else None
                show(Event(job, 1.0, "failed" if kind else "done", said))
                tell("mmbench_job_finished", job=job, manifest=manifest)
                if kind:
                    failures.append(Failure(job, kind, said or ""))
            if not lost:
                break
            left, executor = lost, executor.alone()
    finally:
        told = [(failure.job, failure.why) for failure in failures]
        tell("mmbench_run_finished", jobs=jobs, failures=told)
    return failures


TRIES = 3
"""How often a job is begun whose worker dies."""
