"""Small made-up data for checks: two or three modalities, each task, both sides of padding.

Letters: N samples, T frames, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmbench.batching import Split
from mmbench.data import Data, DataSpec, Samples, Schedule
from mmbench.missingness import MissingnessSampler
from mmbench.streams import stream
from mmbench.tasks import MultiBinary, MultiClass, Regression, Task

SCHEDULE = Schedule(
    learning_rate=1e-3, batch_size=6, epochs=2, heads=2, input_dropout={"l": 0.2, "text": 0.2}
)
SIZES = {"train": 12, "valid": 6, "test": 9}
SCORE = Regression(-3, 3)
LABELS = MultiBinary(("happy", "sad"))
CLASSES = MultiClass(("good", "fair", "bad"))
THREE = {"l": (6, 5), "a": (6, 4), "v": (6, 3)}
"""Frames and features, by modality."""
TWO = {"text": (5, 4), "audio": (5, 3)}
UNEVEN = {"l": (4, 5), "a": (7, 4), "v": (5, 3)}


@dataclass(frozen=True)
class Setting:
    """Data as the engine hands it to a method."""

    data: Data
    spec: DataSpec

    @property
    def test(self) -> Samples:
        """The test split."""
        return self.data.splits["test"]

    @property
    def whole(self) -> np.ndarray:
        """Bool (N,): test samples that lack no modality."""
        return np.all([valid.any(1) for valid in self.test.valid.values()], 0)

    def split(self, name: str) -> Split:
        """A split of its own: whoever writes into it hurts nobody else."""
        return Split(copied(self.data.splits[name]))


def setting_of(data: Data, schedule: Schedule) -> Setting:
    """Data with what a method is told of it."""
    n_train = len(data.splits["train"])
    return Setting(data, DataSpec(data.name, data.modalities(), data.task, schedule, n_train))


@lru_cache(maxsize=16)
def setting(task: Task, kind: str = "three") -> Setting:
    """Made-up data of `kind` "three", "two" or "uneven"."""
    shapes = {"three": THREE, "two": TWO, "uneven": UNEVEN}[kind]
    splits = {
        name: _split(name, count, task, shapes, front=kind != "two")
        for name, count in SIZES.items()
    }
    data = Data("made-up", task, splits, synthetic=True, source={"generator": "mmbench.checks"})
    return setting_of(data, SCHEDULE)


def _split(
    name: str, count: int, task: Task, shapes: Mapping[str, tuple[int, int]], *, front: bool
) -> Samples:
    """Targets that depend on every modality; a sample of one frame and, in testing, one without a modality."""
    rng = stream("checks", name, *shapes)
    longest = max(length for length, _ in shapes.values())
    share = np.maximum(rng.random(count), 1 / longest)
    share[0], share[1] = 1.0, 1e-9  # a whole sample, and one of a frame
    features, valid = {}, {}
    for m, (length, width) in shapes.items():
        words = np.maximum(np.rint(share * length), 1).astype(int)
        if name == "test" and m == list(shapes)[-1]:
            words[2] = 0  # missing by nature
        place = np.arange(length)
        valid[m] = place >= length - words[:, None] if front else place < words[:, None]  # (N, T)
        x = rng.standard_normal((count, length, width), dtype=np.float32)
        features[m] = x * valid[m][..., None]
    signal = np.sum([x.mean((1, 2)) for x in features.values()], axis=0)
    rank = signal.argsort().argsort() / count  # (N,), evenly in [0, 1)
    targets: dict[type[Task], np.ndarray] = {
        Regression: (6 * rank - 3)[:, None],
        MultiBinary: np.stack([rank > 0.5, rank < 0.3], 1),
        MultiClass: (3 * rank).astype(int)[:, None],
    }
    ids = tuple(f"{name}-{row}" for row in range(count))
    return Samples(ids, features, valid, task.check(targets[type(task)]))


def copied(samples: Samples) -> Samples:
    """The same samples in arrays of their own."""
    return Samples(
        samples.ids,
        {m: x.copy() for m, x in samples.features.items()},
        {m: v.copy() for m, v in samples.valid.items()},
        samples.targets.copy(),
    )


def poisoned(
    samples: Samples, masks: Mapping[str, np.ndarray], poison: float | None = None
) -> Samples:
    """The same samples with other values where `masks` hide them: NaN, or `poison` times as large."""
    other = copied(samples)
    for m, x in other.features.items():
        hidden = ~masks[m]
        x[hidden] = np.nan if poison is None else poison * (1 + x[hidden])
    return other


def some_hidden(valid: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sample i lacks the modality i modulo M + 1 and, of each other one, its second valid frame."""
    names = list(valid)
    masks = {}
    for column, m in enumerate(names):
        rows = np.arange(len(valid[m])) % (len(names) + 1)
        masks[m] = valid[m] & (rows != column)[:, None] & (valid[m].cumsum(1) != 2)
    return masks


def nothing(valid: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Everything is hidden."""
    return {m: np.zeros_like(v) for m, v in valid.items()}


class SameEveryTime(MissingnessSampler):
    """Hides what `some_hidden` does, in every epoch."""

    name, version, summary = "same-every-time", 1, "the same frames in every epoch"

    def draw(
        self, valid: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """What `some_hidden` does."""
        return some_hidden(valid)

    def sweep(
        self, valid: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> Iterator[dict[str, np.ndarray]]:
        """The same."""
        yield some_hidden(valid)
