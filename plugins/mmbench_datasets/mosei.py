"""CMU-MOSEI: 22,856 opinions on many subjects, each with a sentiment score in [-3, 3].

Zadeh et al., Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic
Fusion Graph, ACL 2018.
"""

from __future__ import annotations

import mmbench
from mmbench_datasets.twins import Modality, Recipe, Twin

TASK = mmbench.Regression(-3, 3)
SIZES = {"train": 16326, "valid": 1871, "test": 4659}
SCHEDULE = mmbench.Schedule(  # HRLF, "Implementation Details"; dropout and clipping: MulT, table 5
    learning_rate=2e-3,
    batch_size=16,
    epochs=20,
    heads=8,
    clip=1.0,
    attention_dropout=0.1,
    output_dropout=0.1,
    input_dropout={"l": 0.3},
)


class MOSEI(mmbench.Dataset):
    """The real data, once imported from `mosei_senti_data.pkl` or `mosei_senti_data_noalign.pkl` of MulT."""

    name = "mosei"
    summary = "sentiment of 22,856 opinions, 16326/1871/4659; l 300, a 74, v 35"
    task = TASK
    schedule = SCHEDULE
    expected_sizes = SIZES
    stand_in = "mosei-twin"


class MOSEITwin(Twin):
    """Its synthetic twin."""

    name = "mosei-twin"
    summary = "synthetic: MOSEI's shapes, sizes and label shares, made-up content"
    version = 2
    task = TASK
    schedule = SCHEDULE
    expected_sizes = SIZES
    recipe = Recipe(
        length=50,
        modalities={
            "l": Modality(300, silence=0.13, repeats=0.42, honesty=0.91),
            "a": Modality(74, silence=0.43, repeats=0.53, honesty=0.78),
            "v": Modality(35, silence=0.51, repeats=0.69, honesty=0.67),
        },
        common=0.42,
        counts={
            "train": (4738, 3540, 8048),
            "valid": (506, 433, 932),
            "test": (1350, 1025, 2284),
        },
        steps=9,
    )


@mmbench.hookimpl
def mmbench_register_datasets() -> list[type[mmbench.Dataset]]:
    """The real data and the twin."""
    return [MOSEI, MOSEITwin]
