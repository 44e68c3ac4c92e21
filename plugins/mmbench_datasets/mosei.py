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
    task = TASK
    schedule = SCHEDULE
    expected_sizes = SIZES
    recipe = Recipe(
        length=50,
        modalities={
            "l": Modality(300, silence=0.03, repeats=0.40, honesty=0.63),
            "a": Modality(74, silence=0.49, repeats=0.0, honesty=0.63),
            "v": Modality(35, silence=0.03, repeats=0.0, honesty=0.25),
        },
        common=0.62,
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
