"""The protocol my-plugin: the beginning of every sequence is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mmbench
import numpy as np

mmbench_interface = 1  # the version of mmbench's hooks that this is written for

RATES = (0.0, 0.25, 0.5, 0.75)


class MyPlugin(mmbench.MissingnessProtocol):
    """A condition for each share of the frames that is missing, the first ones."""

    name = "my-plugin"
    version = 1  # a change of any mask is a new version
    summary = "the beginning of every sequence is missing"
    average = "Avg."
    average_formula = "arithmetic mean of the incomplete conditions"

    def conditions(self, modalities: Sequence[str]) -> tuple[mmbench.Condition, ...]:
        """The columns of the table, in order."""
        return tuple(
            mmbench.Condition(
                name=str(rate),
                title=f"first {rate:.0%}",
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
        """By modality bool (N, T[m]), True where seen: of the arguments alone."""
        masks = {}
        for m, frames in valid.items():
            place = np.cumsum(frames, 1)  # of each valid frame among its own, from 1
            hidden = np.rint(condition.rate * frames.sum(1, keepdims=True))
            masks[m] = frames & (place > hidden)
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
