"""Which frames are seen: the protocols that test methods, and the samplers that train them.

A mask is a dict, by modality, of bool (N, T[m]): True where a frame is observed. Padding is never
observed and never counted as missing.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Condition:
    """One column of a table."""

    name: str
    """Short and unique in its protocol, e.g. "la" or "0.3"."""
    title: str
    """As the column is headed, e.g. "{l, a}" or "p=0.3"."""
    observed: tuple[str, ...]
    """Modalities that are there."""
    rate: float = 0.0
    """Share of their valid frames that is hidden."""
    complete: bool = False
    """True for a reference that the summary leaves out."""


class MissingnessProtocol(ABC):
    """A versioned list of conditions and, for each, which frames are observed: a pure function.

    A change of any mask is a new version. Subclass and register it as a plugin.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    summary: ClassVar[str]
    mask_seeds: ClassVar[int] = 1
    """How many masks each condition is tested with."""
    average: ClassVar[str]
    """Heading of the summary column."""
    average_formula: ClassVar[str]

    @property
    def id(self) -> str:
        """Name and version, e.g. "inter@1"."""
        return f"{self.name}@{self.version}"

    @abstractmethod
    def conditions(self, modalities: Sequence[str]) -> tuple[Condition, ...]:
        """The columns for a data set of these modalities, in order."""

    @abstractmethod
    def masks(
        self,
        condition: Condition,
        valid: Masks,
        *,
        ids: Sequence[str],
        dataset: str,
        split: str,
        mask_seed: int,
    ) -> dict[str, np.ndarray]:
        """What is observed of the samples called `ids`, whose valid frames are `valid`."""

    @abstractmethod
    def summarise(self, scores: Mapping[str, float], conditions: Sequence[Condition]) -> float:
        """The summary column from the scores by condition name, in which it is linear."""


class MissingnessSampler(ABC):
    """What goes missing in training. Subclass and register it as a plugin."""

    name: ClassVar[str]
    version: ClassVar[int]
    summary: ClassVar[str]

    @property
    def id(self) -> str:
        """Name and version, e.g. "msm@1"."""
        return f"{self.name}@{self.version}"

    @abstractmethod
    def draw(self, valid: Masks, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Fresh masks for one epoch of the training split."""

    @abstractmethod
    def sweep(self, valid: Masks, rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
        """Masks of the whole validation split that together stand for what `draw` may give."""


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, by size and then in the data set's order; the complete set is last."""
    sizes = range(1, len(modalities) + 1)
    return [subset for size in sizes for subset in combinations(modalities, size)]


def joined(subset: Sequence[str]) -> str:
    """A short name of a subset: "la", or "text+audio" where names are longer than a letter."""
    return ("" if all(len(m) == 1 for m in subset) else "+").join(subset)


def n_hidden(rate: float | np.ndarray, n_valid: np.ndarray) -> np.ndarray:
    """How many of `n_valid` frames a rate hides: the nearest whole number, a half to the even one."""
    # 0.7 * 45 is 31.499999999999996 in binary: a half has to be a half before it is rounded
    return np.rint(np.round(np.multiply(rate, n_valid), 9)).astype(np.int64)


def hide(valid: np.ndarray, priority: np.ndarray, rate: float | np.ndarray) -> np.ndarray:
    """Hides exactly round(rate * n_valid) valid frames of each sample, lowest priority first.

    valid (N, T) bool; priority (N, T); rate a number or (N, 1). For one priority the hidden frames of
    a smaller rate are among those of a larger one.
    """
    order = np.lexsort((priority, ~valid))  # (N, T), valid frames first
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(valid.shape[1])[None], 1)
    return valid & (rank >= n_hidden(rate, valid.sum(1, keepdims=True)))


def hashed_priority(valid: np.ndarray, keys: Sequence[str]) -> np.ndarray:
    """A random priority, uint64 (N, T), of each valid frame: a pure function of the sample's key.

    Frame k of a sample's valid frames takes the k-th word of SHAKE-128(key), so neither the side nor
    the amount of padding matters, nor any library's generator.
    """
    priority = np.zeros(valid.shape, np.uint64)
    for row, (key, frames) in enumerate(zip(keys, valid, strict=True)):
        n = int(frames.sum())
        words = hashlib.shake_128(key.encode()).digest(8 * n)
        priority[row, frames] = np.frombuffer(words, "<u8")
    return priority
