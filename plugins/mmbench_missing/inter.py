"""Whole modalities go missing: every set that may be left, then the complete one.

The columns of HRLF's tables and, before it, of MMIN: {l}, {a}, {v}, {l, a}, {l, v}, {a, v} and, for
reference, {l, a, v}. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import mmbench
from mmbench.missingness import Masks, joined, subsets


class Inter(mmbench.MissingnessProtocol):
    """One condition for each non-empty set of modalities; the last has them all."""

    name = "inter"
    version = 1
    summary = "whole modalities are missing: every non-empty subset is tested"
    average = "Avg."
    average_formula = "arithmetic mean of the incomplete conditions"

    def conditions(self, modalities: Sequence[str]) -> tuple[mmbench.Condition, ...]:
        """By size and then in the data set's order; the complete set is last."""
        if len(modalities) < 2:
            raise mmbench.DataError(f"{self.id} needs two modalities, got {', '.join(modalities)}")
        return tuple(
            mmbench.Condition(
                name=joined(subset),
                title="{" + ", ".join(subset) + "}",
                observed=subset,
                complete=len(subset) == len(modalities),
            )
            for subset in subsets(modalities)
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
        """By modality bool (N, T[m]): `valid` where the condition observes it, else False."""
        return {m: frames & (m in condition.observed) for m, frames in valid.items()}

    def summarise(
        self, scores: Mapping[str, float], conditions: Sequence[mmbench.Condition]
    ) -> float:
        """The mean over the conditions that lack a modality."""
        return float(np.mean([scores[c.name] for c in conditions if not c.complete]))


@mmbench.hookimpl
def mmbench_register_missingness() -> type[mmbench.MissingnessProtocol]:
    """The protocol."""
    return Inter
