"""Jobs as tasks on a Ray cluster: of many machines, or of this one.

Every machine has the same mmbench, Ray and Python; no folder is shared. Ray runs what whoever reaches it
asks for, and this process trusts what it sends back: connect to clusters of your own only. A cluster that
is started here listens on this machine alone, and asks for a token that only this user's processes know.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import mmbench
from mmbench.executors import Report, Work
from mmbench.jobs import Job, Outcome, Progress, lost, overdue

if TYPE_CHECKING:
    from mmbench.shipping import Shipment

OWN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on any system, 0 is: 127.0.0.1 and no other address
    "RAY_AUTH_MODE": "token",
}
"""Environment of a cluster that is started here."""
POLL = 0.2
"""Seconds between two looks at what is done."""


class Ray(mmbench.Executor):
    """One task for each group of jobs; Ray decides which machine does it."""

    name = "ray"
    summary = "tasks on a Ray cluster: --address auto or HOST:PORT, else one of this machine alone"

    def __init__(
        self,
        workers: int | None = None,
        side_by_side: int | None = None,
        *,
        address: str = "local",
        gpus_per_job: float = 1.0,
    ) -> None:
        super().__init__(workers, side_by_side)
        if not re.fullmatch(r"local|auto|[\w.-]+:\d{1,5}|\[[\da-fA-F:.]+\]:\d{1,5}", address):
            raise mmbench.UsageError(
                f"address of a Ray cluster: expected auto or HOST:PORT, got {address!r}"
            )
        if not (0 < gpus_per_job <= 1 or gpus_per_job in range(2, 1025)):
            raise mmbench.UsageError(
                f"ray.gpus_per_job={gpus_per_job}: expected a share of one GPU, e.g. 0.5, or a whole number"
            )
        self.address, self.gpus_per_job = address, gpus_per_job

    @classmethod
    def missing(cls) -> str | None:
        """Whether Ray is installed; it is imported when a run begins, and not to be listed."""
        if find_spec("ray") is None:
            return 'needs Ray, which is not installed: pip install "mmbench[ray]"'
        return None

    def device(self, asked: str) -> str:
        """ "cpu" or "cuda", by what the cluster has; which of its GPUs is up to Ray."""
        if asked.startswith("cuda:"):
            raise mmbench.UsageError(f"--device {asked}: Ray chooses the GPU; use --device cuda")
        if self.address == "local" or asked not in ("auto", "cuda"):
            return super().device(asked)
        self._connect()
        import ray

        there = ray.cluster_resources().get("GPU", 0)
        if there >= self.gpus_per_job:
            return "cuda"
        if asked == "auto":
            return "cpu"
        raise mmbench.UsageError(
            f"--device cuda: the Ray cluster at {self.address} has {there:g} GPUs, and a job takes "
            f"{self.gpus_per_job:g}; use --device cpu"
        )

    def at_a_time(self, groups: Sequence[Sequence[Job]]) -> int | None:
        """Known of this machine, and of a cluster once it is joined."""
        import ray

        there = os.cpu_count() if self.address == "local" else None
        if ray.is_initialized():
            has = ray.cluster_resources()
            there = int(has.get("CPU", 0))
            if any(job.device == "cuda" for group in groups for job in group):
                there = min(there, int(has.get("GPU", 0) / self.gpus_per_job))
        limits = [limit for limit in (self.workers, there) if limit]
        return min(*limits, len(groups)) if limits else None

    def run(self, jobs: Sequence[Job], work: Work, report: Report) -> Iterator[tuple[Job, Outcome]]:
        """Jobs whose task Ray gives up are lost; those whose task hangs beyond its time limit are overdue."""
        if self.address != "local" and any(job.profile for job in jobs):
            raise mmbench.UsageError(
                "--profile: traces would lie on other machines; run without --address"
            )
        if not jobs:
            return
        self._connect()
        try:
            yield from self._run(jobs, work, report)
        finally:
            _leave()

    def _run(
        self, jobs: Sequence[Job], work: Work, report: Report
    ) -> Iterator[tuple[Job, Outcome]]:
        import ray

        from mmbench.shipping import pack

        needed = {
            name: pack(job, same_cache=self.address == "local")
            for name, job in {job.dataset: job for job in jobs}.items()
        }
        # in a list a reference stays one, and is followed by whoever lacks the data
        data = {name: [ray.put(shipment.data())] for name, shipment in needed.items()}
        board = ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()
        gpus = self.gpus_per_job if jobs[0].device == "cuda" else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_do)
        waiting: list[Sequence[Job]] = [*self.groups(jobs)]
        limit = self.workers or len(waiting)
        running: dict[Any, Sequence[Job]] = {}
        begun: dict[str, float] = {}  # by key; a task may wait long for its turn
        killed: set[Any] = set()
        while waiting or running:
            while waiting and len(running) < limit:
                group = waiting.pop(0)
                name = group[0].dataset
                running[task.remote(work, group, needed[name], data[name], board)] = group
            ready, _ = ray.wait(list(running), timeout=POLL)
            for key, told in _read(board):
                begun.setdefault(key, time.monotonic())
                report(key, told)
            for reference, group in running.items():
                end = begun.get(group[0].key, math.inf) + (self.time_limit(group) or math.inf)
                if time.monotonic() > end and reference not in killed:
                    killed.add(reference)
                    ray.cancel(reference, force=True)
            for reference in ready:
                group = running.pop(reference)
                try:
                    outcomes = ray.get(reference)
                except ray.exceptions.RayError as error:
                    if reference in killed:
                        outcomes = [overdue(job) for job in group]
                    else:
                        outcomes = [lost(job, _reason(error)) for job in group]
                yield from zip(group, outcomes, strict=True)

    def _connect(self) -> None:
        """Joins the cluster, or starts one; UsageError if there is none to join."""
        if self.address == "local":
            for name, value in {**OWN, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
                os.environ.setdefault(name, value)
        elif self.address != "auto":
            host, _, port = self.address.rpartition(":")
            try:  # Ray itself would try for a minute, and write pages
                socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            except (OSError, OverflowError) as error:
                raise self._unreachable(error) from error
        import ray

        if ray.is_initialized():
            return
        start: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
        if self.address == "local":
            start |= {"num_cpus": self.workers or os.cpu_count(), "include_dashboard": False}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(self.address, **start)
        except Exception as error:  # of many kinds: nobody there, another version, no token
            raise self._unreachable(error) from error
        if threading.current_thread() is threading.main_thread():  # Ray sets one of its own
            signal.signal(signal.SIGTERM, handler)

    def _unreachable(self, error: Exception) -> Exception:
        said = " ".join(str(error).split())
        if self.address == "local":
            return mmbench.UsageError(f"cannot start Ray on this machine: {said}")
        where = "any running here" if self.address == "auto" else self.address
        return mmbench.UsageError(
            f"cannot connect to a Ray cluster ({where}): {said}; start one with `ray start --head`, join "
            "it from this machine, and give its HOST:PORT, or run without --address"
        )


def _leave() -> None:
    """Ends all that is still running for us, and the cluster if it is ours."""
    import ray

    with suppress(AttributeError):  # nothing to scale, and Ray would wait a second for it
        for process in ray._private.worker._global_node.all_processes.get("monitor", []):
            process.process.kill()
    ray.shutdown()


class _Board:
    """Where workers write what they report, and the driver reads it: an actor."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Progress]] = []

    def write(self, group: Sequence[Job], told: Progress) -> None:
        self.said += [(job.key, told) for job in group]

    def read(self) -> list[tuple[str, Progress]]:
        said, self.said = self.said, []
        return said


def _read(board: Any) -> list[tuple[str, Progress]]:
    import ray

    try:
        return ray.get(board.read.remote(), timeout=1)
    except ray.exceptions.RayError:  # its machine is gone: it is started on another one
        return []


def _do(
    work: Work, group: Sequence[Job], shipment: Shipment, data: Sequence[Any], board: Any
) -> list[Outcome]:
    """In a process of a worker; jobs keep the key that they have on the driver."""
    import ray

    from mmbench.shipping import unpacked

    with unpacked(shipment, group, lambda: ray.get(data[0])) as jobs:
        return work(jobs, lambda told: board.write.remote(group, told))


def _reason(error: Exception) -> str:
    """In one line: what Ray says, or what the task ended with."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {' '.join(str(cause).split())}"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


@mmbench.hookimpl
def mmbench_register_executors() -> type[mmbench.Executor]:
    """Needs Ray only when it is used."""
    return Ray
