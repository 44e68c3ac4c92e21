"""A GRU over packed steps on a CPU: all of a run's steps are one call, compiled by numba.

Rows stand as in recurrent_kernels.py. Letters: N rows, D input features, h width; gates are in torch's
order, r z n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmbench.nn.kernels import FAST, compiled
from mmbench.nn.products import arrays, matmul, product
from mmbench.nn.recurrent_kernels import _add_products, _neighbours, _sigmoid, _tanh


def gru(cells: Sequence[nn.GRU], x: Tensor, starts: np.ndarray) -> Tensor:
    """The states (N, h) of torch's GRU of one layer over packed x (N, D), float32 on a CPU.

    Of two cells the second one runs backwards, and its states stand beside the first one's, (N, 2h).
    """
    runs = [_GRU.apply(x, *cell.parameters(), starts, bool(k)) for k, cell in enumerate(cells)]
    return torch.cat(runs, -1) if len(runs) > 1 else runs[0]


class _GRU(torch.autograd.Function):
    """r, z = sigmoid(W x + b + U h + c); n = tanh(W_n x + b_n + r (U_n h + c_n)); h' = n + z (h - n)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_in: Tensor,
        weight: Tensor,
        bias_in: Tensor,
        bias: Tensor,
        starts: np.ndarray,
        reverse: bool,
    ) -> Tensor:
        gates = product(x, weight_in[None], bias_in[None])  # (N, 3h)
        told = bias.expand(len(x), -1).contiguous()  # U h + c (N, 3h)
        states = x.new_zeros(len(x), weight.shape[1])  # what is behind the last step stays 0
        _forward(*arrays(gates, told, weight.t().contiguous()), starts, reverse, states.numpy())
        ctx.save_for_backward(x, weight_in, weight, gates, told, states)
        ctx.starts, ctx.reverse = starts, reverse
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_in, weight, gates, told, states = ctx.saved_tensors
        d_gates, d_told = torch.zeros_like(gates), torch.zeros_like(told)
        d_weight = torch.zeros_like(weight.t(), memory_format=torch.contiguous_format)
        _backward(
            *arrays(d_states.contiguous(), gates, told, weight.contiguous()),
            ctx.starts,
            ctx.reverse,
            *arrays(states, d_gates, d_told, d_weight),
        )
        dx = matmul(d_gates, weight_in) if ctx.needs_input_grad[0] else None
        d_weight_in = matmul(d_gates.t(), x)
        return dx, d_weight_in, d_weight.t(), d_gates.sum(0), d_told.sum(0), None, None


@njit(fastmath=FAST)
def _advance(gate, told, before, state):
    """One row: `gate` becomes r, z, n."""
    h = len(state)
    for x in range(2 * h):
        gate[x] = _sigmoid(gate[x] + told[x])
    for x in range(h):
        n = _tanh(gate[2 * h + x] + gate[x] * told[2 * h + x])
        gate[2 * h + x] = n
        state[x] = n + gate[h + x] * (before[x] - n)


@compiled
def _forward(gates, told, weight, starts, reverse, states):
    """Writes the states (N, h) of all steps.

    `gates` (N, 3h) hold W x + b and become r, z, n; `told` (N, 3h) holds c and becomes U h + c; `weight` is
    U^T (h, 3h).
    """
    nothing = np.zeros(states.shape[1], np.float32)
    for step in range(len(starts) - 1):
        first, n, before, going = _neighbours(starts, step, reverse)
        _add_products(told[first : first + going], states[before : before + going], weight)
        for k in range(n):
            at = first + k
            _advance(gates[at], told[at], states[before + k] if k < going else nothing, states[at])


@njit(fastmath=FAST)
def _retreat(d_state, d_late, gate, told, before, d_gate, d_told):
    """One row: the gradients of what is added up before it is squashed; `d_late` (h,) to the state before."""
    h = len(before)
    one = np.float32(1)
    for x in range(h):
        r, z, n = gate[x], gate[h + x], gate[2 * h + x]
        d = d_state[x] + d_late[x]
        new = d * (one - z) * (one - n * n)
        reset = new * told[2 * h + x] * r * (one - r)
        update = d * (before[x] - n) * z * (one - z)
        d_gate[x] = reset
        d_told[x] = reset
        d_gate[h + x] = update
        d_told[h + x] = update
        d_gate[2 * h + x] = new
        d_told[2 * h + x] = new * r
        d_late[x] = d * z


@compiled
def _backward(d_states, gates, told, weight, starts, reverse, states, d_gates, d_told, d_weight):
    """Writes `d_gates` and `d_told` (N, 3h), and adds to `d_weight` (h, 3h), that of U^T.

    `weight` is U (3h, h); gates, told and states are as `_forward` left them.
    """
    h = states.shape[1]
    nothing = np.zeros(h, np.float32)
    d_late = np.zeros((starts[1] if len(starts) > 1 else 0, h), np.float32)
    for step in range(len(starts) - 2, -1, -1):
        first, n, before, going = _neighbours(starts, step, reverse)
        for k in range(n):
            at = first + k
            state_before = states[before + k] if k < going else nothing
            _retreat(
                d_states[at], d_late[k], gates[at], told[at], state_before, d_gates[at], d_told[at]
            )
        late = d_told[first : first + going]
        _add_products(d_late[:going], late, weight)
        _add_products(d_weight, states[before : before + going].T, late)
