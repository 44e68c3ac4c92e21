"""Executors: where jobs run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from mmbench.jobs import Job, Outcome

Report = Callable[[str, float, str], None]
"""Takes a job's key, the share that is done (0 to 1) and a word on what it does."""
Work = Callable[[Job, Callable[[float, str], None]], Outcome]
"""Does one job; reports as it goes; never raises. It can be pickled, and so can jobs and outcomes."""


class Executor(ABC):
    """Runs independent jobs, in any order, and yields each outcome as it is ready."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    @abstractmethod
    def run(self, jobs: Sequence[Job], work: Work, report: Report) -> Iterator[tuple[Job, Outcome]]:
        """Calls `work` on each job. A worker that dies is an outcome, too."""
