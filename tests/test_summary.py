"""mmbench/summary.py: closed forms and brute force."""

import math
from itertools import chain, combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.leaderboard import Leaderboard
from mmbench.summary import (
    ALL,
    AVERAGE,
    effective_rate,
    lattice,
    nested,
    overall,
    quantity,
    shapley,
    share,
    violations,
)


def powerset(names):
    return [frozenset(s) for s in chain(*(combinations(names, k) for k in range(len(names) + 1)))]


GAMES = st.sampled_from(["la", "lav", "lavx"]).flatmap(
    lambda names: st.fixed_dictionaries({s: st.integers(-9, 9) for s in powerset(names)})
)


def test_a_share_of_the_way():
    assert share(0.6, 0.4, 0.8) == pytest.approx(0.5)
    assert share(0.2, 0.4, 0.8) == pytest.approx(-0.5) and share(-1.2, -1.4, -1.0) == pytest.approx(
        0.5
    )
    assert math.isnan(share(0.6, 0.4, 0.4)) and math.isnan(share(0.6, 0.4, 0.3))


@given(GAMES)
def test_shapley_is_the_mean_step_over_all_orders(gains):
    players = sorted(max(gains, key=len))
    steps = {m: [] for m in players}
    for order in permutations(players):
        for k, m in enumerate(order):
            steps[m].append(gains[frozenset(order[: k + 1])] - gains[frozenset(order[:k])])
    found = shapley(gains)
    assert found == pytest.approx({m: sum(own) / len(own) for m, own in steps.items()})
    assert sum(found.values()) == pytest.approx(gains[frozenset(players)] - gains[frozenset()])


@given(GAMES)
def test_violations_are_counted_over_all_nested_pairs(gains):
    pairs = [(a, b) for a in gains for b in gains if a != b and a.issubset(b)]
    assert nested(gains) == pairs
    assert violations(gains) == sum(gains[a] > gains[b] for a, b in pairs)


def test_three_modalities_have_twelve_nested_pairs():
    assert len(nested(powerset("lav")[1:])) == 12


def values(board, label="sentiment", method="alpha"):
    table = board.sections[0].summaries
    chosen = table[(table["label"] == label) & (table["method"] == method)]
    return dict(zip(chosen["quantity"], chosen["value"], strict=True))


def with_ceiling(make_manifest, *manifests):
    top = make_manifest("zeta", scores=(0.9, 0.9, 1.0))
    top["method"] |= {"competes": False, "privileges": ["the generator"]}
    return Leaderboard.from_manifests("small", [*manifests, top])


def test_the_quantities_of_a_row_by_hand(make_manifest):
    found = values(with_ceiling(make_manifest, make_manifest(scores=(0.7, 0.6, 0.65))))
    assert found == pytest.approx(
        {
            "score": 0.65,
            "worst": 0.6,
            "retention": (0.65 - 0.5) / (0.65 - 0.5),
            "ceiling_share": (0.65 - 0.5) / (0.9 - 0.5),
            "violations": 1,  # {l} scores more than {l, a}
            "shapley:l": (0.2 + 0.05) / 2,
            "shapley:a": (0.1 - 0.05) / 2,
        }
    )


def test_where_lower_is_better_the_worst_is_the_highest_and_shares_stay_shares(make_manifest):
    manifest = make_manifest(scores=(0.7, 0.6, 0.8)) | {
        "headline": "mae"
    }  # 1.3, 1.4, 1.2; floor 1.5
    found = values(Leaderboard.from_manifests("small", [manifest]))
    assert found["score"] == pytest.approx(1.35) and found["worst"] == pytest.approx(1.4)
    assert found["retention"] == pytest.approx(0.15 / 0.3) and found["violations"] == 0
    assert found["shapley:l"] == pytest.approx((0.2 + 0.2) / 2)


def test_the_mean_over_labels_stands_beside_each(make_manifest):
    manifest = make_manifest(labels=("happy", "sad"))
    for row in (*manifest["scores"], *manifest["averages"]):
        row["value"] += 0.1 * (row["label"] == "sad")
    board = Leaderboard.from_manifests("small", [manifest])
    scores = [values(board, label)["score"] for label in ("happy", "sad", ALL)]
    assert scores == pytest.approx([0.5, 0.6, 0.55])
    assert overall(["happy", "sad"]) == ALL and overall(["sentiment"]) == "sentiment"


def test_what_is_not_defined_is_left_out(make_manifest):
    found = values(Leaderboard.from_manifests("small", [make_manifest(scores=(0.6, 0.4, 0.5))]))
    assert not {"rank", "ceiling_share", "retention"} & set(found)


def test_who_merely_does_not_compete_is_no_ceiling(make_manifest):
    constant = make_manifest("zeta", scores=(0.9, 0.9, 1.0))
    constant["method"] |= {"competes": False, "privileges": []}
    board = Leaderboard.from_manifests("small", [make_manifest(), constant])
    assert "ceiling_share" not in values(board)


def test_the_effective_rate_is_the_mean_over_modalities(make_manifest):
    protocol = make_manifest()["protocols"]["inter"]
    protocol["effective_rate"]["l"] = {"l": 0.1, "a": 0.9}
    assert [effective_rate(protocol, c) for c in ("l", "la")] == pytest.approx([0.5, 0])
    assert effective_rate(protocol, AVERAGE) == pytest.approx(0.5)


def test_a_protocol_of_rates_has_no_lattice(make_manifest):
    protocol = make_manifest()["protocols"]["inter"]
    assert lattice(protocol, "la") == {
        frozenset("l"): "l",
        frozenset("a"): "a",
        frozenset("la"): "la",
    }
    assert lattice(protocol, "lav") == {}
    protocol["conditions"][0]["rate"] = 0.1
    assert lattice(protocol, "la") == {}


def test_every_quantity_has_a_title_and_a_formula():
    for name in ("rank", "worst", "shapley:l"):
        assert quantity(name).title and quantity(name).formula
