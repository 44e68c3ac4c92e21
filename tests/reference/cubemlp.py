"""CubeMLP as its equations stand, with the decisions of plugins/mmbench_methods/cubemlp.py.

Letters: B samples, T frames, M modalities, D input features, d channels, L labels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import Adam
from tests.reference.encoder import dense
from tests.reference.packed import states

FRAMES = 10
CHANNELS = 32
"""Of the cube that the second block makes."""


class Axis(nn.Module):
    """W_r x + W_2 GELU(W_1 LN(x) + b_1) + b_2 along one axis of the cube."""

    def __init__(self, axis: int, width_in: int, width_out: int, dropout: float) -> None:
        super().__init__()
        self.axis = axis
        self.residual = nn.Linear(width_in, width_out, bias=False)
        self.norm = nn.LayerNorm(width_in)
        self.first = dense(width_in, width_out, relu=True)
        self.second = dense(width_out, width_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, cube: Tensor) -> Tensor:
        """(B, T, M, d), one of the last three with another length."""
        x = cube.transpose(self.axis, -1)
        mixed = self.second(F.gelu(self.first(self.norm(x))))
        return (self.residual(x) + self.dropout(mixed)).transpose(self.axis, -1)


def block(before: tuple[int, ...], after: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Mixes frames, then modalities, then channels."""
    return nn.Sequential(*(Axis(i + 1, before[i], after[i], dropout) for i in range(len(before))))


class Context(nn.Module):
    """ReLU(LN(forward + backward)) of a GRU with two layers."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width_in, width, num_layers=2, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D) to (B, T, d)."""
        forward, backward = states(self.gru, x, valid).chunk(2, -1)
        return F.relu(self.norm(forward + backward))


class CubeMLP(nn.Module):
    """The first modality through a linear layer, the others through GRUs; two blocks; a linear head."""

    def __init__(self, spec: DataSpec, *, width: int = 40, dropout: float = 0.1) -> None:
        super().__init__()
        text, *others = spec.modalities
        count, length = len(spec.modalities), max(spec.lengths.values())
        self.input_dropout = nn.ModuleList(
            nn.Dropout(spec.schedule.input_dropout.get(m, 0.0)) for m in spec.modalities
        )
        self.text = nn.Linear(spec.widths[text], width, bias=False)
        self.contexts = nn.ModuleList(Context(spec.widths[m], width) for m in others)
        self.dropout = nn.Dropout(dropout)
        whole, mixed = (length, count, width), (FRAMES, count, CHANNELS)
        self.blocks = nn.Sequential(block(whole, whole, dropout), block(whole, mixed, dropout))
        self.head = dense(count * CHANNELS, spec.task.n_out)

    def cube(self, batch: Batch) -> Tensor:
        """(B, T, M, d), zero at padding."""
        sides = []
        for place, (m, drop) in enumerate(zip(batch.features, self.input_dropout, strict=True)):
            x, valid = drop(batch.features[m]), batch.valid[m]
            side = self.contexts[place - 1](x, valid) if place else self.text(x)
            sides.append(self.dropout(side) * valid[..., None])
        return torch.stack(sides, 2)

    def forward(self, batch: Batch) -> Tensor:
        """(B, 2L): the mixed cube's mean over frames, then the head."""
        return self.head(self.blocks(self.cube(batch)).mean(1).flatten(1))


def loss(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The cross-entropy of each label's two logits."""
    return {"task": F.cross_entropy(logits.reshape(-1, 2), batch.truth.reshape(-1))}


class Trainer:
    """Updates on complete batches."""

    def __init__(self, spec: DataSpec, *, dropout: float = 0.1) -> None:
        schedule = spec.schedule
        self.model = CubeMLP(spec, dropout=dropout)
        self.adam = Adam(self.model, learning_rate=schedule.learning_rate, clip=schedule.clip)

    def step(self, batch: Batch) -> None:
        """One update."""
        self.adam.step(loss(self.model(batch), batch))
