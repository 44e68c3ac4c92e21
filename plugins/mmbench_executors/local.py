"""Jobs in processes of this machine: one for each core, or one for a GPU."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import mmbench
from mmbench.executors import Report, Work
from mmbench.jobs import Job, Outcome, Progress, lost, overdue


class Local(mmbench.Executor):
    """As many groups of jobs at a time as there are cores, each in a process of its own."""

    name = "local"
    summary = "a process per job, as many at a time as this machine has cores"

    def at_a_time(self, groups: Sequence[Sequence[Job]]) -> int:
        """One on a GPU, which a process fills."""
        if any(job.device != "cpu" for group in groups for job in group):
            return 1
        return min(self.workers or os.cpu_count() or 1, len(groups))

    def run(self, jobs: Sequence[Job], work: Work, report: Report) -> Iterator[tuple[Job, Outcome]]:
        """At most `workers` at a time. Jobs whose process dies are lost, and the others go on.

        Where one at a time was asked for they are done in this process, which saves a start for each; but not
        on a GPU, whose errors outlive what made them, nor with a time limit, for what hangs has to be killed.
        """
        groups = self.groups(jobs)
        workers = self.at_a_time(groups)
        on_cpu = all(job.device == "cpu" for job in jobs)
        if self.workers == 1 and on_cpu and not any(job.time_limit for job in jobs):
            for group in groups:
                outcomes = work(group, partial(_report_all, report, group))
                yield from zip(group, outcomes, strict=True)
        else:
            yield from self._in_processes(groups, work, report, workers)

    def _in_processes(
        self, groups: Sequence[Sequence[Job]], work: Work, report: Report, workers: int
    ) -> Iterator[tuple[Job, Outcome]]:
        # Spawned, not forked: a fork of a process that has used torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        waiting = list(groups)
        running: dict[Connection, _Worker] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    group = waiting.pop(0)
                    ours, theirs = context.Pipe(duplex=False)
                    process = context.Process(
                        target=_child, args=(theirs, work, group), daemon=True
                    )
                    with _ctrl_c_is_ours():
                        process.start()
                    running[ours] = _Worker(group, process)
                    theirs.close()  # so that its end is the child's end
                end = min(worker.end for worker in running.values())
                ready = wait(list(running), None if end == math.inf else end - time.monotonic())
                for pipe, worker in list(running.items()):
                    if pipe in ready:
                        message = worker.message(pipe)
                    elif time.monotonic() > worker.end:
                        worker.process.kill()
                        message = [overdue(job) for job in worker.group]
                    else:
                        continue
                    if isinstance(message, list):
                        del running[pipe]
                        pipe.close()
                        worker.process.join()
                        yield from zip(worker.group, message, strict=True)
                    else:
                        if worker.end == math.inf and (limit := self.time_limit(worker.group)):
                            worker.end = time.monotonic() + limit
                        _report_all(report, worker.group, message)
        finally:
            for worker in running.values():
                worker.process.kill()


def _report_all(report: Report, group: Sequence[Job], progress: Progress) -> None:
    for job in group:
        report(job.key, progress)


@dataclass
class _Worker:
    """A process and its jobs."""

    group: Sequence[Job]
    process: BaseProcess
    end: float = math.inf
    """When it is killed, by the monotonic clock: its time begins when it first tells something."""

    def message(self, pipe: Connection) -> Progress | list[Outcome]:
        """What it tells; of one that is dead, that its jobs are lost."""
        try:
            return pipe.recv()
        except (EOFError, OSError):  # the latter where it was killed as it spoke
            self.process.join()
            code = self.process.exitcode
            reason = f"its process ended with exit code {code}"
            if code == -signal.SIGKILL:
                reason += ", killed: by the system, perhaps, for want of memory, and fewer --jobs take less"
            return [lost(job, reason) for job in self.group]


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """A process that is started inside of the block hears no Ctrl-C, not even while it imports."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(pipe: Connection, work: Work, group: Sequence[Job]) -> None:
    """In a process of its own: sends progress as it goes, and the outcomes at last."""
    parent = multiprocessing.parent_process()
    if parent is not None:  # a killed parent must not leave us training for nobody
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    pipe.send(work(group, pipe.send))
    pipe.close()


def _follow(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@mmbench.hookimpl
def mmbench_register_executors() -> type[mmbench.Executor]:
    """The default."""
    return Local
