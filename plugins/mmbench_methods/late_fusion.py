"""Late fusion: one encoder per modality, a learned vector for an absent one, one head.

No paper: a small honest baseline, which any method for missing modalities should beat. It has HRLF's
front end and nothing else, and trains on the same incomplete samples (msm@1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import mmbench
from mmbench.nn import Dropout, FrontEnd, mlp


class LateFusion(mmbench.Method):
    """Encodes each modality alone and predicts from the concatenation."""

    name = "late-fusion"
    summary = "one Transformer per modality, a learned vector for an absent one, one head"

    def __init__(self, spec: mmbench.DataSpec, *, width: int = 40, depth: int = 2) -> None:
        super().__init__(spec)
        self.front = FrontEnd(spec, width, depth)
        self.absent = nn.Parameter(torch.zeros(len(spec.modalities), width))
        self.dropout = Dropout(spec.schedule.output_dropout)
        self.head = mlp(width * len(spec.modalities), width, spec.task.n_out)

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """The concatenation (B, M d)."""
        seen = batch.available[..., None]  # (B, M, 1)
        return torch.where(seen, self.front(batch), self.absent).flatten(1)

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """(B, n_out)."""
        return self.head(self.dropout(self.represent(batch)))


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """The baseline."""
    return LateFusion
