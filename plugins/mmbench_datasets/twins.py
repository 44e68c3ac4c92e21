"""Synthetic twins: the shapes, sizes, padding and label shares of a real data set, and made-up content.

Every utterance has a label of the real distribution. Each modality says it in a few cue frames among
noise, and says something else with a probability of its own, smallest for language. A speaker's offset,
unlike from one utterance to the next, is added to every frame. What a model scores on a twin says
nothing about the real data.

Letters: N samples, T frames, D[m] features of modality m, C cue directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmbench.data import SPLITS, Data, Samples
from mmbench.streams import stream
from mmbench.tasks import MultiBinary, Task

CHUNK = 1024  # utterances made at a time, which bounds the memory beside the result


@dataclass(frozen=True)
class Modality:
    """How one modality speaks."""

    width: int
    honesty: float
    """Probability that its cues say the true label."""
    strength: float
    """Length of a cue vector; noise has unit variance in every feature."""


@dataclass(frozen=True)
class Recipe:
    """All that a twin is made of."""

    name: str
    version: int
    task: Task
    length: int
    modalities: Mapping[str, Modality]
    counts: Mapping[str, tuple[int, ...]]
    """By split: utterances of each emotion or, for a score, of negative, zero and positive ones."""
    grid: float = 1.0
    """Step between two scores."""
    cue_share: float = 0.3
    """Share of an utterance's frames that carry a cue."""
    speaker: float = 0.5
    """Standard deviation of the speaker's offset."""


def make_twin(recipe: Recipe) -> Data:
    """The twin, a pure function of its recipe."""
    return Data(
        name=recipe.name,
        task=recipe.task,
        splits={split: _split(recipe, split) for split in SPLITS},
        synthetic=True,
        source={"generator": f"{recipe.name}@{recipe.version}"},
    )


def _split(recipe: Recipe, split: str) -> Samples:
    rng = stream(recipe.name, recipe.version, split, "labels")
    classes = rng.permutation(np.repeat(np.arange(len(recipe.counts[split])), recipe.counts[split]))
    scores = _scores(recipe, classes, rng)  # (N,), 0 where the task has none
    n = len(classes)
    words = np.clip(np.rint(rng.gamma(4.0, recipe.length / 9, n)), 2, recipe.length).astype(int)
    valid = np.arange(recipe.length) >= recipe.length - words[:, None]  # (N, T), padded in front
    features = {
        m: _sequences(recipe, split, m, classes, scores, valid) for m in recipe.modalities
    }
    if isinstance(recipe.task, MultiBinary):
        targets = np.eye(len(recipe.task.labels), dtype=np.int64)[classes]
    else:
        targets = scores.astype(np.float32)[:, None]
    return Samples(
        tuple(f"{recipe.name}/{split}/{row:05d}" for row in range(n)),
        features,
        {m: valid.copy() for m in features},
        recipe.task.check(targets),
    )


def _scores(recipe: Recipe, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Signed scores on the grid up to 3, weak ones more often, for classes negative, zero, positive."""
    if isinstance(recipe.task, MultiBinary):
        return np.zeros(len(classes))
    steps = int(round(3 / recipe.grid))
    sizes = 1 + rng.binomial(steps - 1, 0.45, len(classes))
    return (classes - 1) * sizes * recipe.grid


def _sequences(
    recipe: Recipe,
    split: str,
    modality: str,
    classes: np.ndarray,
    scores: np.ndarray,
    valid: np.ndarray,
) -> np.ndarray:
    """One modality of one split, float32 (N, T, D), zero in padding."""
    kind = recipe.modalities[modality]
    # The vocabulary of cues is the same in every split.
    words = stream(recipe.name, recipe.version, modality, "vocabulary")
    n_classes = len(recipe.counts[split])
    directions = words.standard_normal((n_classes + 1, kind.width))
    directions *= kind.strength / np.linalg.norm(directions, axis=1, keepdims=True)  # (C, D)

    rng = stream(recipe.name, recipe.version, split, modality)
    n, length = valid.shape
    shares = np.array(recipe.counts[split]) / len(classes)
    other = rng.choice(n_classes, n, p=shares)
    honest = rng.random(n) < kind.honesty
    said = np.where(honest, classes, other)  # (N,)
    size = np.where(honest, np.abs(scores), rng.permutation(np.abs(scores))) / 3  # (N,)
    cue = directions[said]  # (N, D): which class; for a score, a last direction says how strongly
    if not isinstance(recipe.task, MultiBinary):
        cue = cue + (np.sign(said - 1) * size)[:, None] * directions[-1]
    # The frames with the smallest random number carry the cue, at least one of each utterance.
    rank = np.where(valid, rng.random(valid.shape), 2.0).argsort(1).argsort(1)  # (N, T)
    carries = rank < np.maximum(1, np.rint(recipe.cue_share * valid.sum(1, keepdims=True)))
    offset = recipe.speaker * rng.standard_normal((n, kind.width), dtype=np.float32)
    out = np.empty((n, length, kind.width), np.float32)
    for start in range(0, n, CHUNK):
        at = slice(start, start + CHUNK)
        x = rng.standard_normal(out[at].shape, dtype=np.float32)
        x += offset[at, None]
        x += carries[at, :, None] * cue[at, None].astype(np.float32)
        out[at] = x * valid[at, :, None]
    return out
