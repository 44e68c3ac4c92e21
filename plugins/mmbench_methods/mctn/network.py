"""MCTN's parts: encoder, attention decoder, regressor, and the chain of them that starts from one source.

Letters: B samples, T frames, D features, h = `width` of every state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.data import DataSpec
from mmbench.nn import Dropout, Recurrent, linear


class Translations(NamedTuple):
    """What one source gives in training. Sequences that were made have their frames at the start.

    Behind them stands nothing of meaning.
    """

    output: Tensor
    """(B, n_out)."""
    there: Tensor
    """T1^, the first target: (B, T, D)."""
    back: Tensor
    """S^, the source, made from T1^."""
    later: tuple[Tensor, ...]
    """T2^ ..., the other targets, made from the encoder's states."""


class Padding(nn.Module):
    """Zeros up to a width that all modalities share."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, width)."""
        return F.pad(x, (0, self.width - x.shape[-1]))


class Decoder(nn.Module):
    """G: an LSTM that reads, at each step, its attention's mean of the encoder's states.

    The score of state e_i at step t is w [e_i; c_t-1], with c the LSTM's cell state. What c adds is the
    same for all i, and softmax takes it away: every step reads the same mean.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        self.recurrent = Recurrent(width, width)

    def forward(self, states: Tensor, valid: Tensor, wanted: Tensor) -> Tensor:
        """states (B, T, h) to those of the sequence that is made, of which frames are `wanted` (B, T')."""
        read = attend(states, self.score(states), valid)  # (B, h)
        made: Tensor = self.recurrent(read[:, None].expand(-1, wanted.shape[1], -1), wanted)
        return made


class Regressor(nn.Module):
    """An LSTM over the top encoder's states, its attention's mean, and a linear layer."""

    def __init__(self, width: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.recurrent = Recurrent(width, width)
        self.score = nn.Linear(width, 1, bias=False)
        self.dropout = Dropout(dropout)
        self.head = linear(width, n_out)

    def pool(self, states: Tensor, valid: Tensor) -> Tensor:
        """sum_t softmax_t(tanh(w h_t)) h_t: (B, T, h) to (B, h)."""
        states = self.recurrent(states, valid)
        return attend(states, self.score(states).tanh(), valid)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, h) to (B, n_out)."""
        return self.head(self.dropout(pooled))


class Chain(nn.Module):
    """MCTN from one source: a cycle with the first target, then a translator for each further one."""

    def __init__(
        self,
        spec: DataSpec,
        source: str,
        targets: Sequence[str],
        enter: Mapping[str, nn.Module],
        leave: Mapping[str, nn.Module],
        *,
        common: int,
        width: int,
    ) -> None:
        super().__init__()
        self.source, self.first, self.later = source, targets[0], tuple(targets[1:])
        self.input_dropout = Dropout(spec.schedule.input_dropout.get(source, 0.0))
        pair = (source, self.first)
        self.enter = nn.ModuleDict({m: enter[m] for m in pair})
        self.leave = nn.ModuleDict({m: leave[m] for m in pair})
        self.encoders = nn.ModuleList(
            Recurrent(width if level else common, width, directions=2, merge="sum")
            for level in range(len(targets))
        )
        self.decoders = nn.ModuleList(Decoder(width) for _ in targets)
        self.write = nn.ModuleList(linear(width, spec.widths[m]) for m in self.later)
        self.regressor = Regressor(width, spec.task.n_out, spec.schedule.output_dropout)

    def encode(self, x: Tensor, valid: Tensor) -> list[Tensor]:
        """The source (B, T, D) to each level's states (B, T, h), of which the first are the joint ones."""
        x = self.enter[self.source](self.input_dropout(x))
        states = []
        for encoder in self.encoders:
            x = encoder(x, valid)
            states.append(x)
        return states

    def forward(self, x: Tensor, valid: Tensor, started: Mapping[str, Tensor]) -> Translations:
        """The source x (B, T, D) translated.

        Of a target it knows how long it is, `started` (B, T) by modality, and no more.
        """
        states = self.encode(x, valid)
        source, first = self.source, self.first
        there = self.leave[first](self.decoders[0](states[0], valid, started[first]))
        again = self.encoders[0](self.enter[first](there), started[first])
        back = self.leave[source](self.decoders[0](again, started[first], started[source]))
        later = tuple(
            self.write[level](self.decoders[1 + level](states[1 + level], valid, started[m]))
            for level, m in enumerate(self.later)
        )
        return Translations(self.regressor(self.pool(states, valid)), there, back, later)

    def pool(self, states: list[Tensor], valid: Tensor) -> Tensor:
        """What the regressor attends to (B, h)."""
        pooled: Tensor = self.regressor.pool(states[-1], valid)
        return pooled


def attend(states: Tensor, scores: Tensor, valid: Tensor) -> Tensor:
    """The mean (B, h) of states (B, T, h), weighted by softmax over valid frames of scores (B, T, 1)."""
    lowest = torch.finfo(scores.dtype).min  # not -inf: a row without a valid frame has states 0
    weights = scores.masked_fill(~valid[..., None], lowest).softmax(1)
    return (weights * states).sum(1)


def error(made: Tensor, truth: Tensor, started: Tensor) -> Tensor:
    """The mean squared error over the frames `started` (B, T) of truth (B, T, D), 0 if there is none.

    Truth is padded to the width of `made` (B, T, at least D).
    """
    truth = F.pad(truth, (0, made.shape[-1] - truth.shape[-1]))
    squared = (made - truth).square().mean(-1)  # (B, T)
    return (squared * started).sum() / started.sum().clamp(min=1)
