"""TransM, or TransModality: each modality is translated from the text and back, by Transformers.

*TransModality: An End2End Fusion Method with Transformer for Multimodal Sentiment Analysis*, Zilong Wang,
Zhaohong Wan, Xiaojun Wan; WWW 2020, https://arxiv.org/abs/2009.02902.

What lies between the encoder and the decoder of a translation knows of both modalities. A cell has two of
them, pivot -> m and back; the second one's encoder reads the first one's translation, never m itself.
Letters: B samples, M modalities, C = M - 1 cells, T frames, n tokens of a cell, D features, d = `width`.

    network.py  the unimodal encoders and the cells
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import mmbench
from mmbench.nn import GroupedLinear, Sequences, linear
from mmbench_methods.transm.network import Network


class View(NamedTuple):
    """What the losses need."""

    there: list[Tensor]
    """m^ (n, D) of each modality but the pivot, standardised; the frames that were attended to."""
    back: Tensor
    """t^ (C, n, D) of the pivot, standardised; from each cell."""
    others: Sequences
    """Which frames `there` has."""
    pivot: Sequences
    """Which frames `back` has."""
    logits: Tensor
    """(B, n_out)."""


class TransM(mmbench.Method):
    """Imputes the features of complete samples, and predicts from the encoders' outputs."""

    name = "transm"
    summary = (
        "translates the first modality to the others and back, predicts from the encoders' outputs"
    )
    paper = (
        "Wang et al., TransModality: An End2End Fusion Method with Transformer for Multimodal Sentiment "
        "Analysis, WWW 2020, https://arxiv.org/abs/2009.02902"
    )
    privileges = ("complete training samples, as what is translated to",)
    deviations = (
        "A sequence is an utterance's words and has one label; the original's is a video's utterances, each with "
        "its own.",
        "Not designed for missing modalities: the translations' targets are the complete samples, their input "
        "is not, so that a translation imputes.",
        "Described from a repository of that name without an author; it agrees with the paper's description.",
        "Width 40 in place of 100, the data set's heads and dropouts, 4 layers in place of 10 in an encoder and "
        "2 in place of 5 in a decoder, feed-forward 4d, no ReLU on the attention's projections.",
        "Pre-norm layers, because the learning rates here are up to 4e-3; the original's are post-norm.",
        "A translation's output is linear, not ReLU, because features have signs.",
        "Translation losses compare features standardised by the training split's mean and deviation over "
        "frames that are not padding: their weight then means the same for every modality.",
        "The text is the first modality of the data set (`pivot` names another one).",
        "Encoders and g are read at the modality's last frame that is not padding, in place of one prediction "
        "per step, so that modalities need no common length. Padding is not attended to; what is hidden is.",
        "An absent modality has the frames of the present ones where all have one length, as word-aligned data "
        "do; elsewhere it has all of its frames.",
        "One linear layer predicts. The task's loss is the benchmark's.",
        "Any number of modalities from two up: a cell for each but the pivot, and (3M - 2) d in place of 7d.",
    )

    def __init__(
        self,
        spec: mmbench.DataSpec,
        *,
        width: int = 40,
        depth: int = 4,
        decoder_depth: int = 2,
        dropout: float = 0.3,
        translation_weight: float = 10.0,
        pivot: str = "",
    ) -> None:
        super().__init__(spec)
        names = list(spec.modalities)
        self.pivot = pivot or names[0]
        if self.pivot not in names:
            raise mmbench.UsageError(
                f"transm.pivot: expected one of {', '.join(names)}, got {pivot!r}"
            )
        self.others = [m for m in names if m != self.pivot]
        self.translation_weight = translation_weight
        self.network = Network(
            spec,
            self.pivot,
            width=width,
            depth=depth,
            decoder_depth=decoder_depth,
            dropout=dropout,
        )
        self.head = linear(self.network.width, spec.task.n_out)
        self.speak_there = nn.ModuleDict({m: linear(width, spec.widths[m]) for m in self.others})
        self.speak_back = GroupedLinear(
            [linear(width, spec.widths[self.pivot]) for _ in self.others]
        )
        self.scales = nn.ModuleDict({m: Scale(size) for m, size in spec.widths.items()})

    @classmethod
    def supports(cls, spec: mmbench.DataSpec) -> str | None:
        """Translation between modalities needs two of them."""
        if len(spec.modalities) < 2:
            return "translates between modalities and needs at least two"
        return None

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """(B, n_out)."""
        return self.head(self.represent(batch))

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """The encoders' outputs (B, (3M - 2) d)."""
        return self.network(batch)

    def deployed(self) -> Sequence[nn.Module]:
        """The way back ends at its encoder."""
        network = self.network
        encoders = [network.recurrent, network.dense, network.encode_there, network.encode_back]
        return [*encoders, network.decode_there, self.head]

    def stages(self) -> Sequence[mmbench.Stage]:
        """One, on incomplete data with its complete form to translate to."""
        step = mmbench.Step(self.loss, updates=[self])
        return [
            mmbench.Stage(
                "train", data="paired", prepare=self.measure, forward=self.view, steps=[step]
            )
        ]

    def measure(self, batches: Iterable[mmbench.Batch]) -> None:
        """Sets the scales of the features."""
        complete = list(batches)
        for m, scale in self.scales.items():
            assert isinstance(scale, Scale)
            scale.measure([batch.features[m][batch.valid[m]] for batch in complete])

    def view(self, batch: mmbench.Batch) -> View:
        """Everything that the losses need."""
        made = self.network.translate(batch)
        cells = len(self.others)
        there = made.there.view(cells, -1, made.there.shape[1])
        back = self.speak_back(made.back)
        return View(
            [self.speak_there[m](x) for m, x in zip(self.others, there, strict=True)],
            back.view(cells, -1, back.shape[1]),
            made.others,
            made.pivot,
            self.head(made.joint),
        )

    def loss(self, view: View, batch: mmbench.Batch, rng: mmbench.Random) -> dict[str, Tensor]:
        """The task's, and the absolute errors of the translations."""
        terms = {"task": self.spec.task.loss(view.logits, batch.truth)}
        complete = batch.complete
        assert complete is not None
        for cell, m in enumerate(self.others):
            for name, made, to, laid in (
                (f"to {m}", view.there[cell], m, view.others),
                (f"back from {m}", view.back[cell], self.pivot, view.pivot),
            ):
                sample, time, real = laid.frames_of(cell)
                wanted = self.scales[to](complete.features[to][sample, time])  # (n, D)
                frames = real & complete.valid[to][sample, time]
                terms[name] = self.translation_weight * absolute_error(made, wanted, frames)
        return terms


class Scale(nn.Module):
    """Standardises features by what it has measured."""

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def measure(self, frames: Sequence[Tensor]) -> None:
        """Mean and deviation of frames (n, D), each part of them; 1 for a feature that never changes."""
        count = max(sum(len(x) for x in frames), 1)
        mean = torch.stack([x.double().sum(0) for x in frames]).sum(0) / count
        square = torch.stack([(x - mean).square().sum(0) for x in frames]).sum(0) / count
        self.mean.copy_(mean)
        self.spread.copy_(square.sqrt().where(square > 1e-12, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D)."""
        return (x - self.mean) / self.spread


def absolute_error(made: Tensor, wanted: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid (n,) frames and features of (n, D); 0 if there are none."""
    error = (made - wanted).abs().mean(-1)  # (n,)
    return (error * valid).sum() / valid.sum().clamp(min=1)


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """TransM."""
    return TransM
