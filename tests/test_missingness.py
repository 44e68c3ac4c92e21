"""Subsets, counts and the hiding of frames, on which every protocol and sampler rests."""

from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mmbench.missingness import hashed_priority, hide, joined, n_hidden, subsets

valids = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))
rates = st.integers(0, 10).map(lambda k: k / 10)


def priority_for(valid: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).random(valid.shape)


def test_subsets_by_size_then_order():
    assert subsets("lav") == [
        *(("l",), ("a",), ("v",)),
        *(("l", "a"), ("l", "v"), ("a", "v")),
        ("l", "a", "v"),
    ]
    assert [len(subsets("abcdef"[:n])) for n in range(1, 7)] == [1, 3, 7, 15, 31, 63]


def test_joined():
    assert [joined(s) for s in (("l",), ("l", "a"), ("text", "a"), ("text",))] == [
        *("l", "la"),
        *("text+a", "text"),
    ]


@pytest.mark.parametrize(
    ("rate", "n_valid", "count"),
    [
        *((0.5, 1, 0), (0.5, 3, 2), (0.5, 5, 2), (0.1, 5, 0), (0.1, 15, 2), (0.3, 5, 2)),
        *((0.7, 45, 32), (0.3, 0, 0), (1.0, 7, 7), (0.0, 7, 0), (0.9, 1, 1)),
    ],
)
def test_n_hidden_rounds_half_to_even(rate, n_valid, count):
    assert n_hidden(rate, np.array([n_valid])).tolist() == [count]


def test_n_hidden_is_exact_in_decimals():
    """0.7 * 45 is not 31.5 in binary; a rate of tenths means what it says at any length."""
    n_valid = np.arange(1000)
    for tenths in range(11):
        share = Decimal(tenths) / 10
        expected = [int((share * n).quantize(Decimal(1), ROUND_HALF_EVEN)) for n in range(1000)]
        assert n_hidden(tenths / 10, n_valid).tolist() == expected


@given(valids, rates)
def test_hide_hides_exactly_so_many_valid_frames(valid, rate):
    observed = hide(valid, priority_for(valid), rate)
    assert observed.shape == valid.shape and observed.dtype == bool
    assert not (observed & ~valid).any()
    np.testing.assert_array_equal(valid.sum(1) - observed.sum(1), n_hidden(rate, valid.sum(1)))


@given(valids, rates, rates)
def test_hidden_frames_are_nested_in_the_rate(valid, first, second):
    less, more = sorted((first, second))
    priority = priority_for(valid)
    assert (hide(valid, priority, more) <= hide(valid, priority, less)).all()


@given(valids)
def test_hide_takes_a_rate_for_each_sample(valid):
    each = np.arange(len(valid))[:, None] % 11 / 10
    together = hide(valid, priority_for(valid), each)
    for row, rate in enumerate(each[:, 0]):
        alone = hide(valid[[row]], priority_for(valid)[[row]], rate)
        np.testing.assert_array_equal(together[row], alone[0])


def test_hide_takes_the_lowest_priority_first():
    valid = np.array([[True, True, False, True, True]])
    priority = np.array([[0.4, 0.1, 0.0, 0.2, 0.3]])
    assert hide(valid, priority, 0.5).tolist() == [[True, False, False, False, True]]


def test_no_valid_frame_and_no_sample_are_fine():
    for shape in ((3, 4), (0, 4), (2, 0)):
        valid = np.zeros(shape, bool)
        keys = [str(i) for i in range(shape[0])]
        assert hide(valid, hashed_priority(valid, keys), 0.5).shape == shape


@given(st.integers(0, 8), st.integers(0, 5), st.integers(0, 5))
def test_hashed_priority_does_not_see_the_padding(n, before, after):
    tight = hashed_priority(np.ones((1, n), bool), ["key"])
    valid = np.pad(np.ones(n, bool), (before, after))[None]
    np.testing.assert_array_equal(hashed_priority(valid, ["key"])[valid], tight[0])


@given(st.permutations(range(6)))
def test_hashed_priority_does_not_see_the_batch(order):
    valid = np.arange(5) < np.array([[0], [1], [2], [3], [4], [5]])
    keys = [f"sample {i}" for i in range(6)]
    whole = hashed_priority(valid, keys)
    part = hashed_priority(valid[order[:4]], [keys[i] for i in order[:4]])
    np.testing.assert_array_equal(part, whole[order[:4]])


def test_hashed_priority_is_pinned_and_keys_differ():
    valid = np.ones((3, 4), bool)
    first, second, again = hashed_priority(valid, ["a", "b", "a"])
    assert (first == again).all() and (first != second).all()
    assert [f"{word:016x}" for word in first] == [
        "bf6688d288dec885",
        "2b1661390b096808",
        "73e4d990f69223f8",
        "eeb36a7caff41009",
    ]


def test_hashed_priority_wants_a_key_for_each_sample():
    with pytest.raises(ValueError, match="zip"):
        hashed_priority(np.ones((2, 3), bool), ["a"])
