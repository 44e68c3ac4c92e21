"""mmbench: how robust is a multimodal sentiment model when modalities go missing?

The names below are the public interface; everything else may change. They are imported on first use,
so that the command line answers before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmbench.batching import Batch as Batch
    from mmbench.data import Data as Data
    from mmbench.data import Dataset as Dataset
    from mmbench.data import DataSpec as DataSpec
    from mmbench.data import ModalitySpec as ModalitySpec
    from mmbench.data import Notice as Notice
    from mmbench.data import Samples as Samples
    from mmbench.data import Schedule as Schedule
    from mmbench.errors import DataError as DataError
    from mmbench.errors import MmbenchError as MmbenchError
    from mmbench.errors import PluginError as PluginError
    from mmbench.errors import UsageError as UsageError
    from mmbench.executors import Executor as Executor
    from mmbench.hookspecs import hookimpl as hookimpl
    from mmbench.importers import Importer as Importer
    from mmbench.jobs import Epoch as Epoch
    from mmbench.jobs import Job as Job
    from mmbench.leaderboard import Leaderboard as Leaderboard
    from mmbench.methods import Method as Method
    from mmbench.methods import Stage as Stage
    from mmbench.methods import Step as Step
    from mmbench.methods import Terms as Terms
    from mmbench.metrics import Metric as Metric
    from mmbench.metrics import Vector as Vector
    from mmbench.missingness import Condition as Condition
    from mmbench.missingness import MissingnessProtocol as MissingnessProtocol
    from mmbench.missingness import MissingnessSampler as MissingnessSampler
    from mmbench.oracle import Oracle as Oracle
    from mmbench.randomness import Random as Random
    from mmbench.reporters import Reporter as Reporter
    from mmbench.tasks import MultiBinary as MultiBinary
    from mmbench.tasks import MultiClass as MultiClass
    from mmbench.tasks import Regression as Regression
    from mmbench.tasks import Task as Task

__version__ = "0.1.0"

_HOME = {
    "batching": ("Batch",),
    "data": ("Data", "DataSpec", "Dataset", "ModalitySpec", "Notice", "Samples", "Schedule"),
    "errors": ("DataError", "MmbenchError", "PluginError", "UsageError"),
    "executors": ("Executor",),
    "hookspecs": ("hookimpl",),
    "importers": ("Importer",),
    "jobs": ("Epoch", "Job"),
    "leaderboard": ("Leaderboard",),
    "methods": ("Method", "Stage", "Step", "Terms"),
    "metrics": ("Metric", "Vector"),
    "missingness": ("Condition", "MissingnessProtocol", "MissingnessSampler"),
    "oracle": ("Oracle",),
    "randomness": ("Random",),
    "reporters": ("Reporter",),
    "tasks": ("MultiBinary", "MultiClass", "Regression", "Task"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mmbench' has no public name {name!r}")
    value = getattr(import_module(f"mmbench.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # asked for once
    return value


def __dir__() -> list[str]:
    return sorted([*_MODULE_OF, "__version__"])
