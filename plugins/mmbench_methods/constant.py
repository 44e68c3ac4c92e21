"""The prior: predicts for every sample what the training targets alone say.

No paper. It is what a model falls back to when it sees nothing. The *floor* of a table may lie above
it: the floor is the best constant in hindsight, this one has to choose on the training split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

import mmbench


class Constant(mmbench.Method):
    """Mean score or log-prior of the training targets."""

    name = "constant"
    summary = "the training targets' mean or prior, whatever the input"
    competes = False

    outputs: Tensor

    def __init__(self, spec: mmbench.DataSpec) -> None:
        super().__init__(spec)
        self.register_buffer("outputs", torch.zeros(spec.task.n_out))

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """(B, n_out), every row the same."""
        return self.outputs.expand(len(batch), -1)

    def stages(self) -> Sequence[mmbench.Stage]:
        """One look at the targets."""
        return [mmbench.Stage("count", data="complete", steps=[], epochs=0, prepare=self.count)]

    def count(self, batches: Iterable[mmbench.Batch]) -> None:
        """Sets the outputs to the task's prior."""
        targets = torch.cat([batch.truth for batch in batches]).cpu().numpy()  # (N, L)
        self.outputs.copy_(torch.from_numpy(self.spec.task.prior(targets)))

    def deployed(self) -> Sequence[nn.Module]:
        """The buffer alone."""
        return []


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """The prior."""
    return Constant
