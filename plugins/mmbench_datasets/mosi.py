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
    """Its synthetic twin. How often each score occurs was counted in the real data, by split.

    Scores are means over five annotators, so multiples of 1/5; the few that are not count for the
    nearest, and halves for that neighbour which rounds to the same class.
    """

    name = "mosi-twin"
    summary = "synthetic: MOSI's shapes, sizes and label shares, made-up content"
    version = 3
    task = TASK
    schedule = SCHEDULE
    expected_sizes = SIZES
    recipe = Recipe(
        length=50,
        modalities={
            "l": Modality(300, silence=0.04, repeats=0.59, honesty=0.72),
            "a": Modality(5, silence=0.44, repeats=0.63, honesty=0.57),
            "v": Modality(20, silence=0.53, repeats=0.89, honesty=0.03),
        },
        common=0.70,
        counts={
            "train": (
                *(3, 9, 12, 13, 30, 53, 42, 61, 38, 42, 62, 54, 31, 60, 42),
                53,
                *(46, 47, 41, 42, 38, 42, 64, 64, 69, 77, 67, 36, 26, 16, 4),
            ),
            "valid": (
                *(4, 3, 3, 6, 6, 8, 3, 7, 8, 11, 5, 3, 5, 9, 11),
                13,
                *(5, 11, 3, 10, 9, 7, 10, 7, 10, 12, 14, 7, 9, 5, 5),
            ),
            "test": (
                *(5, 20, 21, 23, 27, 42, 31, 33, 35, 26, 43, 19, 22, 20, 12),
                30,
                *(22, 22, 21, 29, 15, 26, 22, 22, 19, 31, 15, 13, 9, 8, 3),
            ),
        },
        scores=tuple(k / 5 for k in range(-15, 16)),
    )


@mmbench.hookimpl
def mmbench_register_datasets() -> list[type[mmbench.Dataset]]:
    """The real data and the twin."""
    return [MOSI, MOSITwin]
