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
    """Its synthetic twin. Scores are multiples of 1/3, as means over three annotators are.

    Real are the counts of negative, zero and positive by split (the table of MMSA), and the shares of the
    strengths in (0, 1], (1, 2] and (2, 3] on each side of zero, which are those of all 23,259 labelled
    segments: 3609, 2253, 821 negative and 7576, 3225, 675 positive (s3prl, downstream/mosei/utility).
    Approximate: these shares are taken for those of every split, and the three scores within a strength
    are made equally common, but 3 : 2 : 1 towards the ends of the scale; no table of them was found.
    """

    name = "mosei-twin"
    summary = "synthetic: MOSEI's shapes, sizes and label shares, made-up content"
    version = 3
    task = TASK
    schedule = SCHEDULE
    expected_sizes = SIZES
    recipe = Recipe(
        length=50,
        modalities={
            "l": Modality(300, silence=0.15, repeats=0.40, honesty=0.90),
            "a": Modality(74, silence=0.44, repeats=0.58, honesty=0.75),
            "v": Modality(35, silence=0.50, repeats=0.82, honesty=0.67),
        },
        common=0.43,
        counts={
            "train": (
                *(97, 194, 291, 533, 532, 532, 853, 853, 853),
                3540,
                *(1771, 1771, 1771, 754, 754, 754, 236, 158, 79),
            ),
            "valid": (
                *(10, 21, 31, 57, 57, 57, 91, 91, 91),
                433,
                *(205, 205, 205, 88, 87, 87, 28, 18, 9),
            ),
            "test": (
                *(28, 55, 83, 152, 152, 151, 243, 243, 243),
                1025,
                *(503, 503, 502, 214, 214, 214, 67, 45, 22),
            ),
        },
        scores=tuple(k / 3 for k in range(-9, 10)),
    )


@mmbench.hookimpl
def mmbench_register_datasets() -> list[type[mmbench.Dataset]]:
    """The real data and the twin."""
    return [MOSEI, MOSEITwin]
