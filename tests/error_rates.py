"""How often the tests between methods err, and how often they see a difference, on simulated scores.

    python tests/error_rates.py [EXPERIMENTS]

A method's sample is right where merit + luck of its seed + difficulty of the sample + luck of both is
above zero; the metric is weighted F1 of a balanced yes-or-no label. `sizes` are the standard deviations of
the three kinds of luck, of which a sample's is for a method's own taste: what is hard for both cancels.
"""

import sys
from collections.abc import Iterator
from itertools import combinations

import numpy as np
from scipy.special import ndtri

from mmbench.statistics import ALPHA, Comparison, compare, holm, resamples
from mmbench_metrics.classification import resampled_f1

CASES = {
    "seeds matter little": (0.02, 0.5, 0.3),
    "samples and seeds": (0.1, 0.5, 0.5),
    "seeds matter most": (0.4, 0.2, 0.3),
    "luck of both alone": (0.0, 0.0, 1.0),
}
"""Standard deviations over seeds, over samples, and over both."""


def simulate(
    rng: np.random.Generator,
    sizes: tuple[float, float, float],
    *,
    better: float = 0.0,
    methods: int = 2,
    conditions: int = 1,
    seeds: int = 5,
    samples: int = 500,
) -> tuple[np.ndarray, np.ndarray]:
    """Truth (N,) and what was predicted (M, S, C, N). `better`: what the first has more of merit."""
    of_seed, of_sample, of_both = sizes
    truth = rng.random(samples) < 0.5
    merit = np.full((methods, 1, 1, 1), ndtri(0.7))
    merit[0] += better
    total = np.sqrt(1 + of_seed**2 + of_sample**2 + of_both**2)
    latent = merit * total + rng.standard_normal(samples)
    latent = latent + of_seed * rng.standard_normal((methods, seeds, conditions, 1))
    latent = latent + of_sample * rng.standard_normal((methods, 1, conditions, samples))
    latent = latent + of_both * rng.standard_normal((methods, seeds, conditions, samples))
    return truth, np.where(latent > 0, truth, ~truth)


def scores(truth: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """F1 as it is and of `count` resamples, (1 + B, M, S, C)."""
    n = len(truth)
    drawn = np.concatenate([np.ones((1, n), np.float32), resamples(n, count)])
    found = resampled_f1(truth, predicted.reshape(-1, n).T, drawn)
    return found.reshape(len(drawn), *predicted.shape[:-1])


def tested(scores: np.ndarray, samples: int, a: int = 0, b: int = 1) -> Comparison:
    """One method against another in each condition."""
    both = (scores[:, a] - scores[:, b]).swapaxes(-1, -2)  # (1 + B, C, S)
    return compare(both[0], both[1:], samples)


def crossed(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """P values (C,) of the plain bootstrap that draws seeds and samples, for comparison."""
    both = scores[1:, 0] - scores[1:, 1]  # (B, S, C)
    seeds = both.shape[1]
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(both)) / seeds
    means = np.einsum("bsc,bs->bc", both, drawn)
    return 2 * np.minimum((means <= 0).mean(0), (means >= 0).mean(0))


def families(rng: np.random.Generator, sizes: tuple[float, float, float]) -> tuple[bool, bool]:
    """Of 6 equal methods under 7 conditions: whether any condition has a star, and whether any two ranks
    of the mean over the conditions differ."""
    found = scores(*simulate(rng, sizes, methods=6, conditions=7), 200)
    order = np.argsort(-found[0].mean(1), axis=0)  # (M, C)
    tops = [tested(found[..., [c]], 500, *order[:2, c]).p for c in range(7)]
    means = found.mean(-1, keepdims=True)
    pairs = [tested(means, 500, a, b).p for a, b in combinations(range(6), 2)]
    stars, ties = (bool((holm(np.concatenate(p)) < ALPHA).any()) for p in (tops, pairs))
    return stars, ties


def main(experiments: int) -> Iterator[str]:
    """A line for each setting."""
    rng = np.random.default_rng(0)
    yield f"{experiments} experiments, 500 samples; share with p < {ALPHA}; last: 6 equal methods"
    heads = ("seeds", "null", "crossed", "+0.1", "+0.3", "star", "rank")
    yield f"{'':24}" + "".join(f"{head:>9}" for head in heads)
    for name, sizes in CASES.items():
        for seeds in (3, 5):
            rates = []
            for better in (0.0, 0.1, 0.3):
                every = [
                    scores(*simulate(rng, sizes, better=better, seeds=seeds), 200)
                    for _ in range(experiments)
                ]
                rates.append(np.mean([tested(s, 500).p < ALPHA for s in every]))
                if not better:
                    rates.append(np.mean([crossed(s, rng) < ALPHA for s in every]))
            if seeds == 5:
                rates += list(np.mean([families(rng, sizes) for _ in range(experiments)], axis=0))
            yield f"{name:24}{seeds:9}" + "".join(f"{rate:9.3f}" for rate in rates)


if __name__ == "__main__":
    for line in main(int(sys.argv[1]) if sys.argv[1:] else 1000):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
