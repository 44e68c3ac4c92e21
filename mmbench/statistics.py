"""Whether one method is better than another, by chance or not. Letters: B resamples, S training seeds,
N test samples.

Two things could have come out otherwise, and each is measured where it is best known. **Which samples**
are in the test split: B times, N of them are drawn with replacement, the same ones for every method, mask
and seed, and the metric is computed anew. **Which seeds** a method was trained from: five are too few to
draw from, for a bootstrap of S values is too narrow by (S - 1) / S and takes a t distribution for a normal
one; so their variance is taken as it is, with its S - 1 degrees of freedom. Both are of the difference
between two methods, paired by sample, mask and seed. What comes from seeds and samples together stands
in both and is taken off once. Masks are the same for all methods, and are not drawn again.

    E^2 = V_seed + V_sample - V_both            never less than the larger of the first two
    V_seed   = (variance over seeds of the difference) / S
    V_sample = variance over resamples of the difference's mean over seeds
    V_both   = (mean over seeds of the variance over resamples - V_sample) / (S - 1)
    df = E^4 / (V_seed^2 / (S - 1) + V_sample^2 / (N - 1))           (Satterthwaite)
    p = 2 P(t_df > |difference| / E)

scipy takes a second to import, so it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from mmbench.streams import stream

ALPHA = 0.05
"""What is less likely than this by chance is called significant."""
LEAST = 3
"""Training seeds. Two may agree by chance, and then hide that seeds matter."""
RESAMPLES = 1000
"""Of the test split; a standard error from so many is good to 2 %."""


class Comparison(NamedTuple):
    """One method against another, in arrays of any one shape."""

    difference: np.ndarray
    error: np.ndarray
    """Its standard error E."""
    df: np.ndarray
    """Degrees of freedom."""
    p: np.ndarray
    """Two-sided, for one comparison; 1 where the two are equal throughout."""


def resamples(n: int, count: int = RESAMPLES) -> np.ndarray:
    """How often each of `n` samples is drawn, float32 (count, n): n draws a row, always the same ones."""
    rng = stream("resamples", n)
    return rng.multinomial(n, np.full(n, 1 / n), size=count).astype(np.float32)


def compare(observed: np.ndarray, resampled: np.ndarray, samples: int) -> Comparison:
    """Tests differences between two methods, as the module says.

    observed (..., S >= 2) and resampled (B >= 2, ..., S): the difference of each seed, of the test split
    and of its resamples; samples: N.
    """
    from scipy.special import stdtr

    seeds = observed.shape[-1]
    v_seed = observed.var(-1, ddof=1) / seeds
    v_sample = resampled.mean(-1).var(0, ddof=1)
    v_both = (resampled.var(0, ddof=1).mean(-1) - v_sample) / (seeds - 1)
    v = np.maximum(np.maximum(v_seed, v_sample), v_seed + v_sample - v_both)
    difference, error = observed.mean(-1), np.sqrt(v)
    some = v > 0
    spent = v_seed**2 / (seeds - 1) + v_sample**2 / (samples - 1)
    df = np.divide(v**2, spent, out=np.full_like(v, seeds - 1.0), where=some)
    score = np.divide(difference, error, out=np.zeros_like(error), where=some)
    p = np.where(some, 2 * stdtr(df, -np.abs(score)), np.where(difference == 0, 1.0, 0.0))
    return Comparison(difference, error, df, p)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """P values (M,) adjusted for being M, by Holm's method: of true nulls that are called significant there
    is any with probability ALPHA at most, however the tests depend on each other."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def ranks(order: Sequence[str], different: Collection[frozenset[str]]) -> list[int]:
    """Ranks with ties of methods that stand in the order of their scores, best first.

    Going down, whoever is significantly worse than the best of its group opens the next one; the others
    share that one's rank, which is one more than there are methods in the groups above. different: the
    pairs that differ significantly.
    """
    found: list[int] = []
    best = 0
    for number, name in enumerate(order):
        if {order[best], name} in different:
            best = number
        found.append(best + 1)
    return found
