"""The method my-plugin: name the paper here, with its address."""

from __future__ import annotations

import mmbench
import torch

mmbench_interface = 1  # the version of mmbench's hooks that this is written for


class MyPlugin(mmbench.Method):
    """One layer on the mean frame of each modality."""

    name = "my-plugin"
    summary = "one linear layer on the mean frame of each modality"
    paper = ""  # title, authors, venue, address
    deviations = ()  # where this differs from the paper, and why

    def __init__(self, spec: mmbench.DataSpec, *, dropout: float = 0.1) -> None:
        super().__init__(spec)
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(sum(spec.widths.values()), spec.task.n_out)

    def forward(self, batch: mmbench.Batch) -> torch.Tensor:
        """Outputs (B, n_out). What is hidden is zero, and False in the masks."""
        means = [
            features.sum(1) / batch.observed[m].sum(1, keepdim=True).clamp(min=1)
            for m, features in batch.features.items()  # (B, T[m], D[m])
        ]
        return self.head(self.dropout(torch.cat(means, -1)))


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """Tells mmbench of it."""
    return MyPlugin
