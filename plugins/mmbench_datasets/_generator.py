"""What synthetic twins are drawn from, and what can be known of a label from what is observed.

A label gives each of K messages its chance: with probability `common` the utterance's *shared message*
is the true one, else one drawn from the label shares. A modality is silent with probability `silence`;
else it repeats the shared message with probability `repeats`, or has its own, true with probability
`honesty` and else drawn from the label shares. So modalities are redundant in part, and each knows
something that no other does.

A modality says its message z frame by frame, each frame by itself:

    cue      with probability `cues`     marker + says(z)      the truth about z
    denial   with probability `denials`  -says(z)              without the marker, so that a mean misleads
    chatter  with probability `chatter`  says(j), j uniform    without the marker, about nothing
    pause    else                        nothing

A silent modality has neither cues nor denials. Every frame has noise of variance one in each feature and
the utterance's speaker's offset, one of `speakers`. So the posterior of the label is a sum over speakers,
messages and kinds of frames, given any set of observed frames, and `Generator.posterior` is exact (but for
features being rounded to 1/256, which makes them the same bytes everywhere).

Letters: N utterances, T frames, D features of a modality, K messages, S speakers, E = 3K + 1 kinds of frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbench.streams import stream

CHUNK = 256
"""Utterances worked on at a time, which bounds the memory beside the result."""
GRID = 256
"""Features are multiples of 1 / GRID."""


@dataclass(frozen=True)
class Modality:
    """How one modality speaks."""

    width: int
    """Features D."""
    silence: float
    repeats: float
    honesty: float | Sequence[float]
    """One number, or one for each message."""
    cues: float = 0.2
    denials: float = 0.1
    chatter: float = 0.2
    strength: float = 8.0
    """Length of `says`."""
    marker: float = 6.0
    """Length of the marker."""
    speaker: float = 0.6
    """Standard deviation of a speaker's offset in each feature."""


@dataclass(frozen=True)
class Recipe:
    """All that a twin is made of, but for its name and version."""

    length: int
    """Frames T."""
    modalities: Mapping[str, Modality]
    common: float | Sequence[float]
    """One number, or one for each message."""
    counts: Mapping[str, tuple[int, ...]]
    """By split: utterances of each class, or of each of the scores."""
    scores: tuple[float, ...] | None = None
    """In [-3, 3], ascending; None for classes. Scores have 7 messages: them, rounded away from 0."""
    speakers: int = 8


class Generator:
    """Draws utterances, and knows their posterior."""

    def __init__(self, recipe: Recipe, *key: str | int) -> None:
        """`key` names the random streams: the twin's name and version."""
        self.recipe, self.key = recipe, key
        n_values = len(recipe.scores or next(iter(recipe.counts.values())))
        for split, counts in recipe.counts.items():
            if len(counts) != n_values:
                raise ValueError(f"split {split!r} has {len(counts)} counts for {n_values} values")
        if recipe.scores is None:
            self.values: np.ndarray | None = None
            self.messages: np.ndarray = np.arange(n_values)  # of each value
            self.axis = np.eye(n_values)  # (K, axes), in the space of `says`
        else:
            self.values = np.array(recipe.scores)
            away = np.sign(self.values) * np.ceil(np.abs(self.values) - 1e-9)
            self.messages = 3 + away.astype(int)
            self.axis = np.arange(-3, 4)[:, None] / 3
        self.n_messages = len(self.axis)
        self.voices = {m: _Voice(self, m, kind) for m, kind in recipe.modalities.items()}

    # -- Labels --------------------------------------------------------------------------------

    def value_shares(self, split: str) -> np.ndarray:
        """The chance of each value: classes, or scores from low to high. (V,)"""
        counts = np.array(self.recipe.counts[split], dtype=float)
        return counts / counts.sum()

    def shares(self, split: str) -> np.ndarray:
        """The chance of each message. (K,)"""
        return np.bincount(self.messages, self.value_shares(split), self.n_messages)

    def draw_values(self, split: str) -> np.ndarray:
        """Indices of values (N,), with exactly the split's counts of each."""
        counts = self.recipe.counts[split]
        return self._stream(split, "labels").permutation(np.repeat(np.arange(len(counts)), counts))

    # -- Frames --------------------------------------------------------------------------------

    def draw_frames(
        self, split: str, values: np.ndarray, valid: np.ndarray
    ) -> dict[str, np.ndarray]:
        """By modality float32 (N, T, D), zero in padding."""
        rng = self._stream(split, "messages")
        truth = self.messages[values]
        shares = self.shares(split)
        shared = self._tell(rng, truth, self.recipe.common, shares)
        frames = {}
        for m, voice in self.voices.items():
            kind = voice.kind
            own = self._tell(rng, truth, kind.honesty, shares)
            said = np.where(rng.random(len(truth)) < kind.repeats, shared, own)
            said[rng.random(len(truth)) < kind.silence] = self.n_messages
            frames[m] = voice.draw(self._stream(split, m), said, valid)
        return frames

    def _tell(
        self,
        rng: np.random.Generator,
        truth: np.ndarray,
        honesty: float | Sequence[float],
        shares: np.ndarray,
    ) -> np.ndarray:
        """The true messages (N,), each with its probability, else others by their shares."""
        each = np.broadcast_to(honesty, self.n_messages)
        other = np.searchsorted(shares.cumsum() / shares.sum(), rng.random(len(truth)))
        return np.where(
            rng.random(len(truth)) < each[truth], truth, other.clip(0, self.n_messages - 1)
        )

    # -- What can be known ---------------------------------------------------------------------

    def channel(self, honesty: float | Sequence[float], shares: np.ndarray) -> np.ndarray:
        """P(message told | true message), (K, K): what `_tell` draws from."""
        each = np.broadcast_to(honesty, self.n_messages)[:, None]
        return each * np.eye(self.n_messages) + (1 - each) * shares

    def posterior(
        self, split: str, features: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """P(true message | the observed frames), float64 (N, K), for a split with such label shares."""
        shares = self.shares(split)
        eye = np.eye(self.n_messages)
        count = len(next(iter(observed.values())))
        # axes: utterance, true message, shared message
        joint = np.broadcast_to(
            shares[:, None] * self.channel(self.recipe.common, shares), (count, *eye.shape)
        )
        for m, voice in self.voices.items():
            kind = voice.kind
            own = self.channel(kind.honesty, shares)
            told = (
                kind.repeats * eye[None] + (1 - kind.repeats) * own[:, None]
            )  # (K, K, K): y, s, z
            likelihood = voice.likelihood(features[m], observed[m])  # (N, K + 1)
            spoken = np.einsum("ysz,nz->nys", told, likelihood[:, :-1])
            joint = joint * (
                (1 - kind.silence) * spoken + kind.silence * likelihood[:, -1, None, None]
            )
        either = joint.sum(2)  # (N, K)
        return either / either.sum(1, keepdims=True)

    def _stream(self, *names: str) -> np.random.Generator:
        return stream(*self.key, *names)


class _Voice:
    """One modality: its vectors, and the chance of each kind of frame."""

    def __init__(self, generator: Generator, name: str, kind: Modality) -> None:
        self.kind, n = kind, generator.n_messages
        rng = generator._stream("vectors", name)
        axes = generator.axis.shape[1] + 1
        if kind.width < axes:
            raise ValueError(f"modality {name!r}: {axes} directions need {axes} features")
        # Each direction has features of its own, so that they are orthogonal to the last bit.
        owner = rng.permutation(np.arange(kind.width) % axes)
        sign = rng.integers(0, 2, kind.width) * 2.0 - 1.0
        basis = np.stack([np.where(owner == axis, sign, 0.0) for axis in range(axes)])
        basis /= np.sqrt(np.abs(basis).sum(1, keepdims=True))  # (axes, D), orthonormal
        marker = kind.marker * basis[-1]
        says = kind.strength * generator.axis @ basis[:-1]  # (K, D)
        self.vectors = np.concatenate(
            [np.zeros((1, kind.width)), marker + says, -says, says]
        )  # (E, D)
        speakers = rng.standard_normal((generator.recipe.speakers, kind.width))
        self.speakers = kind.speaker * speakers  # (S, D)
        # chance of each kind of frame for each message, and, last, for silence
        rows = np.arange(n)
        chance = np.zeros((n + 1, 3 * n + 1))
        chance[rows, 1 + rows] = kind.cues
        chance[rows, 1 + n + rows] = kind.denials
        chance[:, 1 + 2 * n :] = kind.chatter / n
        chance[:, 0] = 1 - chance.sum(1)
        self.chance = chance  # (K + 1, E)

    def draw(self, rng: np.random.Generator, said: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Frames float32 (N, T, D) that say `said` (N,), zero where not valid (N, T)."""
        (n, length), width = valid.shape, self.kind.width
        speaker = np.asarray(rng.integers(0, len(self.speakers), n))
        bounds = self.chance.cumsum(1)[said]  # (N, E)
        draws = rng.random((n, length, 1))
        kinds: np.ndarray = (draws >= bounds[:, None, :-1]).sum(-1)  # (N, T)
        vectors, speakers = self.vectors.astype(np.float32), self.speakers.astype(np.float32)
        out = np.empty((n, length, width), np.float32)
        for start in range(0, n, CHUNK):
            at = slice(start, start + CHUNK)
            x = out[at]
            rng.standard_normal(out=x, dtype=np.float32)
            x += speakers[speaker[at], None]
            x += vectors[kinds[at]]
            x *= GRID
            np.rint(x, out=x)
            x /= GRID
            x *= valid[at, :, None]
        return out

    def likelihood(self, features: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """p(observed frames | message), (N, K + 1) with silence last, up to a factor for each row."""
        # ||x - o - e||^2 needs x only through its products with o and e
        both = self.speakers[:, None] + self.vectors  # (S, E, D)
        norm = 0.5 * (both * both).sum(-1)  # (S, E)
        logs = []
        for start in range(0, len(observed), CHUNK):
            at = slice(start, start + CHUNK)
            seen = observed[at]  # (n, T)
            x = features[at][seen].astype(np.float64)  # (F, D), the observed frames
            score = (x @ self.speakers.T)[..., None] + (x @ self.vectors.T)[:, None] - norm
            top = score.max(-1, keepdims=True)  # (F, S, 1)
            frame = np.log(np.exp(score - top) @ self.chance.T) + top  # (F, S, K + 1)
            every = np.zeros((*seen.shape, *frame.shape[1:]))  # (n, T, S, K + 1)
            every[seen] = frame
            logs.append(every.sum(1))  # (n, S, K + 1)
        log = np.concatenate(logs)
        log -= log.max((1, 2), keepdims=True)
        return np.exp(log).mean(1)
