"""TransM's network: a recurrent encoder for each modality, and the cells side by side.

Letters: B samples, M modalities, C = M - 1 cells, T frames, d embedding size. Modalities stand side by side
on a first axis M, and cells on a first axis C; shorter sequences are padded to the longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmbench.batching import Batch
from mmbench.data import DataSpec
from mmbench.nn import (
    Decoder,
    Dropout,
    Encoder,
    Recurrent,
    attended,
    by_length,
    last_valid,
    linear,
    pick,
    positional_encoding,
    stack_padded,
)


class Cells(NamedTuple):
    """The cells as far as the translation from the pivot."""

    u: Tensor
    """The pivot with positions (C, B, T, d), the same for every cell."""
    u_seen: Tensor
    """Bool (C, B, T)."""
    m_seen: Tensor
    """Bool (C, B, T)."""
    encoded: Tensor
    """E_f (C, B, T, d), of u alone."""
    translated: Tensor
    """D_f (C, B, T, d)."""
    again: Tensor
    """The same with positions."""


class Translation(NamedTuple):
    """What a whole batch becomes in training."""

    joint: Tensor
    """(B, (3M - 2) d)."""
    there: Tensor
    """D_f (C, B, T, d)."""
    back: Tensor
    """D_b (C, B, T, d)."""
    seen: Tensor
    """Bool (M, B, T): the frames that were attended to."""


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
        return self._join(by_length(self.read, seen, g))

    def translate(self, batch: Batch) -> Translation:
        """The same, and the translations there and back."""
        g, seen = self.embed(batch)
        *read, there, back = by_length(self.read_and_translate, seen, g)
        return Translation(self._join(read), there, back, seen)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """g (M, B, T, d), and the frames to attend to (M, B, T)."""
        seen = frames_of(batch.valid)
        g = []
        for m, layer in self.dense.items():
            states = self.recurrent[m](self.input_dropout[m](batch.features[m]), seen[m])
            g.append(self.dropout(layer(self.dropout(states)).tanh()))
        return stack_padded(g), stack_padded([seen[m] for m in self.dense])

    def cells(self, frames: slice, seen: Tensor, g: Tensor) -> Cells:
        """All cells, over these frames, as far as the translation from the pivot."""
        g = g + self.positions[frames]
        pivot = [self.pivot] * len(self.others)
        u, u_seen = g[pivot], seen[pivot]
        m, m_seen = g[self.others], seen[self.others]
        encoded = self.encode_there(u, u_seen)
        translated = self.decode_there(m, m_seen, encoded, u_seen)
        again = translated + self.positions[frames]
        return Cells(u, u_seen, m_seen, encoded, translated, again)

    def read(self, frames: slice, seen: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """E_f and E_b (C, B, d) and g (M, B, d), each at the modality's last frame."""
        cells = self.cells(frames, seen, g)
        back = self.encode_back(cells.again, cells.m_seen, at=_last(cells.m_seen))
        return pick(cells.encoded, _last(cells.u_seen)), back, pick(g, _last(seen))

    def read_and_translate(self, frames: slice, seen: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """The same, then D_f and D_b (C, B, T, d)."""
        cells = self.cells(frames, seen, g)
        back = self.encode_back(cells.again, cells.m_seen)
        decoded = self.decode_back(cells.u, cells.u_seen, back, cells.m_seen)
        return (
            pick(cells.encoded, _last(cells.u_seen)),
            pick(back, _last(cells.m_seen)),
            pick(g, _last(seen)),
            cells.translated,
            decoded,
        )

    def _join(self, read: Iterable[Tensor]) -> Tensor:
        """Vectors (M or C, B, d) side by side."""
        return self.output_dropout(torch.cat([vector for part in read for vector in part], -1))


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


def _last(seen: Tensor) -> Tensor:
    """The last frame to attend to (G, B) of each (G, B, T)."""
    return last_valid(seen.flatten(0, 1)).view(seen.shape[:2])
