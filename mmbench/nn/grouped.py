"""Products and attention over packed tokens.

A *group* has parameters of its own and an equal part of the rows. Attention's gradient is written out: on
a CPU both are compiled loops (kernels.py), elsewhere the same equations in torch. Letters: G groups, N =
G n rows (tokens), d width, h heads, c = d / h; of a bucket s sequences, t keys, r queries each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmbench.nn import kernels
from mmbench.nn.basic import linear
from mmbench.nn.packing import Bucket
from mmbench.randomness import current, dropped_below, keep


class GroupedNorm(nn.Module):
    """The affine part of layer normalisation, a gain and a shift (G, d) for each group."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(groups, width))
        self.shift = nn.Parameter(torch.zeros(groups, width))

    def joined(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """This and the linear layer after it as one: W (gain x + shift) + b = (W gain) x + (W shift + b).

        So it costs as much as there are weights, not as there are tokens.
        """
        shifted_bias = bias + (weight @ self.shift[..., None]).squeeze(-1)
        return weight * self.gain[:, None], shifted_bias

    def forward(self, normed: Tensor) -> Tensor:
        """Normalised rows (G n, d) to (G n, d)."""
        rows = normed.view(len(self.gain), -1, normed.shape[1])
        return torch.addcmul(self.shift[:, None], rows, self.gain[:, None]).view(normed.shape)


class GroupedLinear(nn.Module):
    """A linear layer with a weight (G, out, in) and perhaps a bias (G, out) for each group."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None

    def forward(
        self, x: Tensor, *, norm: GroupedNorm | None = None, columns: slice = slice(None)
    ) -> Tensor:
        """x (..., in), the rows of one group after those of another, to (..., out), or some `columns` of it.

        x lacks the affine part of `norm`, which needs a bias to go into.
        """
        weight = self.weight[:, columns]
        if self.bias is None:
            rows = x.reshape(len(weight), -1, x.shape[-1])
            return torch.bmm(rows, weight.transpose(1, 2)).view(*x.shape[:-1], -1)
        bias = self.bias[:, columns]
        if norm is not None:
            weight, bias = norm.joined(weight, bias)
        return product(x, weight, bias)


class GroupedFeedForward(nn.Module):
    """Two linear layers with ReLU between, for each group."""

    def __init__(self, groups: int, *widths: int) -> None:
        super().__init__()
        width_in, hidden, width_out = widths
        self.widen = GroupedLinear([linear(width_in, hidden, relu=True) for _ in range(groups)])
        self.narrow = GroupedLinear([linear(hidden, width_out) for _ in range(groups)])

    def forward(self, x: Tensor, *, norm: GroupedNorm | None = None) -> Tensor:
        """x (..., in) to (..., out) as `GroupedLinear`."""
        return self.narrow(self.widen(x, norm=norm).relu())


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W_g^T + b_g for the rows of each group: x (..., in), weight (G, out, in), bias (G, out)."""
    rows = x.reshape(len(weight), -1, x.shape[-1])
    made = torch.baddbmm(bias[:, None], rows, weight.transpose(1, 2))
    return made.view(*x.shape[:-1], -1)


def normalise(x: Tensor) -> Tensor:
    """Rows (N, d) less their mean, over their standard deviation."""
    return F.layer_norm(x, x.shape[-1:])


class _Shifted(torch.autograd.Function):
    """y[n] = x[sources[0, n], 0] + x[sources[1, n], 1] + x[sources[2, n], 2]; an index of O adds 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(targets)
        x = torch.cat([x, x.new_zeros(1, *x.shape[1:])])  # (O + 1, 3, d)
        y = x[:, 1].index_select(0, sources[1])
        y += x[:, 0].index_select(0, sources[0])
        y += x[:, 2].index_select(0, sources[2])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """A frame's three parts went to three tokens, whence their gradients come."""
        (targets,) = ctx.saved_tensors
        dy = torch.cat([dy, dy.new_zeros(1, dy.shape[1])])  # (N + 1, d)
        return dy.index_select(0, targets.t().flatten()).view(-1, 3, dy.shape[1]), None, None


def shifted(x: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
    """(O, 3, d), each observed frame's part in the token after, at and before it, to tokens (N, d)."""
    return _Shifted.apply(x, sources, targets)  # type: ignore[no-untyped-call]


class _Attention(torch.autograd.Function):
    """y = (m w) v with w = softmax(q k^T / sqrt(c)) for each sequence and head, m the dropout mask.

    The softmax is of powers of 2, to save the factor that powers of e need.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor | None,
        rows: Tensor,
        heads: int,
        buckets: Sequence[Bucket],
        p: float,
    ) -> Tensor:
        n = len(rows)
        width = rows.shape[1] // 3 if query is None else query.shape[1]
        out = rows.new_zeros((n if query is None else len(query)) + 1, width)
        ctx.scale = math.log2(math.e) / math.sqrt(width // heads)
        ctx.heads, ctx.buckets, ctx.p = heads, buckets, p
        ctx.shape, ctx.query_is_apart = rows.shape, query is not None
        padded, saved = _with_zero_row(rows), []
        asking = None if query is None else _with_zero_row(query)
        for bucket in buckets:
            *q, k, v = _last(padded, bucket.tokens, heads, 3 if query is None else 2)  # (c, t, X)
            part = q[0] if asking is None else _last(asking, bucket.asking, heads, 1)[0]
            part = part * ctx.scale  # (c, r, X)
            padding = (bucket.tokens == n).t().repeat_interleave(heads, 1)  # (t, X)
            bias = torch.zeros_like(k[0]).masked_fill_(padding, -torch.inf)
            noise = _noise(bucket, heads) if p else None
            y, w = _attend(part, k, v, bias, noise, p)  # (c, r, X), (r, t, X)
            out.index_copy_(0, bucket.asking.flatten(), _first(y, heads))
            saved += [part, k, v, w, noise]
        ctx.save_for_backward(*saved)
        return out[:-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        heads, n = ctx.heads, ctx.shape[0]
        d_rows = d_out.new_zeros(n + 1, ctx.shape[1])
        d_query = d_out.new_zeros(len(d_out) + 1, d_out.shape[1]) if ctx.query_is_apart else None
        padded, saved = _with_zero_row(d_out), ctx.saved_tensors
        for number, bucket in enumerate(ctx.buckets):
            q, k, v, w, noise = saved[5 * number : 5 * number + 5]
            dy = _last(padded, bucket.asking, heads, 1)[0]  # (c, r, X)
            dq, dk, dv = _attend_backward(dy, q, k, v, w, noise, ctx.p)
            dq *= ctx.scale * math.log(2)
            dk *= math.log(2)
            parts = [dk, dv] if ctx.query_is_apart else [dq, dk, dv]
            d_rows.index_copy_(0, bucket.tokens.flatten(), _first(torch.cat(parts), heads))
            if d_query is not None:
                d_query.index_copy_(0, bucket.asking.flatten(), _first(dq, heads))
        return d_query if d_query is None else d_query[:-1], d_rows[:-1], None, None, None


def _attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, noise: Tensor | None, p: float
) -> tuple[Tensor, Tensor]:
    """y = (m w) v and w = softmax2(q k^T + bias): q (c, r, X), k and v (c, t, X), bias (t, X)."""
    if q.device.type == "cpu" and q.dtype == torch.float32:
        y, w = torch.empty_like(q), q.new_empty(q.shape[1], *bias.shape)
        dropped, random = _dropped(noise, p)
        kernels.attend(*_arrays(q, k, v, bias), random, dropped, *_arrays(w, y))
        return y, w
    w = _times(q, k) + bias  # (r, t, X)
    w = (w - w.amax(1, keepdim=True)).exp2()
    w = w / w.sum(1, keepdim=True)
    return _mixed(w if noise is None else w * keep(noise, p).to(w.dtype), v, 1), w


def _attend_backward(
    dy: Tensor, q: Tensor, k: Tensor, v: Tensor, w: Tensor, noise: Tensor | None, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dv = (m w)^T dy; dw = m (dy v^T); ds = w (dw - sum of w dw); dq = ds k; dk = ds^T q."""
    if q.device.type == "cpu" and q.dtype == torch.float32:
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        dropped, random = _dropped(noise, p)
        kernels.attend_backward(*_arrays(dy, q, k, v, w), random, dropped, *_arrays(dq, dk, dv))
        return dq, dk, dv
    d_w, kept = _times(dy, v), w
    if noise is not None:
        mask = keep(noise, p).to(w.dtype)
        d_w, kept = d_w * mask, w * mask
    d_s = w * (d_w - (w * d_w).sum(1, keepdim=True))
    dv = _mixed(kept, dy[:, :, None], 0)  # (c, t, X)
    return _mixed(d_s, k, 1), _mixed(d_s, q[:, :, None], 0), dv


def _dropped(noise: Tensor | None, p: float) -> tuple[int, np.ndarray]:
    """Below what a byte drops, and the bytes; 0 and none without dropout."""
    if noise is None:
        return 0, np.empty((0, 0, 0), np.uint8)
    return dropped_below(p), noise.numpy()


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tensors]


def attention(
    rows: Tensor, heads: int, buckets: Sequence[Bucket], dropout: float, query: Tensor | None = None
) -> Tensor:
    """What each query finds among the values in its sequence.

    `rows` (N, 3 d), queries, keys and values, to (N, d); or (N, 2 d), keys and values, and `query` (Q, d),
    those that `asking` in the buckets speaks of, to (Q, d). Column i of head j is number i h + j of its d.
    """
    return _Attention.apply(query, rows, heads, buckets, dropout)  # type: ignore[no-untyped-call]


def _noise(bucket: Bucket, heads: int) -> Tensor:
    """Random bytes (r, t, X) for dropout, drawn by each run as if it were alone."""
    sizes = [(r, t, s * heads) for s, r, t in bucket.runs]
    noise = current().noise(sizes, bucket.tokens.device)
    if len(noise) == 1:
        return noise[0]
    s, t = bucket.tokens.shape
    whole = noise[0].new_zeros(bucket.asking.shape[1], t, s * heads)
    start = 0
    for part, (r, own, x) in zip(noise, sizes, strict=True):
        whole[:r, :own, start : start + x] = part
        start += x
    return whole


def _with_zero_row(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_zeros(1, x.shape[1])])


def _last(x: Tensor, at: Tensor, heads: int, parts: int) -> Tensor:
    """Rows `at` (s, t) of x (N, k c h), a column's heads side by side, as (k, c, t, X)."""
    s, t = at.shape
    cut = x.index_select(0, at.flatten()).view(s, t, parts, -1, heads)
    return cut.permute(2, 3, 1, 0, 4).reshape(parts, -1, t, s * heads)


def _first(x: Tensor, heads: int) -> Tensor:
    """(k c, t, X) back to rows (s t, k c h)."""
    columns, t, _ = x.shape
    return x.view(columns, t, -1, heads).permute(2, 1, 0, 3).reshape(-1, columns * heads)


def _times(a: Tensor, b: Tensor) -> Tensor:
    """a b^T over the columns: (c, r, X) and (c, t, X) to (r, t, X)."""
    product = a[0][:, None] * b[0]
    for i in range(1, len(a)):
        product = torch.addcmul(product, a[i][:, None], b[i])
    return product


def _mixed(weights: Tensor, values: Tensor, axis: int) -> Tensor:
    """weights (r, t, X) times values (c, 1 or r, t or 1, X), summed over an axis, for each column."""
    return torch.stack([(weights * column).sum(axis) for column in values])
