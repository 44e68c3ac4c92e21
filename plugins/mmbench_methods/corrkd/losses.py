"""CorrKD's equations, one function each, and the categories that two of them ask for.

Letters: B samples, M modalities, d embedding size, L labels, K categories.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

import mmbench


def category_count(task: mmbench.Task, levels: int) -> int:
    """K: the classes; the labels and one for none of them; or `levels` of a score."""
    if isinstance(task, mmbench.MultiClass):
        return task.n_out
    return len(task.labels) + 1 if isinstance(task, mmbench.MultiBinary) else levels


def categorise(task: mmbench.Task, targets: Tensor, levels: int) -> Tensor:
    """The category (B,) in 0 ... K-1 of each row of targets (B, L)."""
    if isinstance(task, mmbench.MultiBinary):
        return F.pad(targets, (0, 1), value=1).argmax(1)  # the first that holds; K-1 if none does
    if isinstance(task, mmbench.Regression):
        step = (task.high - task.low) / (levels - 1)
        level = (targets[:, 0] / step).round() - round(task.low / step)
        return level.long().clamp(0, levels - 1)
    return targets[:, 0]


def sample_contrast(
    student: Tensor,
    teacher: Tensor,
    margin: float,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """L_SCD of H^s and H^t (B, M d): D_ii^2 and max(0, margin - D_ij)^2, D_ij = ||H^s_i - H^t_j||_2."""
    size = len(student)
    together = (student - teacher).square().sum(-1)  # (B,)
    squares = student.square().sum(-1)[:, None] + teacher.square().sum(-1)  # (B, B)
    squares = squares - 2 * student @ teacher.T
    # The norm has no gradient at 0, and rounding can bring a square below it.
    apart = (margin - squares.clamp_min(1e-12).sqrt()).clamp_min(0).square()
    apart = apart.masked_fill(torch.eye(size, dtype=torch.bool, device=apart.device), 0.0)
    if reduction == "sum":
        return together.sum() + apart.sum()
    return together.mean() + apart.sum() / max(size * (size - 1), 1)


def prototype_similarity(joint: Tensor, members: Tensor) -> Tensor:
    """M (B, K): the cosine of each row of joint (B, M d) and each category's mean; 0 where it has no member.

    members (B, K) is 1 where a sample belongs to a category. A sum points where the mean does.
    """
    prototypes = members.T @ joint  # (K, M d)
    return F.normalize(joint, dim=-1) @ F.normalize(prototypes, dim=-1).T


def prototype_distance(student: Tensor, teacher: Tensor, members: Tensor) -> Tensor:
    """L_CPD of H^s and H^t (B, M d): the mean of |M^s - M^t| over samples and the batch's categories."""
    differences = prototype_similarity(student, members) - prototype_similarity(teacher, members)
    return differences.abs().sum() / (len(members) * members.any(0).sum())


def decouple(responses: Tensor, category: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of the true category (B, 1) and of the others (B, K-1), from logits (B, K)."""
    probability = responses.softmax(-1)
    true = category[:, None]  # (B, 1)
    others = torch.arange(responses.shape[1] - 1, device=true.device)  # (K-1,)
    return probability.gather(1, true), probability.gather(1, others + (others >= true))
