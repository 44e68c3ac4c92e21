"""TransM's network: a recurrent encoder for each modality, and the cells side by side.

Letters: B samples, M modalities, C = M - 1 cells, T frames, d embedding size, N tokens of the cells.
Modalities stand side by side on a first axis M, shorter ones padded to the longest. In the cells there is
no padding: a cell is a group of tokens, those of the pivot or those of the other modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmbench.batching import Batch
from mmbench.data import DataSpec
from mmbench.nn import (
    Decoder,
    Dropout,
    Encoder,
    Memory,
    Recurrent,
    Sequences,
    attended,
    between,
    last_valid,
    lay,
    linear,
    positional_encoding,
    stack_padded,
)


class Cells(NamedTuple):
    """The cells as far as the translation from the pivot."""

    u: Tensor
    """The pivot with positions (N, d), the same for every cell."""
    pivot: Sequences
    """Where u and E_f are, for each cell."""
    others: Sequences
    """Where D_f is."""
    encoded: Tensor
    """E_f (N, d), of u alone."""
    translated: Tensor
    """D_f (N, d)."""
    again: Tensor
    """The same with positions."""


class Translation(NamedTuple):
    """What a whole batch becomes in training."""

    joint: Tensor
    """(B, (3M - 2) d)."""
    there: Tensor
    """D_f (N, d)."""
    back: Tensor
    """D_b (N, d)."""
    others: Sequences
    """Where D_f is."""
    pivot: Sequences
    """Where D_b is."""


class Network(nn.Module):
    """g of each modality; two encoders and two decoders of each cell."""

    positions: Tensor

    def __init__(
        self,
        spec: DataSpec,
        pivot: str,
        *,
        width: int,
        depth: int,
        decoder_depth: int,
        dropout: float,
    ) -> None:
        super().__init__()
        names, schedule = list(spec.modalities), spec.schedule
        self.pivot = names.index(pivot)
        self.others = [number for number in range(len(names)) if number != self.pivot]
        self.width = (2 * len(self.others) + len(names)) * width
        """Of the joint representation."""

        self.input_dropout = nn.ModuleDict(
            {m: Dropout(schedule.input_dropout.get(m, 0.0)) for m in names}
        )
        self.recurrent = nn.ModuleDict(
            {m: Recurrent(size, width, cell="gru", directions=2) for m, size in spec.widths.items()}
        )
        self.dense = nn.ModuleDict({m: linear(2 * width, width) for m in names})
        self.dropout = Dropout(dropout)
        positions = positional_encoding(max(spec.lengths.values()), width)
        self.register_buffer("positions", positions, persistent=False)

        cells = len(self.others)
        shape: dict[str, Any] = {"heads": schedule.heads, "dropout": schedule.attention_dropout}
        self.encode_there = Encoder(cells, width, depth=depth, **shape)
        self.decode_there = Decoder(cells, width, depth=decoder_depth, **shape)
        self.encode_back = Encoder(cells, width, depth=depth, **shape)
        self.decode_back = Decoder(cells, width, depth=decoder_depth, **shape)
        self.output_dropout = Dropout(schedule.output_dropout)

    def forward(self, batch: Batch) -> Tensor:
        """The encoders' outputs of all cells and the unimodal ones, (B, (3M - 2) d)."""
        g, seen = self.embed(batch)
        cells = self.cells(g, seen)
        back = self.encode_back(cells.again, cells.others, only_last=True)
        return self._join(cells, back, g, seen)

    def translate(self, batch: Batch) -> Translation:
        """The same, and the translations there and back."""
        g, seen = self.embed(batch)
        cells = self.cells(g, seen)
        back = self.encode_back(cells.again, cells.others)
        asked = Memory(back, between(cells.pivot, cells.others))
        return Translation(
            self._join(cells, back.index_select(0, cells.others.last), g, seen),
            cells.translated,
            self.decode_back(cells.u, cells.pivot, asked),
            cells.others,
            cells.pivot,
        )

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """g (M, B, T, d), and the frames to attend to (M, B, T)."""
        seen = frames_of(batch.valid)
        g = []
        for m, layer in self.dense.items():
            states = self.recurrent[m](self.input_dropout[m](batch.features[m]), seen[m])
            g.append(self.dropout(layer(self.dropout(states)).tanh()))
        return stack_padded(g), stack_padded([seen[m] for m in self.dense])

    def cells(self, g: Tensor, seen: Tensor) -> Cells:
        """All cells as far as the translation from the pivot."""
        g = g + self.positions
        repeated = [self.pivot] * len(self.others)
        pivot, others = lay(seen[repeated]), lay(seen[self.others])
        u = pivot.take(g[repeated])
        encoded = self.encode_there(u, pivot)
        asked = Memory(encoded, between(others, pivot))
        translated = self.decode_there(others.take(g[self.others]), others, asked)
        again = translated + self.positions[others.time]
        return Cells(u, pivot, others, encoded, translated, again)

    def _join(self, cells: Cells, back: Tensor, g: Tensor, seen: Tensor) -> Tensor:
        """E_f, E_b (C B, d) and g, each at the modality's last frame, side by side."""
        encoded = cells.encoded.index_select(0, cells.pivot.last)
        last = last_valid(seen.flatten(0, 1))  # (M B,)
        ends = g.flatten(0, 1)[torch.arange(len(last), device=last.device), last]
        vectors = torch.cat([encoded, back, ends]).view(-1, g.shape[1], g.shape[3])
        return self.output_dropout(vectors.transpose(0, 1).flatten(1))


def frames_of(valid: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The frames (B, T) to attend to, by modality: those that are not padding.

    An absent modality has the frames of the present ones, if all modalities have one length, as words do;
    else, or if all are absent, one.
    """
    frames = dict(valid)
    if len({x.shape[1] for x in valid.values()}) == 1:
        some = torch.stack(list(valid.values())).any(0)
        frames = {m: torch.where(x.any(1, keepdim=True), x, some) for m, x in valid.items()}
    return {m: attended(x) for m, x in frames.items()}
