"""Synthetic twins: the shapes, sizes, padding and label shares of a real data set, and made-up content.

`_generator.py` says what the content is, and computes what can be known from it. How much each modality
tells is set so that the best possible scores lie a little above the best row of HRLF's tables 1 and 2
(`mmbench data ceiling`), never below it, but for cells of the paper that lie below the floor: nobody who may
guess falls so low. Labels are drawn with exactly the counts that a recipe states; each twin says which of
them are real. What a model scores on a twin says nothing about the real data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

import mmbench
from mmbench.streams import stream
from mmbench_datasets._generator import Generator, Modality, Recipe

__all__ = ["Modality", "Recipe", "Twin"]


class Twin(mmbench.Dataset):
    """A data set made from a recipe. Subclass it and say the name, the version, the task and the recipe."""

    synthetic = True
    recipe: ClassVar[Recipe]

    def make(self) -> mmbench.Data:
        """A pure function of name, version and recipe."""
        return mmbench.Data(
            name=self.name,
            task=self.task,
            splits={split: self.split(split) for split in self.recipe.counts},
            synthetic=True,
            source={"generator": f"{self.name}@{self.version}"},
        )

    def split(self, split: str) -> mmbench.Samples:
        """One split."""
        generator, length = self.generator(), self.recipe.length
        values = generator.draw_values(split)
        n = len(values)
        rng = stream(self.name, self.version, split, "lengths")
        words = rng.integers(1, max(length // 3, 1) + 1, (n, 3)).sum(1).clip(2, length)
        valid = np.arange(length) >= length - words[:, None]  # (N, T), padded in front
        return mmbench.Samples(
            tuple(f"{self.name}/{split}/{row:05d}" for row in range(n)),
            generator.draw_frames(split, values, valid),
            {m: valid.copy() for m in self.recipe.modalities},
            self._targets(generator, values),
        )

    def generator(self) -> Generator:
        """What it is drawn from."""
        return Generator(self.recipe, self.name, self.version)

    def oracle(self) -> mmbench.Oracle:
        """The best predictor there is."""
        return TwinOracle(self)

    def _targets(self, generator: Generator, values: np.ndarray) -> np.ndarray:
        if generator.values is not None:
            return self.task.check(generator.values[values])
        if isinstance(self.task, mmbench.MultiBinary):
            return self.task.check(np.eye(generator.n_messages, dtype=np.int64)[values])
        return self.task.check(values)


class TwinOracle(mmbench.Oracle):
    """Knows how the test split was drawn, its label shares too, and decides for what is more probable."""

    def __init__(self, twin: Twin) -> None:
        self.twin, self.generator = twin, twin.generator()
        self.shares = self.generator.value_shares("test")

    def posterior(
        self, features: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """P(value | what is observed), float64 (N, V)."""
        messages = self.generator.posterior("test", features, observed)  # (N, K)
        total = self.generator.shares("test")
        return messages[:, self.generator.messages] * (self.shares / total[self.generator.messages])

    def outputs(self, posterior: np.ndarray) -> np.ndarray:
        """Log-probabilities; for a score its mean, on the side of zero that is more probable."""
        values = self.generator.values
        if values is not None:
            mean = posterior @ values
            lean = posterior @ np.sign(values)
            return np.where(mean * lean > 0, mean, 1e-3 * np.where(lean > 0, 1, -1))[:, None]
        logs = np.log(posterior.clip(1e-300))
        if isinstance(self.twin.task, mmbench.MultiBinary):
            no = np.log((1 - posterior).clip(1e-300))
            return np.stack([no, logs], -1).reshape(len(logs), -1)
        return logs

    def draw(self, posterior: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Targets drawn from the posterior."""
        at = (posterior.cumsum(1) < rng.random((len(posterior), 1))).sum(1)
        return self.twin._targets(self.generator, at.clip(0, posterior.shape[1] - 1))
