"""Attention's inner loops on a CPU, compiled by numba.

A head has 4 or 5 columns and a sequence a dozen frames, so that the products of attention are too small
for any library and a pass over memory costs more than the arithmetic in it. Here everything between the
rows that come in and those that go out happens in a core's own cache. Arrays end with X, sequences times
heads, and every loop runs along it, which is what a compiler turns into vector instructions; the loops
are functions of their own, for only then does it know that its arrays do not overlap.

`attend` and `attend_backward` are the equations of `grouped.py`. Letters: c columns of a head, r queries
and t keys of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 512
"""Of X, worked on at a time: long enough for the loops, short enough for the cache."""
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
def _fill(out, value):
    for x in range(len(out)):
        out[x] = value


@njit(fastmath=FAST)
def _copy(out, a):
    for x in range(len(out)):
        out[x] = a[x]


@njit(fastmath=FAST)
def _add_product(out, a, b):
    for x in range(len(out)):
        out[x] += a[x] * b[x]


@njit(fastmath=FAST)
def _raise(out, a):
    for x in range(len(out)):
        out[x] = a[x] if a[x] > out[x] else out[x]


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
def _drop(out, noise, dropped, scale):
    for x in range(len(out)):
        out[x] *= scale if noise[x] >= dropped else np.float32(0)


@compiled
def attend(q, k, v, bias, noise, dropped, weights, y):
    """y = (m w) v with w = 2^(q k^T + bias) over its sum; writes `weights` (r, t, X) and y (c, r, X).

    q (c, r, X), k and v (c, t, X), bias (t, X) float32; a weight is dropped where its byte of `noise` (r, t,
    X) is less than `dropped`, and if that is 0 none is.
    """
    c, r, whole = q.shape
    t = k.shape[1]
    scale = np.float32(256 / (256 - dropped))
    limit = np.uint8(dropped)
    scores = np.empty((t, BLOCK), np.float32)
    tops = np.empty(BLOCK, np.float32)
    totals = np.empty(BLOCK, np.float32)
    sums = np.empty(BLOCK, np.float32)
    for start in range(0, whole, BLOCK):
        stop = min(start + BLOCK, whole)
        n = stop - start
        top, total, mixed = tops[:n], totals[:n], sums[:n]
        for i in range(r):
            _fill(top, np.float32(-np.inf))
            _fill(total, np.float32(0))
            for j in range(t):
                score = scores[j, :n]
                _copy(score, bias[j, start:stop])
                for a in range(c):
                    _add_product(score, q[a, i, start:stop], k[a, j, start:stop])
                _raise(top, score)
            for j in range(t):
                _exponentiate(scores[j, :n], top, total)
            _invert(total)
            for j in range(t):
                _scale(scores[j, :n], total, weights[i, j, start:stop])
                if dropped:
                    _drop(scores[j, :n], noise[i, j, start:stop], limit, scale)
            for a in range(c):
                _fill(mixed, np.float32(0))
                for j in range(t):
                    _add_product(mixed, scores[j, :n], v[a, j, start:stop])
                _copy(y[a, i, start:stop], mixed)


@njit(fastmath=FAST)
def _drop_both(out, mask, noise, dropped, scale):
    for x in range(len(out)):
        kept = scale if noise[x] >= dropped else np.float32(0)
        mask[x] = kept
        out[x] *= kept


@njit(fastmath=FAST)
def _weigh(total, mask, d_weights, weights):
    for x in range(len(total)):
        total[x] += d_weights[x] * weights[x]
        mask[x] *= weights[x]


@njit(fastmath=FAST)
def _through_softmax(d_scores, total, weights):
    for x in range(len(d_scores)):
        d_scores[x] = (d_scores[x] - total[x]) * weights[x]


@compiled
def attend_backward(dy, q, k, v, weights, noise, dropped, dq, dk, dv):
    """dv = (m w)^T dy; dw = m (dy v^T); ds = w (dw - sum of w dw); dq = ds k; dk = ds^T q.

    Writes dq (c, r, X), dk and dv (c, t, X); the gradient is with respect to natural, not binary, scores.
    """
    c, r, whole = q.shape
    t = k.shape[1]
    scale = np.float32(256 / (256 - dropped))
    limit = np.uint8(dropped)
    scores = np.empty((t, BLOCK), np.float32)
    totals = np.empty(BLOCK, np.float32)
    masks = np.empty(BLOCK, np.float32)
    dq[:] = 0
    dk[:] = 0
    dv[:] = 0
    for start in range(0, whole, BLOCK):
        stop = min(start + BLOCK, whole)
        n = stop - start
        total, mask = totals[:n], masks[:n]
        for i in range(r):
            _fill(total, np.float32(0))
            for j in range(t):
                d_weights = scores[j, :n]
                _fill(d_weights, np.float32(0))
                for a in range(c):
                    _add_product(d_weights, dy[a, i, start:stop], v[a, j, start:stop])
                if dropped:
                    _drop_both(d_weights, mask, noise[i, j, start:stop], limit, scale)
                else:
                    _fill(mask, np.float32(1))
                _weigh(total, mask, d_weights, weights[i, j, start:stop])
                for a in range(c):
                    _add_product(dv[a, j, start:stop], mask, dy[a, i, start:stop])
            for j in range(t):
                d_scores = scores[j, :n]
                _through_softmax(d_scores, total, weights[i, j, start:stop])
                for a in range(c):
                    _add_product(dq[a, i, start:stop], d_scores, k[a, j, start:stop])
                    _add_product(dk[a, j, start:stop], d_scores, q[a, i, start:stop])
