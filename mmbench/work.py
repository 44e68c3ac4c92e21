"""Does a job, or several that differ in their seed alone, in whatever process it is given to: data, method, training, evaluation, outcome."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

import mmbench
from mmbench import datafile
from mmbench.batching import Split
from mmbench.checkpoints import Checkpoint
from mmbench.data import SPLITS, Data, DataSpec, Samples
from mmbench.errors import MmbenchError
from mmbench.evaluation import evaluate
from mmbench.jobs import Job, Kind, Outcome, Progress, begin_manifest, limit, now, rules
from mmbench.metrics import Metric, floor
from mmbench.registry import Registry, discover
from mmbench.representations import Unrepresented, condition, represent
from mmbench.seeds import NotStackable
from mmbench.settings import hyperparameters
from mmbench.sources import code_sha256, rules_sha256
from mmbench.start import limited, methods_of, spec_of
from mmbench.training import Diverged, Report, train_side_by_side


class NotSupported(Exception):
    """The method says that it does not apply to the data, and why."""


class Refused(MmbenchError):
    """Code or data is not here, or is not what the run was planned with."""


class OutOfTime(Exception):
    """A job has taken longer than it may."""


def do(jobs: Sequence[Job], report: Report) -> list[Outcome]:
    """The outcomes of jobs that differ in their seed alone; a failure is an outcome too, with its reason.

    They are trained side by side or, where the method does not allow that, one after the other. One
    thread: products this small are not worth sharing, and sums do not depend on the machine.
    """
    report(Progress(0.0, "starting"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            return _together(jobs, report)
    finally:
        torch.set_num_threads(threads)


def _together(jobs: Sequence[Job], report: Report) -> list[Outcome]:
    if len(jobs) == 1:
        return [_one(jobs[0], report)]
    manifests = [begin_manifest(job) for job in jobs]
    try:
        return _finish(jobs, manifests, report)
    except OutOfTime as error:  # they had the time of all of them
        return [_failed(manifest, error) for manifest in manifests]
    except (Exception, SystemExit) as error:  # what fails for all together may not fail for each
        why = {"not_side_by_side": _reason(error)}
    # out of the handler, whose error keeps all that they held in memory
    outcomes = []
    for number, job in enumerate(jobs):
        outcome = _one(job, _part(report, number / len(jobs), 1 / len(jobs)))
        outcomes.append(replace(outcome, manifest={**outcome.manifest, **why}))
    return outcomes


def _one(job: Job, report: Report) -> Outcome:
    manifest = begin_manifest(job)
    try:
        (outcome,) = _finish([job], [manifest], report)
    except (Exception, SystemExit) as error:
        # whatever a method raises is a row of the table, not the end of the run
        outcome = _failed(manifest, error)
    return outcome


def _part(report: Report, start: float, width: float) -> Report:
    """Reports a part, which begins at the share `start` of the whole and is `width` of it."""
    return lambda told: report(replace(told, share=start + width * told.share))


def _failed(manifest: dict[str, Any], error: BaseException) -> Outcome:
    text = "".join(traceback.format_exception(error))
    told = {"kind": _kind(error), "reason": _reason(error), "traceback": text, "finished": now()}
    return Outcome({**manifest, **told})


def _kind(error: BaseException) -> Kind:
    kinds: dict[Kind, tuple[type[BaseException], ...]] = {
        "out of memory": (MemoryError, torch.OutOfMemoryError),
        "diverged": (Diverged, FloatingPointError),
        "time limit": (OutOfTime,),
        "not applicable": (NotSupported,),
        "refused": (Refused,),
    }
    for kind, types in kinds.items():
        if isinstance(error, types):
            return kind
    # what torch raises on a CPU has no type of its own
    return "out of memory" if "DefaultCPUAllocator" in str(error) else "exception"


def _reason(error: BaseException) -> str:
    known = (
        *(MmbenchError, Diverged, NotSupported, NotStackable, Unrepresented, FloatingPointError),
        OutOfTime,
    )
    reason = str(error) if isinstance(error, known) else f"{type(error).__name__}: {error}"
    return " ".join(reason.split()) or type(error).__name__


def _finish(
    jobs: Sequence[Job], manifests: Sequence[dict[str, Any]], report: Report
) -> list[Outcome]:
    """Trains all, then tests each."""
    job = jobs[0]
    in_time = timer(jobs)
    report = _also(in_time, report)
    try:
        registry = discover(job.plugin_files)
        cls = registry.find("method", job.method)
        check_code(job, registry)
        data = _data(job.dataset, job.plugin_files)
    except MmbenchError as error:
        raise Refused(str(error)) from error
    if data.sha256 != job.data_sha256:
        raise Refused(f"the data of {job.dataset} changed since this run was planned")
    spec = spec_of(data, job)
    defaults = {name: p.default for name, p in hyperparameters(cls).items()}
    for manifest in manifests:
        manifest["data"] = {
            "name": data.name,
            "synthetic": data.synthetic,
            "sha256": data.sha256,
            "source": dict(data.source),
            "modalities": {m: asdict(shape) for m, shape in spec.modalities.items()},
            "splits": {name: len(data.splits[name]) for name in SPLITS},
        }
        manifest["method"] = {
            "summary": cls.summary,
            "paper": cls.paper,
            "deviations": list(cls.deviations),
            "privileges": list(cls.privileges),
            "competes": cls.competes,
            "plugin": str(registry.classes["method"][job.method].source),
        }
        manifest["job"] |= {"hyperparameters": {**defaults, **job.changed}}
    if reason := cls.supports(spec):
        raise NotSupported(f"not applicable: {reason}")

    device = torch.device(job.device)
    splits = {name: Split(limited(data, name, job), device) for name in SPLITS}
    methods = methods_of(cls, spec, jobs, device)
    sampler = registry.find("sampler", cls.sampler)(**methods[0].sampler_settings)
    with profiler(job) as tick:
        trained = train_side_by_side(
            methods,
            splits["train"],
            splits["valid"],
            sampler,
            [each.seed for each in jobs],
            _part(report, 0.0, 0.9),
            _also(in_time, tick),
            Checkpoint.of(jobs, _identity(job.device)),
        )

    metrics = metrics_for(registry, spec)
    protocols = [registry.find("protocol", name)() for name in job.protocols]
    outcomes = []
    for number, (method, manifest, logs) in enumerate(
        zip(methods, manifests, trained, strict=True)
    ):
        if isinstance(logs, Diverged):
            outcomes.append(_failed(manifest, logs))
            continue
        started = time.perf_counter()
        try:
            evaluation = evaluate(
                method,
                splits["test"],
                protocols,
                metrics,
                quick=job.quick,
                report=_part(report, 0.9 + 0.1 * number / len(jobs), 0.1 / len(jobs)),
            )
        except (FloatingPointError, OutOfTime) as error:  # of one seed
            outcomes.append(_failed(manifest, error))
            continue
        test = splits["test"].samples
        representations: dict[str, np.ndarray] = {}
        if job.embeddings:
            try:
                representations = represent(method, splits["test"])
                manifest["representations"] = {"condition": condition(method)}
            except Exception as error:  # whatever a method raises here, its scores stand
                manifest["representations"] = {"absent": _reason(error)}
        finished = manifest | {
            "status": "finished",
            "protocols": evaluation.protocols,
            "metrics": {metric.name: metric.describe() for metric in metrics},
            "headline": spec.task.headline,
            "labels": list(spec.task.labels),
            "floor": floor(spec.task, metrics, test.targets),
            "scores": evaluation.scores,
            "averages": evaluation.averages,
            "training": [{"epochs": len(log.history), **asdict(log)} for log in logs],
            "parameters": {
                "deployed": count(method.deployed()),
                "total": count([method]),
                "modules": {name: count([child]) for name, child in method.named_children()},
            },
            "seconds": {
                "train": sum(log.seconds for log in logs),
                "evaluate": time.perf_counter() - started,
            },
            "side_by_side": len(jobs),
            "peak_memory_mib": peak_memory_mib(device),
            "environment": environment(job.device),
            "finished": now(),
        }
        outcomes.append(
            Outcome(
                finished,
                {"ids": _names(test), "targets": test.targets, **evaluation.predictions},
                representations,
            )
        )
    return outcomes


def timer(jobs: Sequence[Job]) -> Callable[[], None]:
    """From now on: raises OutOfTime once jobs that are trained as one have taken the time of all of them."""
    job, started = jobs[0], time.monotonic()

    def in_time() -> None:
        if job.time_limit and time.monotonic() - started > job.time_limit * len(jobs):
            raise OutOfTime(limit(job))

    return in_time


def _also(first: Callable[[], None], then: Callable[..., None]) -> Callable[..., None]:
    def both(*told: Any) -> None:
        first()
        then(*told)

    return both


@contextmanager
def profiler(job: Job) -> Iterator[Callable[[], None]]:
    """What to call after every update; a trace of a few of them is written where `job.profile` says."""
    if not job.profile:
        yield lambda: None
        return
    from torch import profiler as torch_profiler

    file = Path(job.profile) / f"{job.method}-{job.dataset}-{job.seed}.json.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    with torch_profiler.profile(
        schedule=torch_profiler.schedule(wait=10, warmup=2, active=3, repeat=1),
        on_trace_ready=lambda found: found.export_chrome_trace(str(file)),
    ) as running:
        yield running.step


def metrics_for(registry: Registry, spec: DataSpec) -> list[Metric]:
    """Every registered metric that can judge the task, by name."""
    found = [entry.cls for entry in registry.classes["metric"].values()]
    return [
        cls() for cls in sorted(found, key=lambda c: c.name) if isinstance(spec.task, cls.tasks)
    ]


def count(modules: Sequence[nn.Module]) -> int:
    """Parameters of some modules, none twice."""
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()})


STATUS = Path("/proc/self/status")


def peak_memory_mib(device: torch.device) -> float:
    """The most memory that this process, or its part of the GPU, has held, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # on Linux, what rusage says may be the parent's
    with suppress(OSError, IndexError, ValueError):
        (held,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(held.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


LIBRARIES = ("torch", "numpy", "numba", "h5py", "scikit-learn", "scipy")
"""Numbers may differ in their last digits from one version to another: told, and in no job's key."""


def versions() -> dict[str, str]:
    """Of the libraries, as they are installed."""
    found = {}
    for package in LIBRARIES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def environment(device: str) -> dict[str, Any]:
    """Versions, and the git commit where mmbench runs from a checkout."""
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {
        "mmbench": mmbench.__version__,
        **versions(),
        "python": platform.python_version(),
        "device": f"{device} ({gpu})",
        **_git(),
    }


def _identity(device: str) -> dict[str, Any]:
    """Of an environment what may change a number; the code is in the job's key."""
    return {name: told for name, told in environment(device).items() if name not in _git()}


@lru_cache(maxsize=1)
def _git() -> dict[str, Any]:
    """Commit and whether it was altered; empty where mmbench is not in a checkout of its own."""

    def git(*words: str) -> str:
        here = Path(__file__).resolve().parent
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if not git("ls-files", "work.py"):
            return {}
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except OSError:  # git is not installed
        return {}


@lru_cache(maxsize=1)
def _data(name: str, plugin_files: tuple[str, ...]) -> Data:
    return datafile.obtain(discover(plugin_files).find("dataset", name)())


def check_code(job: Job, registry: Registry) -> None:
    """MmbenchError if this process would give other numbers than the job's key stands for."""
    here = {name: entry.cls.version for name, entry in registry.classes["metric"].items()}
    changed = [f"metric {name}" for name, v in job.versions.items() if here.get(name) != v]
    cls, dataset = registry.find("method", job.method), registry.find("dataset", job.dataset)
    if code_sha256(cls, dataset) != job.code_sha256:
        changed.append(f"the code of {job.method}, or what trains it")
    if not changed and rules_sha256(registry, rules(job)) != job.rules_sha256:
        changed.append("the code of sampler, protocols or metrics")
    if changed:
        raise MmbenchError(
            f"{', '.join(changed)} differs in this process from where the run was planned; give the "
            "same command again if you changed it, and install the same mmbench on every machine"
        )


def _names(samples: Samples) -> np.ndarray:
    return np.array(samples.ids)
