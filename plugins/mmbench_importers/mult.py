"""The pickles of MulT: `mosi_data.pkl`, `mosei_senti_data_noalign.pkl`, `iemocap_data.pkl`, ...

A dict of splits, each a dict of `text`, `audio`, `vision` (N, T, D), `labels` and perhaps `id`. Tsai et
al., Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019, introduced them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mmbench
from mmbench import unpickling
from mmbench.errors import DataError
from mmbench.tasks import MultiBinary
from mmbench_importers._pickles import PickleImporter, place
from mmbench_importers._reading import Reader

EMOTIONS = ("neutral", "happy", "sad", "angry")
"""Columns of the labels of `iemocap_data.pkl`."""


class MulT(PickleImporter):
    """One such file."""

    name = "mult"
    summary = "a pickle of MulT: *_data.pkl or *_data_noalign.pkl with text, audio, vision, labels"
    origin = "MulT"
    labels = "labels"

    def recognises(self, paths: Sequence[Path]) -> bool:
        """One pickle, without the key that only MMSA's have."""
        return (
            len(paths) == 1
            and unpickling.looks_like_pickle(paths[0])
            and not unpickling.mentions(paths[0], b"regression_labels")
        )

    def targets(
        self, reader: Reader, split: str, labels: Any, features: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Scores, or emotions in the order of the task, the rarer half of each present."""
        task, where = reader.dataset.task, place(split, self.labels)
        if not isinstance(task, MultiBinary):
            return reader.targets(where, labels, features)
        order = task.labels
        targets = reader.targets(where, labels, features, lambda x: _emotions(x, order))
        shares = dict(zip(order, targets.mean(0), strict=True))
        often = [f"{label} in {share:.0%}" for label, share in shares.items() if share >= 0.5]
        if often and split == "train":
            raise reader.fail(
                where,
                f"{', '.join(often)} of the samples, expected less than half: the orientation seems "
                "reversed; each pair must be (absent, present)",
            )
        return targets


def _emotions(labels: np.ndarray, order: Sequence[str]) -> np.ndarray:
    """One-hot pairs (N, 4, 2), in the file's order, to 0 and 1 (N, 4) in the task's."""
    if labels.ndim != 3 or labels.shape[1:] != (len(EMOTIONS), 2):
        raise DataError(f"expected the shape (N, {len(EMOTIONS)}, 2), got {labels.shape}")
    if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(-1) == 1).all():
        raise DataError("expected one-hot pairs (absent, present)")
    return labels.argmax(-1)[:, [EMOTIONS.index(label) for label in order]]


@mmbench.hookimpl
def mmbench_register_importers() -> type[mmbench.Importer]:
    """MulT's pickles."""
    return MulT
