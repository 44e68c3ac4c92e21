"""Transformers over packed tokens: attention within sequences, and to other ones.

Networks that differ only in their parameters, one for each modality or pair of them, are groups that stand
side by side. Every norm comes before what it serves. Letters: G groups, N tokens and S sequences of
`Sequences`, d embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from mmbench.nn.basic import linear
from mmbench.nn.blocks import add_attention, add_feed_forward
from mmbench.nn.grouped import GroupedFeedForward, GroupedLinear, GroupedNorm
from mmbench.nn.packing import Bucket, Sequences

Start = Callable[[int, int], nn.Linear]
"""A linear layer of these widths, in and out, with the parameters that training starts from."""


class Memory(NamedTuple):
    """Sequences that others attend to."""

    tokens: Tensor
    """(N', d), in a layout of their own."""
    buckets: Sequence[Bucket]
    """`between` those that ask and these."""


class Attention(nn.Module):
    """Multi-head attention with a norm before it and a residual around it."""

    def __init__(
        self, groups: int, width: int, heads: int, dropout: float, start: Start = linear
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"an embedding of {width} cannot be split among {heads} heads")
        self.heads, self.p = heads, dropout
        self.norm = GroupedNorm(groups, width)
        self.query_key_value = GroupedLinear([start(width, 3 * width) for _ in range(groups)])
        self.project = GroupedLinear([start(width, width) for _ in range(groups)])

    def forward(
        self,
        x: Tensor,
        laid: Sequences,
        memory: Memory | None = None,
        *,
        same_norm: bool = True,
        only_last: bool = False,
    ) -> Tensor:
        """x (N, d) with what it finds in its own sequence or in the memory; of each last token, (S, d).

        To the memory's tokens belongs the affine part of the same norm, or they are taken as they are.
        """
        buckets = laid.buckets if memory is None else memory.buckets
        if only_last:
            buckets = [bucket.asked_once() for bucket in buckets]
        return add_attention(
            x,
            buckets,
            self.heads,
            self.p if self.training else 0.0,
            *parameters_of(self.norm, self.query_key_value, self.project),
            last=laid.last if only_last else None,
            memory=None if memory is None else memory.tokens,
            same_norm=same_norm,
        )


class FeedForward(nn.Module):
    """d to 4d to d with ReLU between, a norm before and a residual around."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.norm = GroupedNorm(groups, width)
        self.layers = GroupedFeedForward(groups, width, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, d)."""
        return add_feed_forward(x, *parameters_of(self.norm, self.layers.widen, self.layers.narrow))


def parameters_of(*modules: nn.Module) -> list[Tensor]:
    """One after the other."""
    return [parameter for module in modules for parameter in module.parameters()]


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network."""

    def __init__(self, groups: int, width: int, heads: int, dropout: float, start: Start) -> None:
        super().__init__()
        self.attention = Attention(groups, width, heads, dropout, start)
        self.feed = FeedForward(groups, width)

    def forward(
        self, x: Tensor, laid: Sequences, memory: Memory | None, *, only_last: bool
    ) -> Tensor:
        """As `Attention`."""
        return self.feed(self.attention(x, laid, memory, only_last=only_last))


class Encoder(nn.Module):
    """Pre-norm Transformer encoders; given a memory, the crossmodal ones of MulT (Tsai et al. 2019)."""

    def __init__(
        self,
        groups: int,
        width: int,
        *,
        depth: int,
        heads: int,
        dropout: float = 0.0,
        start: Start = linear,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(groups, width, heads, dropout, start) for _ in range(depth)
        )
        self.norm = GroupedNorm(groups, width)

    def forward(
        self, x: Tensor, laid: Sequences, memory: Memory | None = None, *, only_last: bool = False
    ) -> Tensor:
        """x (N, d) to (N, d), or to (S, d), each sequence's last token, by less work the same.

        Each layer's norm serves what asks and what is asked, be it x itself or the memory.
        """
        for layer in self.layers[:-1]:
            x = layer(x, laid, memory, only_last=False)
        x = self.layers[-1](x, laid, memory, only_last=only_last)
        return self.norm(x)


class DecoderLayer(nn.Module):
    """Attention to itself, attention to a memory as it is, and a feed-forward network."""

    def __init__(self, groups: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.itself = Attention(groups, width, heads, dropout)
        self.memory = Attention(groups, width, heads, dropout)
        self.feed = FeedForward(groups, width)

    def forward(self, x: Tensor, laid: Sequences, memory: Memory) -> Tensor:
        """x (N, d)."""
        return self.feed(self.memory(self.itself(x, laid), laid, memory, same_norm=False))


class Decoder(nn.Module):
    """Pre-norm Transformer decoders that see all of their input at once: no causal mask."""

    def __init__(
        self, groups: int, width: int, *, depth: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(groups, width, heads, dropout) for _ in range(depth)
        )
        self.norm = GroupedNorm(groups, width)

    def forward(self, x: Tensor, laid: Sequences, memory: Memory) -> Tensor:
        """x (N, d)."""
        for layer in self.layers:
            x = layer(x, laid, memory)
        return self.norm(x)
