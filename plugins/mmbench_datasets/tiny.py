"""A synthetic data set of 200 samples, for tests and first tries: three modalities, one score."""

from __future__ import annotations

import mmbench
from mmbench_datasets.twins import Modality, Recipe, Twin


class Tiny(Twin):
    """Made in no time, trained on in seconds."""

    name = "tiny"
    summary = "synthetic: 200 samples of three modalities, for tests and first tries"
    task = mmbench.Regression(-3, 3)
    schedule = mmbench.Schedule(batch_size=16, epochs=10, heads=4)
    version = 2
    first_try = True
    recipe = Recipe(
        length=8,
        modalities={
            "l": Modality(8, silence=0.05, repeats=0.5, honesty=0.7, cues=0.4),
            "a": Modality(5, silence=0.3, repeats=0.5, honesty=0.5, cues=0.4),
            "v": Modality(6, silence=0.3, repeats=0.5, honesty=0.4, cues=0.4),
        },
        common=0.7,
        counts={
            "train": (8, 24, 18, 10, 22, 29, 9),
            "valid": (3, 8, 6, 3, 7, 10, 3),
            "test": (3, 8, 6, 3, 7, 10, 3),
        },
        scores=(-3, -2, -1, 0, 1, 2, 3),
    )


@mmbench.hookimpl
def mmbench_register_datasets() -> type[mmbench.Dataset]:
    """The one."""
    return Tiny
