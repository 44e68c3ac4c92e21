"""LSTM and GRU over sequences with padding on either side.

The valid frames are moved to the start, where no padding comes before a real step; a backward run reads
them reversed, at the start again. So one plain run per direction does, without packing: the numbers are
torch's on each unpadded sequence. Letters: B samples, T frames, D input features, h = `width`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmbench.nn.basic import Dropout, last_valid


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
        self.merge = merge
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
        order = _valid_first(valid)
        return _restore(self._merge(self._run(x, valid, order)), order)

    def last(self, x: Tensor, valid: Tensor) -> Tensor:
        """The same in, out the state (B, h or 2h) in which each direction ends; 0 for an empty row.

        The forward run ends at the last valid frame, the backward run at the first.
        """
        runs = self._run(x, valid, _valid_first(valid))
        forward = runs[0][torch.arange(len(x), device=x.device), _last(valid)]  # (B, h)
        return self._merge([forward, *(run[:, 0] for run in runs[1:])])

    def _run(self, x: Tensor, valid: Tensor, order: Tensor) -> list[Tensor]:
        """The top layer's states (B, T, h) of each direction, valid frames first, then zeros."""
        steps = torch.arange(x.shape[1], device=x.device)
        count = valid.sum(1, keepdim=True)  # (B, 1)
        padding = (steps >= count)[..., None]  # (B, T, 1)
        reverse = torch.where(steps < count, count - 1 - steps, steps)  # (B, T), its own inverse
        x = _pick(x, order)
        runs: list[Tensor] = []
        for number, cell in enumerate(self.forwards):
            if runs:
                x = self.dropout(torch.cat(runs, -1))
            runs = [cell(x)[0]]
            if self.backwards:
                states, _ = self.backwards[number](_pick(x, reverse))
                runs.append(_pick(states, reverse))
            runs = [run.masked_fill(padding, 0.0) for run in runs]
        return runs

    def _merge(self, runs: list[Tensor]) -> Tensor:
        return sum(runs[1:], runs[0]) if self.merge == "sum" else torch.cat(runs, -1)


class GRUs(nn.Module):
    """A GRU over the sequences of each of M modalities in both directions, all in the same steps.

    The numbers are those of `Recurrent(..., cell="gru", directions=2)`, one for each modality. Letters
    beside: n valid frames of all modalities, G = 2 M runs, the forward ones first.
    """

    def __init__(self, widths_in: Sequence[int], width: int) -> None:
        super().__init__()
        spread = width**-0.5  # torch's own start
        self.inputs = nn.ModuleList(nn.Linear(size, 3 * width) for size in [*widths_in, *widths_in])
        self.weight = nn.Parameter(torch.empty(2 * len(widths_in), 3 * width, width))
        self.bias = nn.Parameter(torch.empty(2 * len(widths_in), 3 * width))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -spread, spread)

    def forward(self, sequences: Sequence[Tensor], valid: Tensor) -> Tensor:
        """Sequences (B, T[m], D[m]), valid (M, B, T) to both directions' states (M, B, T, 2h); 0 at padding."""
        runs, samples = len(self.inputs), valid.shape[1]
        width = self.weight.shape[2]
        m, sample, time = valid.nonzero(as_tuple=True)  # (n,)
        rank, count = valid.cumsum(2) - 1, valid.sum(2)
        there = rank[m, sample, time]
        step = torch.cat([there, count[m, sample] - 1 - there])  # (2n,)
        place = (step * runs + torch.cat([m, m + len(valid)])) * samples + sample.repeat(2)
        frames = [x[own[:, : x.shape[1]]] for x, own in zip(sequences, valid, strict=True)]
        rows = [layer(x) for layer, x in zip(self.inputs, [*frames, *frames], strict=True)]
        blank = rows[0].new_zeros(int(count.max()) * runs * samples, 3 * width)
        laid = blank.index_copy(0, place, torch.cat(rows)).view(-1, runs, samples, 3 * width)
        states = _GRU.apply(laid, self.weight, self.bias)  # type: ignore[no-untyped-call]
        states = states.flatten(0, 2).index_select(0, place)  # (2n, h)
        whole = states.new_zeros(valid.numel(), 2 * width)
        at = valid.flatten().nonzero().squeeze(1)
        return whole.index_copy(0, at, torch.cat(states.chunk(2), 1)).view(*valid.shape, -1)


class _GRU(torch.autograd.Function):
    """h' = n + z (h - n), with r, z = sigmoid(x + W h + b) and n = tanh(x + r (W h + b)).

    x (T, G, B, 3h) is what r, z and n take from the input, W (G, 3h, h), b (G, 3h); h starts at 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        length, *shape, wide = x.shape
        width = wide // 3
        states = x.new_zeros(length + 1, *shape, width)  # from before the first step on
        gates, asked = torch.empty_like(x), x.new_empty(length, *shape, width)
        turned, added = weight.transpose(1, 2), bias[:, None]
        for t in range(length):
            recurrent = torch.baddbmm(added, states[t], turned)  # W h + b
            both, n = torch.split(gates[t], [2 * width, width], -1)
            torch.add(x[t, ..., : 2 * width], recurrent[..., : 2 * width], out=both).sigmoid_()
            r, z = both.chunk(2, -1)
            asked[t] = recurrent[..., 2 * width :]
            torch.addcmul(x[t, ..., 2 * width :], r, asked[t], out=n).tanh_()
            torch.lerp(n, states[t], z, out=states[t + 1])
        ctx.save_for_backward(states, gates, asked, weight)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What h' does to h comes step by step, all that can be known before for all steps at once."""
        states, gates, asked, weight = ctx.saved_tensors
        before = states[:-1]
        r, z, n = gates.chunk(3, -1)
        by_n = (1 - z) * (1 - n * n)  # the derivatives of h' by what r, z and n are functions of
        by_z = (before - n) * z * (1 - z)
        by_r = by_n * asked * r * (1 - r)
        by = torch.stack([by_r, by_z, by_n * r], -2)  # (T, G, B, 3, h), as W h + b enters
        d_recurrent, d_after = torch.empty_like(by), torch.empty_like(d_states)
        d_h = torch.zeros_like(states[0])
        for t in range(len(by) - 1, -1, -1):
            torch.add(d_states[t], d_h, out=d_after[t])
            torch.mul(by[t], d_after[t, ..., None, :], out=d_recurrent[t])
            d_h = torch.baddbmm(d_after[t] * z[t], d_recurrent[t].flatten(2), weight)
        d_recurrent = d_recurrent.flatten(3)
        d_x = torch.cat([d_recurrent[..., : 2 * n.shape[-1]], d_after * by_n], -1)
        rows, h = (y.transpose(0, 1).flatten(1, 2) for y in (d_recurrent, before))  # (G, T B, .)
        return d_x, torch.bmm(rows.transpose(1, 2), h), rows.sum(1)


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


def _last(valid: Tensor) -> Tensor:
    """Where the last valid frame (B,) is after `_valid_first`; 0, a padding, where there is none."""
    return (valid.sum(1) - 1).clamp(min=0)


def _pick(x: Tensor, order: Tensor) -> Tensor:
    """The frames of x (B, T, D) in this order (B, T)."""
    return x.gather(1, order[..., None].expand_as(x))


def _restore(x: Tensor, order: Tensor) -> Tensor:
    """Undoes `_pick`."""
    return torch.zeros_like(x).scatter(1, order[..., None].expand_as(x), x)
