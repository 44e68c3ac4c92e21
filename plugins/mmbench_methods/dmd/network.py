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
    GroupedLinear,
    Memory,
    attended,
    between,
    lay,
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
                m: linear(KERNEL * modality.width, width, bias=False)
                for m, modality in spec.modalities.items()
            }
        )
        self.exclusive = side_by_side(len(spec.modalities), width, width, bias=False)
        self.shared = linear(width, width, bias=False)

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
        self.exclusive_gate = side_by_side(modalities, wide, wide)
        self.shared_gate = linear(modalities * width, modalities * width)
        self.head = Head(1, modalities * (wide + width), spec)

    def forward(self, parts: Parts) -> Reading:
        """The Transformers' answers at each modality's last frame."""
        modalities, samples = parts.seen.shape[:2]
        to, source = (list(numbers) for numbers in zip(*self.pairs, strict=True))
        each, asking, asked = lay(parts.seen), lay(parts.seen[to]), lay(parts.seen[source])
        shared = each.take(parts.shared + self.positions)  # (N, d)
        exclusive = parts.exclusive + self.positions
        crossed = self.crossmodal(
            asking.take(exclusive[to]),
            asking,
            Memory(asked.take(exclusive[source]), between(asking, asked)),
        )
        # a modality's pairs stand one after another, each laid out as the modality itself is
        joined = crossed.view(modalities, modalities - 1, -1, crossed.shape[1]).transpose(1, 2)
        joined = joined.reshape(len(shared), -1) + self.wide_positions[each.time]
        h = self.memory(joined, each, only_last=True)
        common = self.homogeneous(shared, each, only_last=True)
        common = common.view(modalities, samples, -1).transpose(0, 1).flatten(1)
        return Reading(h.view(modalities, samples, -1), common)

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
        self.first = side_by_side(groups, width, narrow, relu=True)
        self.second = side_by_side(groups, narrow, width)
        self.out = side_by_side(groups, width, spec.task.n_out)
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


def side_by_side(
    groups: int, width_in: int, width_out: int, *, relu: bool = False, bias: bool = True
) -> GroupedLinear:
    """G linear layers, each of which starts as `mmbench.nn.linear`."""
    return GroupedLinear([linear(width_in, width_out, relu=relu, bias=bias) for _ in range(groups)])


def _windows(x: Tensor) -> list[Tensor]:
    """The first, second and third frame of each stretch of KERNEL: x (B, T + 2, ...) as (B, T, ...)."""
    return [x[:, k : x.shape[1] - KERNEL + 1 + k] for k in range(KERNEL)]
