"""The protocol my-plugin: a run of every sequence is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mmbench
import numpy as np
from mmbench.streams import seed_of

mmbench_interface = 1  # the version of mmbench's hooks that this is written for

RATES = (0.0, 0.25, 0.5, 0.75)


class MyPlugin(mmbench.MissingnessProtocol):
    """A condition for each share of the frames that is missing, side by side."""

    name = "my-plugin"
    version = 1  # a change of any mask is a new version
    summary = "a run of frames is missing in every sequence"
    average = "Avg."
    average_formula = "arithmetic mean of the incomplete conditions"

    def conditions(self, modalities: Sequence[str]) -> tuple[mmbench.Condition, ...]:
        """The columns of the table, in order."""
        return tuple(
            mmbench.Condition(
                name=str(rate),
                title=f"{rate:.0%} missing",
                observed=tuple(modalities),
                rate=rate,
                complete=rate == 0,
            )
            for rate in RATES
        )

    def masks(
        self,
        condition: mmbench.Condition,
        valid: Mapping[str, np.ndarray],
        *,
        ids: Sequence[str],
        dataset: str,
        split: str,
        mask_seed: int,
    ) -> dict[str, np.ndarray]:
        """By modality bool (N, T[m]), True where seen: of the arguments alone.

        Each sample, modality and mask seed has a start of its own, whatever the rate;
        a run goes on at the beginning where the sequence ends.
        """
        masks = {}
        for m, frames in valid.items():
            keys = [(self.id, dataset, split, i, m, mask_seed) for i in ids]
            start = np.array([[seed_of(*key)] for key in keys])  # (N, 1)
            n = frames.sum(1, keepdims=True)  # (N, 1)
            place = (frames.cumsum(1) + start % n.clip(1)) % n.clip(1)
            masks[m] = frames & (place >= np.rint(condition.rate * n))
        return masks

    def summarise(
        self, scores: Mapping[str, float], conditions: Sequence[mmbench.Condition]
    ) -> float:
        """The summary column, in which the scores are linear."""
        return float(np.mean([scores[c.name] for c in conditions if not c.complete]))


@mmbench.hookimpl
def mmbench_register_missingness() -> type[mmbench.MissingnessProtocol]:
    """Tells mmbench of it."""
    return MyPlugin
