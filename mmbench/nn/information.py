"""Mutual information between what two networks make of the same samples, bounded from below.

Letters: B samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mmbench.randomness import Random


def mutual_information(
    statistics: Iterable[nn.Module],
    teacher: Sequence[Tensor],
    student: Sequence[Tensor],
    rng: Random,
) -> Tensor:
    """-sum_i MI(t_i, s_i) of a teacher's and a student's representations i, a scalar, at least 0.

    The Jensen-Shannon bound of Deep InfoMax (Hjelm et al., ICLR 2019), eq. 4, with a statistics network for each i:
    MI(x, y) = E_joint[-sp(-T(x, y))] + E_marginals[-sp(T(x, y))], sp = softplus. Samples of the
    marginals pair each teacher row with another sample's student row.
    """
    size = len(teacher[0])
    if size < 2:
        return teacher[0].new_zeros(())  # nothing to pair with
    device = teacher[0].device
    shift = rng.randint(1, size, device=device)
    other = (torch.arange(size, device=device) + shift) % size  # (B,), no fixed point
    loss = teacher[0].new_zeros(())
    for score, x, y in zip(statistics, teacher, student, strict=True):
        pairs = torch.cat([torch.cat([x, x]), torch.cat([y, y[other]])], -1)
        together, apart = score(pairs).chunk(2)  # each (B, 1)
        loss = loss + softplus(-together).mean() + softplus(apart).mean()
    return loss
