"""Sequences to vectors: temporal convolution, Transformer, read at the last valid frame.

Letters: B samples, M modalities, T[m] frames, D[m] input features, d embedding size, h heads; N tokens
and S sequences of a `Pack`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.batching import Batch
from mmbench.data import DataSpec
from mmbench.nn.basic import Dropout, positional_encoding
from mmbench.nn.grouped import (
    GroupedFeedForward,
    GroupedLinear,
    GroupedNorm,
    attention,
    normalise,
    shifted,
)
from mmbench.nn.packing import Pack, pack


class Embedding(nn.Module):
    """A convolution over time of kernel 3 for each modality, (T[m], D[m]) to (T[m], d), plus positions.

    Each observed frame is multiplied once with the three taps, and each token adds up what its neighbours
    and itself gave it: the same numbers as a `nn.Conv1d` with padding 1, without work on zeros.
    """

    positions: Tensor

    def __init__(self, spec: DataSpec, width: int) -> None:
        super().__init__()
        self.dropout = nn.ModuleDict(
            {name: Dropout(spec.schedule.input_dropout.get(name, 0.0)) for name in spec.modalities}
        )
        # A linear layer over three frames has the fan-in of a Conv1d, and so its start.
        starts = [nn.Linear(3 * wide, width) for wide in spec.widths.values()]
        self.taps = nn.ParameterList(  # (3, d, D[m])
            nn.Parameter(start.weight.detach().view(width, 3, -1).transpose(0, 1).contiguous())
            for start in starts
        )
        self.bias = nn.Parameter(torch.stack([start.bias.detach() for start in starts]))
        longest = max(spec.lengths.values())
        self.register_buffer("positions", positional_encoding(longest, width), persistent=False)

    def forward(self, batch: Batch, laid: Pack) -> Tensor:
        """(N, d)."""
        parts = []
        for (name, x), rows, taps in zip(
            batch.features.items(), laid.observed, self.taps, strict=True
        ):
            frames = self.dropout[name](x.flatten(0, 1).index_select(0, rows))  # (O[m], D[m])
            parts.append(frames @ taps.flatten(0, 1).t())  # (O[m], 3 d)
        taken = torch.cat(parts).view(-1, *self.taps[0].shape[:2])  # (O, 3, d)
        count = torch.tensor([j - i for i, j in zip(laid.tokens, laid.tokens[1:], strict=False)])
        group = torch.arange(len(count)).repeat_interleave(count).to(taken.device)
        tokens = shifted(taken, laid.sources, laid.targets)
        return tokens + self.bias[group] + self.positions[laid.time]


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and a feed-forward network of width 4d, each with a residual."""

    def __init__(self, groups: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.p = heads, dropout
        self.attention_norm = GroupedNorm(groups, width)
        self.query_key_value = GroupedLinear([nn.Linear(width, 3 * width) for _ in range(groups)])
        self.project = GroupedLinear([nn.Linear(width, width) for _ in range(groups)])
        self.feed_norm = GroupedNorm(groups, width)
        self.feed = GroupedFeedForward(groups, width, 4 * width, width)

    def forward(self, x: Tensor, laid: Pack, *, only_last: bool = False) -> Tensor:
        """x (N, d) to (N, d), or to (S, d), each sequence's last token, which gives the same vectors."""
        p = self.p if self.training else 0.0
        width = x.shape[1]
        normed = normalise(x)
        if only_last:
            bounds = laid.sequences
            x = x.index_select(0, laid.last)
            query = self.query_key_value(
                normed.index_select(0, laid.last),
                bounds,
                norm=self.attention_norm,
                columns=slice(0, width),
            )
            key_value = self.query_key_value(
                normed, laid.tokens, norm=self.attention_norm, columns=slice(width, None)
            )
            mixed = attention(key_value, self.heads, laid.buckets, p, query)
        else:
            bounds = laid.tokens
            every = self.query_key_value(normed, bounds, norm=self.attention_norm)
            mixed = attention(every, self.heads, laid.buckets, p)
        x = x + self.project(mixed, bounds)
        return x + self.feed(normalise(x), bounds, norm=self.feed_norm)


class FrontEnd(nn.Module):
    """Each modality's sequence to one vector by an encoder of its own, all of them side by side.

    Padding is not attended to; hidden frames, zeros, are. Of a modality that is absent every frame is.
    Heads and dropouts are the data set's.
    """

    def __init__(self, spec: DataSpec, width: int, depth: int) -> None:
        super().__init__()
        heads, groups = spec.schedule.heads, len(spec.modalities)
        if width % heads:
            raise ValueError(f"an embedding of {width} cannot be split among {heads} heads")
        self.embedding = Embedding(spec, width)
        self.layers = nn.ModuleList(
            TransformerLayer(groups, width, heads, spec.schedule.attention_dropout)
            for _ in range(depth)
        )
        self.norm = GroupedNorm(groups, width)

    def forward(self, batch: Batch) -> Tensor:
        """(B, M, d), the modalities in the data set's order, each read at its last valid frame."""
        laid = pack(batch)
        x = self._all_but_last(batch, laid)
        x = self.layers[-1](x, laid, only_last=True)
        return self.norm(normalise(x), laid.sequences)[laid.where]

    def sequences(self, batch: Batch) -> dict[str, Tensor]:
        """By modality (B, T[m], d), each position's encoding; zero at padding."""
        laid = pack(batch)
        x = self.layers[-1](self._all_but_last(batch, laid), laid)
        x = self.norm(normalise(x), laid.tokens)
        x = torch.cat([x, x.new_zeros(1, x.shape[1])])  # (N + 1, d)
        return {
            name: x[laid.dense(valid.shape[1], column)]
            for column, (name, valid) in enumerate(batch.valid.items())
        }

    def _all_but_last(self, batch: Batch, laid: Pack) -> Tensor:
        x = self.embedding(batch, laid)  # (N, d)
        for layer in self.layers[:-1]:
            x = layer(x, laid)
        return x
