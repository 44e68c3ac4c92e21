"""DMD's network: decoupling, the Transformers behind the prediction, and the heads that only teach.

Letters: B samples, M modalities, T frames after the convolution, d embedding size. The modalities stand
side by side on a first axis M, shorter ones padded to the longest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmbench.batching import Batch
from mmbench.data import DataSpec
from mmbench.nn import (
    Dropout,
    Encoder,
    Linears,
    attended,
    by_length,
    last_valid,
    linear,
    positional_encoding,
    stack_padded,
)

KERNEL = 3
"""Frames that the convolution reads."""
MEMORY_DEPTH = 3
"""Layers that the Transformers behind the crossmodal ones have at least, as in MulT."""


class Parts(NamedTuple):
    """Decoupled features, each (M, B, T, d)."""

    embedded: Tensor
    """x~: what the convolution makes of the input."""
    exclusive: Tensor
    """s: what is special about a modality."""
    shared: Tensor
    """c: what one encoder finds in all modalities."""
    valid: Tensor
    """Bool (M, B, T): frames that read at least one frame of the input that is not padding."""
    seen: Tensor
    """Bool (M, B, T): frames to attend to; the same, or all of a modality that is absent."""


class Reading(NamedTuple):
    """What the Transformers make of the parts."""

    exclusive: Tensor
    """h (M, B, (M-1) d): each modality's exclusive part, in the light of the others'."""
    shared: Tensor
    """(B, M d): the shared parts side by side."""


class Verdict(NamedTuple):
    """What the modalities say one by one, by one kind of part: the nodes of a graph."""

    logits: Tensor
    """(M, B, n_out)."""
    representations: Tensor
    """(M, B, k)."""


class Decoupling(nn.Module):
    """A convolution without padding for each modality, then its exclusive and the shared encoder."""

    def __init__(self, spec: DataSpec, width: int) -> None:
        super().__init__()
        self.dropout = nn.ModuleDict(
            {m: Dropout(spec.schedule.input_dropout.get(m, 0.0)) for m in spec.modalities}
        )
        self.convolution = nn.ModuleDict(
            {
                m: _unbiased(KERNEL * modality.width, width)
                for m, modality in spec.modalities.items()
            }
        )
        self.exclusive = Linears(len(spec.modalities), width, width, bias=False)
        self.shared = _unbiased(width, width)

    def forward(self, batch: Batch) -> Parts:
        """The parts of a batch; zero where the convolution reads zeros, for nothing adds a bias."""
        embedded = stack_padded(
            [
                layer(torch.cat(_windows(self.dropout[m](batch.features[m])), -1))
                for m, layer in self.convolution.items()
            ]
        )
        read = [torch.stack(_windows(valid)).any(0) for valid in batch.valid.values()]
        return Parts(
            embedded,
            self.exclusive(embedded),
            self.shared(embedded),
            stack_padded(read),
            stack_padded([attended(valid) for valid in read]),
        )


class Fusion(nn.Module):
    """Crossmodal Transformers on the exclusive parts, self-attention on the shared ones, one head."""

    positions: Tensor
    wide_positions: Tensor

    def __init__(self, spec: DataSpec, width: int, depth: int) -> None:
        super().__init__()
        schedule, modalities = spec.schedule, len(spec.modalities)
        wide = (modalities - 1) * width
        frames = max(spec.lengths.values()) - KERNEL + 1
        for name, size in (("positions", width), ("wide_positions", wide)):
            self.register_buffer(name, positional_encoding(frames, size), persistent=False)
        self.pairs = pairs(modalities)
        settings: dict[str, Any] = {"heads": schedule.heads, "dropout": schedule.attention_dropout}
        self.crossmodal = Encoder(len(self.pairs), width, depth=depth, **settings)
        self.memory = Encoder(modalities, wide, depth=max(depth, MEMORY_DEPTH), **settings)
        self.homogeneous = Encoder(modalities, width, depth=depth, **settings)
        self.exclusive_gate = Linears(modalities, wide, wide)
        self.shared_gate = linear(modalities * width, modalities * width)
        self.head = Head(1, modalities * (wide + width), spec)

    def forward(self, parts: Parts) -> Reading:
        """The Transformers' answers at each modality's last frame."""
        exclusive, shared = parts.exclusive + self.positions, parts.shared + self.positions
        h, common = by_length(self._read, parts.seen, exclusive, shared)
        return Reading(h, common.transpose(0, 1).flatten(1))

    def _read(
        self, frames: slice, seen: Tensor, exclusive: Tensor, shared: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(M, B, T, d) twice to (M, B, (M-1) d) and (M, B, d)."""
        last = last_valid(seen.flatten(0, 1)).view(seen.shape[:2])  # (M, B)
        each = exclusive.unbind()
        targets = torch.stack([each[to] for to, _ in self.pairs])  # (M (M-1), B, T, d)
        sources = torch.stack([each[source] for _, source in self.pairs])
        crossed = self.crossmodal(targets, seen[[source for _, source in self.pairs]], sources)
        crossed = crossed.view(len(seen), -1, *crossed.shape[1:])  # (M, M-1, B, T, d)
        joined = torch.cat(crossed.unbind(1), -1)  # (M, B, T, (M-1) d)
        joined = joined + self.wide_positions[frames]
        return self.memory(joined, seen, at=last), self.homogeneous(shared, seen, at=last)

    def represent(self, reading: Reading) -> Tensor:
        """The gated parts side by side (B, M M d)."""
        exclusive = self.exclusive_gate(reading.exclusive).sigmoid()
        shared = self.shared_gate(reading.shared).sigmoid()
        return torch.cat([*exclusive, shared], -1)

    def predict(self, reading: Reading) -> Tensor:
        """(B, n_out)."""
        return self.head(self.represent(reading)[None]).logits[0]


class Head(nn.Module):
    """G residual networks x + W2 drop(relu(W1 x)), each with a linear layer to the outputs."""

    def __init__(
        self, groups: int, width: int, spec: DataSpec, *, narrow: int | None = None
    ) -> None:
        super().__init__()
        self.bottleneck = narrow is not None
        narrow = narrow or width
        self.first = Linears(groups, width, narrow, relu=True)
        self.second = Linears(groups, narrow, width)
        self.out = Linears(groups, width, spec.task.n_out)
        self.dropout = Dropout(spec.schedule.output_dropout)

    def forward(self, x: Tensor) -> Verdict:
        """x (G, B, k). Represents it by the bottleneck if there is one, else by the sum."""
        inner = self.first(x)
        whole = x + self.second(self.dropout(inner.relu()))
        return Verdict(self.out(whole), inner if self.bottleneck else whole)


def pairs(modalities: int) -> list[tuple[int, int]]:
    """All (to, from) of two modalities, by `to`."""
    return [
        (to, source) for to in range(modalities) for source in range(modalities) if to != source
    ]


def _unbiased(width_in: int, width_out: int) -> nn.Linear:
    """`mmbench.nn.linear` without a bias: what is zero stays zero."""
    layer = nn.Linear(width_in, width_out, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    return layer


def _windows(x: Tensor) -> list[Tensor]:
    """The first, second and third frame of each stretch of KERNEL: x (B, T + 2, ...) as (B, T, ...)."""
    return [x[:, k : x.shape[1] - KERNEL + 1 + k] for k in range(KERNEL)]
