"""Self-MM: beside the fusion, a branch per modality learns by labels that the model makes itself.

*Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for Multimodal
Sentiment Analysis*, Wenmeng Yu, Hua Xu, Ziqi Yuan, Jiele Wu; AAAI 2021,
https://arxiv.org/abs/2102.04830.

A modality's label is the sample's, moved by how much nearer the modality's features are to those of
positive samples than the fusion's are. Letters: B samples, M modalities, L signed labels (see labels.py).

    network.py  the encoders, the fusion, the branches
    labels.py   the unimodal label generation (ULGM) and what it remembers of the training samples
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mmbench
from mmbench_methods.self_mm import labels
from mmbench_methods.self_mm.network import Branch, Encoders, sizes


class View(NamedTuple):
    """What the network makes of a batch in training."""

    features: list[Tensor]
    """(B, d[u]) of the fusion, then of each modality: what labels are generated from."""
    outputs: Tensor
    """(B, n_out) of the fusion."""
    unimodal: list[Tensor]
    """(B, L) of each modality: a signed score, or the logit of a positive label."""


class SelfMM(mmbench.Method):
    """Late fusion of recurrent encoders, with self-made labels for each modality."""

    name = "self-mm"
    summary = "late fusion, and a branch per modality that learns by labels the model makes itself"
    paper = (
        "Yu et al., Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning "
        "for Multimodal Sentiment Analysis, AAAI 2021, https://arxiv.org/abs/2102.04830"
    )
    privileges = ("complete training samples",)
    deviations = (
        "An LSTM of width 64 over word vectors and a linear layer stand for BERT, which the benchmark "
        "has for no method. The text is the first modality in the data set's order.",
        "Other sizes are those of the released code for MOSI: LSTMs of 32 and 64, encodings of 16 and 32, fusion "
        "of 128. A fourth modality and later ones take the third's; with two there is no third.",
        "One learning rate for all parameters, the data set's, constant, where the released code has four groups, "
        "adds up the gradients of four batches and stops early. So by the third epoch, when a modality's label "
        "first counts, there have been more and larger updates, and without weight decay the validation loss may "
        "already rise.",
        "One weight decay for all parameters, 0.003, where the released code has 0.001 to 0.01 for most groups: of "
        "0, 0.001, 0.003 and 0.01 the one with the lowest validation loss on IEMOCAP's twin.",
        "Dropout before each linear layer is the data set's output dropout, and on inputs its input "
        "dropout. Linear layers start by He et al. 2015; the LSTMs start as torch's do.",
        "The epoch kept is that of the lowest task loss on complete validation samples, a squared error for a score, "
        "where the paper takes the lowest mean absolute error.",
        "Distances to the centres are Euclidean, as in the released code; the paper (recalled) has them squared "
        "and divided by the root of the width.",
        "Labels move after an update by the centres of before it, as in the released code: they first differ "
        "from the sample's in the third epoch's losses.",
        "Where a training split has no positive or no negative sample there is no centre, and labels do "
        "not move; the released code divides by zero. The ratio of the alphas is kept from a division by 0 on "
        "both sides of it.",
        "A score is counted from the middle of its range, so that positive and negative mean something "
        "for any range. The mean absolute error trains it, as in the paper (switch `absolute`).",
        "For yes-or-no labels and classes, which the paper has not: the signed label is +1 or -1 for each, labels move "
        "for each alone, (1 + label) / 2 is the probability that a modality's branch learns by "
        "cross-entropy, and the fusion learns by the task's loss. A branch has one logit for each.",
        "An absent modality leaves its LSTM in the state 0. How long it was stays hidden.",
        "Any number of modalities from two up.",
    )

    def __init__(
        self,
        spec: mmbench.DataSpec,
        *,
        width: int = 128,
        absolute: bool = True,
        weight_decay: float = 3e-3,
    ) -> None:
        super().__init__(spec)
        self.absolute, self.weight_decay = absolute, weight_decay
        widths = [width for _, width in sizes(spec).values()]
        n_labels = labels.width(spec.task)
        dropout = spec.schedule.output_dropout
        self.encoders = Encoders(spec)
        self.fusion = Branch(sum(widths), width, spec.task.n_out, dropout=dropout)
        self.branches = nn.ModuleList(
            Branch(wide, wide, n_labels, dropout=dropout) for wide in widths
        )
        self.memory = labels.Memory(spec.task, spec.n_train, [width, *widths])

    @classmethod
    def supports(cls, spec: mmbench.DataSpec) -> str | None:
        """A modality's label differs from the sample's by what the others add."""
        if len(spec.modalities) < 2:
            return "tells each modality's label from that of all, and needs at least two"
        return None

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """The fusion's outputs (B, n_out)."""
        _, outputs = self._fuse(self.encoders(batch))
        return outputs

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """The fusion's representation (B, d)."""
        features, _ = self._fuse(self.encoders(batch))
        return features

    def deployed(self) -> Sequence[nn.Module]:
        """The branches only help to learn."""
        return [self.encoders, self.fusion]

    def stages(self) -> Sequence[mmbench.Stage]:
        """One stage on complete data; labels move after each update."""
        step = mmbench.Step(
            self.loss, updates=[self], weight_decay=self.weight_decay, after=self.remember
        )
        return [
            mmbench.Stage(
                "train", data="complete", prepare=self.begin, forward=self.view, steps=[step]
            )
        ]

    def begin(self, batches: Iterable[mmbench.Batch]) -> None:
        """Every modality starts with the sample's label."""
        for batch in batches:
            self.memory.begin(_rows(batch), labels.signed(self.spec.task, batch.truth))

    def view(self, batch: mmbench.Batch) -> View:
        """The network with its branches."""
        encoded = self.encoders(batch)
        fused, outputs = self._fuse(encoded)
        single = [branch(x) for branch, x in zip(self.branches, encoded, strict=True)]
        return View([fused, *(f for f, _ in single)], outputs, [score for _, score in single])

    def loss(self, view: View, batch: mmbench.Batch, rng: mmbench.Random) -> dict[str, Tensor]:
        """The task's loss, and that of each modality's own label y_s weighted by tanh|y_s - y_m|."""
        own = self.memory.labels[1:, _rows(batch)]  # y_s (M, B, L)
        weight = (own - labels.signed(self.spec.task, batch.truth)).abs().tanh()  # (M, B, L)
        losses = weight * self._distance(torch.stack(view.unimodal), own)  # (M, B, L)
        terms = {"task": self._task_loss(view.outputs, batch.truth)}
        for name, value in zip(self.spec.modalities, losses.mean((1, 2)), strict=True):
            terms[f"unimodal_{name}"] = value
        return terms

    def remember(self, view: View, batch: mmbench.Batch) -> None:
        """Moves the labels, then remembers the features."""
        self.memory.update(view.features, _rows(batch), batch.epoch)

    def _fuse(self, encoded: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return self.fusion(torch.cat(list(encoded), -1))

    def _task_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        task = self.spec.task
        if self.absolute and isinstance(task, mmbench.Regression):
            return (outputs - targets).abs().mean()
        return task.loss(outputs, targets)

    def _distance(self, scores: Tensor, own: Tensor) -> Tensor:
        """Of a branch's scores from signed labels, each (M, B, L)."""
        if isinstance(self.spec.task, mmbench.Regression):
            return (scores - own).abs() if self.absolute else (scores - own).square()
        return F.binary_cross_entropy_with_logits(scores, (1 + own) / 2, reduction="none")


def _rows(batch: mmbench.Batch) -> Tensor:
    """Where the samples (B,) of a training batch are remembered."""
    if batch.index is None:
        raise ValueError("only training samples are remembered, and this batch has no index")
    return batch.index


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """Self-MM."""
    return SelfMM
