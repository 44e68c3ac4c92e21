"""Products of matrices on a CPU, by oneDNN where torch has it.

torch's own come from MKL, which uses half the vector width of processors that are not Intel's: there
these take half the time. Gradients are products of the same kind.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmbench.randomness import current

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)

SMALL = 2_000_000
"""Multiplications of a product that does not repay oneDNN's call, which costs more than MKL's."""


def on_cpu(x: Tensor) -> bool:
    """Whether what is written for float32 on a CPU serves x: not where seeds are side by side."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not current().together


def times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b without a gradient: x (N, i), W (o, i), b (o,), all float32 on a CPU, to (N, o)."""
    if not _ONEDNN or x.numel() * len(weight) < SMALL:
        return F.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


class _Affine(torch.autograd.Function):
    """y = x W^T + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return times(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx = times(dy, weight.t()) if ctx.needs_input_grad[0] else None
        return dx, times(dy.t(), x.t()), dy.sum(0)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b: x (..., i), W (o, i), b (o,) to (..., o). It has a first derivative only."""
    if not on_cpu(x):
        return F.linear(x, weight, bias)
    rows: Tensor = _Affine.apply(x.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
    return rows.view(*x.shape[:-1], len(weight))
