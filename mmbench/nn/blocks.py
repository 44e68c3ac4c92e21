"""The parts of a Transformer layer over packed tokens, each one function with its gradient written out.

torch would make a dozen small steps of each, and on small networks it is their number that costs. The
equations, for each group's rows x, with LN(x) = gain (x - mean) / deviation + shift:

    attended   x + A W_o^T + b_o,                A the attention of LN(x) W^T + b
    asked      the same, A the attention of LN(x) W_q^T + b_q to other rows, (LN(m) or m) W_kv^T + b_kv
    fed        x + relu(LN(x) W_1^T + b_1) W_2^T + b_2

Letters: G groups, N = G n rows (K those of other sequences), S sequences, d width, h heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmbench.nn import kernels
from mmbench.nn.grouped import attend, attend_backward, product
from mmbench.nn.packing import Bucket, Sequences

EPSILON = 1e-5
"""Added to a variance, as torch does."""


class _Attended(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        laid: Sequences,
        heads: int,
        p: float,
        only_last: bool,
        x: Tensor,
        gain: Tensor,
        shift: Tensor,
        w: Tensor,
        b: Tensor,
        w_out: Tensor,
        b_out: Tensor,
    ) -> Tensor:
        y, norm = _norm(x, gain, shift)
        width = x.shape[1]
        if only_last:
            rest, asking = x[laid.last], y[laid.last]
            query = product(asking, w[:, :width], b[:, :width])
            told = product(y, w[:, width:], b[:, width:])
            buckets: Sequence[Bucket] = [bucket.asked_once() for bucket in laid.buckets]
        else:
            rest, asking, query, told = x, None, None, product(y, w, b)
            buckets = laid.buckets
        mixed, saved = attend(query, told, heads, buckets, p)
        ctx.last, ctx.buckets, ctx.heads, ctx.p, ctx.attention = laid.last, buckets, heads, p, saved
        ctx.save_for_backward(x, norm, gain, y, w, w_out, asking, query, told, mixed)
        return _plus(rest, mixed, w_out, b_out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, gain, y, w, w_out, asking, query, told, mixed = ctx.saved_tensors
        width = x.shape[1]
        d_mixed, d_w_out, d_b_out = _product_backward(d_out, mixed, w_out)
        d_query, d_told = attend_backward(
            d_mixed, query, told, ctx.heads, ctx.buckets, ctx.p, ctx.attention
        )
        if d_query is None:
            dy, dw, db = _product_backward(d_told, y, w)
            dx = d_out.clone()
        else:
            last = ctx.last
            d_asking, dw_asked, db_asked = _product_backward(d_query, asking, w[:, :width])
            dy, dw_told, db_told = _product_backward(d_told, y, w[:, width:])
            dy[last] += d_asking  # a token is the last of one sequence
            dw, db = torch.cat([dw_asked, dw_told], 1), torch.cat([db_asked, db_told], 1)
            dx = torch.zeros_like(x)
            dx[last] = d_out
        d_gain, d_shift = _norm_backward(dx, dy, x, norm, gain)
        return None, None, None, None, dx, d_gain, d_shift, dw, db, d_w_out, d_b_out


class _Asked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        buckets: Sequence[Bucket],
        heads: int,
        p: float,
        same_norm: bool,
        x: Tensor,
        memory: Tensor,
        gain: Tensor,
        shift: Tensor,
        w: Tensor,
        b: Tensor,
        w_out: Tensor,
        b_out: Tensor,
    ) -> Tensor:
        y, norm = _norm(x, gain, shift)
        source, source_norm = _norm(memory, gain, shift) if same_norm else (memory, None)
        width = x.shape[1]
        query = product(y, w[:, :width], b[:, :width])
        told = product(source, w[:, width:], b[:, width:])
        mixed, saved = attend(query, told, heads, buckets, p)
        ctx.buckets, ctx.heads, ctx.p, ctx.attention = buckets, heads, p, saved
        ctx.save_for_backward(
            x, norm, y, memory, source_norm, source, gain, w, w_out, query, told, mixed
        )
        return _plus(x, mixed, w_out, b_out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, y, memory, source_norm, source, gain, w, w_out, query, told, mixed = (
            ctx.saved_tensors
        )
        width = x.shape[1]
        d_mixed, d_w_out, d_b_out = _product_backward(d_out, mixed, w_out)
        d_query, d_told = attend_backward(
            d_mixed, query, told, ctx.heads, ctx.buckets, ctx.p, ctx.attention
        )
        assert d_query is not None
        dy, dw_asked, db_asked = _product_backward(d_query, y, w[:, :width])
        d_source, dw_told, db_told = _product_backward(d_told, source, w[:, width:])
        dx = d_out.clone()
        d_gain, d_shift = _norm_backward(dx, dy, x, norm, gain)
        d_memory = d_source
        if source_norm is not None:
            d_memory = torch.zeros_like(memory)
            more = _norm_backward(d_memory, d_source, memory, source_norm, gain)
            d_gain, d_shift = d_gain + more[0], d_shift + more[1]
        dw, db = torch.cat([dw_asked, dw_told], 1), torch.cat([db_asked, db_told], 1)
        return (
            *(None, None, None, None, dx, d_memory),
            *(d_gain, d_shift, dw, db, d_w_out, d_b_out),
        )


class _Fed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor
    ) -> Tensor:  # fmt: skip
        y, norm = _norm(x, gain, shift)
        hidden = product(y, w1, b1).relu_()
        ctx.save_for_backward(x, norm, gain, y, w1, hidden, w2)
        return _plus(x, hidden, w2, b2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, ...]:
        x, norm, gain, y, w1, hidden, w2 = ctx.saved_tensors
        d_hidden, dw2, db2 = _product_backward(d_out, hidden, w2)
        d_hidden = torch.ops.aten.threshold_backward(d_hidden, hidden, 0)
        dy, dw1, db1 = _product_backward(d_hidden, y, w1)
        dx = d_out.clone()
        d_gain, d_shift = _norm_backward(dx, dy, x, norm, gain)
        return dx, d_gain, d_shift, dw1, db1, dw2, db2


def attended(
    x: Tensor, laid: Sequences, heads: int, p: float, *parameters: Tensor, only_last: bool = False
) -> Tensor:
    """x (N, d) to (N, d), or to (S, d), each sequence's last token; attention weights dropped with p.

    `parameters`: gain and shift (G, d), W (G, 3 d, d) and b (G, 3 d) of queries, keys and values, W_o
    (G, d, d), b_o (G, d).
    """
    return _Attended.apply(laid, heads, p, only_last, x, *parameters)  # type: ignore[no-untyped-call]


def asked(
    x: Tensor,
    memory: Tensor,
    buckets: Sequence[Bucket],
    heads: int,
    p: float,
    *parameters: Tensor,
    same_norm: bool,
) -> Tensor:
    """x (N, d) to (N, d) by what it finds in the memory (K, d), which passes the same norm or none.

    The buckets say whom a row asks; `parameters` are those of `attended`.
    """
    return _Asked.apply(buckets, heads, p, same_norm, x, memory, *parameters)  # type: ignore[no-untyped-call]


def fed(x: Tensor, *parameters: Tensor) -> Tensor:
    """x (N, d) to (N, d). `parameters`: gain and shift (G, d), W_1 (G, k, d), b_1, W_2 (G, d, k), b_2."""
    return _Fed.apply(x, *parameters)  # type: ignore[no-untyped-call]


def _plus(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """x + y W^T + b for the rows of each group."""
    groups = len(w)
    made = torch.baddbmm(
        x.view(groups, -1, x.shape[1]), y.view(groups, -1, y.shape[1]), w.transpose(1, 2)
    )
    return made.add_(b[:, None]).view(x.shape)


def _product_backward(dy: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of y = x W^T + b the gradients of x, W and b."""
    groups = len(w)
    dy = dy.view(groups, -1, dy.shape[1])
    dx = torch.bmm(dy, w).view(x.shape)
    dw = torch.bmm(dy.transpose(1, 2), x.view(groups, -1, x.shape[1]))
    return dx, dw, dy.sum(1)


def _norm(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """LN(x), and mean and 1 / deviation (N, 2) of each row."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        y, norm = torch.empty_like(x), x.new_empty(len(x), 2)
        kernels.normalise(x.numpy(), gain.numpy(), shift.numpy(), EPSILON, y.numpy(), norm.numpy())
        return y, norm
    variance, mean = torch.var_mean(x, 1, keepdim=True, correction=0)
    norm = torch.cat([mean, (variance + EPSILON).rsqrt()], 1)
    z = ((x - norm[:, :1]) * norm[:, 1:]).view(len(gain), -1, x.shape[1])
    return torch.addcmul(shift[:, None], z, gain[:, None]).view(x.shape), norm


def _norm_backward(
    dx: Tensor, dy: Tensor, x: Tensor, norm: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor]:
    """Adds to dx what flows through LN; the gradients of gain and shift.

    With z = (x - mean) / deviation and dz = gain dy: dx = (dz - mean of dz - z mean of z dz) / deviation.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32:
        d_gain, d_shift = torch.zeros_like(gain), torch.zeros_like(gain)
        kernels.normalise_backward(
            *(a.numpy() for a in (dy, x, norm, gain)), dx.numpy(), d_gain.numpy(), d_shift.numpy()
        )
        return d_gain, d_shift
    shape = (len(gain), -1, x.shape[1])
    dy = dy.view(shape)
    z = ((x - norm[:, :1]) * norm[:, 1:]).view(shape)
    dz = dy * gain[:, None]
    inner = dz - dz.mean(2, keepdim=True) - z * (z * dz).mean(2, keepdim=True)
    dx += inner.view(x.shape) * norm[:, 1:]
    return (dy * z).sum(1), dy.sum(1)
