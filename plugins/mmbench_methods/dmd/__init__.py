"""DMD: each modality is decoupled into an exclusive and a shared part, and graphs distil between modalities.

*Decoupled Multimodal Distilling for Emotion Recognition*, Yong Li, Yuanzhi Wang, Zhen Cui; CVPR 2023,
https://arxiv.org/abs/2303.13802.

Letters: B samples, M modalities, T frames after the convolution, d = `width`.

    network.py  decoupling, Transformers, heads
    losses.py   the equations, one function each, and the graphs' edges
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import mmbench
from mmbench_methods.dmd import losses
from mmbench_methods.dmd.network import (
    KERNEL,
    Decoupling,
    Fusion,
    Head,
    Parts,
    Reading,
    Verdict,
    side_by_side,
)

HOMOGENEOUS_SIZE, HETEROGENEOUS_SIZE = 64, 32
"""Widths of the graphs' nodes."""


class View(NamedTuple):
    """What the losses need."""

    parts: Parts
    restored: Tensor
    """x^ (M, B, T, d), decoded from both parts."""
    again: Tensor
    """s^r (M, B, T, d), the exclusive encoder's on x^."""
    aligned: Tensor
    """c~ (M, B, d), a shared part as one vector."""
    homogeneous: Verdict
    """On the shared parts."""
    heterogeneous: Verdict
    """On the exclusive parts, after the Transformers."""
    shared: Tensor
    """logit_c (B, n_out), on the shared parts after theirs."""
    logits: Tensor
    """(B, n_out)."""


class DMD(mmbench.Method):
    """Trains on complete data; the graphs and their heads only teach."""

    name = "dmd"
    summary = (
        "decouples shared and exclusive parts, distils between modalities by two learned graphs"
    )
    paper = (
        "Li et al., Decoupled Multimodal Distilling for Emotion Recognition, CVPR 2023, "
        "https://arxiv.org/abs/2303.13802"
    )
    privileges = ("complete training samples",)
    deviations = (
        "Features of the data set in place of BERT's; width 40 in place of 50, and the data set's heads and "
        "dropouts; kernel 3 for all modalities.",
        "The task's loss (mean squared error for a score) in all eight places where the authors' code has L1, "
        "as for every method here.",
        "The data set's schedule: no gradient accumulation, no plateau, clipping by norm.",
        "2.78 M parameters at MOSI's published shapes, not the 3.0 M of our own estimate for these settings: "
        "that one counts a further projection of T d to d for each modality, which no equation uses.",
        "Padding is not attended to, and 'last step' is the last frame that is not padding. A frame after the "
        "convolution is padding if all that it reads is. Without causal mask.",
        "Reconstruction, cycle and orthogonality are means over the frames that are not padding: zeros, which "
        "are reconstructed anyway, would dilute them.",
        "L_ort takes the cosine over the features of each frame; the authors' code takes another axis, which "
        "seems an accident.",
        "L_mar compares all 3B shared vectors of a batch, as the authors' code does; in the paper, as we recall "
        "it, positives are of another modality and negatives of the same. For labels that are classes, two "
        "different ones are at distance 1; several yes-or-no labels count as one class.",
        "The text is the first modality of the data set. The graphs' priors rank the modalities: text, vision, "
        "audio in the paper, here the first and then the others from the last (`ranking` sets another order).",
        "The weights of edges send gradient to the logits and representations that they are made of; only the "
        "teaching side of a difference is held.",
        "HeteroGD's representation is the residual network's output.",
        "Positions are added without scaling, for linear layers start by He et al. 2015.",
        "Any number of modalities from two up: 9d above reads M^2 d. Shorter sequences are padded to the longest.",
    )

    def __init__(
        self,
        spec: mmbench.DataSpec,
        *,
        width: int = 40,
        depth: int = 4,
        graph_weight: float = 0.05,
        decoupling_weight: float = 0.1,
        ranking: str = "",
    ) -> None:
        super().__init__(spec)
        self.graph_weight, self.decoupling_weight = graph_weight, decoupling_weight
        modalities, n_out = len(spec.modalities), spec.task.n_out
        wide = (modalities - 1) * width
        flat = (max(spec.lengths.values()) - KERNEL + 1) * width
        order = _order(ranking, list(spec.modalities))

        self.decoupling = Decoupling(spec, width)
        self.fusion = Fusion(spec, width, depth)

        self.decoder = side_by_side(modalities, 2 * width, width, bias=False)
        self.align = side_by_side(modalities, flat, width)
        self.homogeneous_head = Head(modalities, flat, spec, narrow=width)
        self.heterogeneous_head = Head(modalities, wide, spec)
        self.shared_head = Head(1, modalities * width, spec)
        self.homogeneous_graph = losses.Graph(
            n_out, width, HOMOGENEOUS_SIZE, losses.prior(order, only_first=True)
        )
        self.heterogeneous_graph = losses.Graph(
            n_out, wide, HETEROGENEOUS_SIZE, losses.prior(order, only_first=False)
        )

    @classmethod
    def supports(cls, spec: mmbench.DataSpec) -> str | None:
        """Distilling between modalities needs two, and the convolution three frames."""
        if len(spec.modalities) < 2:
            return "distils between modalities and needs at least two"
        if min(spec.lengths.values()) < KERNEL:
            return f"a convolution over {KERNEL} frames needs as many of every modality"
        return None

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """(B, n_out)."""
        return self.fusion.predict(self.read(batch))

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """What the head sees (B, M M d)."""
        return self.fusion.represent(self.read(batch))

    def read(self, batch: mmbench.Batch) -> Reading:
        """A batch as far as the gates."""
        return self.fusion(self.decoupling(batch))

    def deployed(self) -> Sequence[nn.Module]:
        """Decoder, graphs and their heads only teach."""
        return [self.decoupling, self.fusion]

    def stages(self) -> Sequence[mmbench.Stage]:
        """One, on complete data."""
        step = mmbench.Step(self.loss, updates=[self])
        return [mmbench.Stage("train", data="complete", forward=self.view, steps=[step])]

    def view(self, batch: mmbench.Batch) -> View:
        """Everything that the losses need."""
        parts = self.decoupling(batch)
        reading = self.fusion(parts)
        restored = self.decoder(torch.cat([parts.exclusive, parts.shared], -1))
        flat = parts.shared.flatten(2)  # (M, B, T d)
        return View(
            parts,
            restored,
            self.decoupling.exclusive(restored),
            self.align(flat),
            self.homogeneous_head(flat),
            self.heterogeneous_head(reading.exclusive),
            self.shared_head(reading.shared[None]).logits[0],
            self.fusion.predict(reading),
        )

    def loss(self, view: View, batch: mmbench.Batch, rng: mmbench.Random) -> dict[str, Tensor]:
        """Eight task losses, two graphs, and what keeps the parts apart."""

        def task(logits: Tensor) -> Tensor:
            return self.spec.task.loss(logits, batch.truth)

        parts = view.parts
        outer, inner = self.decoupling_weight, self.decoupling_weight**2
        distance = losses.distance(self.spec.task, batch.truth)
        return {
            "task": task(view.logits),
            "shared": task(view.shared),
            "homogeneous": torch.stack([task(x) for x in view.homogeneous.logits]).sum(),
            "heterogeneous": torch.stack([task(x) for x in view.heterogeneous.logits]).sum(),
            "homogeneous graph": self.graph_weight
            * losses.graph(self.homogeneous_graph, view.homogeneous),
            "heterogeneous graph": self.graph_weight
            * losses.graph(self.heterogeneous_graph, view.heterogeneous, separate=True),
            "reconstruction": outer * losses.squared(view.restored, parts.embedded, parts.valid),
            "cycle": outer * losses.squared(view.again, parts.exclusive, parts.valid),
            "margin": inner * losses.margin(view.aligned, distance),
            "orthogonality": inner
            * losses.orthogonality(parts.exclusive, parts.shared, parts.valid),
        }


def _order(ranking: str, names: list[str]) -> list[int]:
    """The modalities' numbers from strong to weak: as named, or the first and the others from the last."""
    if not ranking:
        return [0, *range(len(names) - 1, 0, -1)]
    ranked = ranking.split()
    if sorted(ranked) != sorted(names):
        raise mmbench.UsageError(
            f"dmd.ranking: expected each of {' '.join(names)} once, from strong to weak, got {ranking!r}"
        )
    return [names.index(name) for name in ranked]


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """DMD."""
    return DMD
