"""Products of matrices, on a CPU by numpy's BLAS.

torch's own are MKL's, which uses half the vector width of processors that are not Intel's: there numpy's
OpenBLAS takes half the time. Gradients are products of the same kind. Letters: G groups, each with a matrix
of its own and an equal part of the N rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmbench.nn import kernels
from mmbench.randomness import current

SMALL = 1_000_000
"""Multiplications of a layer that torch does as fast, for autograd written in Python has its price."""


def on_cpu(x: Tensor) -> bool:
    """Whether what is written for float32 on a CPU serves x."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The memory of tensors on a CPU, as compiled loops take it; where there is no gradient to follow."""
    return [tensor.numpy() for tensor in tensors]


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """(..., n, k) times (..., k, m), without a gradient: (..., n, m)."""
    if not on_cpu(a):
        return torch.matmul(a, b)
    out = a.new_empty(*a.shape[:-1], b.shape[-1])
    np.matmul(a.numpy(), b.numpy(), out=out.numpy())
    return out


def product(x: Tensor, w: Tensor, b: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """x W^T + b, or its positive part, without a gradient: rows x (N, i), w (G, o, i), b (G, o) to (N, o)."""
    y = matmul(x.view(len(w), -1, x.shape[1]), w.transpose(1, 2))
    if b is not None:
        if on_cpu(y):
            kernels.add_bias(y.numpy(), b.numpy(), relu)
        else:
            y += b[:, None]
            if relu:
                y.relu_()
    return y.view(len(x), w.shape[1])


def product_backward(dy: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of y = x W^T + b the gradients of x, w and b, from dy (N, o)."""
    groups = len(w)
    dy = dy.view(groups, -1, dy.shape[1])
    dx = matmul(dy, w).view(x.shape)
    dw = matmul(dy.transpose(1, 2), x.view(groups, -1, x.shape[1]))
    return dx, dw, dy.sum(1)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.biased = b is not None
        return product(x, w, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        dy = dy.contiguous().view(len(w), -1, dy.shape[1])
        dx = matmul(dy, w).view(x.shape) if ctx.needs_input_grad[0] else None
        dw = matmul(dy.transpose(1, 2), x.view(len(w), -1, x.shape[1]))
        return dx, dw, dy.sum(1) if ctx.biased else None


def affine(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """x W^T + b: x (..., i), the rows of one group after those of another, to (..., o). First derivative only.

    w (o, i) and b (o,), or one of each for every group, (G, o, i) and (G, o).
    """
    if w.dim() == 2:
        w, b = w[None], None if b is None else b[None]
    shape = *x.shape[:-1], w.shape[1]
    if on_cpu(x) and not current().together and x.numel() * w.shape[1] > SMALL:
        rows: Tensor = _Affine.apply(x.reshape(-1, x.shape[-1]), w, b)  # type: ignore[no-untyped-call]
        return rows.view(shape)
    if len(w) == 1:
        return F.linear(x.reshape(-1, x.shape[-1]), w[0], None if b is None else b[0]).view(shape)
    rows, across = x.reshape(len(w), -1, x.shape[-1]), w.transpose(1, 2)
    made = torch.bmm(rows, across) if b is None else torch.baddbmm(b[:, None], rows, across)
    return made.view(shape)


class _Batched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return matmul(a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        if b.is_contiguous():
            db = matmul(a.transpose(1, 2), dy)
        else:  # a transposed matrix's gradient is the transposed of a product, in half the time
            db = matmul(dy.transpose(1, 2), a).transpose(1, 2)
        return matmul(dy, b.transpose(1, 2)), db


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """A product for each of a batch: (B, n, k) times (B, k, m) to (B, n, m). First derivative only."""
    if on_cpu(a) and not current().together:
        product: Tensor = _Batched.apply(a, b)  # type: ignore[no-untyped-call]
        return product
    return torch.bmm(a, b)
