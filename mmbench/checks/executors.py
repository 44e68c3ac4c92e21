"""Checks of executors, with jobs that take no time."""

from __future__ import annotations

from mmbench.checks.core import check
from mmbench.checks.failures import NotApplicable, fail
from mmbench.data import Schedule
from mmbench.executors import Executor, rehearse
from mmbench.jobs import Job, Outcome
from mmbench.registry import Registry

JOBS = tuple(
    Job(method, "made-up", seed, ("inter@1",), "0", "0", Schedule())
    for method, seed in (("one", 0), ("other", 0), ("one", 1))
)


class Subject:
    """An executor and what it makes of jobs."""

    def __init__(self, cls: type[Executor], registry: Registry) -> None:
        if reason := cls.missing():
            raise NotApplicable(f"it {reason}")
        self.cls = cls
        self._done: dict[int, list[tuple[Job, Outcome]]] = {}
        self.told: list[str] = []

    def done(self, workers: int) -> list[tuple[Job, Outcome]]:
        """What it yields for all jobs, with so many workers; `told` is whose progress it reported."""
        if workers not in self._done:
            executor = self.cls(workers)
            run = executor.run(JOBS, rehearse, lambda key, progress: self.told.append(key))
            self._done[workers] = list(run)
        return self._done[workers]


@check("executor", "each job is done once, and its outcome is its own", Subject)
def once(subject: Subject) -> None:
    """A job left out never ends, and an outcome that is filed under another job is a wrong number."""
    for workers in (1, 2):
        done = subject.done(workers)
        if sorted(job.key for job, _ in done) != sorted(job.key for job in JOBS):
            fail(
                f"workers={workers}: {len(done)} outcomes for {len(JOBS)} jobs, of "
                f"{len({job.key for job, _ in done})} different ones",
                expected="one outcome for each job",
                mend="Yield (job, outcome) for every job of every group.",
            )
        for job, outcome in done:
            if outcome.manifest.get("key") != job.key:
                fail(
                    f"workers={workers}: an outcome is yielded with another job",
                    expected="each with its own",
                    mend="Pair a group's jobs and outcomes in their order, e.g. by zip(..., strict=True).",
                )


@check("executor", "jobs that differ in more than their seed are done apart", Subject)
def apart(subject: Subject) -> None:
    """`work` trains what it is given as one method."""
    for _, outcome in subject.done(1):
        together = outcome.manifest.get("together", [])
        if len(together) > 1:
            fail(
                f"jobs of methods {' and '.join(together)} are handed to one call of work",
                expected="jobs that differ in their seed alone",
                mend="Take the groups from self.groups(jobs).",
            )


@check("executor", "each job is done for itself where that is asked for", Subject)
def one_by_one(subject: Subject) -> None:
    """A job that ended its worker is tried again, and must not take others along once more."""
    run = subject.cls(2).alone().run(JOBS, rehearse, lambda *told: None)
    sizes = [outcome.manifest.get("side_by_side", 1) for _, outcome in run]
    if sizes and max(sizes) > 1:
        fail(
            f"alone() hands {max(sizes)} jobs to one call of work",
            expected="one",
            mend="Take the groups from self.groups(jobs), which heeds self.side_by_side.",
        )


@check("executor", "progress is told of its own jobs", Subject)
def progress(subject: Subject) -> None:
    """The bar of a job that nobody asked for, or a bar that never moves."""
    subject.told.clear()
    subject._done.pop(1, None)
    subject.done(1)
    if set(subject.told) != {job.key for job in JOBS}:
        fail(
            f"progress is told of {len(set(subject.told))} keys for {len(JOBS)} jobs",
            expected="what work reports, for the key of each of its jobs",
            mend="Pass on what work reports, once for each job of the group, by job.key.",
        )


@check("executor", "no job is no outcome", Subject)
def none(subject: Subject) -> None:
    """A run that is given again has nothing left to do."""
    if found := list(subject.cls(2).run((), rehearse, lambda *told: None)):
        fail(
            f"{len(found)} outcomes without a job",
            expected="nothing",
            mend="Loop over the groups of the jobs that are given.",
        )
