"""LSTM and GRU over sequences with padding on either side.

The valid frames are moved to the start, where no padding comes before a real step; a backward run reads
them reversed, at the start again. So one plain run per direction does, without packing: the numbers are
torch's on each unpadded sequence. Letters: B samples, T frames, D input features, h = `width`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mmbench.nn.basic import Dropout, last_valid
from mmbench.nn.gru import gru


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
        reverse = torch.where(steps < count, count - 1 - steps, steps)  # (B, T), its own inverse
        x = _pick(x, order)
        runs: list[Tensor] = []
        for number, cell in enumerate(self.forwards):
            if runs:
                x = self.dropout(torch.cat(runs, -1))
            runs = [_states(cell, x, count)]
            if self.backwards:
                states = _states(self.backwards[number], _pick(x, reverse), count)
                runs.append(_pick(states, reverse))
        return runs

    def _merge(self, runs: list[Tensor]) -> Tensor:
        return sum(runs[1:], runs[0]) if self.merge == "sum" else torch.cat(runs, -1)


def _states(cell: nn.Module, x: Tensor, count: Tensor) -> Tensor:
    """The states (B, T, h) on each row's first `count` (B, 1) frames of x (B, T, D), then zeros."""
    if isinstance(cell, nn.GRU) and x.device.type == "cpu" and x.dtype == torch.float32:
        return gru(cell, x, count.squeeze(1))
    padding = torch.arange(x.shape[1], device=x.device) >= count  # (B, T)
    states: Tensor = cell(x)[0]
    return states.masked_fill(padding[..., None], 0.0)


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
