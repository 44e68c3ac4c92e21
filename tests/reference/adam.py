"""An update as everybody writes it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmbench.data import DataSpec


class Adam:
    """torch's Adam on some modules, after the gradient has been clipped."""

    def __init__(
        self, *modules: nn.Module, learning_rate: float, clip: float, weight_decay: float = 0.0
    ) -> None:
        self.parameters = [p for module in modules for p in module.parameters()]
        self.optimiser = torch.optim.Adam(
            self.parameters, lr=learning_rate, weight_decay=weight_decay
        )
        self.clip = clip

    def step(self, terms: Mapping[str, Tensor]) -> None:
        """Moves down the gradient of the terms' sum."""
        self.optimiser.zero_grad()
        sum(terms.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimiser.step()


def adam(spec: DataSpec, *modules: nn.Module) -> Adam:
    """With the data set's learning rate and clipping."""
    return Adam(*modules, learning_rate=spec.schedule.learning_rate, clip=spec.schedule.clip)
