"""Self-MM's unimodal label generation (ULGM): how a modality's label moves away from the sample's.

Letters: B samples of a batch, N of the training split, M modalities, u one representation: that of the
fusion or of one modality, d[u] its width, L signed labels per sample.

A signed label is negative, zero or positive, at most `largest` in size. A score is counted from the
middle of its range; a yes is +1 and a no -1; a class is +1 for itself and -1 for each other class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.tasks import MultiClass, Regression, Task

EPSILON = 1e-8


def largest(task: Task) -> float:
    """H, the size that no signed label exceeds."""
    return (task.high - task.low) / 2 if isinstance(task, Regression) else 1.0


def width(task: Task) -> int:
    """L, the signed labels of a sample."""
    return task.n_out if isinstance(task, MultiClass) else len(task.labels)


def signed(task: Task, targets: Tensor) -> Tensor:
    """Targets (B, columns) as signed labels (B, L)."""
    if isinstance(task, Regression):
        return targets - (task.low + task.high) / 2
    if isinstance(task, MultiClass):
        targets = F.one_hot(targets.squeeze(-1), task.n_out)
    return 2.0 * targets - 1.0


def centres(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean features of the positive and of the negative samples: (N, d) and (N, L) to (L, d) twice.

    Third, bool (L,), whether there are samples of both signs; where not, a centre means nothing.
    A label of zero counts for neither.
    """
    sign = torch.stack([labels > 0, labels < 0]).to(features.dtype)  # (2, N, L)
    count = sign.sum(1)[..., None]  # (2, L, 1)
    positive, negative = sign.transpose(1, 2) @ features / count.clamp(min=1)
    return positive, negative, (count > 0).all(0).squeeze(-1)


def leaning(features: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """alpha = (D^n - D^p) / (D^p + eps), (B, d) and centres (L, d) to (B, L): large near the positive.

    D are Euclidean distances to the two centres.
    """
    both = torch.cat([positive, negative])
    distances = torch.cdist(features, both, compute_mode="donot_use_mm_for_euclid_dist")
    to_positive, to_negative = distances.chunk(2, 1)  # (B, L)
    return (to_negative - to_positive) / (to_positive + EPSILON)


def shifted(label: Tensor, own: Tensor, fused: Tensor, limit: float) -> Tensor:
    """A modality's new label, from the sample's label, its own alpha and that of the fusion, all (..., B, L).

    The mean of label * own / fused and of label + own - fused, the two ways in which a label may be
    thought to follow alpha, cut to [-limit, limit].
    """
    ratio = own / (fused + EPSILON * torch.where(fused < 0, -1.0, 1.0))  # never by 0
    return (0.5 * (ratio * label + label + own - fused)).clamp(-limit, limit)


def momentum(label: Tensor, new: Tensor, epoch: int) -> Tensor:
    """(n-1)/(n+1) of the label so far and 2/(n+1) of the new one, in epoch n from 2."""
    return (epoch - 1) / (epoch + 1) * label + 2 / (epoch + 1) * new


class Memory(nn.Module):
    """Of each training sample the last representations, its label, and one label per modality.

    Everywhere the fusion comes first, then the modalities in the data set's order.
    """

    labels: Tensor
    """(1 + M, N, L). The first row is the sample's own label, which never moves."""

    def __init__(self, task: Task, samples: int, widths: Sequence[int]) -> None:
        """`widths` are those of the representations."""
        super().__init__()
        self.limit = largest(task)
        labels = torch.zeros(len(widths), samples, width(task))
        self.register_buffer("labels", labels, persistent=False)
        for place, wide in enumerate(widths):
            self.register_buffer(f"features{place}", torch.zeros(samples, wide), persistent=False)

    def features(self, place: int) -> Tensor:
        """(N, d[u])."""
        return self.get_buffer(f"features{place}")

    def begin(self, index: Tensor, labels: Tensor) -> None:
        """Every modality starts with the sample's label, (B, L)."""
        self.labels[:, index] = labels

    def update(self, features: Sequence[Tensor], index: Tensor, epoch: int) -> None:
        """Moves the labels of a batch from its second epoch on, then remembers its features (B, d[u])."""
        if epoch > 1:
            self._move(features, index, epoch)
        for place, rows in enumerate(features):
            self.features(place)[index] = rows

    def _move(self, features: Sequence[Tensor], index: Tensor, epoch: int) -> None:
        """By the centres of what is remembered, in which this batch is still as it last was."""
        leanings, both = [], []
        for place, rows in enumerate(features):
            positive, negative, there = centres(self.features(place), self.labels[place])
            leanings.append(leaning(rows, positive, negative))
            both.append(there)
        alphas, defined = torch.stack(leanings), torch.stack(both)  # (1 + M, B, L), (1 + M, L)
        old = self.labels[1:, index]  # (M, B, L)
        new = shifted(self.labels[0, index], alphas[1:], alphas[0], self.limit)
        # Where no sample is positive, or none negative, a centre is missing and the label stays.
        moves = (defined[0] & defined[1:])[:, None]  # (M, 1, L)
        self.labels[1:, index] = torch.where(moves, momentum(old, new, epoch), old)
