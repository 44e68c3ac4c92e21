"""What goes missing in training: whole modalities and, in those that stay, frames.

HRLF names the strategy, Modality Stochastic Missing, and prints no distribution; this one gives every
set of modalities the same mass, and so covers every condition of `inter` and `intra` below 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import mmbench
from mmbench.missingness import Masks, hide, subsets


class MSM(mmbench.MissingnessSampler):
    """Per sample, a set of modalities that stay; in each, a rate p of 0, 0.1 ... 0.9 by itself.

    The set is uniform over the non-empty sets of what the sample has. Of n valid frames round(p * n)
    are hidden but never all: a modality that stays shows a frame. A sample is spared altogether with
    probability `p_complete`.
    """

    name = "msm"
    version = 1
    summary = (
        "a random non-empty set of modalities, each with a random rate below 1 of frames hidden"
    )

    def __init__(self, p_complete: float = 0.0) -> None:
        if not 0 <= p_complete <= 1:
            raise mmbench.UsageError(f"p_complete must lie in [0, 1], got {p_complete:g}")
        self.p_complete = p_complete

    def draw(self, valid: Masks, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Fresh masks of some samples: by modality bool (B, T[m])."""
        n_valid = _n_valid(valid)
        present = n_valid > 0  # (B, M)
        # A non-empty set of k modalities is a number in 1 ... 2^k - 1, one bit for each.
        number = rng.integers(1, np.maximum(2 ** present.sum(1), 2))  # (B,)
        bit = np.maximum(present.cumsum(1) - 1, 0)  # (B, M)
        return self._hide(valid, n_valid, number[:, None] >> bit & 1 == 1, rng)

    def sweep(self, valid: Masks, rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
        """For each non-empty set of modalities, masks of all samples: by modality bool (N, T[m]).

        A sample that has none of the set's modalities is left with nothing, as it is in testing.
        """
        n_valid = _n_valid(valid)
        for subset in subsets(list(valid)):
            stays = np.array([[m in subset for m in valid]])  # (1, M)
            yield self._hide(valid, n_valid, stays, rng)

    def _hide(
        self, valid: Masks, n_valid: np.ndarray, stays: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draws rates and frames. n_valid (N, M); stays, which modalities do, (N, M) or (1, M)."""
        rate = rng.integers(0, 10, n_valid.shape) / 10  # (N, M)
        rate = np.minimum(rate, 1 - 1 / np.maximum(n_valid, 1))  # hides n_valid - 1 at most
        rate = np.where(stays, rate, 1.0)
        rate[rng.random(len(rate)) < self.p_complete] = 0.0
        return {
            m: hide(frames, rng.random(frames.shape), rate[:, [column]])
            for column, (m, frames) in enumerate(valid.items())
        }


def _n_valid(valid: Masks) -> np.ndarray:
    """Valid frames by sample and modality, int (N, M)."""
    return np.stack([frames.sum(1) for frames in valid.values()], 1)


@mmbench.hookimpl
def mmbench_register_missingness() -> type[mmbench.MissingnessSampler]:
    """The sampler."""
    return MSM
