"""One modality's encoder as the equations stand: every position is computed, then one is read.

Letters: B samples, T frames, D input features, d embedding size.
"""

import torch
from torch import Tensor, nn

from mmbench.batching import Batch
from mmbench.data import DataSpec


def dense(width_in: int, width_out: int, *, relu: bool = False) -> nn.Linear:
    """A linear layer with He et al.'s start, `relu` if a ReLU follows."""
    layer = nn.Linear(width_in, width_out)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if relu else "linear")
    nn.init.zeros_(layer.bias)
    return layer


def two_layers(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """Linear, ReLU, linear."""
    return nn.Sequential(dense(width_in, hidden, relu=True), nn.ReLU(), dense(hidden, width_out))


def sinusoids(length: int, width: int) -> Tensor:
    """PE (T, d): PE[t, 2i] = sin(t / 10000^(2i/d)), PE[t, 2i + 1] = cos of the same."""
    t = torch.arange(length, dtype=torch.float64)[:, None]
    angle = t / 10000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    table = torch.zeros(length, width)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()
    return table


class Layer(nn.Module):
    """Pre-norm: x + MHA(LN(x)), then x + FFN(LN(x)), (B, T, d) to (B, T, d).

    Not `nn.TransformerEncoderLayer`, whose dropout is on the residuals and the feed-forward network too.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = two_layers(width, 4 * width, width)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Nothing attends where `padding` (B, T) is True."""
        y = self.attention_norm(x)
        y, _ = self.attention(y, y, y, key_padding_mask=padding, need_weights=False)
        x = x + y
        return x + self.feed(self.feed_norm(x))


class Encoder(nn.Module):
    """Z = Transformer(Conv1d(x) + PE) at the last valid frame: (B, T, D) to (B, d)."""

    def __init__(
        self,
        width_in: int,
        length: int,
        width: int,
        *,
        depth: int,
        heads: int,
        attention_dropout: float,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(input_dropout)
        self.convolution = nn.Conv1d(width_in, width, kernel_size=3, padding=1)
        self.register_buffer("positions", sinusoids(length, width), persistent=False)
        self.layers = nn.ModuleList(Layer(width, heads, attention_dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def states(self, x: Tensor, attended: Tensor) -> Tensor:
        """Every position's encoding (B, T, d); what is not `attended` (B, T) to means nothing."""
        x = self.convolution(self.dropout(x).transpose(1, 2)).transpose(1, 2) + self.positions
        for layer in self.layers:
            x = layer(x, ~attended)
        return self.norm(x)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """The last of the frames that are attended to."""
        seen = attended(valid)
        x = self.states(x, seen)
        frames = torch.arange(1, x.shape[1] + 1, device=x.device)
        last = (frames * seen).argmax(1)  # (B,)
        return x[torch.arange(len(x)), last]


def attended(valid: Tensor) -> Tensor:
    """Padding is not, hidden frames are; where nothing is valid (B, T), the first frame is."""
    seen = valid.clone()
    seen[~valid.any(1), 0] = True
    return seen


class Encoders(nn.ModuleList):
    """An encoder for each modality, in the data set's order, with its schedule's heads and dropouts."""

    def __init__(self, spec: DataSpec, width: int, depth: int) -> None:
        super().__init__(
            Encoder(
                modality.width,
                modality.length,
                width,
                depth=depth,
                heads=spec.schedule.heads,
                attention_dropout=spec.schedule.attention_dropout,
                input_dropout=spec.schedule.input_dropout.get(name, 0.0),
            )
            for name, modality in spec.modalities.items()
        )

    def forward(self, batch: Batch) -> list[Tensor]:
        """Z_m (B, d) of each modality m."""
        return [
            encoder(x, valid)
            for encoder, x, valid in zip(
                self, batch.features.values(), batch.valid.values(), strict=True
            )
        ]
