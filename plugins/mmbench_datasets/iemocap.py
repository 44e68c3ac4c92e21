"""IEMOCAP: ten actors in dialogue, four emotions, as four yes-or-no labels per utterance.

Busso et al., IEMOCAP: Interactive emotional dyadic motion capture database, 2008. The split of 2717,
798 and 938 utterances is that of MulT and its successors.
"""

from __future__ import annotations

import mmbench
from mmbench_datasets.twins import Modality, Recipe, Twin

TASK = mmbench.MultiBinary(("happy", "sad", "angry", "neutral"))
SIZES = {"train": 2717, "valid": 798, "test": 938}
SCHEDULE = mmbench.Schedule(  # HRLF, "Implementation Details"; dropout and clipping: MulT, table 5
    learning_rate=4e-3,
    batch_size=32,
    epochs=30,
    heads=10,
    clip=0.8,
    attention_dropout=0.25,
    output_dropout=0.1,
    input_dropout={"l": 0.3},
)


class IEMOCAP(mmbench.Dataset):
    """The real data, once imported from `iemocap_data.pkl` or `iemocap_data_noalign.pkl` of MulT."""

    name = "iemocap"
    summary = "four emotions of actors in dialogue, 2717/798/938 utterances; l 300, a 74, v 35"
    task = TASK
    schedule = SCHEDULE
    expected_sizes = SIZES
    stand_in = "iemocap-twin"


class IEMOCAPTwin(Twin):
    """Its synthetic twin."""

    name = "iemocap-twin"
    summary = "synthetic: IEMOCAP's shapes, sizes and label shares, made-up content"
    version = 3
    task = TASK
    schedule = SCHEDULE
    expected_sizes = SIZES
    recipe = Recipe(
        length=20,
        modalities={  # honesty: happy, sad, angry, neutral
            "l": Modality(
                300, silence=0.17, repeats=0.15, honesty=(0.84, 0.98, 0.98, 0.0), cues=0.35
            ),
            "a": Modality(
                74, silence=0.81, repeats=0.15, honesty=(0.52, 0.65, 0.96, 0.98), cues=0.35
            ),
            "v": Modality(
                35, silence=0.80, repeats=0.15, honesty=(0.32, 0.16, 0.05, 0.83), cues=0.35
            ),
        },
        common=(0.92, 0.23, 0.90, 0.03),
        counts={  # those of the test split are the real ones; the others have its shares
            "train": (391, 559, 658, 1109),
            "valid": (115, 164, 193, 326),
            "test": (135, 193, 227, 383),
        },
    )


@mmbench.hookimpl
def mmbench_register_datasets() -> list[type[mmbench.Dataset]]:
    """The real data and the twin."""
    return [IEMOCAP, IEMOCAPTwin]
