"""Executors: where jobs run.

One is a class with `run`, registered as any plugin. `mmbench/shipping.py` carries data and plugin files to
machines that share no folder with this one. An executor whose workers die says so and tries nothing again:
`lost(job, reason)` is the outcome of their jobs, and the runner tries those again, one by one, a few times. A
worker that goes on for longer than `time_limit(group)` may be killed: `overdue(job)`. This one hands groups of
jobs to SLURM, for machines that share a file system:

    import submitit

    import mmbench
    from mmbench.jobs import lost


    class Slurm(mmbench.Executor):
        name = "slurm"
        summary = "SLURM, through submitit"

        def __init__(self, workers=None, side_by_side=None, *, partition: str = "cpu", minutes: int = 60):
            super().__init__(workers, side_by_side)
            self.pool = submitit.AutoExecutor("slurm-logs")
            self.pool.update_parameters(slurm_partition=partition, timeout_min=minutes)

        def run(self, jobs, work, report):
            submit = self.pool.submit
            groups = {submit(work, group, print): group for group in self.groups(jobs)}
            for task in submitit.helpers.as_completed(list(groups)):
                try:
                    outcomes = task.result()
                except Exception as error:
                    outcomes = [lost(job, str(error)) for job in groups[task]]
                yield from zip(groups[task], outcomes)


    @mmbench.hookimpl
    def mmbench_register_executors():
        return Slurm

`mmbench run --executor slurm --set slurm.partition=long` sets what its constructor takes by keyword.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import ClassVar

from mmbench.errors import UsageError
from mmbench.jobs import Job, Outcome, Progress, begin_manifest

Report = Callable[[str, Progress], None]
"""Takes a job's key and what its worker tells, as it is."""
Work = Callable[[Sequence[Job], Callable[[Progress], None]], list[Outcome]]
"""Does jobs that differ in their seed alone; tells its progress as it goes; never raises. It can be pickled,
and so can jobs, progress and outcomes."""


GRACE = 30.0
"""Seconds beyond its time limit in which a job may end by itself."""


class Executor(ABC):
    """Runs independent jobs, in any order, and yields each outcome as it is ready.

    Its constructor's keyword-only arguments, each with a default, are settings: `--set NAME.ARGUMENT=VALUE`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, workers: int | None = None, side_by_side: int | None = None) -> None:
        self.workers, self.side_by_side = workers, side_by_side

    @classmethod
    def missing(cls) -> str | None:
        """None, or what it needs that is not installed, and how to install it."""
        return None

    def device(self, asked: str) -> str:
        """Where to train, for "auto", "cpu", "cuda" or "cuda:N"; UsageError if this machine has no such thing."""
        import torch

        if asked == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(1, device=asked)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"--device {asked}: {reason}; use auto, cpu, cuda or cuda:N"
            ) from error
        return asked

    def groups(self, jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
        """Jobs that differ in their seed alone and go to one worker: `side_by_side` of them at most.

        By default that is one on a CPU, where every core has a worker of its own, and all on a GPU.
        """
        alike: dict[tuple[str, str], list[Job]] = {}
        for job in jobs:
            alike.setdefault((job.config, job.device), []).append(job)
        found = []
        for own in alike.values():
            most = self.side_by_side or (1 if own[0].device == "cpu" else len(own))
            parts = -(-len(own) // most)
            found += [tuple(own[part::parts]) for part in range(parts)]
        place = {job.key: number for number, job in enumerate(jobs)}
        return sorted(found, key=lambda group: place[group[0].key])

    def at_a_time(self, groups: Sequence[Sequence[Job]]) -> int | None:
        """How many groups of jobs it does at once; None if nobody knows before it runs."""
        return self.workers and min(self.workers, len(groups))

    def alone(self) -> Executor:
        """The same, but that each job is a group of its own: one that ends its worker takes no other along."""
        other = copy(self)
        other.side_by_side = 1
        return other

    @staticmethod
    def time_limit(group: Sequence[Job]) -> float | None:
        """Seconds after which a worker hangs that has begun with a group; None if it may take any time.

        `work` ends jobs in time by itself, but cannot where a method does not come back. Jobs that are trained as
        one have the time of all of them and, should that fail, each its own again.
        """
        if not group[0].time_limit:
            return None
        return group[0].time_limit * len(group) * (1 if len(group) == 1 else 2) + GRACE

    @abstractmethod
    def run(self, jobs: Sequence[Job], work: Work, report: Report) -> Iterator[tuple[Job, Outcome]]:
        """Calls `work` on each of the `groups`. A worker that dies is an outcome of its jobs, too."""


def rehearse(jobs: Sequence[Job], report: Callable[[Progress], None]) -> list[Outcome]:
    """Work that takes no time, to try an executor with: each outcome has the methods of its call in `together`,
    and how many jobs that had in `side_by_side`."""
    report(Progress(0.5, "half way"))
    together = sorted({job.method for job in jobs})
    facts = {"together": together, "side_by_side": len(jobs)}
    return [Outcome({**begin_manifest(job), **facts}) for job in jobs]
