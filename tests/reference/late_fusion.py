"""Late fusion: an encoder per modality, a learned vector for an absent one, one head.

Letters: B samples, M modalities, d embedding size, L labels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import Adam, adam
from tests.reference.encoder import Encoders, two_layers


class LateFusion(nn.Module):
    """logits = MLP([Z_1; ...; Z_M]), with a parameter for Z_m where no frame of m is observed."""

    def __init__(self, spec: DataSpec, *, width: int = 40, depth: int = 2) -> None:
        super().__init__()
        self.encoders = Encoders(spec, width, depth)
        self.absent = nn.Parameter(torch.zeros(len(spec.modalities), width))
        self.dropout = nn.Dropout(spec.schedule.output_dropout)
        self.head = two_layers(len(spec.modalities) * width, width, spec.task.n_out)

    def represent(self, batch: Batch) -> Tensor:
        """[Z_1; ...; Z_M] (B, Md)."""
        parts = []
        for m, z in enumerate(self.encoders(batch)):
            seen = list(batch.observed.values())[m].any(1)  # (B,)
            parts.append(torch.where(seen[:, None], z, self.absent[m]))
        return torch.cat(parts, -1)

    def forward(self, batch: Batch) -> Tensor:
        """(B, 2L)."""
        return self.head(self.dropout(self.represent(batch)))


def loss(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The cross-entropy of each label's two logits."""
    return {"task": F.cross_entropy(logits.reshape(-1, 2), batch.truth.reshape(-1))}


def train_step(model: LateFusion, adam: Adam, batch: Batch) -> dict[str, Tensor]:
    """One update; returns the loss."""
    terms = loss(model(batch), batch)
    adam.step(terms)
    return terms


class Trainer:
    """Updates by one Adam."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        self.model = LateFusion(spec, **settings)
        self.adam = adam(spec, self.model)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One, on an incomplete batch; returns the loss."""
        return train_step(self.model, self.adam, batch)
