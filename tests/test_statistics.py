"""mmbench/statistics.py: against closed forms, and by how often it errs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import false_discovery_control, ttest_rel

from mmbench.statistics import ALPHA, compare, holm, ranks, resamples


def means(values: np.ndarray, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Of scores (S, N) of single samples, each seed's mean (S,) and its resamples (B, S)."""
    n = values.shape[1]
    return values.mean(1), resamples(n, count).astype(float) @ values.T / n


def test_resamples_draw_as_many_as_there_are_and_always_the_same():
    drawn = resamples(50, 20)
    assert drawn.shape == (20, 50) and (drawn.sum(1) == 50).all() and drawn.std() > 0.5
    assert np.array_equal(drawn, resamples(50, 20))


def test_where_samples_do_not_matter_it_is_the_paired_t_test():
    a, b = np.random.default_rng(0).normal(size=(2, 5))
    values = np.repeat((a - b)[:, None], 30, 1)
    found = compare(*means(values), 30)
    assert found.p == pytest.approx(ttest_rel(a, b).pvalue) and found.df == pytest.approx(4)


def test_where_seeds_do_not_matter_the_error_is_that_of_a_mean():
    values = np.tile(np.random.default_rng(1).normal(size=200), (3, 1))
    found = compare(*means(values, 2000), 200)
    assert found.error == pytest.approx(values[0].std() / 200**0.5, rel=0.05)
    assert found.df == pytest.approx(199)


def test_luck_of_seed_and_sample_together_counts_once():
    rng = np.random.default_rng(2)
    errors = [compare(*means(rng.normal(size=(5, 100)), 100), 100).error for _ in range(100)]
    truth = 1 / 500**0.5
    assert truth <= np.sqrt(np.mean(np.square(errors))) < 1.2 * truth  # twice would be 1.41


def test_equal_methods_have_p_1_and_constant_differences_p_0():
    none, some = np.zeros((4, 3)), np.ones((4, 3))
    assert compare(none[0], none, 9).p == 1 and compare(some[0], some, 9).p == 0


def test_columns_are_tested_each_by_itself():
    rng = np.random.default_rng(3)
    observed, drawn = rng.normal(size=(2, 5)), rng.normal(size=(50, 2, 5))
    both = compare(observed, drawn, 9)
    alone = [compare(observed[k], drawn[:, k], 9) for k in (0, 1)]
    assert [*both.p] == pytest.approx([float(x.p) for x in alone])


@pytest.mark.parametrize("seed_luck", [0.0, 0.1, 1.0])
def test_equal_methods_are_told_apart_as_often_as_promised(seed_luck):
    rng = np.random.default_rng(4)
    found = []
    for _ in range(300):
        luck = seed_luck * rng.normal(size=(5, 1)) + rng.normal(size=60)
        found.append(compare(*means(luck + 0.5 * rng.normal(size=(5, 60)), 60), 60).p)
    assert 0.01 <= np.mean(np.array(found) < ALPHA) <= 0.09  # 0.05, three standard errors 0.038


def test_a_difference_of_four_errors_is_seen():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(100):
        values = 0.8 + 0.1 * rng.normal(size=(5, 1)) + rng.normal(size=60)
        found.append(compare(*means(values + 0.5 * rng.normal(size=(5, 60)), 60), 60).p)
    assert np.mean(np.array(found) < ALPHA) > 0.95


def test_holm_by_hand():
    assert list(holm([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert list(holm([0.9, 0.8])) == [1, 1] and len(holm([])) == 0


@given(arrays(float, st.integers(1, 8), elements=st.floats(0, 1)))
def test_holm_lies_between_the_p_value_and_bonferronis_and_keeps_the_order(p):
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= np.minimum(p * len(p), 1)).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    assert (adjusted >= false_discovery_control(p) - 1e-12).all()


def test_methods_share_the_rank_of_the_best_that_they_are_not_worse_than():
    def tied(*pairs):
        return ranks("abcd", {frozenset(pair) for pair in pairs})

    assert tied() == [1, 1, 1, 1]
    assert tied("ab", "ac", "ad") == [1, 2, 2, 2]
    assert tied("ac", "ad") == [1, 1, 3, 3]
    assert tied("ac", "ad", "cd") == [1, 1, 3, 4]
    assert tied("bd") == [1, 1, 1, 1]  # b is not the best of its group
    assert tied("ac") == [1, 1, 3, 3]  # d, though not worse than a, stands below c
