"""What every test shares: a cache of its own, and small data."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from mmbench.data import Data, Samples, Schedule
from mmbench.jobs import Job, begin_manifest
from mmbench.tasks import MultiBinary, MultiClass, Regression, Task
from tests.clusters import Session

settings.register_profile("unhurried", deadline=None)  # machines that run tests are noisy
settings.load_profile("unhurried")

collect_ignore = ["outoftree"]  # a package with tests of its own: tests/test_outoftree.py

WIDTHS = {"l": 5, "a": 4, "v": 3, "x": 2}


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole run: a twin is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("MMBENCH_CACHE", str(session_cache))
    yield session_cache


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if (
        not sys.platform.startswith("linux")
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("mounting a file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Runs mmbench in processes of its own, none of which outlives the test."""
    made = Session(tmp_path)
    yield made
    for pid in made.alive():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


SUMMARY = pytest.StashKey[list[str]]()


@pytest.fixture
def summary(request: pytest.FixtureRequest) -> list[str]:
    """Lines to show at the end of the run."""
    return request.config.stash.setdefault(SUMMARY, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Shows them."""
    for line in config.stash.get(SUMMARY, []):
        terminalreporter.write_line(line)


@pytest.fixture
def make_data() -> Callable[..., Data]:
    """Makes a small data set in memory, whose targets depend on every modality's mean frame."""

    def make(
        task: Task | None = None,
        modalities: str = "lav",
        sizes: tuple[int, int, int] = (24, 12, 10),
        length: int = 6,
    ) -> Data:
        task = task or Regression(-3, 3)
        rng = np.random.default_rng(0)

        def split(name: str, count: int) -> Samples:
            valid = np.arange(length) >= rng.integers(0, length - 2, (count, 1))  # front-padded
            features = {
                m: rng.standard_normal((count, length, WIDTHS[m]), dtype=np.float32)
                * valid[..., None]
                for m in modalities
            }
            signal = np.sum([x.mean((1, 2)) for x in features.values()], axis=0)
            targets: dict[type[Task], np.ndarray] = {
                Regression: np.clip(3 * signal, -3, 3)[:, None],
                MultiBinary: signal[:, None] > np.linspace(-0.2, 0.2, len(task.labels)),
                MultiClass: np.digitize(signal, np.linspace(-0.2, 0.2, task.n_out - 1))[:, None],
            }
            return Samples(
                tuple(f"{name}-{i}" for i in range(count)),
                features,
                {m: valid.copy() for m in modalities},
                task.check(targets[type(task)]),
            )

        splits = {n: split(n, k) for n, k in zip(("train", "valid", "test"), sizes, strict=True)}
        return Data("small", task, splits, synthetic=True, source={"generator": "tests"})

    return make


CONDITIONS = [("l", "{l}", False), ("a", "{a}", False), ("la", "{l, a}", True)]


@pytest.fixture
def make_manifest() -> Callable[..., dict[str, Any]]:
    """Makes the manifest of one result of protocol inter over two modalities, as the engine writes it."""

    def make(
        method: str = "alpha",
        seed: int = 0,
        scores: tuple[float, ...] = (0.6, 0.4, 0.8),
        *,
        labels: tuple[str, ...] = ("sentiment",),
        masks: int = 1,
        data: str = "d" * 64,
        protocol: str = "p" * 64,
        quick: bool = False,
        code: str = "c0",
        finished: str = "2026-01-01T00:00:00+00:00",
        reason: str | None = None,
        synthetic: bool = True,
    ) -> dict[str, Any]:
        job = Job(method, "small", seed, ("inter@1",), data, code, Schedule(), quick=quick)
        manifest = begin_manifest(job) | {"finished": finished}
        if reason:
            return manifest | {"reason": reason, "traceback": "Traceback"}
        rows: list[dict[str, Any]] = [
            {
                "protocol": "inter",
                "condition": condition,
                "mask_seed": mask,
                "metric": metric,
                "label": label,
                "value": value + 0.1 * mask if metric == "f1" else 2 - value,
            }
            for metric in ("f1", "mae")
            for label in labels
            for mask in range(masks)
            for (condition, _, _), value in zip(CONDITIONS, scores, strict=True)
        ]
        averages = [
            {k: v for k, v in row.items() if k != "condition"}
            | {
                "value": sum(
                    r["value"]
                    for r in rows
                    if r["condition"] != "la"
                    and all(r[k] == row[k] for k in ("mask_seed", "metric", "label"))
                )
                / 2
            }
            for row in rows
            if row["condition"] == "l"
        ]
        return manifest | {
            "status": "finished",
            "data": {
                "name": "small",
                "synthetic": synthetic,
                "sha256": data,
                "source": {},
                "modalities": {m: {"length": 6, "width": 3} for m in "la"},
                "splits": {"train": 24, "valid": 12, "test": 10},
            },
            "method": {
                "summary": "",
                "paper": "",
                "deviations": ["one"],
                "privileges": ["teacher"],
            },
            "protocols": {
                "inter": {
                    "id": "inter@1",
                    "sha256": protocol,
                    "mask_seeds": masks,
                    "average": "Avg.",
                    "average_formula": "mean of the incomplete",
                    "conditions": [
                        {"name": n, "title": t, "observed": list(n), "rate": 0.0, "complete": c}
                        for n, t, c in CONDITIONS
                    ],
                    "effective_rate": {
                        n: {m: float(m not in n) for m in "la"} for n, _, _ in CONDITIONS
                    },
                }
            },
            "metrics": {
                "f1": {
                    "id": "f1@1",
                    "title": "F1",
                    "formula": "f",
                    "unit": "%",
                    "higher_is_better": True,
                    "in_tables": True,
                },
                "mae": {
                    "id": "mae@1",
                    "title": "MAE",
                    "formula": "m",
                    "unit": "",
                    "higher_is_better": False,
                    "in_tables": True,
                },
            },
            "headline": "f1",
            "labels": list(labels),
            "floor": {
                "f1": dict.fromkeys(labels, 0.5),
                "mae": dict.fromkeys(labels, 1.5),
            },
            "scores": rows,
            "averages": averages,
            "training": [],
            "parameters": {"deployed": 1000, "total": 2000, "modules": {}},
            "seconds": {"train": 2.0 + seed, "evaluate": 0.1},
            "peak_memory_mib": 100.0,
            "environment": {"mmbench": "0.1.0", "torch": "2.13.0"},
        }

    return make


@pytest.fixture
def fill(make_manifest, tmp_path):
    """Puts into a store results on a data set of four labels: by method, how often each condition is right."""
    from mmbench.jobs import Outcome
    from mmbench.store import Store
    from mmbench_metrics.classification import WeightedF1

    labels, names, size = ("happy", "sad", "angry", "neutral"), ("l", "a", "la"), 200
    truth = np.random.default_rng(0).integers(0, 2, (size, 4))
    metric = WeightedF1()

    def put(method, right, seeds=5, *, ids="s", folder="runs", noise="", **options):
        store = Store(tmp_path / folder)
        store.check_writable()
        for seed in range(seeds):
            rng = np.random.default_rng([seed, *f"{method}{noise}".encode()])
            manifest = make_manifest(method, seed, labels=labels, **options)
            manifest["data"] |= {"name": "iemocap-twin"}
            manifest["metrics"] = {"weighted_f1": WeightedF1.describe()}
            manifest |= {"headline": "weighted_f1"}
            manifest["floor"] = {"weighted_f1": dict.fromkeys(labels, 0.5)}
            arrays = {"ids": np.array([f"{ids}{i}" for i in range(size)]), "targets": truth}
            values = {}
            for name, share in zip(names, right, strict=True):
                said = np.where(rng.random((size, 4)) < share, truth, 1 - truth)
                arrays[f"inter/{name}/0"] = (
                    np.stack([1 - said, said], -1).reshape(size, 8).astype("f4")
                )
                for k, label in enumerate(labels):
                    values[name, label] = metric.score(truth[:, k], said[:, k])
            row = {"protocol": "inter", "mask_seed": 0, "metric": "weighted_f1"}
            manifest["scores"] = [
                {**row, "condition": c, "label": n, "value": v} for (c, n), v in values.items()
            ]
            manifest["averages"] = [
                {**row, "label": n, "value": (values["l", n] + values["a", n]) / 2} for n in labels
            ]
            store.save(Outcome(manifest, arrays))
        return store

    return put
