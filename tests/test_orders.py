"""mmbench/orders.py: Kendall's tau of two sides' methods."""

from itertools import combinations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.orders import FEWEST, orders


def cells(left, right, *, sign=1, label="sentiment"):
    names = [f"method-{number}" for number in range(len(left))]
    return pd.DataFrame(
        {
            "metric": "f1",
            "protocol": "inter@1",
            "column": "l",
            "label": label,
            "method": names,
            "sign": sign,
            "mean_left": left,
            "mean_right": right,
        }
    )


def by_pairs(left, right):
    """Kendall's tau without ties: pairs in the same order less pairs in the other, as a share."""
    pairs = list(combinations(range(len(left)), 2))
    agreed = [(left[i] - left[j]) * (right[i] - right[j]) > 0 for i, j in pairs]
    return (2 * sum(agreed) - len(pairs)) / len(pairs)


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_tau_counts_the_pairs_in_the_same_order(left, right):
    (found,) = orders(cells([float(x) for x in left], [float(x) for x in right]))
    assert found.tau == pytest.approx(by_pairs(left, right))


def test_the_best_stands_first_also_where_lower_is_better():
    scores = [0.1, 0.4, 0.2, 0.3], [1.0, 2.0, 3.0, 4.0]
    (high,), (low,) = orders(cells(*scores)), orders(cells(*scores, sign=-1))
    assert high.left[0] == "method-1" and high.right[0] == "method-3"
    assert low.left[0] == low.right[0] == "method-0"
    assert high.tau == low.tau


def test_a_method_counts_once_by_its_mean_over_labels():
    one = cells([0.0, 6.0, 2.0, 3.0], [0.0, 6.0, 2.0, 3.0], label="happy")
    other = cells([9.0, 6.0, 0.0, 0.0], [9.0, 6.0, 0.0, 0.0], label="sad")
    (found,) = orders(
        pd.concat([one, other])
    )  # method-0 has the best label, method-1 the best mean
    assert found.left == ("method-1", "method-0", "method-3", "method-2") and found.tau == 1


def test_too_few_methods_have_no_order():
    few = [float(number) for number in range(FEWEST - 1)]
    assert list(orders(cells(few, few))) == []
