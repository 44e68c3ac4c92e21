"""Executors: where jobs run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from mmbench.jobs import Job, Outcome, Progress, begin_manifest

Report = Callable[[str, Progress], None]
"""Takes a job's key and what its worker tells, as it is."""
Work = Callable[[Sequence[Job], Callable[[Progress], None]], list[Outcome]]
"""Does jobs that differ in their seed alone; tells its progress as it goes; never raises. It can be pickled,
and so can jobs, progress and outcomes."""


class Executor(ABC):
    """Runs independent jobs, in any order, and yields each outcome as it is ready."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, workers: int | None = None, side_by_side: int | None = None) -> None:
        self.workers, self.side_by_side = workers, side_by_side

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

    @abstractmethod
    def run(self, jobs: Sequence[Job], work: Work, report: Report) -> Iterator[tuple[Job, Outcome]]:
        """Calls `work` on each of the `groups`. A worker that dies is an outcome of its jobs, too."""


def rehearse(jobs: Sequence[Job], report: Callable[[Progress], None]) -> list[Outcome]:
    """Work that takes no time, to try an executor with: each outcome has the methods of its call in `together`."""
    report(Progress(0.5, "half way"))
    together = sorted({job.method for job in jobs})
    return [Outcome({**begin_manifest(job), "together": together}) for job in jobs]
