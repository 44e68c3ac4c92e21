"""Features in units of their own size, for methods that make features and are judged by the squared error.

A pitch in hertz beside an embedding near 0 would otherwise be all that such a loss sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

import mmbench


class Scale(nn.Module):
    """Divides each feature by its root mean square over the valid frames of training; a hidden 0 stays 0."""

    size: Tensor

    def __init__(self, spec: mmbench.DataSpec) -> None:
        super().__init__()
        self.widths = spec.widths
        self.register_buffer("size", torch.ones(sum(self.widths.values())))

    def measure(self, batches: Iterable[mmbench.Batch]) -> None:
        """From complete training batches. A feature that is always 0 keeps the size 1."""
        total = torch.zeros_like(self.size, dtype=torch.float64)
        count = torch.zeros_like(total)
        for batch in batches:
            x, valid = batch.features, batch.valid  # padding is 0 and adds nothing to the sum
            total += torch.cat([x[m].square().sum((0, 1), dtype=total.dtype) for m in self.widths])
            count += torch.cat([valid[m].sum().expand(d) for m, d in self.widths.items()])
        mean = total / count.clamp(min=1)
        self.size.copy_(torch.where(mean > 0, mean.sqrt(), 1.0))

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By modality (B, T, D) to the same."""
        sizes = torch.split(self.size, list(self.widths.values()))
        return {m: features[m] / size for m, size in zip(self.widths, sizes, strict=True)}
