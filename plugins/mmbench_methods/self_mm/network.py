"""Self-MM's network: one recurrent encoder per modality, a fusion, and a branch per modality.

Yu et al. 2021, section "Overall Architecture". Letters: B samples, T[m] frames, M modalities.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmbench.batching import Batch
from mmbench.data import DataSpec
from mmbench.nn import Dropout, Recurrent, linear

SIZES = ((64, 64), (32, 16), (64, 32))
"""Of the text, of the audio and of all that follow: width of the LSTM's state, and of the encoding."""


def sizes(spec: DataSpec) -> dict[str, tuple[int, int]]:
    """`SIZES` by modality, in the data set's order."""
    last = len(SIZES) - 1
    return {name: SIZES[min(place, last)] for place, name in enumerate(spec.modalities)}


class Encoder(nn.Module):
    """A sequence to a vector: the state in which an LSTM ends, made narrower."""

    def __init__(
        self, width_in: int, hidden: int, width: int, *, input_dropout: float, dropout: float
    ) -> None:
        super().__init__()
        self.input_dropout = Dropout(input_dropout)
        self.lstm = Recurrent(width_in, hidden)
        self.dropout = Dropout(dropout)
        self.narrow = linear(hidden, width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D), valid (B, T) to (B, k). Hidden frames, zeros, are read; padding is not."""
        return self.narrow(self.dropout(self.lstm.last(self.input_dropout(x), valid)))


class Encoders(nn.ModuleDict):
    """An `Encoder` for each modality, with the data set's dropouts."""

    def __init__(self, spec: DataSpec) -> None:
        schedule = spec.schedule
        super().__init__(
            {
                name: Encoder(
                    spec.widths[name],
                    hidden,
                    width,
                    input_dropout=schedule.input_dropout.get(name, 0.0),
                    dropout=schedule.output_dropout,
                )
                for name, (hidden, width) in sizes(spec).items()
            }
        )

    def forward(self, batch: Batch) -> list[Tensor]:
        """(B, k[m]) for each modality, in the data set's order."""
        return [encoder(batch.features[name], batch.valid[name]) for name, encoder in self.items()]


class Branch(nn.Module):
    """A representation, which the labels are generated from, and a prediction made of it."""

    def __init__(self, width_in: int, width: int, n_out: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.project = linear(width_in, width, relu=True)
        self.hidden = linear(width, width, relu=True)
        self.head = linear(width, n_out)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, in) to the representation (B, d) and the prediction (B, n_out)."""
        features = self.project(self.dropout(x)).relu()
        return features, self.head(self.hidden(features).relu())
