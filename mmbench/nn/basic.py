"""The smallest pieces: dropout, linear layers that start well, positions, where a sequence ends.

Letters: B samples, T frames, d embedding size.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmbench.randomness import current


def linear(width_in: int, width_out: int, *, relu: bool = False, bias: bool = True) -> nn.Linear:
    """A linear layer that starts so that what passes keeps its size, `relu` if a ReLU follows.

    He et al., Delving Deep into Rectifiers, 2015, eq. 10. By torch's own start each layer with ReLU
    leaves a sixth of the variance: after an encoder and an hourglass nothing of the input is left in the
    output, and any loss on an inner representation drowns the task's.
    """
    layer = nn.Linear(width_in, width_out, bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if relu else "linear")
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of these widths with ReLU between."""
    last = len(widths) - 2
    layers: list[nn.Module] = []
    for number, (width_in, width_out) in enumerate(pairwise(widths)):
        layers.append(linear(width_in, width_out, relu=number < last))
        if number < last:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def attended(valid: Tensor) -> Tensor:
    """The frames (..., T) to attend to: the valid ones, or the first alone where none is.

    There is always something to attend to, then, and a row of empty frames tells no more than one.
    """
    first = torch.arange(valid.shape[-1], device=valid.device) == 0
    return valid | (first & ~valid.any(-1, keepdim=True))


def last_valid(valid: Tensor) -> Tensor:
    """The position (B,) of the last True of each row (B, T); T-1 for a row without one."""
    steps = torch.arange(valid.shape[1], device=valid.device)
    last = (valid * (steps + 1)).amax(1) - 1  # (B,), -1 where nothing is valid
    return torch.where(last < 0, valid.shape[1] - 1, last)


def positional_encoding(length: int, width: int) -> Tensor:
    """The fixed sinusoids (T, d) of "Attention Is All You Need", section 3.5: sine even, cosine odd."""
    position = torch.arange(length, dtype=torch.float64)[:, None]  # (T, 1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    angles = position * rate  # (T, ceil(d / 2))
    waves = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)  # (T, 2 ceil(d / 2))
    return waves[:, :width].float()


class Dropout(nn.Module):
    """Drops each element with a probability near `p`, and scales the others up to keep the mean."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """The same in evaluation."""
        if not (self.training and round(256 * self.p)):
            return x
        return x * current().mask(x.shape, self.p, x.device)
