"""A GRU over packed sequences: on a CPU all of its steps are one compiled call, without work on padding.

A step's product is so small that it hardly repays its call, and a dozen passes over the gates follow it.
Frames stand by time and, within a step, by length, the longest sequence first: step t has the rows
`starts[t]` to `starts[t + 1]`, and its k-th is of the same sequence as every other step's k-th. Letters: B sequences, T frames, D input features, h width; N frames that are not padding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmbench.nn.kernels import FAST, _power_of_2, compiled

LOG2E = np.float32(np.log2(np.e))


def gru(cell: nn.GRU, x: Tensor, count: Tensor) -> Tensor:
    """The states (B, T, h) of a GRU of one layer on each row's first `count` (B,) frames of x (B, T, D).

    They are 0 behind. float32 on a CPU alone.
    """
    weights = (cell.weight_ih_l0, cell.weight_hh_l0, cell.bias_ih_l0, cell.bias_hh_l0)
    states, *_ = _GRU.apply(x, count, *weights)  # type: ignore[no-untyped-call]
    return states


class _GRU(torch.autograd.Function):
    """r, z = sigmoid(W x + U h + b); q = U_n h + c_n; n = tanh(W_n x + b_n + r q); h' = n + z (h - n)."""

    @staticmethod
    def forward(
        x: Tensor, count: Tensor, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor
    ) -> tuple[Tensor, ...]:
        length, width = x.shape[1], w_state.shape[1]
        sizes, order = count.sort(descending=True, stable=True)
        step, place = (sizes > torch.arange(length)[:, None]).nonzero(as_tuple=True)  # (N,) each
        frames = order[place] * length + step  # of x as (B T, D)
        starts = torch.searchsorted(step, torch.arange(length + 1))  # (T + 1,)
        gates = torch.addmm(b_in, x.flatten(0, 1)[frames], w_in.t())  # (N, 3h)
        told = b_state.expand(len(frames), -1).contiguous()  # (N, 3h)
        state = torch.empty(len(frames), width)
        _forward(*_arrays(gates, told, state, w_state.t().contiguous(), starts))
        states = x.new_zeros(x.shape[0] * length, width)
        states[frames] = state
        return states.view(*x.shape[:2], width), gates, told, state, frames, starts

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, _, w_in, w_state, _, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, w_in, w_state, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, w_in, w_state, gates, told, state, frames, starts = ctx.saved_tensors
        d_state = d_states.flatten(0, 1)[frames]  # (N, h)
        d_gates, d_told = torch.empty_like(gates), torch.empty_like(told)
        _backward(*_arrays(d_state, gates, told, state, w_state, starts, d_gates, d_told))
        first, steps = int(starts[1]), starts.diff()
        before = torch.arange(first, len(frames)) - steps[:-1].repeat_interleave(steps[1:])
        d_w_state = d_told[first:].t() @ state[before]
        d_w_in = d_gates.t() @ x.flatten(0, 1)[frames]
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = torch.zeros_like(x)
            d_x.view(-1, x.shape[2])[frames] = d_gates @ w_in
        return d_x, None, d_w_in, d_w_state, d_gates.sum(0), d_told.sum(0)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Tensor) -> tuple[tuple[Tensor, ...], Any]:
        """Seed by seed: each has sequences of its own."""
        each = [
            [
                x if axis is None else x.select(axis, run)
                for x, axis in zip(inputs, in_dims, strict=True)
            ]
            for run in range(info.batch_size)
        ]
        states = torch.stack([_GRU.apply(*own)[0] for own in each])  # type: ignore[no-untyped-call]
        nothing = states.new_empty(0)
        return (states, *[nothing] * 5), (0, *[None] * 5)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]


@njit(fastmath=FAST)
def _add_four(out, a, w, b, x, c, y, d, z):
    for i in range(len(out)):
        out[i] += a * w[i] + b * x[i] + c * y[i] + d * z[i]


@njit(fastmath=FAST)
def _add(out, a, x):
    for i in range(len(out)):
        out[i] += a * x[i]


@njit(fastmath=FAST, inline="always")
def _add_product(out, row, matrix):
    """out (n,) += row (k,) @ matrix (k, n)."""
    k = len(row)
    whole = k - k % 4
    for i in range(0, whole, 4):
        _add_four(
            out,
            row[i],
            matrix[i],
            row[i + 1],
            matrix[i + 1],
            row[i + 2],
            matrix[i + 2],
            row[i + 3],
            matrix[i + 3],
        )
    for i in range(whole, k):
        _add(out, row[i], matrix[i])


@njit(fastmath=FAST, inline="always")
def _sigmoid(x):
    return np.float32(1) / (np.float32(1) + _power_of_2(-LOG2E * x))


@njit(fastmath=FAST, inline="always")
def _tanh(x):
    """Near 0 by its series, for there the other form has few digits left."""
    f = np.float32
    s = x * x
    near = f(2 / 15) + s * (f(-17 / 315) + s * (f(62 / 2835) + s * f(-1382 / 155925)))
    near = x + x * s * (f(-1 / 3) + s * near)
    far = f(1) - f(2) / (f(1) + _power_of_2(f(2) * LOG2E * x))
    return near if s < f(0.1) else far


@njit(fastmath=FAST)
def _squash(gates, told):
    for i in range(len(gates)):
        gates[i] = _sigmoid(gates[i] + told[i])


@njit(fastmath=FAST)
def _move(state, r, z, n, q, before):
    for i in range(len(state)):
        n[i] = _tanh(n[i] + r[i] * q[i])
        state[i] = n[i] + z[i] * (before[i] - n[i])


@compiled
def _forward(gates, told, state, weight, starts):
    """Turns `gates` (N, 3h) from W x + b into r, z, n, and `told` (N, 3h) from c into U h + c; writes `state`.

    `weight` is U^T (h, 3h).
    """
    h = state.shape[1]
    nothing = np.zeros(h, np.float32)
    for t in range(len(starts) - 1):
        back = starts[t] - starts[t - 1] if t else 0
        for row in range(starts[t], starts[t + 1]):
            before = nothing
            if t:
                before = state[row - back]
                _add_product(told[row], before, weight)
            gate = gates[row]
            _squash(gate[: 2 * h], told[row])
            _move(state[row], gate[:h], gate[h : 2 * h], gate[2 * h :], told[row, 2 * h :], before)


@njit(fastmath=FAST)
def _back(d, r, z, n, q, before, dr, dz, dn, dq):
    """Through one step's equations; leaves in d what goes to the state before by its side of h'."""
    one = np.float32(1)
    for i in range(len(d)):
        new = d[i] * (one - z[i]) * (one - n[i] * n[i])
        dn[i] = new
        dq[i] = new * r[i]
        dr[i] = new * q[i] * r[i] * (one - r[i])
        dz[i] = d[i] * (before[i] - n[i]) * z[i] * (one - z[i])
        d[i] *= z[i]


@njit(fastmath=FAST)
def _copy(out, x):
    for i in range(len(out)):
        out[i] = x[i]


@compiled
def _backward(d_state, gates, told, state, weight, starts, d_gates, d_told):
    """Writes `d_gates` and `d_told` (N, 3h); `d_state` (N, h) is used up. `weight` is U (3h, h)."""
    h = state.shape[1]
    nothing = np.zeros(h, np.float32)
    for t in range(len(starts) - 2, -1, -1):
        back = starts[t] - starts[t - 1] if t else 0
        for row in range(starts[t], starts[t + 1]):
            d, gate, d_gate, onward = d_state[row], gates[row], d_gates[row], d_told[row]
            before = state[row - back] if t else nothing
            _back(
                d,
                gate[:h],
                gate[h : 2 * h],
                gate[2 * h :],
                told[row, 2 * h :],
                before,
                d_gate[:h],
                d_gate[h : 2 * h],
                d_gate[2 * h :],
                onward[2 * h :],
            )
            _copy(onward[: 2 * h], d_gate)
            if t:
                _add(d_state[row - back], np.float32(1), d)
                _add_product(d_state[row - back], onward, weight)
