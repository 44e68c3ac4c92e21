"""What every test shares: a cache of its own, and small data."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from mmbench.data import Data, Samples
from mmbench.tasks import MultiBinary, MultiClass, Regression, Task

settings.register_profile("unhurried", deadline=None)  # machines that run tests are noisy
settings.load_profile("unhurried")

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
