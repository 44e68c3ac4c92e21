"""How long a full grid's book-keeping takes: planned, stored, aggregated and rendered from simulated results.

    python tests/simulated_grid.py [samples of a test split, by default 300 [data sets, by default 10]]

9 methods on 10 data sets from 5 seeds, each under 17 conditions with 5 masks: results are laid out as real
ones and made up, which is told but not counted. For each stage: seconds, those of the processor, which others
that use the machine do not lengthen as much, and the most memory that the process has held until then.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import mmbench
from mmbench.data import Data, DataSpec, ModalitySpec, Samples, Schedule
from mmbench.evaluation import averages, trials
from mmbench.jobs import Job, Outcome, begin_manifest
from mmbench.leaderboard import Leaderboard, write_leaderboard
from mmbench.metrics import floor
from mmbench.plan import Plan
from mmbench.registry import Registry, discover
from mmbench.runner import Grid, expand, survey
from mmbench.store import Store
from mmbench.tasks import MultiBinary, Regression, Task
from mmbench.work import metrics_for, peak_memory_mib
from mmbench_executors.local import Local
from mmbench_missing.inter import Inter
from mmbench_missing.intra import Intra

CPU = torch.device("cpu")
METHODS, DATASETS, SEEDS, MASKS = 9, 10, 5, 5
SAMPLES = 300
FORMS = ("md", "csv", "json", "html")
LABELS = ("happy", "sad", "angry", "neutral")
SHAPES = {"l": ModalitySpec(50, 300), "a": ModalitySpec(50, 74), "v": ModalitySpec(50, 35)}


class Inter5(Inter):
    """As many masks of every condition as of the other protocol."""

    name = "inter-5"
    mask_seeds = MASKS


class Intra5(Intra):
    """Its own, with more masks."""

    name = "intra-5"
    mask_seeds = MASKS


def dataset(number: int) -> type[mmbench.Dataset]:
    """One of regression or of four labels, in turn."""
    task: Task = MultiBinary(LABELS) if number % 2 else Regression(-3, 3)
    about = {"name": f"simulated-{number}", "summary": "simulated", "task": task, "synthetic": True}
    return type(f"Simulated{number}", (mmbench.Dataset,), about)


@mmbench.hookimpl
def mmbench_register_datasets() -> list[type[mmbench.Dataset]]:
    return [dataset(number) for number in range(DATASETS)]


@mmbench.hookimpl
def mmbench_register_missingness() -> list[type[mmbench.MissingnessProtocol]]:
    return [Inter5, Intra5]


class Simulation:
    """Outcomes of the jobs of one data set."""

    def __init__(self, registry: Registry, name: str, samples: int) -> None:
        self.task: Task = registry.find("dataset", name).task
        self.spec = DataSpec(name, SHAPES, self.task, Schedule(), 1284)
        self.metrics = metrics_for(registry, self.spec)
        self.protocols = [Inter5(), Intra5()]
        self.trials = list(trials(self.protocols, list(SHAPES)))
        rng = np.random.default_rng(0)
        signal = rng.normal(0.3, 1.4, (samples, len(self.task.labels)))
        regression = isinstance(self.task, Regression)
        self.targets = self.task.check(np.clip(signal, -3, 3) if regression else signal > 0.3)
        self.signal = signal
        self.floor = floor(self.task, self.metrics, self.targets)
        self.described = {
            protocol.name: {
                "id": protocol.id,
                "sha256": f"{protocol.name:x<64}",
                "mask_seeds": MASKS,
                "average": protocol.average,
                "average_formula": protocol.average_formula,
                "conditions": [asdict(c) for c in protocol.conditions(list(SHAPES))],
                "effective_rate": {
                    c.name: {m: c.rate if m in c.observed else 1.0 for m in SHAPES}
                    for c in protocol.conditions(list(SHAPES))
                },
            }
            for protocol in self.protocols
        }

    def outcome(self, job: Job, skill: float) -> Outcome:
        """Predictions that are better the more is observed and the more skilful a method is."""
        rng = np.random.default_rng([job.seed, *job.method.encode()])
        outputs = {}
        for trial in self.trials:
            seen = len(trial.condition.observed) / 3 * (1 - trial.condition.rate)
            noisy = skill * seen * self.signal + rng.normal(0, 1, self.signal.shape)
            if isinstance(self.task, Regression):
                outputs[trial.key] = noisy.astype(np.float32)
            else:
                outputs[trial.key] = (
                    np.stack([-noisy, noisy], -1).reshape(len(noisy), -1).astype("f4")
                )
        scores = list(self._scores(outputs, rng))
        seconds = 60 + 20 * skill + 5 * rng.random()
        manifest = begin_manifest(job) | {
            "status": "finished",
            "data": {
                "name": job.dataset,
                "synthetic": True,
                "sha256": job.data_sha256,
                "source": {"generator": f"{job.dataset}@1"},
                "modalities": {m: asdict(shape) for m, shape in SHAPES.items()},
                "splits": {"train": 1284, "valid": 229, "test": len(self.targets)},
            },
            "method": {
                "summary": "simulated",
                "paper": "https://example.org",
                "deviations": ["the paper is silent on what is not simulated"] * 5,
                "privileges": [],
                "competes": True,
                "plugin": "mmbench",
            },
            "protocols": self.described,
            "metrics": {metric.name: metric.describe() for metric in self.metrics},
            "headline": self.task.headline,
            "labels": list(self.task.labels),
            "floor": self.floor,
            "scores": scores,
            "averages": averages(self.protocols, list(SHAPES), scores),
            "training": [stage(name, seconds / 2, job.schedule.epochs) for name in ("one", "two")],
            "parameters": {"deployed": 123456, "total": 234567, "modules": {"encoders": 123456}},
            "seconds": {"train": seconds, "evaluate": seconds / 20},
            "side_by_side": 1,
            "peak_memory_mib": 700 + 100 * skill,
            "environment": {"mmbench": "0.1.0", "torch": "2.13.0", "device": "cpu (simulated)"},
            "finished": f"2026-01-01T00:00:{job.seed:02}+00:00",
        }
        manifest["job"] |= {"hyperparameters": {"depth": 2, "dropout": 0.1, "width": 40}}
        ids = np.array([f"video_{number // 9}_{number}" for number in range(len(self.targets))])
        return Outcome(manifest, {"ids": ids, "targets": self.targets, **outputs})

    def _scores(
        self, outputs: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> Iterator[dict[str, Any]]:
        """The headline metric's are true; what nothing is tested by is made up."""
        decided = np.stack([self.task.decide(outputs[t.key]) for t in self.trials], -1)  # (N, L, K)
        once = np.ones((1, len(self.targets)), np.float32)
        for metric in self.metrics:
            for column, label in enumerate(self.task.labels):
                values = rng.uniform(0.3, 0.9, len(self.trials))
                if metric.name == self.task.headline:
                    truth = self.targets[:, column]
                    values = metric.resampled(truth, decided[:, column], once)[0]
                for trial, value in zip(self.trials, values, strict=True):
                    yield {
                        "protocol": trial.protocol.name,
                        "condition": trial.condition.name,
                        "mask_seed": trial.mask_seed,
                        "metric": metric.name,
                        "label": label,
                        "value": float(value),
                    }


def stage(name: str, seconds: float, epochs: int) -> dict[str, Any]:
    """A log as training writes it."""
    history = [
        {"task": 1 / (n + 1), "distance": 1 / (n + 2), "valid": 1 / (n + 3)} for n in range(epochs)
    ]
    spent = dict.fromkeys(("data", "forward", "backward", "validation"), seconds / 4)
    return {
        **{"epochs": epochs, "stage": name, "best_epoch": 3, "seconds": seconds},
        **{"steps": 11 * epochs, "history": history, "spent": spent},
    }


def measure(
    samples: int = SAMPLES, datasets: int = DATASETS, forms: Sequence[str] = FORMS
) -> dict[str, list[float]]:
    """By stage: seconds, seconds of the processor, MiB. "simulated", with imports, is not counted."""
    found: dict[str, list[float]] = {}
    start = time.perf_counter(), time.process_time()

    def ended(name: str) -> None:
        nonlocal start
        now = time.perf_counter(), time.process_time()
        spent = found.setdefault(name, [0.0, 0.0, 0.0])
        spent[:2] = (s + b - a for s, a, b in zip(spent, start, now, strict=False))
        spent[2] = peak_memory_mib(CPU)
        start = now

    with TemporaryDirectory() as name:
        folder = Path(name)
        registry = discover([Path(__file__).resolve()])
        names = [f"simulated-{number}" for number in range(datasets)]
        methods = registry.classes["method"]
        competing = sorted(n for n, entry in methods.items() if entry.cls.competes)[:METHODS]
        grid = Grid(competing, names, [Inter5().id, Intra5().id], range(SEEDS), {})
        content = {n: made_up(registry.find("dataset", n), samples) for n in names}
        store = Store(folder / "runs")
        store.check_writable()
        ended("simulated")
        jobs = expand(grid, registry, content)
        Plan.of(jobs, survey(jobs, store), store, content, Local(2), registry)
        ended("planned")
        for n in names:
            simulation = Simulation(registry, n, samples)
            for job in (job for job in jobs if job.dataset == n):
                outcome = simulation.outcome(job, 0.6 + 0.1 * competing.index(job.method))
                ended("simulated")
                store.save(outcome)
                ended("stored")
        plan = Plan.of(jobs, survey(jobs, store), store, content, Local(2), registry)
        ended("planned again")
        reporters = [registry.find("reporter", form)() for form in forms]
        for n in names:
            board = Leaderboard.from_store(store, n, registry)
            ended("aggregated")
            write_leaderboard(board, folder, reporters)
            ended("rendered")
        assert plan.left == 0 and len(jobs) == datasets * len(competing) * SEEDS
        assert not any(row.untested for row in board.sections[0].rows)
        assert len(list(folder.glob("simulated-*.*"))) == datasets * len(forms)
    return found


def made_up(cls: type[mmbench.Dataset], samples: int) -> Data:
    """Of the right sizes, and empty."""

    def split(count: int) -> Samples:
        features = {
            m: np.broadcast_to(np.float32(0), (count, s.length, s.width)) for m, s in SHAPES.items()
        }
        return Samples(("",) * count, features, {}, np.zeros((count, 1)))

    splits = {"train": split(1284), "valid": split(229), "test": split(samples)}
    return Data(cls.name, cls.task, splits, True, {}, f"{cls.name:0<64}")


def yardstick() -> float:
    """Seconds of a fixed piece of the same kinds of work: machines differ by three times, and from day to day."""
    rng = np.random.default_rng(0)
    told = {str(number): value for number, value in enumerate(rng.normal(size=200_000))}
    left, right = (rng.random(shape, np.float32) for shape in ((1000, 300), (300, 4000)))

    def once() -> float:
        start = time.perf_counter()
        json.loads(json.dumps(told))
        np.maximum(left @ right, 1.0).astype(np.float64).mean(1)
        return time.perf_counter() - start

    return min(once() for _ in range(5))


def counted(found: Mapping[str, Sequence[float]]) -> list[float]:
    """Of all stages that count: seconds, seconds of the processor, MiB."""
    every = [spent for name, spent in found.items() if name != "simulated"]
    return [sum(s[0] for s in every), sum(s[1] for s in every), max(s[2] for s in every)]


def main() -> None:
    found = measure(*map(int, sys.argv[1:]))
    for name, spent in {**found, "all but simulated": counted(found)}.items():
        seconds, own, mib = spent
        sys.stdout.write(
            f"{name:18} {seconds:7.2f} s {own:7.2f} s of the processor {mib:6.0f} MiB\n"
        )
    sys.stdout.write(
        f"{'yardstick':18} {yardstick():7.2f} s, which tells how fast this machine is\n"
    )


if __name__ == "__main__":
    main()
