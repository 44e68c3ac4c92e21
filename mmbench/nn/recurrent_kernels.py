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
    """out += a b: (n, w) and (n, k) (k, w), in tiles of four rows and four steps of the sum."""
    n, k = a.shape
    rows, steps = n - n % 4, k - k % 4
    for r in range(0, rows, 4):
        o, p, q, s = out[r], out[r + 1], out[r + 2], out[r + 3]
        for j in range(0, steps, 4):
            b0, b1, b2, b3 = b[j], b[j + 1], b[j + 2], b[j + 3]
            o0, o1, o2, o3 = a[r, j], a[r, j + 1], a[r, j + 2], a[r, j + 3]
            p0, p1, p2, p3 = a[r + 1, j], a[r + 1, j + 1], a[r + 1, j + 2], a[r + 1, j + 3]
            q0, q1, q2, q3 = a[r + 2, j], a[r + 2, j + 1], a[r + 2, j + 2], a[r + 2, j + 3]
            s0, s1, s2, s3 = a[r + 3, j], a[r + 3, j + 1], a[r + 3, j + 2], a[r + 3, j + 3]
            for x in range(len(o)):
                t, u, v, w = b0[x], b1[x], b2[x], b3[x]
                o[x] += o0 * t + o1 * u + o2 * v + o3 * w
                p[x] += p0 * t + p1 * u + p2 * v + p3 * w
                q[x] += q0 * t + q1 * u + q2 * v + q3 * w
                s[x] += s0 * t + s1 * u + s2 * v + s3 * w
    for j in range(0, steps, 4):  # rows that fill no tile
        for i in range(rows, n):
            _add_four(out[i], a[i, j : j + 4], b[j], b[j + 1], b[j + 2], b[j + 3])
    for j in range(steps, k):  # steps that fill none
        for i in range(n):
            _add_multiple(out[i], a[i, j], b[j])


@njit(fastmath=FAST)
def _add_four(out, factors, b0, b1, b2, b3):
    o0, o1, o2, o3 = factors[0], factors[1], factors[2], factors[3]
    for x in range(len(out)):
        out[x] += o0 * b0[x] + o1 * b1[x] + o2 * b2[x] + o3 * b3[x]


@njit(fastmath=FAST)
def _add_multiple(out, factor, row):
    for x in range(len(out)):
        out[x] += factor * row[x]


@njit(fastmath=FAST)
def _products(out, a, b):
    """out = a b^T: (n, k) and (n, w) (k, w), in tiles of four rows and four columns."""
    n, k = out.shape
    rows, columns = n - n % 4, k - k % 4
    for r in range(0, rows, 4):
        o, p, q, s = a[r], a[r + 1], a[r + 2], a[r + 3]
        for j in range(0, columns, 4):
            b0, b1, b2, b3 = b[j], b[j + 1], b[j + 2], b[j + 3]
            o0 = o1 = o2 = o3 = p0 = p1 = p2 = p3 = np.float32(0)
            q0 = q1 = q2 = q3 = s0 = s1 = s2 = s3 = np.float32(0)
            for x in range(len(o)):
                t, u, v, w = b0[x], b1[x], b2[x], b3[x]
                o0, o1, o2, o3 = o0 + o[x] * t, o1 + o[x] * u, o2 + o[x] * v, o3 + o[x] * w
                p0, p1, p2, p3 = p0 + p[x] * t, p1 + p[x] * u, p2 + p[x] * v, p3 + p[x] * w
                q0, q1, q2, q3 = q0 + q[x] * t, q1 + q[x] * u, q2 + q[x] * v, q3 + q[x] * w
                s0, s1, s2, s3 = s0 + s[x] * t, s1 + s[x] * u, s2 + s[x] * v, s3 + s[x] * w
            out[r, j], out[r, j + 1], out[r, j + 2], out[r, j + 3] = o0, o1, o2, o3
            out[r + 1, j], out[r + 1, j + 1], out[r + 1, j + 2], out[r + 1, j + 3] = p0, p1, p2, p3
            out[r + 2, j], out[r + 2, j + 1], out[r + 2, j + 2], out[r + 2, j + 3] = q0, q1, q2, q3
            out[r + 3, j], out[r + 3, j + 1], out[r + 3, j + 2], out[r + 3, j + 3] = s0, s1, s2, s3
    for j in range(k):  # what fills no tile
        for i in range(rows if j < columns else 0, n):
            out[i, j] = _inner(a[i], b[j])


@njit(fastmath=FAST)
def _inner(a, b):
    total = np.float32(0)
    for x in range(len(a)):
        total += a[x] * b[x]
    return total


@njit(fastmath=FAST)
def _squash(row):
    for x in range(len(row)):
        row[x] = _sigmoid(row[x])


@njit(fastmath=FAST)
def _squash_to_both_sides(row):
    for x in range(len(row)):
        row[x] = _tanh(row[x])


@njit(fastmath=FAST)
def _advance(row, before, cell, state):
    """Pre-activations of a row become gates; c = f c' + i g; h = o tanh(c).

    Loops that begin at 0 are the ones that become vector instructions, so that each has its part of the row.
    """
    h = len(cell)
    _squash(row[: 2 * h])
    _squash_to_both_sides(row[2 * h : 3 * h])
    _squash(row[3 * h :])
    _remember(row, before, cell, state)


@njit(fastmath=FAST)
def _remember(row, before, cell, state):
    h = len(cell)
    for x in range(h):
        c = row[h + x] * before[x] + row[x] * row[2 * h + x]
        cell[x] = c
        state[x] = row[3 * h + x] * _tanh(c)


@njit
def _half(reverse, h):
    """The columns of a direction's states, which stand beside those of the other one."""
    return slice(h, 2 * h) if reverse else slice(0, h)


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
    """Writes the cells (N, h) of all steps, and states: of those (N, 2h) of two directions one half.

    gates (N, 4h) hold what the inputs give; `weight` (h, 4h) times the state before is added to it, and
    what is left there are the activations.
    """
    h = cells.shape[1]
    own = _half(reverse, h)
    nothing = np.zeros(h, np.float32)
    for step in range(len(starts) - 1):
        first, n, before, going = _neighbours(starts, step, reverse)
        _add_products(gates[first : first + going], states[before : before + going, own], weight)
        for k in range(n):
            at = first + k
            cell_before = cells[before + k] if k < going else nothing
            _advance(gates[at], cell_before, cells[at], states[at, own])


@njit(fastmath=FAST)
def _retreat(d_state, d_late, d_cell, row, before, told, d_row):
    """One row's gradient with respect to pre-activations, and `d_cell` (h,) to the cell before; `told` is tanh c."""
    h = len(told)
    one = np.float32(1)
    for x in range(h):
        i, f, g, o = row[x], row[h + x], row[2 * h + x], row[3 * h + x]
        d, t = d_state[x] + d_late[x], told[x]
        dc = d_cell[x] + d * o * (one - t * t)
        d_row[x] = dc * g * i * (one - i)
        d_row[h + x] = dc * before[x] * f * (one - f)
        d_row[2 * h + x] = dc * i * (one - g * g)
        d_row[3 * h + x] = d * t * o * (one - o)
        d_cell[x] = dc * f


@compiled
def lstm_backward(d_states, weight, starts, reverse, gates, states, cells, d_gates, earlier):
    """From the gradient of the states that of what the inputs gave (N, 4h).

    `weight`, `starts` and `reverse` as given to `lstm`, gates, states and cells as it left them. Writes as
    well the state before each row's (N, h), which is what the gradient is to be multiplied by.
    """
    h = cells.shape[1]
    own = _half(reverse, h)
    nothing = np.zeros(h, np.float32)
    most = starts[1] if len(starts) > 1 else 0
    d_late = np.zeros((most, h), np.float32)  # of the state, from the step after
    d_cell = np.zeros((most, h), np.float32)
    told = np.empty((most, h), np.float32)
    for step in range(len(starts) - 2, -1, -1):
        first, n, before, going = _neighbours(starts, step, reverse)
        earlier[first : first + going] = states[before : before + going, own]
        earlier[first + going : first + n] = 0
        told[:n] = cells[first : first + n]
        _squash_to_both_sides(told[:n].ravel())
        for k in range(n):
            at = first + k
            cell_before = cells[before + k] if k < going else nothing
            _retreat(
                d_states[at, own],
                d_late[k],
                d_cell[k],
                gates[at],
                cell_before,
                told[k],
                d_gates[at],
            )
        _products(d_late[:going], d_gates[first : first + going], weight)
