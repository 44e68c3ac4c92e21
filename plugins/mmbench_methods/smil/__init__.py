"""SMIL: builds a missing modality's feature from clusters, and learns to do so by a bilevel update.

*SMIL: Multimodal Learning with Severely Missing Modality*, Mengmeng Ma, Jian Ren, Long Zhao, Sergey
Tulyakov, Cathy Wu, Xi Peng; AAAI 2021, https://arxiv.org/abs/2103.05677.

A missing feature is a convex combination of the modality's cluster centres, weighted by what is there;
two layers of the classifier are perturbed. The classifier takes a step on incomplete samples, and what
that step gives must serve on samples whose complete form is known: the gradient passes through the
step. Letters: B samples, M modalities, d = `width`, h = `hidden`, K = `clusters`, theta the classifier.

    network.py  reconstruction (phi_c), regularisation (phi_r), classifier (theta), and the clusters
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

import mmbench
from mmbench.nn import FrontEnd
from mmbench_methods.smil.network import (
    Classifier,
    Path,
    Reconstruction,
    Regularisation,
    cluster,
    untouched,
)


class Encoded(NamedTuple):
    """Features of a batch of the meta stage, before reconstruction."""

    features: Tensor
    """(B, M, d) of the incomplete samples."""
    complete: Tensor
    """(B - B // 2, M d) of the second half's complete form."""


class SMIL(mmbench.Method):
    """Pre-training on complete data, then meta-learning on incomplete and complete halves of a batch."""

    name = "smil"
    summary = "rebuilds a missing modality's feature from cluster centres; bilevel update, perturbed layers"
    paper = (
        "Ma et al., SMIL: Multimodal Learning with Severely Missing Modality, AAAI 2021, "
        "https://arxiv.org/abs/2103.05677"
    )
    privileges = ("complete training samples, to pre-train, to cluster and in the outer update",)
    deviations = (
        "Follows the authors' code for av-MNIST, the only experiment of theirs that is published whole; "
        "where it departs from the paper, from memory of the latter.",
        "Encoders are the benchmark's front end at depth 2; the classifier is one hidden layer of 64.",
        "Any set of modalities may be missing, not one known beforehand: each has its own priors and its own "
        "network for their weights, which reads the other modalities' features, zero where missing, and which "
        "of them are there.",
        "Weights are a normalised softplus, as in the code; the paper draws them from a Gaussian.",
        "Priors are the centres of K-means, K = 10, as in the code, over each modality's features of the "
        "complete training split after pre-training.",
        "The concatenation and the hidden layer are perturbed; the encoders are not. Softplus(r) is added, as "
        "in the code for av-MNIST (switch `perturbation`).",
        "A prediction takes the perturbation at its mean, as the code does; the paper averages draws. It is "
        "perturbed whatever is available, for a sample can lack frames of modalities that are all there.",
        "Pre-training is on complete data, without perturbation, for as many epochs as the rest.",
        "Modalities go missing by msm@1. D^m is the first half of each shuffled batch, incomplete; D^f the "
        "second half, both incomplete and complete. The paper keeps two fixed sets, the latter small.",
        "The inner step moves the classifier alone; encoders learn by the outer loss and by the inner loss "
        "before the step, and are not frozen, since any modality may be the missing one. The priors stay.",
        "The inner step's rate is 1e-3 and stays; the code divides it by 10 every 1000 iterations.",
        "The clean path is neither perturbed nor supervised in the meta stage, as in the code. Gradients pass "
        "both ways between its layers and those of the path with missing modalities.",
        "Cross-entropy becomes the task's loss. One Adam at the data set's rate, without weight decay or steps.",
        "A modality of which no frame is seen is missing; hidden frames of others are zeros to the encoder.",
        "Selection is by the lowest validation task loss: complete data for pre-training, the mean over all "
        "available sets with frames missing by msm@1 for the meta stage.",
    )

    def __init__(
        self,
        spec: mmbench.DataSpec,
        *,
        width: int = 40,
        depth: int = 2,
        hidden: int = 64,
        clusters: int = 10,
        perturbation: Literal["add", "multiply"] = "add",
        inner_rate: float = 1e-3,
        consistency: float = 0.01,
        second_order: bool = True,
    ) -> None:
        super().__init__(spec)
        full = len(spec.modalities) * width
        self.inner_rate, self.consistency = inner_rate, consistency
        self.second_order = second_order
        self.front = FrontEnd(spec, width, depth)
        self.reconstruct = Reconstruction(len(spec.modalities), width, hidden, clusters)
        self.perturb = Regularisation([full, hidden], perturbation)
        self.classify = Classifier(full, hidden, spec.task.n_out, spec.schedule.output_dropout)

    @classmethod
    def supports(cls, spec: mmbench.DataSpec) -> str | None:
        """A reconstruction needs another modality."""
        if len(spec.modalities) < 2:
            return "rebuilds a modality from the others and needs at least two"
        return None

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """(B, n_out), with missing modalities rebuilt and the perturbation at its mean."""
        return self.classify(self._whole(batch), self.perturb).logits

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """The perturbed concatenation (B, M d)."""
        return self.classify(self._whole(batch), self.perturb).joint

    def stages(self) -> Sequence[mmbench.Stage]:
        """Encoders and classifier on complete data, then everything by the bilevel update."""
        return [
            mmbench.Stage(
                "pretrain",
                data="complete",
                forward=self.plain,
                predict=self.plain,
                steps=[mmbench.Step(self.loss, updates=[self.front, self.classify])],
            ),
            mmbench.Stage(
                "meta",
                data="paired",
                prepare=self.find_priors,
                forward=self.encode,
                steps=[mmbench.Step(self.meta_loss, updates=[self])],
            ),
        ]

    def plain(self, batch: mmbench.Batch) -> Tensor:
        """(B, n_out), without perturbation; there are no priors yet, so what is missing is zero."""
        return self.classify(self._whole(batch), untouched).logits

    def find_priors(self, batches: Iterable[mmbench.Batch]) -> None:
        """Clusters each modality's features, of the samples that have it."""
        encoded = [(self.front(batch), batch.available) for batch in batches]
        features, available = (torch.cat(parts) for parts in zip(*encoded, strict=True))
        priors = self.reconstruct.priors
        for m in range(len(priors)):
            points = features[available[:, m], m]  # (N, d)
            if len(points):
                priors[m] = cluster(points, priors.shape[1]).to(priors.dtype)

    def encode(self, batch: mmbench.Batch) -> Encoded:
        """Features of all incomplete samples, and the second half's clean ones."""
        if batch.complete is None:
            raise ValueError("the meta stage needs paired data")
        complete = _rows(batch.complete, len(batch) // 2)
        return Encoded(self.front(batch), self._whole(complete))

    def meta_loss(
        self, encoded: Encoded, batch: mmbench.Batch, rng: mmbench.Random
    ) -> dict[str, Tensor]:
        """The inner loss on D^m, then the outer loss on D^f after the inner step."""
        task, half = self.spec.task, len(batch) // 2
        features = self.reconstruct(encoded.features, batch.available).flatten(1)  # (B, M d)
        theta = dict(self.classify.named_parameters())
        # A batch of one is both halves.
        first, second = slice(0, max(half, 1)), slice(half, None)
        inner = task.loss(
            self.classify(features[first], partial(self.perturb, rng=rng)).logits,
            batch.truth[first],
        )
        gradients = torch.autograd.grad(
            inner, list(theta.values()), create_graph=self.second_order, retain_graph=True
        )
        stepped = {
            name: value - self.inner_rate * gradient
            for (name, value), gradient in zip(theta.items(), gradients, strict=True)
        }
        lacking: Path = functional_call(self.classify, stepped, (features[second], self.perturb))
        clean: Path = functional_call(self.classify, stepped, (encoded.complete, untouched))
        return {
            "inner": inner,
            "outer": task.loss(lacking.logits, batch.truth[second]),
            "joint": self.consistency * F.mse_loss(lacking.joint, clean.joint),
            "hidden": self.consistency * F.mse_loss(lacking.hidden, clean.hidden),
        }

    def _whole(self, batch: mmbench.Batch) -> Tensor:
        """Features (B, M d), those of missing modalities rebuilt."""
        return self.reconstruct(self.front(batch), batch.available).flatten(1)


def _rows(batch: mmbench.Batch, start: int) -> mmbench.Batch:
    """What a network reads of the samples from `start` on."""
    features, observed, valid = (
        {name: values[start:] for name, values in field.items()}
        for field in (batch.features, batch.observed, batch.valid)
    )
    return mmbench.Batch(features, observed, valid)


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """SMIL."""
    return SMIL
