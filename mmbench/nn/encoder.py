"""Sequences to vectors: temporal convolution, Transformer, read at the last valid frame.

Letters: B samples, T frames, D input features, d embedding size, h heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batching import Batch
from mmbench.data import DataSpec
from mmbench.nn.basic import Dropout, last_valid, mlp, positional_encoding


class TemporalConvolution(nn.Module):
    """A convolution over time of kernel 3 and padding 1, (B, T, D) to (B, T, d).

    Written as one product over each frame and its two neighbours: the same numbers as `nn.Conv1d`
    without its transpositions.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.taps = nn.Linear(3 * width_in, width_out)  # the fan-in, and so the start, of a Conv1d

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, d)."""
        padded = F.pad(x, (0, 0, 1, 1))  # (B, T + 2, D)
        return self.taps(torch.cat([padded[:, :-2], x, padded[:, 2:]], -1))


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and a feed-forward network of width 4d, each with a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = mlp(width, 4 * width, width)

    def forward(self, x: Tensor, bias: Tensor, at: Tensor | None = None) -> Tensor:
        """x (B, T, d), bias (B, 1, 1, T) added to the scores; (B, T, d), or (B, 1, d) only `at` (B,)."""
        normed = self.attention_norm(x)
        if at is None:
            asked, residual = normed, x
        else:
            rows = torch.arange(len(x), device=x.device)
            asked, residual = normed[rows, at][:, None], x[rows, at][:, None]  # (B, 1, d)
        query = self._split(self.query(asked))  # (B, h, T or 1, d / h)
        key, value = (self._split(part) for part in self.key_value(normed).chunk(2, -1))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
        mixed = self.dropout(scores.softmax(-1)) @ value  # (B, h, T or 1, d / h)
        x = residual + self.project(mixed.transpose(1, 2).flatten(2))
        return x + self.feed(self.feed_norm(x))

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, h, T, d / h)."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class SequenceEncoder(nn.Module):
    """One modality's sequence to one vector: convolution, positions, Transformer, last valid frame.

    The last layer asks only at the position that is read, which gives the same vector.
    """

    def __init__(
        self,
        width_in: int,
        length: int,
        width: int,
        *,
        depth: int,
        heads: int,
        attention_dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"an embedding of {width} cannot be split among {heads} heads")
        self.input_dropout = Dropout(input_dropout)
        self.convolution = TemporalConvolution(width_in, width)
        self.register_buffer("positions", positional_encoding(length, width), persistent=False)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, attention_dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D), valid (B, T) to (B, d). Padding is not attended to; hidden frames, zeros, are."""
        x = self.convolution(self.input_dropout(x)) + self.positions  # (B, T, d)
        # Where a modality is absent nothing is valid; attend everywhere then, rather than divide by 0.
        padding = ~valid & valid.any(1, keepdim=True)
        bias = torch.zeros_like(padding, dtype=x.dtype).masked_fill(padding, -torch.inf)
        bias = bias[:, None, None]  # (B, 1, 1, T)
        for layer in self.layers[:-1]:
            x = layer(x, bias)
        return self.norm(self.layers[-1](x, bias, last_valid(valid))).squeeze(1)  # (B, d)


class FrontEnd(nn.Module):
    """A `SequenceEncoder` for each modality, with the data set's heads and dropouts."""

    def __init__(self, spec: DataSpec, width: int, depth: int) -> None:
        super().__init__()
        schedule = spec.schedule
        self.encoders = nn.ModuleDict(
            {
                name: SequenceEncoder(
                    modality.width,
                    modality.length,
                    width,
                    depth=depth,
                    heads=schedule.heads,
                    attention_dropout=schedule.attention_dropout,
                    input_dropout=schedule.input_dropout.get(name, 0.0),
                )
                for name, modality in spec.modalities.items()
            }
        )

    def forward(self, batch: Batch) -> Tensor:
        """(B, M, d), the modalities in the data set's order."""
        encoded = [
            encoder(batch.features[name], batch.valid[name])
            for name, encoder in self.encoders.items()
        ]
        return torch.stack(encoded, 1)
