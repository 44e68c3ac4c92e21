"""SMIL's networks and its clusters.

Letters: B samples, M modalities, d embedding size, h width of the hidden layer, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.nn import Dropout, linear, mlp
from mmbench.randomness import Random

Perturb = Callable[[int, Tensor, Tensor], Tensor]


class Path(NamedTuple):
    """What the classifier makes of features."""

    joint: Tensor
    """The concatenation (B, M d), perturbed."""
    hidden: Tensor
    """The hidden layer (B, h), perturbed."""
    logits: Tensor
    """(B, n_out)."""


class Reconstruction(nn.Module):
    """phi_c: a missing modality's feature from the others' and from the priors."""

    priors: Tensor
    """Cluster centres (M, K, d) of each modality's features."""

    def __init__(self, modalities: int, width: int, hidden: int, clusters: int) -> None:
        super().__init__()
        self.register_buffer("priors", torch.zeros(modalities, clusters, width))
        self.weigh = nn.ModuleList(
            mlp((modalities - 1) * (width + 1), hidden, clusters) for _ in range(modalities)
        )

    def weights(self, features: Tensor, available: Tensor) -> Tensor:
        """Of each modality's priors, (B, M, K), at least 0 and adding up to 1, from the other modalities.

        features (B, M, d) and available (B, M).
        """
        seen = available[..., None].to(features.dtype)
        known = torch.cat([features * seen, seen], -1)  # (B, M, d + 1)
        others = [
            torch.cat([known[:, :m], known[:, m + 1 :]], 1).flatten(1)
            for m in range(features.shape[1])
        ]
        scores = torch.stack([net(x) for net, x in zip(self.weigh, others, strict=True)], 1)
        positive = F.softplus(scores) + 1e-8  # softplus underflows to 0; all must not
        return positive / positive.sum(-1, keepdim=True)

    def forward(self, features: Tensor, available: Tensor) -> Tensor:
        """features (B, M, d) with those of missing modalities replaced; available (B, M)."""
        made = torch.einsum("bmk,mkd->bmd", self.weights(features, available), self.priors)
        return torch.where(available[..., None], features, made)


class Regularisation(nn.Module):
    """phi_r: perturbs layer l by softplus(r), r = f_l(the layer before) + noise."""

    def __init__(self, widths: Sequence[int], how: Literal["add", "multiply"]) -> None:
        super().__init__()
        self.how = how
        before = [widths[0], *widths]
        self.layers = nn.ModuleList(linear(i, o) for i, o in zip(before, widths, strict=False))

    def forward(
        self, layer: int, before: Tensor, values: Tensor, rng: Random | None = None
    ) -> Tensor:
        """Values (B, width) perturbed, with unit noise from `rng` or, without it, at its mean."""
        r = self.layers[layer](before)
        if rng is not None:
            r = r + rng.randn(*r.shape, device=r.device)
        return values + F.softplus(r) if self.how == "add" else values * F.softplus(r)


def untouched(layer: int, before: Tensor, values: Tensor) -> Tensor:
    """No perturbation."""
    return values


class Classifier(nn.Module):
    """theta: concatenation, one hidden layer, outputs."""

    def __init__(self, width_in: int, hidden: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.hidden = linear(width_in, hidden, relu=True)
        self.dropout = Dropout(dropout)
        self.output = linear(hidden, n_out)

    def forward(self, features: Tensor, perturb: Perturb) -> Path:
        """features (B, M d)."""
        joint = perturb(0, features, features)
        hidden = perturb(1, joint, self.hidden(joint).relu())
        return Path(joint, hidden, self.output(self.dropout(hidden)))


def cluster(points: Tensor, count: int) -> Tensor:
    """K-means of points (N, d), by scikit-learn: centres (count, d), float64, always alike.

    Where fewer points than centres differ, some centres are the same.
    """
    values = points.detach().double().cpu().numpy()
    distinct = len(np.unique(values, axis=0))
    found = KMeans(min(count, distinct), n_init=1, random_state=0).fit(values)
    centres = np.resize(found.cluster_centers_, (count, values.shape[1]))
    return torch.from_numpy(centres).to(points.device)
