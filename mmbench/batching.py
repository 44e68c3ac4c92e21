"""Samples and masks become batches: what is hidden turns to zeros and a False mask.

Letters: B samples of a batch, T[m] frames and D[m] features of modality m, L labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.data import Samples


@dataclass(frozen=True)
class Batch:
    """What a method sees."""

    features: Mapping[str, Tensor]
    """By modality: float32 (B, T[m], D[m]), zero where not observed."""
    observed: Mapping[str, Tensor]
    """By modality: bool (B, T[m]), False for hidden frames and for padding."""
    valid: Mapping[str, Tensor]
    """By modality: bool (B, T[m]), False for padding, and for all of a modality that is not observed
    at all: how long a hidden sequence was is hidden too."""
    targets: Tensor | None = None
    """(B, L) in training, None in testing."""
    index: Tensor | None = None
    """(B,) rows of the training split, None in testing."""
    complete: Batch | None = None
    """The same samples with nothing hidden, for stages on paired data."""
    given: Any = None
    """What the stage's `given` made of the same samples, complete: rows (B, ...) of each tensor."""
    epoch: int = 0
    """The pass over the training split that the batch belongs to, from 1."""

    def __len__(self) -> int:
        return len(next(iter(self.valid.values())))

    @property
    def device(self) -> torch.device:
        """Where its tensors lie."""
        return next(iter(self.valid.values())).device

    @property
    def available(self) -> Tensor:
        """Bool (B, M): which modalities have an observed frame, in the data set's order."""
        return torch.stack([seen.any(-1) for seen in self.observed.values()], -1)

    @property
    def truth(self) -> Tensor:
        """The targets of a training batch."""
        if self.targets is None:
            raise ValueError("there are no targets in testing; a prediction must not ask for them")
        return self.targets


class Split:
    """One split on a device, from which batches are cut."""

    def __init__(self, samples: Samples, device: torch.device | str = "cpu") -> None:
        self.samples = samples
        self.device = torch.device(device)
        self.features = {m: torch.from_numpy(x).to(device) for m, x in samples.features.items()}
        self.valid = {m: torch.from_numpy(v).to(device) for m, v in samples.valid.items()}
        self.targets = torch.from_numpy(samples.targets).to(device)

    def __len__(self) -> int:
        return len(self.samples)

    def batch(
        self, rows: np.ndarray | slice, masks: Mapping[str, np.ndarray] | None = None
    ) -> Batch:
        """The samples at `rows` as a method meets them in testing; `masks` (B, T[m]), None for complete."""
        at = torch.from_numpy(rows).to(self.device) if isinstance(rows, np.ndarray) else rows
        valid = {m: v[at] for m, v in self.valid.items()}
        features = {m: x[at] for m, x in self.features.items()}
        if masks is None:
            return Batch(features, valid, valid)
        observed = {m: valid[m] & torch.from_numpy(k).to(self.device) for m, k in masks.items()}
        return conceal(features, valid, observed)

    def training_batch(
        self,
        rows: np.ndarray,
        masks: Mapping[str, np.ndarray] | None,
        *,
        paired: bool = False,
        epoch: int = 0,
    ) -> Batch:
        """The same with targets and index and, if `paired`, the complete samples."""
        index = torch.from_numpy(rows).to(self.device)
        known = partial(replace, targets=self.targets[index], index=index, epoch=epoch)
        complete = known(self.batch(rows)) if paired else None
        return known(self.batch(rows, masks), complete=complete)


def conceal(
    features: Mapping[str, Tensor], valid: Mapping[str, Tensor], observed: Mapping[str, Tensor]
) -> Batch:
    """A batch in which what is not observed is zero, whatever stood there, NaN included."""
    return Batch(
        {m: x.where(observed[m][..., None], 0.0) for m, x in features.items()},
        dict(observed),
        {m: v & observed[m].any(-1, keepdim=True) for m, v in valid.items()},
    )


def in_order(count: int, size: int) -> Iterator[slice]:
    """0 ... count-1 in slices of `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
