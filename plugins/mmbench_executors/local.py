"""Jobs in processes of this machine, one core and one job each."""

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
from mmbench.jobs import Job, Outcome, lost


class Local(mmbench.Executor):
    """As many jobs at a time as there are cores; a single one in this process."""

    name = "local"
    summary = "a process per job, as many at a time as this machine has cores"

    def run(self, jobs: Sequence[Job], work: Work, report: Report) -> Iterator[tuple[Job, Outcome]]:
        """At most `workers` at a time. A job whose process dies is lost, and the others go on."""
        workers = min(self.workers or os.cpu_count() or 1, len(jobs))
        if workers <= 1:
            for job in jobs:
                yield job, work(job, partial(report, job.key))
        else:
            yield from _in_processes(jobs, work, report, workers)


def _in_processes(
    jobs: Sequence[Job], work: Work, report: Report, workers: int
) -> Iterator[tuple[Job, Outcome]]:
    # Spawned, not forked: a fork of a process that has used torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    waiting = list(jobs)
    running: dict[Connection, tuple[Job, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process: BaseProcess = context.Process(
                    target=_child, args=(theirs, work, job), daemon=True
                )
                process.start()
                theirs.close()  # so that its end is the child's end
                running[ours] = job, process
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                job, process = running[ready]
                try:
                    message = ready.recv()
                except EOFError:
                    process.join()
                    message = lost(job, f"its process ended with exit code {process.exitcode}")
                if isinstance(message, Outcome):
                    del running[ready]
                    ready.close()
                    process.join()
                    yield job, message
                else:
                    report(job.key, *message)
    finally:
        for _, process in running.values():
            process.kill()


def _child(pipe: Connection, work: Work, job: Job) -> None:
    """In a process of its own: sends (share, doing) as it goes, and the outcome at last."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = multiprocessing.parent_process()
    if parent is not None:  # a killed parent must not leave us training for nobody
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    pipe.send(work(job, lambda share, doing: pipe.send((share, doing))))
    pipe.close()


def _follow(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@mmbench.hookimpl
def mmbench_register_executors() -> type[mmbench.Executor]:
    """The default."""
    return Local
