"""CubeMLP: three small MLPs mix frames, modalities and channels of a cube in turn.

*CubeMLP: An MLP-based Model for Multimodal Sentiment Analysis and Depression Estimation*, Hao Sun,
Hongyi Wang, Jiaqing Liu, Yen-Wei Chen, Lanfen Lin; ACM MM 2022, https://arxiv.org/abs/2207.14087.

The aligned sequences of all modalities make a cube, which neither attention nor recurrence mixes.
Letters: B samples, T frames, M modalities, D input features, d channels. A cube is laid out (T, M, B, d),
so that every axis is mixed by one product, and nothing has to be moved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mmbench
from mmbench.nn import Dropout, Recurrent, linear, mlp


class AxisMLP(nn.Module):
    """Mixes along one axis: a projection as residual, plus two layers with GELU after a LayerNorm."""

    def __init__(self, axis: int, width_in: int, width_out: int, *, dropout: float) -> None:
        """`axis` is 0 for frames, 1 for modalities, -1 for channels."""
        super().__init__()
        self.axis = axis
        self.residual = nn.Linear(width_in, width_out, bias=False)
        nn.init.kaiming_normal_(self.residual.weight, nonlinearity="linear")
        self.norm = nn.LayerNorm(width_in)
        self.first = linear(width_in, width_out, relu=True)
        self.second = linear(width_out, width_out)
        self.dropout = Dropout(dropout)

    def forward(self, cube: Tensor) -> Tensor:
        """(T, M, B, d) with the length of one axis changed."""
        axis, norm, first = self.axis, self.norm, self.first
        normed = _normalised(cube, axis, norm.eps)
        # The norm's gain and shift are joined with the layer after it, where they cost nothing.
        bias = first.bias + first.weight @ norm.bias
        hidden = F.gelu(_along(axis, normed, first.weight * norm.weight, bias))
        mixed = _along(axis, hidden, self.second.weight, self.second.bias)
        return _along(axis, cube, self.residual.weight) + self.dropout(mixed)


def _normalised(cube: Tensor, axis: int, eps: float) -> Tensor:
    """LayerNorm along an axis, without gain and shift."""
    if axis == -1:
        return F.layer_norm(cube, cube.shape[-1:], eps=eps)
    centred = cube - cube.mean(axis, keepdim=True)
    return centred * (centred.square().mean(axis, keepdim=True) + eps).rsqrt()


def _along(axis: int, cube: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer along an axis of (T, M, B, d), which stays where it is in memory."""
    if axis == -1:
        return F.linear(cube, weight, bias)
    if axis == 0:
        made = (weight @ cube.flatten(1)).view(-1, *cube.shape[1:])
        shape: tuple[int, ...] = (-1, 1, 1, 1)
    else:
        each = weight.expand(len(cube), -1, -1)  # a product for each frame, which copies nothing
        made = torch.bmm(each, cube.flatten(2)).view(len(cube), -1, *cube.shape[2:])
        shape = (-1, 1, 1)
    return made if bias is None else made + bias.view(shape)


class Block(nn.Sequential):
    """A cube (T, M, B, d) to a cube: frames are mixed, then modalities, then channels."""

    def __init__(
        self, before: tuple[int, int, int], after: tuple[int, int, int], *, dropout: float
    ) -> None:
        """`before` and `after` are T, M, d."""
        triples = zip((0, 1, -1), before, after, strict=True)
        super().__init__(*(AxisMLP(*triple, dropout=dropout) for triple in triples))


class Words(nn.Module):
    """The text's frames to channels, each alone."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, width, bias=False)
        nn.init.kaiming_normal_(self.project.weight, nonlinearity="linear")

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D) to (B, T, d)."""
        return self.project(x)


class Context(nn.Module):
    """Frames to channels by a GRU of two layers in both directions, summed, then LayerNorm and ReLU."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.gru = Recurrent(width_in, width, cell="gru", directions=2, depth=2, merge="sum")
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D), valid (B, T) to (B, T, d)."""
        return self.norm(self.gru(x, valid)).relu()


class CubeMLP(mmbench.Method):
    """Frame encoders, two blocks that mix the cube, a linear head."""

    name = "cubemlp"
    summary = "three small MLPs mix frames, modalities and channels in turn"
    paper = (
        "Sun et al., CubeMLP: An MLP-based Model for Multimodal Sentiment Analysis and Depression "
        "Estimation, ACM MM 2022, https://arxiv.org/abs/2207.14087"
    )
    privileges = ("complete training samples",)
    deviations = (
        "Word vectors and a linear layer stand for BERT and its linear layer. The text is the first modality in "
        "the data set's order (switch `recurrent_text` gives it the GRU of the others).",
        "40 channels, not 128, as every method of the benchmark has (`width`); the cube has the data set's "
        "frames. The rest is the released recipe: a block that keeps its sizes, then one to 10 frames and "
        "32 channels, dropout 0.1, and one linear layer as head.",
        "The data set's input dropout comes before everything.",
        "The residual is a projection everywhere, also where sizes do not change, as the released code has it.",
        "Linear layers start by He et al. 2015, which GELU is close to; the GRUs start as torch's do.",
        "Padding and an absent modality are zeros in the cube: the GRU's normalised frames are set to zero "
        "there. The released code marks empty frames inside a sentence by 1e-6; the data set's own mask "
        "says what is padding here.",
        "Features are not scaled to [-1, 1] by the extremes of each split, which looks at the test split.",
        "The task's loss, so a squared error for a score where the paper has the absolute one; learning rate, "
        "batches, epochs and the clipping of gradients by norm are the data set's, without decay.",
        "The epoch kept is that of the lowest task loss on complete validation samples.",
        "The cube has as many modalities as the data set, from two up; the paper's three mix by the "
        "same maths.",
    )

    def __init__(
        self,
        spec: mmbench.DataSpec,
        *,
        width: int = 40,
        frames: int = 10,
        channels: int = 32,
        dropout: float = 0.1,
        recurrent_text: bool = False,
    ) -> None:
        super().__init__(spec)
        first, *others = spec.widths.items()
        self.input_dropout = nn.ModuleDict(
            {name: Dropout(spec.schedule.input_dropout.get(name, 0.0)) for name in spec.modalities}
        )
        text = Context if recurrent_text else Words
        self.encoders = nn.ModuleDict({first[0]: text(first[1], width)})
        self.encoders.update({name: Context(wide, width) for name, wide in others})
        self.dropout = Dropout(dropout)
        whole = (max(spec.lengths.values()), len(spec.modalities), width)
        mixed = (frames, len(spec.modalities), channels)
        self.blocks = nn.Sequential(
            Block(whole, whole, dropout=dropout), Block(whole, mixed, dropout=dropout)
        )
        self.head = mlp(len(spec.modalities) * channels, spec.task.n_out)

    @classmethod
    def supports(cls, spec: mmbench.DataSpec) -> str | None:
        """A cube has aligned sides."""
        if len(spec.modalities) < 2:
            return "mixes modalities and needs at least two"
        if len(set(spec.lengths.values())) > 1:
            return "mixes modalities frame by frame and needs equally many, word-aligned frames of each"
        return None

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """The mixed cube, its mean over frames, (B, M d)."""
        sides = [self._encode(batch, name).transpose(0, 1) for name in self.encoders]
        mixed = self.blocks(torch.stack(sides, 1)).mean(0)  # (M, B, d)
        return mixed.transpose(0, 1).flatten(1)

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """(B, n_out)."""
        return self.head(self.represent(batch))

    def stages(self) -> list[mmbench.Stage]:
        """One stage on complete data."""
        step = mmbench.Step(self.loss, updates=[self])
        return [mmbench.Stage("train", data="complete", steps=[step])]

    def _encode(self, batch: mmbench.Batch, name: str) -> Tensor:
        """One side of the cube (B, T, d)."""
        valid = batch.valid[name]
        encoded = self.encoders[name](self.input_dropout[name](batch.features[name]), valid)
        return self.dropout(encoded) * valid[..., None]


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """CubeMLP."""
    return CubeMLP
