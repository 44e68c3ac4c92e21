"""Attention among packed tokens, and its gradient, written out.

On a CPU both are compiled loops (kernels.py), elsewhere the same equations in torch. Letters: N tokens, d
width, h heads, c = d / h; of a bucket s sequences, r queries and t keys each, X = s h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.nn import kernels
from mmbench.nn.packing import Bucket
from mmbench.nn.products import arrays, on_cpu
from mmbench.randomness import current, dropped_below, keep


def attend(
    query: Tensor | None, rows: Tensor, heads: int, buckets: Sequence[Bucket], p: float
) -> tuple[Tensor, list[Any]]:
    """y = (m w) v with w = softmax(q k^T / sqrt(c)) for each sequence and head, m the dropout mask.

    `rows` (N, 3 d), queries, keys and values, to (N, d); or (N, 2 d), keys and values, and `query` (Q, d),
    those that `asking` in the buckets speaks of, to (Q, d). Column i of head j is number i h + j of its d.
    Also gives what `attend_backward` needs.
    """
    asking = rows if query is None else query
    width = rows.shape[1] // 3 if query is None else query.shape[1]
    out, saved = rows.new_zeros(len(asking), width), []
    for bucket in buckets:
        noise = _noise(bucket, heads) if p else None
        places = (asking, bucket.asking, rows, width if query is None else 0, bucket.tokens, heads)
        saved += [_attend(*places, noise, p, out), noise]
    return out, saved


def attend_backward(
    d_out: Tensor,
    query: Tensor | None,
    rows: Tensor,
    heads: int,
    buckets: Sequence[Bucket],
    p: float,
    saved: Sequence[Any],
) -> tuple[Tensor | None, Tensor]:
    """The gradients of `query` and `rows`."""
    d_rows = torch.zeros_like(rows)
    asking = rows if query is None else query
    d_asking = d_rows if query is None else torch.zeros_like(query)
    for bucket, weights, noise in zip(buckets, saved[::2], saved[1::2], strict=True):
        first = d_out.shape[1] if query is None else 0
        places = (asking, bucket.asking, rows, first, bucket.tokens, heads)
        _attend_backward(d_out, *places, weights, noise, p, d_asking, d_rows)
    return None if query is None else d_asking, d_rows


def _attend(
    asking: Tensor,
    at: Tensor,
    rows: Tensor,
    first: int,
    tokens: Tensor,
    heads: int,
    noise: Tensor | None,
    p: float,
    out: Tensor,
) -> Tensor:
    """Writes y to the rows `at` (s, r) of `out` and gives w (r, t, X), X = s h sequences times heads.

    The queries are the same rows of `asking`, the keys and values rows `tokens` (s, t) of `rows` from column
    `first` on; what is no row is padding.
    """
    width = out.shape[1]
    if on_cpu(rows):
        w = rows.new_empty(at.shape[1], tokens.shape[1], len(at) * heads)
        asking_, at_, rows_, tokens_, w_, out_ = arrays(asking, at, rows, tokens, w, out)
        dropped, random = _dropped(noise, p)
        kernels.attend(asking_, 0, at_, rows_, first, tokens_, heads, random, dropped, w_, out_)
        return w
    q, k, v = _laid(asking, at, rows, first, tokens, heads, width)
    padding = (tokens == len(rows)).t().repeat_interleave(heads, 1)  # (t, X)
    w = (_times(q, k) / math.sqrt(len(q))).masked_fill(padding, -torch.inf).softmax(1)  # (r, t, X)
    y = _mixed(w if noise is None else w * keep(noise, p).to(w.dtype), v, 1)  # (c, r, X)
    _write(out, 0, at, y, heads)
    return w


def _attend_backward(
    d_out: Tensor,
    asking: Tensor,
    at: Tensor,
    rows: Tensor,
    first: int,
    tokens: Tensor,
    heads: int,
    w: Tensor,
    noise: Tensor | None,
    p: float,
    d_asking: Tensor,
    d_rows: Tensor,
) -> None:
    """dv = (m w)^T dy; dw = m (dy v^T); ds = w (dw - sum of w dw) / sqrt(c); dq = ds k; dk = ds^T q.

    Written to where the queries, keys and values lie.
    """
    width = d_out.shape[1]
    if on_cpu(rows):
        d_out_, asking_, at_, rows_, tokens_ = arrays(d_out, asking, at, rows, tokens)
        w_, d_asking_, d_rows_ = arrays(w, d_asking, d_rows)
        dropped, random = _dropped(noise, p)
        kernels.attend_backward(
            d_out_, asking_, 0, at_, rows_, first, tokens_, heads, random, dropped, w_, d_asking_, d_rows_
        )  # fmt: skip
        return
    q, k, v = _laid(asking, at, rows, first, tokens, heads, width)
    dy = _read(d_out, 0, at, heads, width)
    d_w, kept = _times(dy, v), w
    if noise is not None:
        mask = keep(noise, p).to(w.dtype)
        d_w, kept = d_w * mask, w * mask
    d_s = w * (d_w - (w * d_w).sum(1, keepdim=True)) / math.sqrt(len(q))
    _write(d_asking, 0, at, _mixed(d_s, k, 1), heads)
    _write(d_rows, first, tokens, _mixed(d_s, q[:, :, None], 0), heads)
    _write(d_rows, first + width, tokens, _mixed(kept, dy[:, :, None], 0), heads)


def _laid(
    asking: Tensor, at: Tensor, rows: Tensor, first: int, tokens: Tensor, heads: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """q (c, r, X), k and v (c, t, X)."""
    return (
        _read(asking, 0, at, heads, width),
        _read(rows, first, tokens, heads, width),
        _read(rows, first + width, tokens, heads, width),
    )


def _read(x: Tensor, first: int, at: Tensor, heads: int, width: int) -> Tensor:
    """`width` columns of the rows `at` (s, t), a column's heads side by side, as (c, t, X); else 0."""
    cut = torch.cat([x[:, first : first + width], x.new_zeros(1, width)])
    rows = cut[at].view(*at.shape, -1, heads)  # (s, t, c, h)
    return rows.permute(2, 1, 0, 3).flatten(2)


def _write(x: Tensor, first: int, at: Tensor, values: Tensor, heads: int) -> None:
    """values (c, t, X) to the same place."""
    columns, t, _ = values.shape
    rows = values.view(columns, t, -1, heads).permute(2, 1, 0, 3).flatten(2)  # (s, t, c h)
    real = at < len(x)
    x[:, first : first + columns * heads][at[real]] = rows[real]


def _dropped(noise: Tensor | None, p: float) -> tuple[int, np.ndarray]:
    """Below what a byte drops, and the bytes; 0 and none without dropout."""
    if noise is None:
        return 0, np.empty((0, 0, 0), np.uint8)
    return dropped_below(p), noise.numpy()


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


def _times(a: Tensor, b: Tensor) -> Tensor:
    """a b^T over the columns: (c, r, X) and (c, t, X) to (r, t, X)."""
    product = a[0][:, None] * b[0]
    for i in range(1, len(a)):
        product = torch.addcmul(product, a[i][:, None], b[i])
    return product


def _mixed(weights: Tensor, values: Tensor, axis: int) -> Tensor:
    """weights (r, t, X) times values (c, 1 or r, t or 1, X), summed over an axis, for each column."""
    return torch.stack([(weights * column).sum(axis) for column in values])
