"""Frames go missing inside every modality, at ten rates, as in HRLF's curves.

Exactly round(p * n_valid) frames of each sequence are hidden. Each modality has masks of its own, and
the frames hidden at one rate stay hidden at a higher one, so a curve is as smooth as the method is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

import mmbench
from mmbench.missingness import Masks, hashed_priority, hide

RATES = tuple(k / 10 for k in range(1, 11))


class Intra(mmbench.MissingnessProtocol):
    """p = 0.1 ... 1.0 of the valid frames of every modality; at 1.0 a method sees nothing."""

    name = "intra"
    version = 1
    summary = "frames are missing in every modality, at rates 0.1 to 1.0"
    mask_seeds = 3
    average = "AUC"
    average_formula = "area under the score over p by the trapezoid rule, divided by 0.9, its width"

    def conditions(self, modalities: Sequence[str]) -> tuple[mmbench.Condition, ...]:
        """One for each rate, ascending."""
        return tuple(
            mmbench.Condition(f"{p:.1f}", f"p={p:.1f}", tuple(modalities), rate=p) for p in RATES
        )

    def masks(
        self,
        condition: mmbench.Condition,
        valid: Masks,
        *,
        ids: Sequence[str],
        dataset: str,
        split: str,
        mask_seed: int,
    ) -> dict[str, np.ndarray]:
        """By modality bool (N, T[m]). The rate is not in the keys: that nests the masks."""
        masks = {}
        for m, frames in valid.items():
            # a JSON list, for it stays unambiguous whatever characters an id has
            keys = tuple(json.dumps([self.id, dataset, split, i, m, mask_seed]) for i in ids)
            masks[m] = hide(frames, _priority(frames, keys), condition.rate)
        return masks

    def summarise(
        self, scores: Mapping[str, float], conditions: Sequence[mmbench.Condition]
    ) -> float:
        """The mean height of the curve: a constant score keeps its value."""
        area = sum(
            (scores[left.name] + scores[right.name]) / 2 * (right.rate - left.rate)
            for left, right in pairwise(conditions)
        )
        return area / (conditions[-1].rate - conditions[0].rate)


def _priority(valid: np.ndarray, keys: tuple[str, ...]) -> np.ndarray:
    return _remembered(valid.tobytes(), valid.shape[1], keys)


@lru_cache(maxsize=8)  # the rates of one mask seed share it: hashing takes longer than the rest
def _remembered(valid: bytes, length: int, keys: tuple[str, ...]) -> np.ndarray:
    return hashed_priority(np.frombuffer(valid, bool).reshape(len(keys), length), keys)


@mmbench.hookimpl
def mmbench_register_missingness() -> type[mmbench.MissingnessProtocol]:
    """The protocol."""
    return Intra
