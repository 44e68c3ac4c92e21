"""DMD's equations, one function each.

Letters: B samples, M modalities, T frames, d embedding size, P = M (M-1) ordered pairs (to, from).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmbench.nn import linear
from mmbench.tasks import Regression, Task
from mmbench_methods.dmd.network import Verdict, pairs

EDGE_SCALE = 1 / 8
"""What edges are multiplied by before the softmax."""
PRIOR_TEMPERATURE = 0.25
REGULARISER = 10.0
"""Weight of L_reg, and of the term that keeps representations apart."""
MARGIN = 0.15
"""Of L_mar, for each unit between two labels."""


class Graph(nn.Module):
    """A GD unit: the modalities are nodes, and each edge says how much `to` learns from `from`."""

    prior: Tensor

    def __init__(self, n_out: int, width: int, size: int, prior: Tensor) -> None:
        super().__init__()
        self.logit = linear(n_out, size)
        self.representation = linear(width, size)
        self.edge = linear(4 * size, 1)
        self.register_buffer("prior", prior, persistent=False)

    def forward(self, verdict: Verdict) -> Tensor:
        """The weights (P, B) of the edges, softmax over the P."""
        z = torch.cat(
            [self.logit(verdict.logits), self.representation(verdict.representations)], -1
        )  # (M, B, 2 size)
        to, source = map(list, zip(*pairs(len(z)), strict=True))
        edges = self.edge(torch.cat([z[source], z[to]], -1)).squeeze(-1)  # (P, B)
        return (EDGE_SCALE * edges).softmax(0)


def prior(ranking: Sequence[int], *, only_first: bool) -> Tensor:
    """What edges should be on average (P,): more where the stronger modality teaches the weaker.

    `ranking` has the modalities from strong to weak. With `only_first` no other than the first teaches.
    """
    rank = {modality: place for place, modality in enumerate(ranking)}
    favoured = [
        rank[source] == 0 if only_first else rank[source] < rank[to]
        for to, source in pairs(len(ranking))
    ]
    return (torch.tensor(favoured).float() / PRIOR_TEMPERATURE).softmax(0)


def graph(unit: Graph, verdict: Verdict, *, separate: bool = False) -> Tensor:
    """L_logit + L_reg and, to `separate` representations, L_repr."""
    weights = unit(verdict)
    total = distillation(weights, unit.prior, verdict) + regulariser(weights, unit.prior)
    return total + separation(weights, unit.prior, verdict) if separate else total


def distillation(weights: Tensor, prior: Tensor, verdict: Verdict) -> Tensor:
    """L_logit: over pairs, (w + prior) |logit_to - logit_from|, the teaching side held.

    weights (P, B), prior (P,); mean over outputs and samples, sum over pairs.
    """
    to, source = map(list, zip(*pairs(len(verdict.logits)), strict=True))
    gap = (verdict.logits[to] - verdict.logits.detach()[source]).abs().mean(-1)  # (P, B)
    return ((weights + prior[:, None]) * gap).mean(1).sum()


def separation(weights: Tensor, prior: Tensor, verdict: Verdict) -> Tensor:
    """L_repr: over pairs, 10 (w + prior) max(0, cos(repr_to, repr_from)), the teaching side held."""
    made = verdict.representations
    to, source = map(list, zip(*pairs(len(made)), strict=True))
    alike = cosine(made[to], made.detach()[source]).relu()  # (P, B)
    return REGULARISER * ((weights + prior[:, None]) * alike).mean(1).sum()


def regulariser(weights: Tensor, prior: Tensor) -> Tensor:
    """L_reg: 10 (mean over the batch of w - prior)^2, sum over pairs."""
    return REGULARISER * (weights.mean(1) - prior).square().sum()


def squared(made: Tensor, wanted: Tensor, valid: Tensor) -> Tensor:
    """L_rec and L_cyc: squared error of (M, B, T, d), mean over valid frames, sum over modalities."""
    return _over_frames((made - wanted).square().mean(-1), valid)


def orthogonality(exclusive: Tensor, shared: Tensor, valid: Tensor) -> Tensor:
    """L_ort: max(0, cos(s, c)) over the features, mean over valid frames, sum over modalities."""
    return _over_frames(cosine(exclusive, shared).relu(), valid)


def margin(aligned: Tensor, distance: Tensor) -> Tensor:
    """L_mar: shared parts of one label are alike, whatever their modality, and of two labels are not.

    aligned (M, B, d), distance between labels (B, B). For each of the N = M B vectors the mean of
    max(0, 0.15 distance(anchor, n) + cos(anchor, n) - cos(anchor, p)) over its positives p and
    negatives n; mean over vectors that have both. Sorting the negatives makes that N^2 log N, not N^3.
    """
    modalities = len(aligned)
    vectors = aligned.flatten(0, 1)  # (N, d)
    alike = unit(vectors) @ unit(vectors).T  # (N, N)
    apart = distance.repeat(modalities, modalities)  # (N, N)
    negative = apart > 0
    positive = ~negative & ~torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    # reach[k:].sum() over the negatives beyond a positive, less the positive for each of them
    reach = (MARGIN * apart + alike).masked_fill(~negative, -torch.inf).sort(1).values
    beyond = reach.masked_fill(reach.isinf(), 0.0).flip(1).cumsum(1).flip(1)
    beyond = nn.functional.pad(beyond, (0, 1))  # (N, N + 1)
    first = torch.searchsorted(reach.detach(), alike.detach(), right=True)  # (N, N)
    hinge = beyond.gather(1, first) - (len(vectors) - first) * alike
    count = positive.sum(1) * negative.sum(1)  # (N,)
    each = (hinge * positive).sum(1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)


def distance(task: Task, targets: Tensor) -> Tensor:
    """Between the labels of all samples (B, B): of scores the difference, else 1 if they differ."""
    if isinstance(task, Regression):
        return (targets - targets.T).abs()
    return (targets[:, None] != targets).any(-1).float()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Over the last axis."""
    return (unit(a) * unit(b)).sum(-1)


def unit(x: Tensor) -> Tensor:
    """x with length 1 over the last axis; 1e-6 keeps the gradient finite at 0."""
    return x * x.square().sum(-1, keepdim=True).add(1e-6).rsqrt()


def _over_frames(values: Tensor, valid: Tensor) -> Tensor:
    """(M, B, T) to the sum over modalities of the mean over valid frames."""
    return ((values * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)).sum()
