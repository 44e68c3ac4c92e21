"""CMU-MOSI: 2199 opinions from 93 videos, each with a sentiment score in [-3, 3].

Zadeh et al., MOSI: Multimodal Corpus of Sentiment Intensity and Subjectivity Analysis in Online Opinion
Videos, 2016. The public pickle has 5 acoustic and 20 visual features, not the 74 and 35 of most papers.
"""

from __future__ import annotations

import mmbench
from mmbench_datasets.twins import Modality, Recipe, Twin

TASK = mmbench.Regression(-3, 3)
SIZES = {"train": 1284, "valid": 229, "test": 686}
SCHEDULE = mmbench.Schedule(  # HRLF, "Implementation Details"; dropout and clipping: MulT, table 5
    learning_rate=1e-3,
    batch_size=128,
    epochs=50,
    heads=10,
    clip=0.8,
    attention_dropout=0.2,
    output_dropout=0.1,
    input_dropout={"l": 0.2},
)


class MOSI(mmbench.Dataset):
    """The real data, once imported from `mosi_data.pkl` or `mosi_data_noalign.pkl` of MulT."""

    name = "mosi"
    summary = "sentiment of 2199 opinions in film reviews, 1284/229/686; l 300, a 5, v 20 in public"
    task = TASK
    schedule = SCHEDULE
    expected_sizes = SIZES
    stand_in = "mosi-twin"


class MOSITwin(Twin):
    """Its synthetic twin."""

    name = "mosi-twin"
    summary = "synthetic: MOSI's shapes, sizes and label shares, made-up content"
    version = 2
    task = TASK
    schedule = SCHEDULE
    expected_sizes = SIZES
    recipe = Recipe(
        length=50,
        modalities={
            "l": Modality(300, silence=0.06, repeats=0.51, honesty=0.72),
            "a": Modality(5, silence=0.44, repeats=0.80, honesty=0.56),
            "v": Modality(20, silence=0.45, repeats=0.69, honesty=0.06),
        },
        common=0.71,
        counts={"train": (552, 53, 679), "valid": (92, 13, 124), "test": (379, 30, 277)},
        steps=15,
    )


@mmbench.hookimpl
def mmbench_register_datasets() -> list[type[mmbench.Dataset]]:
    """The real data and the twin."""
    return [MOSI, MOSITwin]
