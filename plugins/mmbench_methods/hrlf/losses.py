"""HRLF's equations, one function each.

Letters: B samples, M modalities, d embedding size, k = d/2, scales i = 1, 2, 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mmbench_methods.hrlf.network import Factorisation, View


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean norm of a - b over the last axis; 1e-12 keeps its gradient finite at 0."""
    return (a - b).square().sum(-1).add(1e-12).sqrt()


def factorisation(
    factorise: Factorisation, view: View, *, stop_gradient: bool = False
) -> tuple[Tensor, Tensor]:
    """L_trans = L_trans^self + L_trans^cross, and L_recon; their sum is L_FRF.

    Section "Fine-grained Representation Factorization": the mean over the M pairs of one modality plus
    the mean over the M^2 - M pairs of two, and the mean over all M^2 pairs, each over the batch.
    With `stop_gradient` Z and the compared Q are given: the losses move E^S, E^M and D_r, not what made Z.
    """
    if view.sentiment is None or view.specific is None:
        raise ValueError("there is nothing to translate without factorisation")
    modality, sentiment, specific = view.modality, view.sentiment, view.specific
    if stop_gradient:
        modality = modality.detach()
        sentiment, specific = factorise(modality)
    translated = factorise.translate(sentiment, specific)  # Zbar (B, M, M, d)
    reconstructed = factorise.reconstruct(translated)  # Qbar (B, M, M, k)
    if stop_gradient:
        sentiment = sentiment.detach()
    # Entry (a, b) of either translates to modality b, and is compared with what b really has.
    translation = distance(translated, modality[:, None]).mean(0)  # (M, M)
    reconstruction = distance(reconstructed, sentiment[:, None]).mean(0)  # (M, M)
    same = translation.diagonal()  # (M,)
    n = len(same)
    cross = (translation.sum() - same.sum()) / (n * n - n)
    return same.mean() + cross, reconstruction.mean()


def adversarial(
    discriminators: Iterable[nn.Module],
    teacher: Sequence[Tensor],
    student: Sequence[Tensor],
    *,
    saturating: bool = True,
) -> Tensor:
    """L_HAL = sum_i log(1 - D_i(E^s_i)) + log D_i(E^t_i), mean over the batch, D = sigmoid of a logit.

    The student minimises it, the discriminators maximise it. Not saturating, the first term becomes
    -log D_i(E^s_i): the same direction for the student, with a gradient where it is plainly told apart.
    """
    loss = teacher[0].new_zeros(())
    for logit, real, made in zip(discriminators, teacher, student, strict=True):
        fooled, known = logit(torch.cat([made, real])).chunk(2)  # each (B, 1)
        # log(1 - sigmoid(z)) = -sp(z) and log sigmoid(z) = -sp(-z)
        loss = loss + (-softplus(fooled) if saturating else softplus(-fooled)).mean()
        loss = loss - softplus(-known).mean()
    return loss
