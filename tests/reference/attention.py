"""Transformers between two sequences, pre-norm, beside the encoder's own (tests/reference/encoder.py).

Letters: B samples, T frames of what asks, S of what is asked, d embedding size. True in a `padding` (B, T or S)
is never attended to.
"""

from typing import Any

from torch import Tensor, nn

from tests.reference.encoder import Layer, two_layers


class Encoder(nn.Module):
    """Layers of self-attention, then a norm."""

    def __init__(self, width: int, *, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        for layer in self.layers:
            x = layer(x, padding)
        return self.norm(x)


class CrossmodalLayer(nn.Module):
    """x + MHA(LN(x), LN(y), LN(y)), then x + FFN(LN(x)); one LN for x and y."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = two_layers(width, 4 * width, width)

    def forward(self, x: Tensor, y: Tensor, padding: Tensor) -> Tensor:
        """x (B, T, d), y (B, S, d)."""
        query, told = self.attention_norm(x), self.attention_norm(y)
        found, _ = self.attention(query, told, told, key_padding_mask=padding, need_weights=False)
        x = x + found
        return x + self.feed(self.feed_norm(x))


class Crossmodal(nn.Module):
    """MulT's encoder: every layer asks y as it came in."""

    def __init__(self, width: int, *, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossmodalLayer(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, y: Tensor, padding: Tensor) -> Tensor:
        """x (B, T, d), y (B, S, d) to (B, T, d)."""
        for layer in self.layers:
            x = layer(x, y, padding)
        return self.norm(x)


class DecoderLayer(nn.Module):
    """x + MHA(LN(x)), then x + MHA(LN(x), y, y), then x + FFN(LN(x))."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        settings: dict[str, Any] = {"dropout": dropout, "batch_first": True}
        self.itself_norm = nn.LayerNorm(width)
        self.itself = nn.MultiheadAttention(width, heads, **settings)
        self.memory_norm = nn.LayerNorm(width)
        self.memory = nn.MultiheadAttention(width, heads, **settings)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = two_layers(width, 4 * width, width)

    def forward(self, x: Tensor, x_padding: Tensor, y: Tensor, y_padding: Tensor) -> Tensor:
        """x (B, T, d), y (B, S, d)."""
        query = self.itself_norm(x)
        found, _ = self.itself(query, query, query, key_padding_mask=x_padding, need_weights=False)
        x = x + found
        query = self.memory_norm(x)
        found, _ = self.memory(query, y, y, key_padding_mask=y_padding, need_weights=False)
        x = x + found
        return x + self.feed(self.feed_norm(x))


class Decoder(nn.Module):
    """Layers that see all of x and y, then a norm."""

    def __init__(self, width: int, *, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, x_padding: Tensor, y: Tensor, y_padding: Tensor) -> Tensor:
        """x (B, T, d), y (B, S, d) to (B, T, d)."""
        for layer in self.layers:
            x = layer(x, x_padding, y, y_padding)
        return self.norm(x)
