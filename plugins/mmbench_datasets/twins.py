"""Synthetic twins: the shapes, sizes, padding and label shares of a real data set, and made-up content.

Each modality of an utterance says a label: with a probability of its own, largest for language, the
true one, else one drawn from the split's shares. It says so in a few cue frames among frames of noise.
A speaker's offset, another one in every utterance, is added to all frames: it drowns much of the cue
in a mean over frames, and a model that finds the cue frames can subtract it. What a model scores on a
twin says nothing about the real data.

Letters: N utterances, T frames, D features of a modality, C classes: emotions or, for a score,
negative, zero and positive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mmbench.data import SPLITS, Data, Dataset, Samples
from mmbench.streams import stream
from mmbench.tasks import MultiBinary

CHUNK = 512
"""Utterances made at a time, which bounds the memory beside the result."""


@dataclass(frozen=True)
class Modality:
    """How one modality speaks."""

    width: int
    honesty: float
    """Probability that its cues say the true label."""
    strength: float
    """Length of a cue vector; the noise of each feature has variance one."""
    speaker: float
    """Standard deviation of the speaker's offset in each feature."""


@dataclass(frozen=True)
class Recipe:
    """All that a twin is made of, but for its name, version and task."""

    length: int
    """Frames T."""
    modalities: Mapping[str, Modality]
    counts: Mapping[str, tuple[int, ...]]
    """By split: utterances of each of the C classes."""
    grid: float = 1.0
    """Step between two scores."""
    cue_share: float = 0.25
    """Share of an utterance's frames that carry a cue."""


class Twin(Dataset):
    """A data set made from a recipe. Subclass it and say the name, the task and the recipe."""

    synthetic = True
    recipe: ClassVar[Recipe]

    def make(self) -> Data:
        """A pure function of name, version and recipe."""
        return Data(
            name=self.name,
            task=self.task,
            splits={split: self._split(split) for split in SPLITS},
            synthetic=True,
            source={"generator": f"{self.name}@{self.version}"},
        )

    def _split(self, split: str) -> Samples:
        rng = stream(self.name, self.version, split, "labels")
        recipe, counts = self.recipe, np.array(self.recipe.counts[split])
        classes: np.ndarray = rng.permutation(np.repeat(np.arange(len(counts)), counts))  # (N,)
        n = len(classes)
        if isinstance(self.task, MultiBinary):
            scores: np.ndarray = np.zeros(n)
            targets = np.eye(len(counts), dtype=np.int64)[classes]  # (N, L)
        else:
            steps = round(3 / recipe.grid)  # weak scores are more common than strong ones
            scores = (classes - 1) * (1 + rng.binomial(steps - 1, 0.4, n)) * recipe.grid
            targets = scores.astype(np.float32)[:, None]  # (N, 1)
        words = np.rint(rng.gamma(4.0, recipe.length / 9, n)).clip(2, recipe.length)
        valid = np.arange(recipe.length) >= recipe.length - words[:, None]  # (N, T)
        return Samples(
            tuple(f"{self.name}/{split}/{row:05d}" for row in range(n)),
            {m: self._sequences(split, m, classes, scores, valid) for m in recipe.modalities},
            {m: valid.copy() for m in recipe.modalities},
            self.task.check(targets),
        )

    def _sequences(
        self, split: str, m: str, classes: np.ndarray, scores: np.ndarray, valid: np.ndarray
    ) -> np.ndarray:
        """Modality `m` of one split, float32 (N, T, D), zero in padding."""
        kind, counts = self.recipe.modalities[m], np.array(self.recipe.counts[split])
        rng = stream(self.name, self.version, split, m)
        (n, length), width = valid.shape, kind.width

        honest = rng.random(n) < kind.honesty
        said = np.where(honest, classes, rng.choice(len(counts), n, p=counts / n))  # (N,)
        size = np.where(honest, np.abs(scores), rng.permutation(np.abs(scores))) / 3  # (N,)
        cues = self._cues(m)
        cue = cues[said]  # (N, D)
        if not isinstance(self.task, MultiBinary):
            cue = cue * (0.5 + size)[:, None]  # a stronger opinion is said in a louder voice

        # the frames of smallest rank carry the cue, at least one of each utterance
        rank = np.where(valid, rng.random(valid.shape), 2.0).argsort(1).argsort(1)  # (N, T)
        carries = rank < np.rint(self.recipe.cue_share * valid.sum(1, keepdims=True)).clip(1)
        out = np.empty((n, length, width), np.float32)
        for start in range(0, n, CHUNK):
            at = slice(start, start + CHUNK)
            x = out[at]  # (chunk, T, D)
            rng.standard_normal(out=x, dtype=np.float32)
            x += kind.speaker * rng.standard_normal((len(x), 1, width), dtype=np.float32)
            x += carries[at, :, None] * cue[at, None].astype(np.float32)
            x *= valid[at, :, None]
        return out

    def _cues(self, m: str) -> np.ndarray:
        """What modality `m` says for each class, the same in every split, float64 (C, D)."""
        kind, counts = self.recipe.modalities[m], self.recipe.counts["train"]
        rng = stream(self.name, self.version, m, "cues")
        cues = rng.standard_normal((len(counts), kind.width))
        if not isinstance(self.task, MultiBinary):
            cues = np.stack([-cues[0], np.zeros(kind.width), cues[0]])  # opposite signs, none for 0
        # a length of zero stays zero
        return kind.strength * cues / np.linalg.norm(cues, axis=1, keepdims=True).clip(1e-9)
