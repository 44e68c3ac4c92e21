"""The hooks that a plugin may implement: the one door into mmbench, for us as for everyone else.

Implement the ones you need.

Hooks that register take no argument and return one class, or a list of any number; mmbench makes the
objects, so that it can say which plugin and distribution each came from. In place of a class, a list may
have a `mmbench.registry.Broken`, for one that cannot be made today.

Hooks that are told how a run goes return nothing, and may leave out arguments that they do not use. They
are called in the process that shows the progress bars, one after the other, whatever executor runs the
jobs: a logger needs no locks. One that raises is named in a warning, and the run goes on.

A plugin may say which version of these hooks it was written for: `mmbench_interface = 1` in its module.
One of another version is listed as broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

if TYPE_CHECKING:
    from mmbench.data import Dataset
    from mmbench.executors import Executor
    from mmbench.importers import Importer
    from mmbench.jobs import Epoch, Job
    from mmbench.methods import Method
    from mmbench.metrics import Metric
    from mmbench.missingness import MissingnessProtocol, MissingnessSampler
    from mmbench.reporters import Reporter

    T = TypeVar("T")
    OneOrSeveral = type[T] | Iterable[type[T]]

INTERFACE = 1
"""Version of these hooks. It goes up when a plugin written for the last one would break."""

hookspec = pluggy.HookspecMarker("mmbench")
hookimpl = pluggy.HookimplMarker("mmbench")


@hookspec
def mmbench_register_datasets() -> OneOrSeveral[Dataset]:  # type: ignore[empty-body]
    """Where samples, targets and splits come from."""


@hookspec
def mmbench_register_importers() -> OneOrSeveral[Importer]:  # type: ignore[empty-body]
    """Which foreign files data sets can be read from."""


@hookspec
def mmbench_register_missingness() -> OneOrSeveral[MissingnessProtocol | MissingnessSampler]:  # type: ignore[empty-body]
    """Which frames are hidden: in testing (protocols) and in training (samplers)."""


@hookspec
def mmbench_register_methods() -> OneOrSeveral[Method]:  # type: ignore[empty-body]
    """The models under test, and how they learn."""


@hookspec
def mmbench_register_metrics() -> OneOrSeveral[Metric]:  # type: ignore[empty-body]
    """Scores from what is true and what was predicted."""


@hookspec
def mmbench_register_executors() -> OneOrSeveral[Executor]:  # type: ignore[empty-body]
    """Where jobs run: in this process, in a pool, on a cluster."""


@hookspec
def mmbench_register_reporters() -> OneOrSeveral[Reporter]:  # type: ignore[empty-body]
    """How a leaderboard is written: one class per file format."""


@hookspec
def mmbench_run_started(jobs: Sequence[Job]) -> None:
    """A run begins: the jobs that it has to do, without those that the store has results of."""


@hookspec
def mmbench_job_started(job: Job) -> None:
    """A worker has taken a job. Seeds that are trained side by side start at the same time.

    A job whose worker dies starts again, from its beginning.
    """


@hookspec
def mmbench_epoch_finished(job: Job, epoch: Epoch) -> None:
    """An epoch of a job has ended, validation included. Nothing of the test split is known yet."""


@hookspec
def mmbench_job_finished(job: Job, manifest: Mapping[str, Any]) -> None:
    """A job's result is in the store: its manifest, whose `status` is "finished" or "failed".

    Called for every job that started, but where the run is stopped.
    """


@hookspec
def mmbench_run_finished(jobs: Sequence[Job], failures: Sequence[tuple[Job, str]]) -> None:
    """The run ends, stopped or done: its jobs and, with their reasons, those that failed.

    Leaderboards are written afterwards.
    """
