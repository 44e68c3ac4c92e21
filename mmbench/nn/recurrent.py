"""LSTM and GRU over sequences with padding on either side; the numbers are torch's on each unpadded one.

On a CPU they work on packed steps: a step's rows stand together, those of the longest sequence first, and
no row is padding (recurrent_kernels.py and gru.py have the loops). Otherwise the valid frames are moved
to the start, where no padding comes before a real step, and a backward run reads them reversed, at the start
again, so that one plain run of torch's for each direction does. Letters: B samples, T frames, D input
features, h = `width`; N rows, the valid frames of all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmbench.nn import recurrent_kernels as kernels
from mmbench.nn.basic import Dropout, last_valid
from mmbench.nn.gru import gru
from mmbench.nn.products import arrays, matmul, on_cpu, product
from mmbench.randomness import current


class Recurrent(nn.Module):
    """Layers of LSTM or GRU in one direction or two; padding changes no state and has the state 0.

    As in torch, the next layer reads both directions side by side. `merge` says how the top layer's two
    directions are given: side by side, `concat`, or their `sum`. `dropout` acts between layers.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        *,
        cell: Literal["lstm", "gru"] = "lstm",
        directions: Literal[1, 2] = 1,
        depth: int = 1,
        merge: Literal["concat", "sum"] = "concat",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.cell, self.merge = cell, merge
        self.width = width if merge == "sum" else directions * width
        """Of what it gives."""
        widths = [width_in] + [directions * width] * (depth - 1)
        self.forwards, self.backwards = (
            nn.ModuleList(kind(before, width, batch_first=True) for before in widths if there)
            for there in (True, directions == 2)
        )
        self.dropout = Dropout(dropout)

    def train(self, mode: bool = True) -> Recurrent:
        """The cells stay in training, which changes none of their numbers: cuDNN has no gradient else."""
        super().train(mode)
        self.forwards.train()
        self.backwards.train()
        return self

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D), valid (B, T) to the states (B, T, h) or, side by side, (B, T, 2h)."""
        return self._merge(self._run(x, valid))

    def last(self, x: Tensor, valid: Tensor) -> Tensor:
        """The same in, out the state (B, h or 2h) in which each direction ends; 0 for an empty row.

        The forward run ends at the last valid frame, the backward run at the first.
        """
        ends = [last_valid(valid), valid.byte().argmax(1)]
        rows = torch.arange(len(x), device=x.device)
        runs = self._run(x, valid).chunk(2 if self.backwards else 1, -1)
        ended = [run[rows, end] for run, end in zip(runs, ends, strict=False)]
        return self._merge(torch.cat(ended, -1))

    def packed(self, rows: Tensor, steps: Steps) -> Tensor:
        """The valid frames alone: rows (N, D) to the states (N, h or 2h)."""
        return self._merge(self._run_packed(rows, steps))

    def _run(self, x: Tensor, valid: Tensor) -> Tensor:
        """The top layer's states (B, T, h or 2h), its directions side by side, 0 at padding."""
        if _alone_on_cpu(x):
            packed = Steps.of(valid)
            return packed.padded(self._run_packed(packed.packed(x), packed))
        order = _valid_first(valid)
        steps = torch.arange(x.shape[1], device=x.device)
        count = valid.sum(1, keepdim=True)  # (B, 1)
        padding = (steps >= count)[..., None]  # (B, T, 1)
        reverse = torch.where(steps < count, count - 1 - steps, steps)  # (B, T), its own inverse
        x = _pick(x, order)
        for number, cell in enumerate(self.forwards):
            if number:
                x = self.dropout(x)
            runs = [cell(x)[0]]
            if self.backwards:
                states, _ = self.backwards[number](_pick(x, reverse))
                runs.append(_pick(states, reverse))
            x = torch.cat(runs, -1).masked_fill(padding, 0.0)
        return _restore(x, order)

    def _run_packed(self, x: Tensor, steps: Steps) -> Tensor:
        """The same of x (N, D), (N, h or 2h)."""
        if not _alone_on_cpu(x):
            return steps.packed(self._run(steps.padded(x), steps.valid))
        run: Callable[..., Tensor] = lstm if self.cell == "lstm" else gru
        for number, cell in enumerate(self.forwards):
            if number:
                x = self.dropout(x)
            x = run([cell, *self.backwards[number : number + 1]], x, steps.starts)
        return x

    def _merge(self, states: Tensor) -> Tensor:
        if self.merge == "concat" or not self.backwards:
            return states
        return states.view(*states.shape[:-1], 2, self.width).sum(-2)


@dataclass(frozen=True)
class Steps:
    """Where the valid frames of a batch stand as packed steps, which are counted from the first of them."""

    valid: Tensor
    """(B, T)."""
    frames: Tensor
    """Which of the B T frames each row is."""
    starts: np.ndarray
    """(longest + 1,) the first row of each step, and how many rows there are."""

    @classmethod
    def of(cls, valid: Tensor) -> Steps:
        """From what is valid (B, T)."""
        there = valid.cpu().numpy()
        samples, frames = there.nonzero()
        places = np.argsort(-there.sum(1), kind="stable").argsort()  # (B,) 0 for the longest sample
        steps = (there.cumsum(1) - 1)[samples, frames]
        order = np.lexsort([places[samples], steps])
        at = torch.from_numpy((samples * there.shape[1] + frames)[order]).to(valid.device)
        return cls(valid, at, np.concatenate([[0], np.bincount(steps).cumsum()]))

    def packed(self, x: Tensor) -> Tensor:
        """The valid frames of x (B, T, D), (N, D)."""
        rows: Tensor = _Packed.apply(x.flatten(0, 1), self.frames)  # type: ignore[no-untyped-call]
        return rows

    def padded(self, rows: Tensor) -> Tensor:
        """Rows (N, D) as (B, T, D), 0 at padding."""
        whole: Tensor = _Padded.apply(rows, self.frames, self.valid.numel())  # type: ignore[no-untyped-call]
        return whole.view(*self.valid.shape, -1)


def _alone_on_cpu(x: Tensor) -> bool:
    return on_cpu(x) and not current().together


def lstm(cells: Sequence[nn.LSTM], x: Tensor, starts: np.ndarray) -> Tensor:
    """The states (N, h) of torch's LSTM of one layer over packed x (N, D), float32 on a CPU.

    Of two cells the second one runs backwards, and its states stand beside the first one's, (N, 2h).
    """
    weights = [parameter for cell in cells for parameter in cell.parameters()]
    states: Tensor = _LSTM.apply(x, starts, *weights)  # type: ignore[no-untyped-call]
    return states


class _LSTM(torch.autograd.Function):
    """Gates i, f, g, o = W_i x_t + W_h h_t-1 + b; c_t = f c_t-1 + i g; h_t = o tanh(c_t)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, starts: np.ndarray, *weights: Tensor) -> Tensor:
        ways = len(weights) // 4
        h = weights[1].shape[1]
        states = x.new_empty(len(x), ways * h)
        kept = [x, states]
        for way in range(ways):
            weight_in, weight, bias_in, bias = weights[4 * way : 4 * way + 4]
            gates = product(x, weight_in[None], (bias_in + bias)[None])  # (N, 4h)
            across, cells = weight.t().contiguous(), x.new_empty(len(x), h)
            kernels.lstm(*arrays(gates, across), starts, bool(way), *arrays(states, cells))
            kept += [weight_in, across, gates, cells]
        ctx.save_for_backward(*kept)
        ctx.starts = starts
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        x, states, *kept = ctx.saved_tensors
        d_states = d_states.contiguous()
        dx: Tensor | None = None
        gradients: list[Tensor] = []
        for way in range(len(kept) // 4):
            weight_in, across, gates, cells = kept[4 * way : 4 * way + 4]
            d_gates, earlier = torch.empty_like(gates), torch.empty_like(cells)
            kernels.lstm_backward(
                *arrays(d_states, across),
                ctx.starts,
                bool(way),
                *arrays(gates, states, cells, d_gates, earlier),
            )
            if ctx.needs_input_grad[0]:
                own = matmul(d_gates, weight_in)
                dx = own if dx is None else dx.add_(own)
            by_gate, d_bias = d_gates.t(), d_gates.sum(0)
            gradients += [matmul(by_gate, x), matmul(by_gate, earlier), d_bias, d_bias]
        return dx, None, *gradients


class _Packed(torch.autograd.Function):
    """Rows `at` of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, at: Tensor) -> Tensor:
        ctx.save_for_backward(at)
        ctx.rows = len(x)
        return x.index_select(0, at)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (at,) = ctx.saved_tensors
        return _placed(dy, at, ctx.rows), None


class _Padded(torch.autograd.Function):
    """The other way round: x as rows `at` of so many; the others are 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, at: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(at)
        return _placed(x, at, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (at,) = ctx.saved_tensors
        return dy.index_select(0, at), None, None


def _placed(x: Tensor, at: Tensor, rows: int) -> Tensor:
    return x.new_zeros(rows, x.shape[1]).index_copy_(0, at, x)


def valid_first(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, T, D) and valid (B, T) with each row's valid frames at its start, in their order."""
    order = _valid_first(valid)
    return _pick(x, order), valid.gather(1, order)


def read_last(states: Tensor, valid: Tensor) -> Tensor:
    """Of states (B, T, h) those at the last valid frame (B, h); 0 for a row without one."""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, last_valid(valid)] * valid.any(1, keepdim=True)


def _valid_first(valid: Tensor) -> Tensor:
    """For each row (B, T) the frames in an order that has the valid ones first, as they came."""
    return torch.argsort((~valid).byte(), dim=1, stable=True)


def _pick(x: Tensor, order: Tensor) -> Tensor:
    """The frames of x (B, T, D) in this order (B, T)."""
    return x.gather(1, order[..., None].expand_as(x))


def _restore(x: Tensor, order: Tensor) -> Tensor:
    """Undoes `_pick`."""
    return torch.zeros_like(x).scatter(1, order[..., None].expand_as(x), x)
