"""The two halves of a Transformer layer over packed tokens, each one function with its gradient written out.

torch would make a dozen small steps of each, and on small networks it is their number that costs. The
equations, for each group's rows x and LN its norm:

    add_attention      x + A W_o^T + b_o, A what LN(x) W_q^T + b_q finds among LN(x) or a memory, by W_k and W_v
    add_feed_forward   x + relu(LN(x) W_1^T + b_1) W_2^T + b_2

Letters: G groups, N = G n rows, S sequences, d width, h heads; N' rows of a memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmbench.nn.attend import attend, attend_backward
from mmbench.nn.grouped import norm, norm_backward
from mmbench.nn.packing import Bucket
from mmbench.nn.products import product, product_backward


class _AddAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        buckets: Sequence[Bucket],
        last: Tensor | None,
        heads: int,
        p: float,
        same_norm: bool,
        x: Tensor,
        memory: Tensor | None,
        gain: Tensor,
        shift: Tensor,
        w: Tensor,
        b: Tensor,
        w_out: Tensor,
        b_out: Tensor,
    ) -> Tensor:
        width = x.shape[1]
        y, moments = norm(x, gain, shift)
        told, others = y, None
        if memory is not None:
            told, others = norm(memory, gain, shift) if same_norm else (memory, None)
        rest, asking, query = x, y, None
        if last is not None:
            rest, asking = x[last], y[last]
        if last is None and memory is None:
            rows = product(y, w, b)
        else:
            query = product(asking, w[:, :width], b[:, :width])
            rows = product(told, w[:, width:], b[:, width:])
        mixed, ctx.attention = attend(query, rows, heads, buckets, p)
        ctx.buckets, ctx.heads, ctx.p = buckets, heads, p
        tensors = (x, moments, memory, others, gain, asking, told, w, w_out, query, rows, mixed)
        ctx.save_for_backward(last, *tensors)
        return _plus(rest, mixed, w_out, b_out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        last, *tensors = ctx.saved_tensors
        x, moments, memory, others, gain, asking, told, w, w_out, query, rows, mixed = tensors
        width = x.shape[1]
        d_mixed, d_w_out, d_b_out = product_backward(d_out, mixed, w_out)
        d_query, d_rows = attend_backward(
            d_mixed, query, rows, ctx.heads, ctx.buckets, ctx.p, ctx.attention
        )
        if d_query is None:
            d_told, dw, db = product_backward(d_rows, told, w)
        else:
            d_asking, dw_asked, db_asked = product_backward(d_query, asking, w[:, :width])
            d_told, dw_told, db_told = product_backward(d_rows, told, w[:, width:])
            dw, db = torch.cat([dw_asked, dw_told], 1), torch.cat([db_asked, db_told], 1)
        if last is None:
            dx, dy = d_out.clone(), d_told if d_query is None else d_asking
        else:
            dx, dy = torch.zeros_like(x), torch.zeros_like(x)
            dx[last], dy[last] = d_out, d_asking  # a token is the last of one sequence
        if memory is None and d_query is not None:
            dy += d_told
        d_gain, d_shift = norm_backward(dx, dy, x, moments, gain)
        d_memory = None if memory is None else d_told
        if others is not None:
            d_memory = torch.zeros_like(memory)
            more = norm_backward(d_memory, d_told, memory, others, gain)
            d_gain, d_shift = d_gain + more[0], d_shift + more[1]
        given = (None,) * 5
        return *given, dx, d_memory, d_gain, d_shift, dw, db, d_w_out, d_b_out


class _AddFeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor
    ) -> Tensor:  # fmt: skip
        y, moments = norm(x, gain, shift)
        hidden = product(y, w1, b1, relu=True)
        ctx.save_for_backward(x, moments, gain, y, w1, hidden, w2)
        return _plus(x, hidden, w2, b2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, ...]:
        x, moments, gain, y, w1, hidden, w2 = ctx.saved_tensors
        d_hidden, dw2, db2 = product_backward(d_out, hidden, w2)
        d_hidden = torch.ops.aten.threshold_backward(d_hidden, hidden, 0)
        dy, dw1, db1 = product_backward(d_hidden, y, w1)
        dx = d_out.clone()
        return dx, *norm_backward(dx, dy, x, moments, gain), dw1, db1, dw2, db2


def add_attention(
    x: Tensor,
    buckets: Sequence[Bucket],
    heads: int,
    p: float,
    *parameters: Tensor,
    last: Tensor | None = None,
    memory: Tensor | None = None,
    same_norm: bool = True,
) -> Tensor:
    """x (N, d) to (N, d), or if only tokens `last` (S,) ask to (S, d); attention weights dropped with p.

    `parameters`: gain and shift (G, d), W (G, 3 d, d) and b (G, 3 d) of queries, keys and values, W_o
    (G, d, d), b_o (G, d). A memory (N', d) goes through the same norm first, or is taken as it is.
    """
    return _AddAttention.apply(buckets, last, heads, p, same_norm, x, memory, *parameters)  # type: ignore[no-untyped-call]


def add_feed_forward(x: Tensor, *parameters: Tensor) -> Tensor:
    """x (N, d) to (N, d). `parameters`: gain and shift (G, d), W_1 (G, k, d), b_1, W_2 (G, d, k), b_2."""
    return _AddFeedForward.apply(x, *parameters)  # type: ignore[no-untyped-call]


def _plus(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """x + y W^T + b for the rows of each group."""
    return product(y, w, b).add_(x)
