"""The pickles of MMSA: `aligned_50.pkl`, `unaligned_50.pkl` of MOSI, MOSEI and others.

A dict of splits, each a dict of `text`, `audio`, `vision` (N, T, D), `regression_labels` (N,), `id`, and
what says how long they are: `text_bert` (N, 3, T), whose middle row is one at each token, and perhaps
`audio_lengths` and `vision_lengths` (N,), which do not say on which side the padding is: zeros do. `text`
is BERT's output, 768 wide, whose padding is not zero.
The transcripts (`raw_text`) are not kept. Mao et al., M-SENA: An Integrated Platform for Multimodal
Sentiment Analysis, ACL 2022, describes the tools that make them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mmbench
from mmbench import unpickling
from mmbench.data import SPLITS
from mmbench_importers._pickles import MODALITIES, Frames, PickleImporter, inferred, place
from mmbench_importers._reading import Reader, kind_of


class MMSA(PickleImporter):
    """One such file."""

    name = "mmsa"
    summary = "a pickle of MMSA: aligned_50.pkl or unaligned_50.pkl with regression_labels"
    origin = "MMSA"
    labels = "regression_labels"

    def recognises(self, paths: Sequence[Path]) -> bool:
        """One pickle that has the key of the labels."""
        return (
            len(paths) == 1
            and unpickling.looks_like_pickle(paths[0])
            and unpickling.mentions(paths[0], self.labels.encode())
        )

    def targets(
        self, reader: Reader, split: str, labels: Any, features: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """The scores."""
        return reader.targets(place(split, self.labels), labels, features)

    def valid(self, reader: Reader, content: Mapping[str, Any], features: Frames) -> Frames:
        """What the file says; for a modality of which it says nothing, what its zeros say.

        Word-aligned audio and vision are as long as the text, unless they have something beyond it.
        """
        keys = {m: MODALITIES[m] for m in features["train"]}
        stated: Frames = {}  # by modality and split here, bool (N, T)
        for m, key in keys.items():
            says = "text_bert" if m == "l" else f"{key}_lengths"
            if all(says in content[s] for s in SPLITS):
                read = _tokens if m == "l" else _lengths
                stated[m] = {
                    s: read(reader, place(s, says), content[s][says], features[s][m])
                    for s in SPLITS
                }
                if m != "l":
                    stated[m] = _on_its_side(
                        stated[m], {s: np.asarray(features[s][m].any(-1)) for s in SPLITS}
                    )
        for m in keys:
            if "l" in stated and m not in stated:
                words = stated["l"]
                if all(
                    words[s].shape == features[s][m].shape[:2]
                    and not (features[s][m].any(-1) & ~words[s]).any()
                    for s in SPLITS
                ):
                    stated[m] = words
        for m, valid in stated.items():
            for s in SPLITS:
                reader.hide(keys[m], s, features[s][m], valid[s])
        guessed = inferred(
            {s: {m: x for m, x in features[s].items() if m not in stated} for s in SPLITS}
        )
        return {
            s: {
                m: stated[m][s] & np.asarray(x.any(-1)).any(1, keepdims=True)
                if m in stated
                else guessed[s][m]
                for m, x in features[s].items()
            }
            for s in SPLITS
        }


def _tokens(reader: Reader, where: str, given: Any, x: np.ndarray) -> np.ndarray:
    """The frames of text x (N, T, D) that are tokens, bool (N, T)."""
    given = reader.numbers(where, given)
    if given.shape != (len(x), 3, x.shape[1]):
        raise reader.fail(where, f"expected the shape {(len(x), 3, x.shape[1])}, got {given.shape}")
    return given[:, 1, :] == 1


def _lengths(reader: Reader, where: str, given: Any, x: np.ndarray) -> np.ndarray:
    """The first frames of x (N, T, D), as many as is said, bool (N, T)."""
    if isinstance(given, (list, tuple)) and all(isinstance(n, (int, np.integer)) for n in given):
        given = np.array(given)
    if (
        not isinstance(given, np.ndarray)
        or given.shape[:1] != (len(x),)
        or given.size != len(x)
        or given.dtype.kind not in "iu"
        or given.min() < 0
    ):
        raise reader.fail(where, f"expected {len(x)} whole numbers, got {kind_of(given)}")
    return np.arange(x.shape[1]) < given.reshape(-1, 1)


def _on_its_side(
    back: Mapping[str, np.ndarray], filled: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """As many frames, bool (N, T) by split, at the end of each sample if more of what is filled lies there.

    `back` has them at the start, padded at the back, where the tools of MMSA pad.
    """
    front = {s: valid[:, ::-1] for s, valid in back.items()}
    lost = [sum(int((filled[s] & ~x[s]).sum()) for s in SPLITS) for x in (back, front)]
    return dict(back) if lost[0] <= lost[1] else front


@mmbench.hookimpl
def mmbench_register_importers() -> type[mmbench.Importer]:
    """MMSA's pickles."""
    return MMSA
