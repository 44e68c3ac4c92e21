"""An LSTM's steps on a CPU, compiled by numba.

A step of a small network is a product that hardly repays its call, and then a dozen passes over what lies
in the cache. Here all steps of a run are one call. Rows of a step stand together, those of the longest
sequence first, so that none is padding: step t has the rows from `starts[t]` to `starts[t + 1]`, and its
k-th row is of the same sequence as the k-th row of any other step. A run in `reverse` begins with the
last step. Letters: N rows, B sequences, T steps, h width; gates are in torch's order, i f g o.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mmbench.nn.kernels import FAST, _power_of_2, compiled


@njit(fastmath=FAST, inline="always")
def _sigmoid(x):
    e = _power_of_2(np.float32(-1.4426950408889634) * abs(x))
    s = np.float32(1) / (np.float32(1) + e)
    return s if x >= 0 else e * s


@njit(fastmath=FAST, inline="always")
def _tanh(x):
    e = _power_of_2(np.float32(-2.8853900817779268) * abs(x))
    t = (np.float32(1) - e) / (np.float32(1) + e)
    return t if x >= 0 else -t


@njit(fastmath=FAST)
def _add_products(out, a, b):
    """out += a b: (n, w) and (n, k) (k, w), in tiles of four rows and two steps of the sum."""
    n, k = a.shape
    for r in range(0, n - 3, 4):
        o0, o1, o2, o3 = out[r], out[r + 1], out[r + 2], out[r + 3]
        for j in range(0, k, 2):
            i = min(j + 1, k - 1)
            there = np.float32(j + 1 < k)  # an odd sum's last step is by itself
            row, a0, a1, a2, a3 = b[j], a[r, j], a[r + 1, j], a[r + 2, j], a[r + 3, j]
            other = b[i]
            b0, b1, b2, b3 = a[r, i], a[r + 1, i], a[r + 2, i], a[r + 3, i]
            b0, b1, b2, b3 = there * b0, there * b1, there * b2, there * b3
            for x in range(len(row)):
                v, u = row[x], other[x]
                o0[x] += a0 * v + b0 * u
                o1[x] += a1 * v + b1 * u
                o2[x] += a2 * v + b2 * u
                o3[x] += a3 * v + b3 * u
    for r in range(n - n % 4, n):
        last = out[r]
        for j in range(k):
            row, a0 = b[j], a[r, j]
            for x in range(len(row)):
                last[x] += a0 * row[x]


@njit(fastmath=FAST)
def _products(out, a, b):
    """out = a b^T: (n, k) and (n, w) (k, w), in tiles of four rows and two columns."""
    n, width = a.shape
    k = len(b)
    for r in range(0, n - 3, 4):
        a0, a1, a2, a3 = a[r], a[r + 1], a[r + 2], a[r + 3]
        for j in range(0, k, 2):
            i = min(j + 1, k - 1)
            row, other = b[j], b[i]
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0)
            for x in range(width):
                v, u = row[x], other[x]
                s0 += a0[x] * v
                s1 += a1[x] * v
                s2 += a2[x] * v
                s3 += a3[x] * v
                t0 += a0[x] * u
                t1 += a1[x] * u
                t2 += a2[x] * u
                t3 += a3[x] * u
            out[r, j], out[r + 1, j], out[r + 2, j], out[r + 3, j] = s0, s1, s2, s3
            out[r, i], out[r + 1, i], out[r + 2, i], out[r + 3, i] = t0, t1, t2, t3
    for r in range(n - n % 4, n):
        last = a[r]
        for j in range(k):
            row = b[j]
            s0 = np.float32(0)
            for x in range(width):
                s0 += last[x] * row[x]
            out[r, j] = s0


@njit(fastmath=FAST)
def _squash(row):
    """Pre-activations of i f and o through the logistic function, those of g through tanh."""
    h = len(row) // 4
    for x in range(2 * h):
        row[x] = _sigmoid(row[x])
    for x in range(2 * h, 3 * h):
        row[x] = _tanh(row[x])
    for x in range(3 * h, 4 * h):
        row[x] = _sigmoid(row[x])


@njit(fastmath=FAST)
def _advance(row, before, cell, state):
    """c = f c' + i g; h = o tanh(c)."""
    h = len(cell)
    for x in range(h):
        c = row[h + x] * before[x] + row[x] * row[2 * h + x]
        cell[x] = c
        state[x] = row[3 * h + x] * _tanh(c)


@njit
def _neighbours(starts, step, reverse):
    """Of a run's step: its first row, how many it has, the first row of the step before, how many go on."""
    t = len(starts) - 2 - step if reverse else step
    first, n = starts[t], starts[t + 1] - starts[t]
    if step == 0:
        return first, n, first, 0
    if reverse:
        return first, n, starts[t + 1], starts[t + 2] - starts[t + 1]
    return first, n, starts[t - 1], n


@compiled
def lstm(gates, weight, starts, reverse, states, cells):
    """Writes the states and cells (N, h) of all steps.

    gates (N, 4h) hold what the inputs give; `weight` (h, 4h) times the state before is added to it, and
    what is left there are the activations.
    """
    nothing = np.zeros(cells.shape[1], np.float32)
    for step in range(len(starts) - 1):
        first, n, before, going = _neighbours(starts, step, reverse)
        _add_products(gates[first : first + going], states[before : before + going], weight)
        for k in range(n):
            row = gates[first + k]
            _squash(row)
            cell_before = cells[before + k] if k < going else nothing
            _advance(row, cell_before, cells[first + k], states[first + k])


@njit(fastmath=FAST)
def _retreat(d_state, d_late, d_cell, row, before, cell, d_row):
    """One row's gradient with respect to pre-activations, and `d_cell` (h,) to the cell before."""
    h = len(cell)
    one = np.float32(1)
    for x in range(h):
        i, f, g, o = row[x], row[h + x], row[2 * h + x], row[3 * h + x]
        d, t = d_state[x] + d_late[x], _tanh(cell[x])
        dc = d_cell[x] + d * o * (one - t * t)
        d_row[x] = dc * g * i * (one - i)
        d_row[h + x] = dc * before[x] * f * (one - f)
        d_row[2 * h + x] = dc * i * (one - g * g)
        d_row[3 * h + x] = d * t * o * (one - o)
        d_cell[x] = dc * f


@compiled
def lstm_backward(d_states, weight, starts, reverse, gates, states, cells, d_gates, earlier):
    """From the gradient of the states (N, h) that of what the inputs gave (N, 4h).

    `weight`, `starts` and `reverse` as given to `lstm`, gates, states and cells as it left them. Writes as
    well the state before each row's (N, h), which is what the gradient is to be multiplied by.
    """
    h = cells.shape[1]
    nothing = np.zeros(h, np.float32)
    most = starts[1] if len(starts) > 1 else 0
    d_late = np.zeros((most, h), np.float32)  # of the state, from the step after
    d_cell = np.zeros((most, h), np.float32)
    for step in range(len(starts) - 2, -1, -1):
        first, n, before, going = _neighbours(starts, step, reverse)
        for k in range(n):
            at = first + k
            cell_before = cells[before + k] if k < going else nothing
            earlier[at] = states[before + k] if k < going else nothing
            _retreat(
                d_states[at], d_late[k], d_cell[k], gates[at], cell_before, cells[at], d_gates[at]
            )
        _products(d_late[:going], d_gates[first : first + going], weight)
