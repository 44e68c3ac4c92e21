"""Attention within and between sequences, for several networks of one shape at once.

Networks that differ only in their parameters, one for each modality or pair of them, stand side by side:
parameters have a first axis G, and one product serves all. Sequences of different lengths are first
padded to the longest. Letters: G networks, B samples, T frames (S of a memory), d embedding size, h heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.nn.basic import Dropout, attended, last_valid

ROWS = 32
"""Samples that `by_length` works on at a time: their attention weights fit a processor's cache."""


class Linears(nn.Module):
    """G linear layers side by side, each of which starts as `mmbench.nn.linear`."""

    def __init__(
        self, groups: int, width_in: int, width_out: int, *, bias: bool = True, relu: bool = False
    ) -> None:
        super().__init__()
        spread = math.sqrt((2 if relu else 1) / width_in)
        self.weight = nn.Parameter(spread * torch.randn(groups, width_in, width_out))
        self.bias = nn.Parameter(torch.zeros(groups, 1, width_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(G, ..., width_in) to (G, ..., width_out)."""
        rows = x.flatten(1, -2)  # (G, N, width_in)
        if self.bias is None:
            y = torch.bmm(rows, self.weight)
        else:
            y = torch.baddbmm(self.bias, rows, self.weight)
        return y.view(*x.shape[:-1], -1)


class Norms(nn.Module):
    """G layer norms side by side."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(groups, 1, 1, width))
        self.bias = nn.Parameter(torch.zeros(groups, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """x (G, B, T, d)."""
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)


class Attention(nn.Module):
    """Multi-head attention with a norm before it and a residual around it."""

    def __init__(self, groups: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"an embedding of {width} cannot be split among {heads} heads")
        self.heads = heads
        self.norm = Norms(groups, width)
        self.query = Linears(groups, width, width)
        self.key_value = Linears(groups, width, 2 * width)
        self.project = Linears(groups, width, width)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, bias: Tensor, memory: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        """x (G, B, T, d) with what it finds in the memory (G, B, S, d), by default its own norm.

        `bias` (G, B, S) is added to the scores. Only the frames `at` (G, B) ask, if given: (G, B, 1, d).
        """
        asking = self.norm(x)
        if memory is None:
            memory = asking
        if at is not None:
            x, asking = pick(x, at)[:, :, None], pick(asking, at)[:, :, None]
        query = self._split(self.query(asking) * (x.shape[-1] // self.heads) ** -0.5)
        key, value = (self._split(part) for part in self.key_value(memory).chunk(2, -1))
        shift = bias[:, :, None].expand(-1, -1, self.heads, -1).reshape(len(key), 1, -1)
        scores = torch.baddbmm(shift, query, key.transpose(1, 2))  # (G B h, T or 1, S)
        mixed = torch.bmm(self.dropout(scores.softmax(-1)), value)  # (G B h, T or 1, d / h)
        mixed = mixed.view(*x.shape[:2], self.heads, *mixed.shape[1:])
        return x + self.project(mixed.transpose(2, 3).flatten(3))

    def _split(self, x: Tensor) -> Tensor:
        """(G, B, T, d) to (G B h, T, d / h)."""
        return x.view(*x.shape[:3], self.heads, -1).transpose(2, 3).flatten(0, 2)


class FeedForward(nn.Module):
    """d to 4d to d with ReLU between, a norm before and a residual around."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.norm = Norms(groups, width)
        self.widen = Linears(groups, width, 4 * width, relu=True)
        self.narrow = Linears(groups, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (G, B, T, d)."""
        return x + self.narrow(self.widen(self.norm(x)).relu())


class EncoderLayer(nn.Module):
    """Attention, to a memory under the same norm or to itself, and a feed-forward network."""

    def __init__(self, groups: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(groups, width, heads, dropout)
        self.feed = FeedForward(groups, width)

    def forward(
        self, x: Tensor, bias: Tensor, memory: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        """As `Attention`."""
        if memory is not None:
            memory = self.attention.norm(memory)
        return self.feed(self.attention(x, bias, memory, at))


class Encoder(nn.Module):
    """Pre-norm Transformer encoders; given a memory, the crossmodal ones of MulT (Tsai et al. 2019)."""

    def __init__(
        self, groups: int, width: int, *, depth: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(groups, width, heads, dropout) for _ in range(depth)
        )
        self.norm = Norms(groups, width)

    def forward(
        self, x: Tensor, valid: Tensor, memory: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        """x (G, B, T, d) asks the valid (G, B, S) frames of the memory (G, B, S, d), by default of x.

        Gives (G, B, T, d), or (G, B, d) at the frames `at` (G, B), the only ones the last layer then
        works on, since no frame's answer depends on what others ask.
        """
        bias = attention_bias(valid, x.dtype)
        for layer in self.layers[:-1]:
            x = layer(x, bias, memory)
        x = self.norm(self.layers[-1](x, bias, memory, at))
        return x if at is None else x.squeeze(2)


class DecoderLayer(nn.Module):
    """Attention to itself, attention to a memory as it is, and a feed-forward network."""

    def __init__(self, groups: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.itself = Attention(groups, width, heads, dropout)
        self.memory = Attention(groups, width, heads, dropout)
        self.feed = FeedForward(groups, width)

    def forward(self, x: Tensor, bias: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        """x (G, B, T, d), memory (G, B, S, d), each with its bias (G, B, T or S)."""
        return self.feed(self.memory(self.itself(x, bias), memory_bias, memory))


class Decoder(nn.Module):
    """Pre-norm Transformer decoders that see all of their input at once: no causal mask."""

    def __init__(
        self, groups: int, width: int, *, depth: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(groups, width, heads, dropout) for _ in range(depth)
        )
        self.norm = Norms(groups, width)

    def forward(self, x: Tensor, valid: Tensor, memory: Tensor, memory_valid: Tensor) -> Tensor:
        """x (G, B, T, d), memory (G, B, S, d), each with its valid frames; (G, B, T, d)."""
        bias = attention_bias(valid, x.dtype)
        memory_bias = attention_bias(memory_valid, x.dtype)
        for layer in self.layers:
            x = layer(x, bias, memory, memory_bias)
        return self.norm(x)


def attention_bias(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """0 for the frames (..., T) to attend to and -inf for the others."""
    return torch.zeros_like(valid, dtype=dtype).masked_fill(~attended(valid), -torch.inf)


def pick(x: Tensor, at: Tensor) -> Tensor:
    """Of x (G, B, T, d) the frames at (G, B): (G, B, d)."""
    index = at[..., None, None].expand(-1, -1, 1, x.shape[-1])
    return x.gather(2, index).squeeze(2)


def stack_padded(sequences: Sequence[Tensor]) -> Tensor:
    """Sequences (B, T_g, ...) as one (G, B, T, ...), zero or False behind those shorter than the longest."""
    longest = max(x.shape[1] for x in sequences)
    padded = []
    for x in sequences:
        blank = x.new_zeros(len(x), longest - x.shape[1], *x.shape[2:])
        padded.append(torch.cat([x, blank], 1))
    return torch.stack(padded)


def by_length(
    function: Callable[..., Sequence[Tensor]], valid: Tensor, *sequences: Tensor, rows: int = ROWS
) -> tuple[Tensor, ...]:
    """`function(frames, valid, *sequences)` of samples of similar length at a time: the same in less time.

    valid (G, B, T), sequences (., B, T, d). A piece is `rows` samples, cut to the `frames`, a slice, that
    any of them attends to; what is cut off is padding for all of them, on whichever side. The function
    gives tensors (., n, k) or (., n, frames, k); these come back whole, with zeros where they were cut.
    """
    used = attended(valid).any(0)  # (B, T)
    length = used.shape[1]
    first = length - 1 - last_valid(used.flip(1))  # (B,)
    end = last_valid(used) + 1  # (B,)
    order = (end - first).argsort(stable=True)
    pieces = []
    for piece in torch.split(order, rows):
        frames = slice(int(first[piece].min()), int(end[piece].max()))
        cut = [x[:, :, frames].index_select(1, piece) for x in (valid, *sequences)]
        around = (0, 0, frames.start, length - frames.stop)
        pieces.append([F.pad(y, around) if y.dim() == 4 else y for y in function(frames, *cut)])
    back = order.argsort()
    return tuple(torch.cat(parts, 1).index_select(1, back) for parts in zip(*pieces, strict=True))
