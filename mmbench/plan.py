"""What a grid would take, before it is run: jobs, seconds and memory, from what results took before.

Seconds of a seed that finished are in its manifest. Another data set takes them times the ratio of the work:

    training   = epochs x updates x (START + samples of a batch x frames)    an update costs START more frames
    testing    = test samples x frames x trials

Memory of a process is BARE, and its data, and what the method holds, which grows as an update does. START and
BARE were fitted to results of ten methods on two data sets; `tests/plan_accuracy.py` says how far it is off.

Where the store has no result of a method, the rates of the published leaderboards stand in (`rates.json`). They
are of another machine, and the plan says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmbench.data import Data, Schedule
    from mmbench.executors import Executor
    from mmbench.jobs import Job
    from mmbench.leaderboard import Leaderboard
    from mmbench.registry import Registry
    from mmbench.runner import Survey
    from mmbench.store import Store

START = 1500
"""Frames that the work of an update costs beyond those of its batch."""
BARE = 550
"""MiB of a process that has no data and no method yet."""
RATES = "rates.json"
HERE, PUBLISHED = "here", "published"
ODD = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a manifest of another layout may raise."""


@dataclass(frozen=True)
class Work:
    """How much there is to do for one seed."""

    epochs: int
    batch_size: int
    train: int
    """Samples of the training split."""
    test: int
    frames: int
    """Of a sample, over all modalities."""
    trials: int
    """Every condition with every mask seed."""
    mib: float
    """Of all splits."""

    @property
    def update(self) -> float:
        """Frames that one update costs."""
        return START + min(self.batch_size, self.train) * self.frames

    @property
    def training(self) -> float:
        """Frames that training costs."""
        return self.epochs * math.ceil(self.train / self.batch_size) * self.update

    @property
    def testing(self) -> float:
        """Frames that testing costs."""
        return self.test * self.frames * self.trials


@dataclass(frozen=True)
class Rate:
    """What seeds of a method took on a data set."""

    method: str
    label: str
    dataset: str
    quick: bool
    device: str
    """As results name it, e.g. "cpu (x86_64)"."""
    seeds: int
    train: float
    """Seconds of a seed, the median."""
    evaluate: float
    memory: float
    """MiB, the most of any seed."""
    work: Work

    def scaled(self, work: Work) -> tuple[float, float]:
        """Seconds of a seed and MiB of a process that has other work to do."""
        seconds = self.train * work.training / max(self.work.training, 1)
        seconds += self.evaluate * work.testing / max(self.work.testing, 1)
        own = max(self.memory - BARE - self.work.mib, 0.0)
        return seconds, BARE + work.mib + own * work.update / self.work.update


@dataclass(frozen=True)
class Estimate:
    """What one seed takes."""

    seconds: float
    mib: float
    source: str
    """From which results, e.g. "5 seeds here"."""
    published: bool
    """Whether it is another machine's rate."""


@dataclass(frozen=True)
class Cell:
    """The jobs of a method, with its settings, on a data set."""

    label: str
    dataset: str
    jobs: int
    there: int
    """Finished, and not to be done again."""
    failed: int
    """That have failed before; whether they are done again is up to the run."""
    left: int
    """To do."""
    estimate: Estimate | None


@dataclass(frozen=True)
class Plan:
    """What a grid would take."""

    cells: Sequence[Cell]
    workers: int | None
    """Groups of jobs at a time; None if nobody knows before it runs."""
    seconds: float
    """Of work, on one worker, as far as it is known."""
    span: float | None
    """Seconds from start to end on all workers, longest job first."""
    mib: float | None
    """Of the largest jobs that may run at once."""
    devices: Sequence[str]
    """What the published rates that were used were measured on."""

    @property
    def jobs(self) -> int:
        """All of them."""
        return sum(cell.jobs for cell in self.cells)

    @property
    def left(self) -> int:
        """Jobs to do."""
        return sum(cell.left for cell in self.cells)

    @property
    def unknown(self) -> int:
        """Jobs to do of which no rate was ever measured."""
        return sum(cell.left for cell in self.cells if cell.estimate is None)

    @classmethod
    def of(
        cls,
        jobs: Sequence[Job],
        found: Survey,
        store: Store,
        data: Mapping[str, Data],
        executor: Executor,
        registry: Registry,
    ) -> Plan:
        """Of a grid's jobs as they stand in the store; `data` by name, of which only sizes are read."""
        read = {store.folder(vars(job), job.key) for job in jobs if job.key in found.manifests}
        manifests = [*found.manifests.values(), *map(brief, store.each(but=read))]
        todo = found.todo
        failed = {m["key"] for m in manifests if m.get("status") == "failed"}
        own, theirs = rates(manifests), published()
        by_cell: dict[tuple[str, str], list[Job]] = {}
        for job in jobs:
            by_cell.setdefault((job.dataset, job.label), []).append(job)
        left = {job.key for job in todo}
        cells: list[Cell] = []
        by_job: dict[str, Estimate | None] = {}
        used: dict[str, None] = {}
        for (dataset, label), group in by_cell.items():
            work = _work_of(group[0], data[dataset], registry)
            estimate, rate = None, closest(group[0], work, own)
            if foreign := rate is None:
                rate = closest(group[0], work, theirs)
            own_left = [job.key for job in group if job.key in left]
            if rate is not None:
                estimate = _estimate(rate, work, dataset, label, foreign=foreign)
                if foreign and own_left:
                    used[rate.device] = None
            by_job |= dict.fromkeys(own_left, estimate)
            broken = sum(job.key in failed for job in group)
            there = sum(job.key not in left and job.key not in failed for job in group)
            cells.append(Cell(label, dataset, len(group), there, broken, len(own_left), estimate))
        groups = executor.groups(todo)
        workers = executor.at_a_time(groups)
        spans = [sum(e.seconds for j in group if (e := by_job[j.key])) for group in groups]
        most = sorted((e.mib for g in groups if (e := by_job[g[0].key])), reverse=True)
        return cls(
            cells,
            workers,
            sum(spans),
            None if workers is None else span(spans, workers),
            None if workers is None else sum(most[:workers]),
            list(used),
        )


def span(seconds: Iterable[float], workers: int) -> float:
    """When the last of `workers` ends, if each takes the longest job that is left whenever it is free."""
    loads = [0.0] * max(workers, 1)
    for each in sorted(seconds, reverse=True):
        loads[loads.index(min(loads))] += each
    return max(loads)


def closest(job: Job, work: Work, rates: Sequence[Rate]) -> Rate | None:
    """The rate to go by: of the same method and device, and no first look for a whole run.

    The same data set and settings first, then the data set whose updates are most alike.
    """
    fit = [
        rate
        for rate in rates
        if rate.method == job.method
        and _kind(rate.device) == _kind(job.device)
        and (job.quick or not rate.quick)
    ]
    return min(
        fit,
        key=lambda rate: (
            rate.dataset != job.dataset,
            rate.quick != job.quick,
            rate.label != job.label,
            abs(math.log(rate.work.update / work.update)),
        ),
        default=None,
    )


def rates(manifests: Iterable[Mapping[str, Any]]) -> list[Rate]:
    """Of finished results, a rate for each method, settings, data set and device.

    A result that does not say what it took, which may be a stranger's, is passed over.
    """
    found: dict[tuple[str, str, str, bool, str], list[Mapping[str, Any]]] = {}
    for manifest in manifests:
        with suppress(*ODD):
            if manifest["status"] == "finished":
                job = manifest["job"]
                device = str(manifest["environment"].get("device", "cpu"))
                names = str(job["method"]), str(job["label"]), str(job["dataset"])
                found.setdefault((*names, bool(job["quick"]), device), []).append(manifest)
    every = []
    for key, own in sorted(found.items()):
        with suppress(*ODD):
            newest = max(own, key=lambda m: str(m["finished"]))
            own = [m for m in own if m["config"] == newest["config"]]
            took = (
                float(median(m["seconds"]["train"] for m in own)),
                float(median(m["seconds"]["evaluate"] for m in own)),
                float(max(m.get("peak_memory_mib", BARE) for m in own)),
            )
            if all(map(math.isfinite, took)):
                every.append(Rate(*key, len(own), *took, _work_done(newest)))
    return every


def rates_of(board: Leaderboard) -> list[Rate]:
    """Of a leaderboard's rows."""
    return rates(
        {**section.facts, **manifest}
        for section in board.sections
        for row in section.rows
        for manifest in row.finished
    )


@lru_cache(maxsize=1)
def published() -> Sequence[Rate]:
    """Of the published leaderboards."""
    text = (resources.files("mmbench") / RATES).read_text(encoding="utf-8")
    return [Rate(**{**told, "work": Work(**told["work"])}) for told in json.loads(text)]


def to_json(every: Iterable[Rate]) -> str:
    """What `published` reads: a line for each rate."""
    lines = (json.dumps(_rounded(asdict(rate))) for rate in every)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _rounded(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _rounded(value) for name, value in told.items()}
    return round(told, 1) if isinstance(told, float) else told


NEEDED = (
    *("status", "key", "config", "finished", "job", "data", "protocols", "seconds"),
    *("peak_memory_mib", "environment"),
)


def brief(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a plan needs of it: a grid's manifests together would fill the memory."""
    return {name: manifest[name] for name in NEEDED if name in manifest}


def _estimate(rate: Rate, work: Work, dataset: str, label: str, *, foreign: bool) -> Estimate:
    seconds, mib = rate.scaled(work)
    seeds = "1 seed" if rate.seeds == 1 else f"{rate.seeds} seeds"
    other = [
        *([rate.dataset] if rate.dataset != dataset else []),
        *([rate.label] if rate.label != label else []),
    ]
    scaled = f", scaled from {', '.join(other)}" if other else ""
    return Estimate(seconds, mib, f"{seeds} {PUBLISHED if foreign else HERE}{scaled}", foreign)


def _kind(device: str) -> str:
    """ "cuda" of "cuda:1 (name)"."""
    return device.split(" ")[0].split(":")[0]


def _mib(samples: int, values: int) -> float:
    return samples * values * 4 / 2**20


def _work_done(manifest: Mapping[str, Any]) -> Work:
    from mmbench.start import QUICK_SAMPLES

    job, data = manifest["job"], manifest["data"]
    schedule, splits, shapes = job["schedule"], data["splits"], data["modalities"].values()
    quick = bool(job["quick"])
    return Work(
        epochs=schedule["epochs"],
        batch_size=schedule["batch_size"],
        train=min(splits["train"], QUICK_SAMPLES) if quick else splits["train"],
        test=splits["test"],
        frames=sum(shape["length"] for shape in shapes),
        trials=sum(
            len(p["conditions"]) * (1 if quick else p["mask_seeds"])
            for p in manifest["protocols"].values()
        ),
        mib=round(_mib(sum(splits.values()), sum(s["length"] * s["width"] for s in shapes)), 1),
    )


def _work_of(job: Job, data: Data, registry: Registry) -> Work:
    from mmbench.evaluation import trials
    from mmbench.start import limited

    shapes = data.modalities()
    protocols = [registry.find("protocol", name)() for name in job.protocols]
    schedule: Schedule = job.schedule
    return Work(
        epochs=schedule.epochs,
        batch_size=schedule.batch_size,
        train=len(limited(data, "train", job)),
        test=len(data.splits["test"]),
        frames=sum(shape.length for shape in shapes.values()),
        trials=len(list(trials(protocols, list(shapes), quick=job.quick))),
        mib=_mib(
            sum(map(len, data.splits.values())), sum(s.length * s.width for s in shapes.values())
        ),
    )
