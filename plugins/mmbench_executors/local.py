"""Jobs in processes of this machine: one for each core, or one for a GPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import mmbench
from mmbench.executors import Report, Work
from mmbench.jobs import Job, Outcome, Progress, lost


class Local(mmbench.Executor):
    """As many groups of jobs at a time as there are cores; a single one in this process."""

    name = "local"
    summary = "a process per job, as many at a time as this machine has cores"

    def at_a_time(self, groups: Sequence[Sequence[Job]]) -> int:
        """One on a GPU, which a process fills."""
        if any(job.device != "cpu" for group in groups for job in group):
            return 1
        return min(self.workers or os.cpu_count() or 1, len(groups))

    def run(self, jobs: Sequence[Job], work: Work, report: Report) -> Iterator[tuple[Job, Outcome]]:
        """At most `workers` at a time. Jobs whose process dies are lost, and the others go on."""
        groups = self.groups(jobs)
        workers = self.at_a_time(groups)
        if workers <= 1:
            for group in groups:
                outcomes = work(group, partial(_report_all, report, group))
                yield from zip(group, outcomes, strict=True)
        else:
            yield from _in_processes(groups, work, report, workers)


def _report_all(report: Report, group: Sequence[Job], progress: Progress) -> None:
    for job in group:
        report(job.key, progress)


def _in_processes(
    groups: Sequence[Sequence[Job]], work: Work, report: Report, workers: int
) -> Iterator[tuple[Job, Outcome]]:
    # Spawned, not forked: a fork of a process that has used torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    waiting = list(groups)
    running: dict[Connection, tuple[Sequence[Job], BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                group = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process: BaseProcess = context.Process(
                    target=_child, args=(theirs, work, group), daemon=True
                )
                process.start()
                theirs.close()  # so that its end is the child's end
                running[ours] = group, process
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                group, process = running[ready]
                try:
                    message = ready.recv()
                except EOFError:
                    process.join()
                    reason = f"its process ended with exit code {process.exitcode}"
                    message = [lost(job, reason) for job in group]
                if isinstance(message, list):
                    del running[ready]
                    ready.close()
                    process.join()
                    yield from zip(group, message, strict=True)
                else:
                    _report_all(report, group, message)
    finally:
        for _, process in running.values():
            process.kill()


def _child(pipe: Connection, work: Work, group: Sequence[Job]) -> None:
    """In a process of its own: sends progress as it goes, and the outcomes at last."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
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
