"""Inner loops on a CPU, compiled by numba: attention, layer normalisation, the layout of a batch.

A head has 4 or 5 columns and a sequence a dozen frames, so that the products of attention are too small
for any library and a pass over memory costs more than the arithmetic in it. Here everything between the
rows that come in and those that go out happens in a core's own cache: some sequences' rows are copied to
arrays that end with X, sequences times heads, and every loop runs along it, which is what a compiler turns
into vector instructions; the loops are functions of their own, for only then does it know that its arrays
do not overlap.

`attend` and `attend_backward` are the equations of `grouped.py`. Letters: s sequences, c columns of a
head, r queries and t keys of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 512
"""Of X, about, worked on at a time: long enough for the loops, short enough for the cache."""
FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
"""What the compiler may do to sums; that a NaN stays one it has to respect."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` in machine code, kept on disk for the next process where that can be written to."""
    try:
        return njit(function, fastmath=FAST, error_model="numpy", cache=True)
    except RuntimeError:  # there is nowhere to keep it
        return njit(function, fastmath=FAST, error_model="numpy")


def _bitcast(typing_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


_float_of_bits: Any = intrinsic(_bitcast)


@njit(fastmath=FAST, inline="always")
def _power_of_2(x):
    """2^x, to 2e-7 of its size: the nearest whole number is the exponent's bits, a series gives the rest."""
    f = np.float32
    x = f(-126) if x < f(-126) else x  # a NaN is not less, and stays
    whole = np.floor(x + f(0.5))
    y = x - whole
    tail = f(0.00961813) + y * (f(0.00133336) + y * f(0.00015404))
    rest = f(1) + y * (f(0.69314718) + y * (f(0.24022651) + y * (f(0.05550411) + y * tail)))
    return rest * _float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@njit(fastmath=FAST)
def _gather(out, rows, first, at, heads):
    """Column i of head j of row at[s, t] to out[i, t, s heads + j]; 0 where there is no such row."""
    for s in range(len(at)):
        for t in range(at.shape[1]):
            row = at[s, t]
            for i in range(len(out)):
                for j in range(heads):
                    x = s * heads + j
                    if row < len(rows):
                        out[i, t, x] = rows[row, first + i * heads + j]
                    else:
                        out[i, t, x] = np.float32(0)


@njit(fastmath=FAST)
def _scatter(rows, first, at, heads, out, factor):
    """The other way round, times a factor."""
    for s in range(len(at)):
        for t in range(at.shape[1]):
            row = at[s, t]
            if row < len(rows):
                for i in range(len(out)):
                    for j in range(heads):
                        rows[row, first + i * heads + j] = factor * out[i, t, s * heads + j]


@njit(fastmath=FAST)
def _bias(out, at, n, heads):
    """0 for a key and -inf for padding: at (s, t) to out (t, s heads)."""
    for s in range(len(at)):
        for t in range(at.shape[1]):
            value = np.float32(0) if at[s, t] < n else np.float32(-np.inf)
            for j in range(heads):
                out[t, s * heads + j] = value


@njit(fastmath=FAST)
def _fill(out, value):
    for x in range(len(out)):
        out[x] = value


@njit(fastmath=FAST)
def _multiply(out, factor):
    for x in range(len(out)):
        out[x] *= factor


@njit(fastmath=FAST)
def _score(scores, top, biases, qs, i, ks, j, n):
    """q k^T + bias of a query and a key, and the largest of them so far."""
    for x in range(n):
        scores[j, x] = biases[j, x]
    for a in range(len(qs)):
        for x in range(n):
            scores[j, x] += qs[a, i, x] * ks[a, j, x]
    for x in range(n):
        top[x] = scores[j, x] if scores[j, x] > top[x] else top[x]


@njit(fastmath=FAST)
def _exponentiate(scores, top, total):
    for x in range(len(scores)):
        e = _power_of_2(scores[x] - top[x])
        scores[x] = e
        total[x] += e


@njit(fastmath=FAST)
def _invert(total):
    for x in range(len(total)):
        total[x] = np.float32(1) / total[x]


@njit(fastmath=FAST)
def _scale(scores, factor, weights):
    for x in range(len(scores)):
        w = scores[x] * factor[x]
        scores[x] = w
        weights[x] = w


@njit(fastmath=FAST)
def _scale_and_drop(scores, factor, weights, noise, dropped, scale):
    for x in range(len(scores)):
        w = scores[x] * factor[x]
        weights[x] = w
        scores[x] = w * scale if noise[x] >= dropped else np.float32(0)


@njit(fastmath=FAST)
def _sum_of(out, i, values, weights, n):
    """Row i of each column of out is the weighted sum of its rows of values."""
    for a in range(len(out)):
        for x in range(n):
            out[a, i, x] = np.float32(0)
        for j in range(values.shape[1]):
            for x in range(n):
                out[a, i, x] += weights[j, x] * values[a, j, x]


@njit(fastmath=FAST)
def _inner(out, j, left, i, right, n):
    """Entry j of out is the sum over columns of row i of one times row j of the other."""
    for x in range(n):
        out[j, x] = np.float32(0)
    for a in range(len(left)):
        for x in range(n):
            out[j, x] += left[a, i, x] * right[a, j, x]


@njit(fastmath=FAST)
def _add_weighted(out, j, weights, values, i, n):
    """Adds row i of each column, weighted, to row j of out."""
    for a in range(len(out)):
        for x in range(n):
            out[a, j, x] += weights[x] * values[a, i, x]


@compiled
def attend(query, q_first, q_at, rows, first, at, heads, noise, dropped, weights, out):
    """y = (m w) v with w = softmax(q k^T / sqrt(c)) for each sequence and head.

    The queries (s, r) are rows `q_at` of `query` from column `q_first` on, the keys (s, t) rows `at` of
    `rows` from column `first` on, the values next to them; a number that is no row is padding. y goes to rows
    `q_at` of `out`, w to `weights` (r, t, s heads). A weight is dropped where its byte of `noise` (r, t, s
    heads) is less than `dropped`, and if that is 0 none is. The softmax is of powers of 2, to save the
    factor that powers of e need.
    """
    width, r, t = out.shape[1], q_at.shape[1], at.shape[1]
    c = width // heads
    each = max(1, BLOCK // heads)
    temperature = np.float32(1.4426950408889634 / np.sqrt(c))
    scale = np.float32(256 / (256 - dropped))
    limit = np.uint8(dropped)
    size = each * heads
    qs = np.empty((c, r, size), np.float32)
    ks = np.empty((c, t, size), np.float32)
    vs = np.empty((c, t, size), np.float32)
    biases = np.empty((t, size), np.float32)
    scores = np.empty((t, size), np.float32)
    tops = np.empty(size, np.float32)
    totals = np.empty(size, np.float32)
    for s in range(0, len(at), each):
        queries, keys = q_at[s : s + each], at[s : s + each]
        _gather(qs, query, q_first, queries, heads)
        _gather(ks, rows, first, keys, heads)
        _gather(vs, rows, first + width, keys, heads)
        _bias(biases, keys, len(rows), heads)
        start, n = s * heads, len(keys) * heads
        stop = start + n
        top, total = tops[:n], totals[:n]
        for i in range(r):
            for a in range(c):
                _multiply(qs[a, i, :n], temperature)
            _fill(top, np.float32(-np.inf))
            _fill(total, np.float32(0))
            for j in range(t):
                _score(scores, top, biases, qs, i, ks, j, n)
            for j in range(t):
                _exponentiate(scores[j, :n], top, total)
            _invert(total)
            for j in range(t):
                score, weight = scores[j, :n], weights[i, j, start:stop]
                if dropped:
                    _scale_and_drop(score, total, weight, noise[i, j, start:stop], limit, scale)
                else:
                    _scale(score, total, weight)
            _sum_of(qs, i, vs, scores, n)  # the query has done its work
        _scatter(out, 0, queries, heads, qs, np.float32(1))


@njit(fastmath=FAST)
def _weigh(total, mask, d_weights, weights):
    for x in range(len(total)):
        total[x] += d_weights[x] * weights[x]
        mask[x] = weights[x]


@njit(fastmath=FAST)
def _weigh_kept(total, mask, d_weights, weights, noise, dropped, scale):
    for x in range(len(total)):
        kept = scale if noise[x] >= dropped else np.float32(0)
        d = d_weights[x] * kept
        d_weights[x] = d
        total[x] += d * weights[x]
        mask[x] = weights[x] * kept


@njit(fastmath=FAST)
def _through_softmax(d_scores, total, weights):
    for x in range(len(d_scores)):
        d_scores[x] = (d_scores[x] - total[x]) * weights[x]


@compiled
def attend_backward(
    d_out, query, q_first, q_at, rows, first, at, heads, noise, dropped, weights, d_query, d_rows
):
    """dv = (m w)^T dy; dw = m (dy v^T); ds = w (dw - sum of w dw) / sqrt(c); dq = ds k; dk = ds^T q.

    Written where q, k and v lie in `query` and `rows`.
    """
    width, r, t = d_out.shape[1], q_at.shape[1], at.shape[1]
    c = width // heads
    each = max(1, BLOCK // heads)
    temperature = np.float32(1 / np.sqrt(c))
    scale = np.float32(256 / (256 - dropped))
    limit = np.uint8(dropped)
    size = each * heads
    qs, ys, dq = (
        np.empty((c, r, size), np.float32),
        np.empty((c, r, size), np.float32),
        np.empty((c, r, size), np.float32),
    )
    ks, vs, dk, dv = (
        np.empty((c, t, size), np.float32),
        np.empty((c, t, size), np.float32),
        np.empty((c, t, size), np.float32),
        np.empty((c, t, size), np.float32),
    )
    scores = np.empty((t, size), np.float32)
    totals = np.empty(size, np.float32)
    masks = np.empty(size, np.float32)
    for s in range(0, len(at), each):
        queries, keys = q_at[s : s + each], at[s : s + each]
        _gather(ys, d_out, 0, queries, heads)
        _gather(qs, query, q_first, queries, heads)
        _gather(ks, rows, first, keys, heads)
        _gather(vs, rows, first + width, keys, heads)
        dk[:] = 0
        dv[:] = 0
        start, n = s * heads, len(keys) * heads
        stop = start + n
        total, mask = totals[:n], masks[:n]
        for i in range(r):
            _fill(total, np.float32(0))
            for j in range(t):
                _inner(scores, j, ys, i, vs, n)
                d_weight, weight = scores[j, :n], weights[i, j, start:stop]
                if dropped:
                    _weigh_kept(
                        total, mask, d_weight, weight, noise[i, j, start:stop], limit, scale
                    )
                else:
                    _weigh(total, mask, d_weight, weight)
                _add_weighted(dv, j, mask, ys, i, n)
            for j in range(t):
                d_score = scores[j, :n]
                _through_softmax(d_score, total, weights[i, j, start:stop])
                _add_weighted(dk, j, d_score, qs, i, n)
            _sum_of(dq, i, ks, scores, n)
        _scatter(d_query, q_first, queries, heads, dq, temperature)
        _scatter(d_rows, first, keys, heads, dk, temperature)
        _scatter(d_rows, first + width, keys, heads, dv, np.float32(1))


@compiled
def normalise(x, gain, shift, y, norm, epsilon):
    """Layer normalisation of rows x (N, d) by the gain and shift (G, d) of their group, equal parts of N.

    Writes y (N, d), and each row's mean and 1 / deviation to `norm` (N, 2).
    """
    n, d = x.shape
    each = n // len(gain)
    for row in range(n):
        total = np.float32(0)
        for i in range(d):
            total += x[row, i]
        mean = total / np.float32(d)
        total = np.float32(0)
        for i in range(d):
            total += (x[row, i] - mean) * (x[row, i] - mean)
        scale = np.float32(1) / np.sqrt(total / np.float32(d) + np.float32(epsilon))
        group = row // each
        for i in range(d):
            y[row, i] = (x[row, i] - mean) * scale * gain[group, i] + shift[group, i]
        norm[row, 0] = mean
        norm[row, 1] = scale


@compiled
def normalise_backward(dy, x, norm, gain, dx, d_gain, d_shift):
    """Adds to dx, `d_gain` and `d_shift`; z = (x - mean) / deviation, dz = gain dy.

    dx = (dz - mean of dz - z mean of z dz) / deviation.
    """
    n, d = x.shape
    each = n // len(gain)
    size = np.float32(d)
    for row in range(n):
        mean, scale, group = norm[row, 0], norm[row, 1], row // each
        total, moment = np.float32(0), np.float32(0)
        for i in range(d):
            z = (x[row, i] - mean) * scale
            dz = gain[group, i] * dy[row, i]
            total += dz
            moment += z * dz
            d_gain[group, i] += dy[row, i] * z
            d_shift[group, i] += dy[row, i]
        total /= size
        moment /= size
        for i in range(d):
            z = (x[row, i] - mean) * scale
            dx[row, i] += (gain[group, i] * dy[row, i] - total - z * moment) * scale


@njit(fastmath=FAST)
def _add(row, b):
    for i in range(len(b)):
        row[i] += b[i]


@njit(fastmath=FAST)
def _add_and_cut(row, b):
    """What is below 0 becomes 0; a NaN is not, and stays."""
    for i in range(len(b)):
        value = row[i] + b[i]
        row[i] = np.float32(0) if value < np.float32(0) else value


@compiled
def add_bias(y, b, relu):
    """Adds b (G, o) to the rows y (G, n, o) of each group, and takes the positive part."""
    for group in range(len(y)):
        for row in range(y.shape[1]):
            if relu:
                _add_and_cut(y[group, row], b[group])
            else:
                _add(y[group, row], b[group])


@compiled
def add_neighbours(x, sources, bias, y):
    """Adds to each token y (N, d) its group's bias (G, d) and x[sources[k, n], k] for each k, x (O, 3, d)."""
    n, d = y.shape
    each = n // len(bias)
    for token in range(n):
        group = token // each
        for i in range(d):
            y[token, i] += bias[group, i]
        for k in range(3):
            frame = sources[k, token]
            if frame < len(x):
                for i in range(d):
                    y[token, i] += x[frame, k, i]


@compiled
def add_neighbours_backward(dy, targets, dx):
    """dx[o, k] = dy[targets[k, o]], 0 where that is no token."""
    n, d = dy.shape
    for frame in range(len(dx)):
        for k in range(3):
            token = targets[k, frame]
            for i in range(d):
                dx[frame, k, i] = dy[token, i] if token < n else np.float32(0)


@compiled
def lay_out(used, most):
    """`frame`, `flat`, `place` and `last` of sequences (packing.py) from what is used (G, B, T).

    A group has `most` places for tokens.
    """
    groups, samples, length = used.shape
    frame = np.zeros(groups * most, np.int64)
    last = np.empty(groups * samples, np.int64)
    flat, place = np.empty(used.sum(), np.int64), np.empty(used.sum(), np.int64)
    token = 0
    for group in range(groups):
        at = group * most
        for sample in range(samples):
            row = group * samples + sample
            for t in range(length):
                if used[group, sample, t]:
                    frame[at] = flat[token] = row * length + t
                    place[token] = at
                    token += 1
                    at += 1
            last[row] = at - 1
    return frame, flat, place, last


@compiled
def neighbours(used, seen, most, observed):
    """`sources` and `targets` of a pack (packing.py) from what is used and seen (G, B, T).

    A group has `most` places for tokens, and there are `observed` frames.
    """
    groups, samples, length = used.shape
    n = groups * most
    sources = np.full((3, n), observed)
    targets = np.full((3, observed), n)
    tokens = np.empty(length + 2, np.int64)  # of one sequence, with a margin on either side
    frames = np.empty(length + 2, np.int64)
    frame = 0
    for group in range(groups):
        place = group * most
        for sample in range(samples):
            tokens[:] = n
            frames[:] = observed
            for t in range(length):
                if used[group, sample, t]:
                    tokens[t + 1] = place
                    place += 1
                if seen[group, sample, t]:
                    frames[t + 1] = frame
                    frame += 1
            for t in range(length):
                for k in range(3):
                    if used[group, sample, t]:
                        sources[k, tokens[t + 1]] = frames[t + k]
                    if seen[group, sample, t]:
                        targets[k, frames[t + 1]] = tokens[t + 2 - k]
    return sources, targets
