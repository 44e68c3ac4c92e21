"""Products and attention over packed tokens.

A *group* has parameters of its own and every n-th part of the rows. Attention's gradient is written out,
because what autograd would keep and repeat costs more here than the products themselves; it stands beside
its equation, and a test compares it with autograd's. Letters: G groups, N = G n rows (tokens), d width, h
heads, c = d / h; of a bucket s sequences, t keys, r queries each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmbench.nn.basic import linear
from mmbench.nn.packing import Bucket
from mmbench.randomness import current


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
    """A linear layer with a weight (G, out, in) and a bias (G, out) for each group."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(
        self, x: Tensor, *, norm: GroupedNorm | None = None, columns: slice = slice(None)
    ) -> Tensor:
        """x (G n, in) to (G n, out), or some `columns` of it; x lacks the affine part of `norm`."""
        weight, bias = self.weight[:, columns], self.bias[:, columns]
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
        """x (G n, in) to (G n, out); x lacks the affine part of `norm`."""
        return self.narrow(self.widen(x, norm=norm).relu())


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W_g^T + b_g for the rows of each group: x (G n, in), weight (G, out, in), bias (G, out)."""
    rows = x.view(len(weight), -1, x.shape[1])
    made = torch.baddbmm(bias[:, None], rows, weight.transpose(1, 2))
    return made.view(len(x), weight.shape[1])


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

    Sequences and heads come last, X of them, so that each of these products of 4 or 5 columns is a few
    passes over long rows; thousands of matrices this small, one by one, take several times as long. The
    softmax is of powers of 2, which cost a fifth of powers of e.
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
        ctx.query_is_apart, ctx.heads, ctx.buckets, ctx.shape = (
            query is not None,
            heads,
            buckets,
            rows.shape,
        )
        n = len(rows)
        width = rows.shape[1] // 3 if query is None else query.shape[1]
        out = rows.new_zeros((n if query is None else len(query)) + 1, width)
        ctx.scale = math.log2(math.e) / math.sqrt(width // heads)
        padded, saved = _with_zero_row(rows), []
        for bucket in buckets:
            *q, k, v = _last(padded, bucket.tokens, heads, 3 if query is None else 2)  # (c, t, X)
            at = bucket.tokens if query is None else bucket.sequences[:, None]
            q = (q[0] if query is None else _last(query, at, heads, 1)[0]) * ctx.scale  # (c, r, X)
            w = _times(q, k)  # (r, t, X)
            padding = (bucket.tokens == n).t().repeat_interleave(heads, 1)  # (t, X)
            w += torch.zeros_like(w[0]).masked_fill_(padding, -torch.inf)
            w -= w.amax(1, keepdim=True)
            w.exp2_()
            w /= w.sum(1, keepdim=True)
            m = [_keep(w, bucket, heads, r_is_one=query is not None, p=p)] if p else []
            y = _mixed(w * m[0] if m else w, v, 1)  # (c, r, X)
            out.index_copy_(0, at.flatten(), _first(y, heads))
            saved += [q, k, v, w, y, *m]
        ctx.save_for_backward(*saved)
        return out[:-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        """dv = (m w)^T dy; dw = m (dy v^T); ds = w (dw - dy y^T); dq = ds k; dk = ds^T q.

        dy y^T, one number for each query, is the sum of w dw over the keys.
        """
        heads, n = ctx.heads, ctx.shape[0]
        d_rows = d_out.new_zeros(n + 1, ctx.shape[1])
        d_query = torch.zeros_like(d_out) if ctx.query_is_apart else None
        padded, saved = _with_zero_row(d_out), ctx.saved_tensors
        each = len(saved) // len(ctx.buckets)
        for number, bucket in enumerate(ctx.buckets):
            q, k, v, w, y, *m = saved[number * each : (number + 1) * each]
            at = bucket.sequences[:, None] if ctx.query_is_apart else bucket.tokens
            dy = _last(padded, at, heads, 1)[0]  # (c, r, X)
            d_s = _times(dy, v)  # (r, t, X)
            if m:
                d_s *= m[0]
            d_s -= (dy * y).sum(0)[:, None]
            d_s *= w
            dv = _mixed(w * m[0] if m else w, dy[:, :, None], 0)  # (c, t, X)
            dq = _mixed(d_s, k, 1) * (ctx.scale * math.log(2))  # (c, r, X)
            dk = _mixed(d_s, q[:, :, None], 0) * math.log(2)  # (c, t, X)
            parts = [dk, dv] if ctx.query_is_apart else [dq, dk, dv]
            d_rows.index_copy_(0, bucket.tokens.flatten(), _first(torch.cat(parts), heads))
            if d_query is not None:
                d_query.index_copy_(0, at.flatten(), _first(dq, heads))
        return d_query, d_rows[:-1], None, None, None


def attention(
    rows: Tensor, heads: int, buckets: Sequence[Bucket], dropout: float, query: Tensor | None = None
) -> Tensor:
    """Every token's mixture of the values in its sequence.

    `rows` (N, 3 d), queries, keys and values, to (N, d); or (N, 2 d), keys and values, and `query` (S, d),
    one for each sequence, to (S, d). Column i of head j is number i h + j of its d.
    """
    return _Attention.apply(query, rows, heads, buckets, dropout)  # type: ignore[no-untyped-call]


def _keep(w: Tensor, bucket: Bucket, heads: int, *, r_is_one: bool, p: float) -> Tensor:
    """The dropout mask of weights (r, t, X), drawn by each run as if it were alone."""
    sizes = [(1 if r_is_one else t, t, s * heads) for s, t in bucket.runs]
    masks = current().masks(sizes, p, w.device)
    if len(masks) == 1:
        return masks[0]
    mask = torch.zeros_like(w)
    start = 0
    for part, (r, t, x) in zip(masks, sizes, strict=True):
        mask[:r, :t, start : start + x] = part
        start += x
    return mask


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
        product.addcmul_(a[i][:, None], b[i])
    return product


def _mixed(weights: Tensor, values: Tensor, axis: int) -> Tensor:
    """weights (r, t, X) times values (c, 1 or r, t or 1, X), summed over an axis, for each column."""
    product = torch.empty_like(
        weights
    )  # one for all columns: fresh memory costs more than the product
    mixed = weights.new_empty(len(values), weights.shape[1 - axis], weights.shape[2])
    for column, out in zip(values, mixed, strict=True):
        torch.sum(torch.mul(weights, column, out=product), axis, out=out)
    return mixed
