"""Linear layers and norms of several networks at once.

A *group* has parameters of its own and an equal part of the rows. Letters: G groups, N = G n rows (tokens),
d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmbench.nn import kernels
from mmbench.nn.basic import linear
from mmbench.nn.products import affine, arrays, on_cpu

EPSILON = 1e-5
"""Added to a variance, as torch does."""


class GroupedNorm(nn.Module):
    """Layer normalisation with a gain and a shift (G, d) for each group."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(groups, width))
        self.shift = nn.Parameter(torch.zeros(groups, width))

    def forward(self, x: Tensor) -> Tensor:
        """Rows (G n, d) to (G n, d)."""
        return _Normed.apply(x, self.gain, self.shift)  # type: ignore[no-untyped-call]


class GroupedLinear(nn.Module):
    """A linear layer with a weight (G, out, in) and perhaps a bias (G, out) for each group."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in), the rows of one group after those of another, to (..., out)."""
        return affine(x, self.weight, self.bias)


class GroupedFeedForward(nn.Module):
    """Two linear layers with ReLU between, for each group."""

    def __init__(self, groups: int, *widths: int) -> None:
        super().__init__()
        width_in, hidden, width_out = widths
        self.widen = GroupedLinear([linear(width_in, hidden, relu=True) for _ in range(groups)])
        self.narrow = GroupedLinear([linear(hidden, width_out) for _ in range(groups)])

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) to (..., out) as `GroupedLinear`."""
        return self.narrow(self.widen(x).relu())


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        y, moments = norm(x, gain, shift)
        ctx.save_for_backward(x, moments, gain)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        dx = torch.zeros_like(dy)
        return dx, *norm_backward(dx, dy, *ctx.saved_tensors)


def norm(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """LN(x) = gain (x - mean) / deviation + shift, and mean and 1 / deviation (N, 2) of each row."""
    if on_cpu(x):
        y, moments = torch.empty_like(x), x.new_empty(len(x), 2)
        kernels.normalise(*arrays(x, gain, shift, y, moments), EPSILON)
        return y, moments
    variance, mean = torch.var_mean(x, 1, keepdim=True, correction=0)
    moments = torch.cat([mean, (variance + EPSILON).rsqrt()], 1)
    z = ((x - moments[:, :1]) * moments[:, 1:]).view(len(gain), -1, x.shape[1])
    return torch.addcmul(shift[:, None], z, gain[:, None]).view(x.shape), moments


def norm_backward(
    dx: Tensor, dy: Tensor, x: Tensor, moments: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor]:
    """Adds to dx what flows through LN; the gradients of gain and shift.

    With z = (x - mean) / deviation and dz = gain dy: dx = (dz - mean of dz - z mean of z dz) / deviation.
    """
    if on_cpu(x):
        d_gain, d_shift = torch.zeros_like(gain), torch.zeros_like(gain)
        kernels.normalise_backward(*arrays(dy, x, moments, gain, dx, d_gain, d_shift))
        return d_gain, d_shift
    shape = (len(gain), -1, x.shape[1])
    dy = dy.view(shape)
    z = ((x - moments[:, :1]) * moments[:, 1:]).view(shape)
    dz = dy * gain[:, None]
    inner = dz - dz.mean(2, keepdim=True) - z * (z * dz).mean(2, keepdim=True)
    dx += inner.view(x.shape) * moments[:, 1:]
    return (dy * z).sum(1), dy.sum(1)
