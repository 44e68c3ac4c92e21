"""The hooks that a plugin may implement: the one door into mmbench, for us as for everyone else.

Implement the ones you need. Each takes no argument and returns one class, or a list of any number;
mmbench makes the objects, so that it can say which plugin and distribution each came from. In place of
a class, a list may have a `mmbench.registry.Broken`, for one that cannot be made today.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import pluggy

if TYPE_CHECKING:
    from mmbench.data import Dataset
    from mmbench.executors import Executor
    from mmbench.importers import Importer
    from mmbench.methods import Method
    from mmbench.metrics import Metric
    from mmbench.missingness import MissingnessProtocol, MissingnessSampler
    from mmbench.reporters import Reporter

    T = TypeVar("T")
    OneOrSeveral = type[T] | Iterable[type[T]]

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
