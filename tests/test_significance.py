"""mmbench/significance.py: from a store's predictions to tests, ranks and stars."""

import numpy as np
import pytest

from mmbench.leaderboard import Leaderboard
from mmbench.registry import discover
from mmbench.store import PREDICTIONS
from mmbench.summary import ALL, AVERAGE
from mmbench_missing.inter import Inter

LABELS = ("happy", "sad", "angry", "neutral")
NAMES = ("l", "a", "la")
REGISTRY = discover()


def section(store):
    return Leaderboard.from_store(store, "small", REGISTRY).sections[0]


def ranks(section, label=ALL):
    table = section.summaries
    chosen = table[(table["quantity"] == "rank") & (table["label"] == label)]
    return dict(zip(chosen["method"], chosen["value"], strict=True))


def stars(section):
    starred = section.cells[section.cells["star"]]
    return set(zip(starred["method"], starred["column"], strict=True))


def test_a_clear_difference_has_ranks_and_stars_and_equals_share_a_rank(fill):
    for method, share in (("alpha", 0.9), ("beta", 0.6), ("gamma", 0.6)):
        store = fill(method, (share, 0.7, 0.7))
    found = section(store)
    assert ranks(found) == {"alpha": 1, "beta": 2, "gamma": 2}
    assert stars(found) == {("alpha", "l"), ("alpha", AVERAGE)}
    assert not any(row.untested for row in found.rows)


def test_differences_are_those_of_the_cells(fill):
    fill("alpha", (0.8, 0.7, 0.7))
    found = section(fill("beta", (0.6, 0.6, 0.6)))
    means = found.cells.set_index(["method", "label", "column"])["mean"]
    for test in found.tests.to_dict("records"):
        labels = LABELS if test["label"] == ALL else [test["label"]]
        own, other = (
            np.mean([means[test[who], n, test["column"]] for n in labels])
            for who in ("method", "other")
        )
        assert test["difference"] == pytest.approx(own - other, abs=1e-5)
    assert set(found.tests["label"]) == {ALL, *LABELS}
    assert set(found.tests["column"]) == {*NAMES, AVERAGE}


def test_the_same_store_has_the_same_tests(fill):
    fill("alpha", (0.8, 0.7, 0.7))
    store = fill("beta", (0.6, 0.6, 0.6))
    assert section(store).tests.equals(section(store).tests)


def test_p_is_adjusted_over_pairs_in_the_summary_and_over_conditions_elsewhere(fill):
    for method in ("alpha", "beta", "gamma"):
        store = fill(method, (0.7, 0.7, 0.7))
    tests = section(store).tests
    own = tests[tests["label"] == "sad"]
    for chosen in (own["column"] == AVERAGE, own["column"] != AVERAGE):
        family = own[chosen]
        assert len(family) == 3
        smallest = family.loc[family["p"].idxmin()]
        assert smallest["p_adjusted"] == pytest.approx(min(3 * smallest["p"], 1), rel=1e-4)


def test_seeds_that_only_one_row_has_are_left_out_of_a_pair(fill):
    fill("alpha", (0.8, 0.7, 0.7), seeds=4)
    assert set(section(fill("beta", (0.6, 0.6, 0.6))).tests["seeds"]) == {4}


def test_what_does_not_compete_has_no_rank(fill):
    fill("alpha", (0.8, 0.7, 0.7))
    fill("beta", (0.8, 0.7, 0.7))
    found = section(fill("gamma", (0.9, 0.9, 0.9), quick=True))
    assert set(ranks(found)) == {"alpha", "beta"}
    assert found.rows[-1].untested == "it does not compete"


def untested(section):
    return {row.label: row.untested for row in section.rows if row.untested}


def test_a_row_without_predictions_has_no_test_and_says_so(fill):
    for method in ("alpha", "beta", "gamma"):
        store = fill(method, (0.7, 0.7, 0.7))
    next(store.root.glob(f"small/beta/seed-2-*/{PREDICTIONS}")).unlink()
    found = section(store)
    assert untested(found) == {"beta": "the predictions of seed 2 are missing or altered"}
    assert set(ranks(found)) == {"alpha", "gamma"} and len(found.rows) == 3


def test_a_row_of_other_samples_is_not_paired(fill):
    for method in ("alpha", "beta"):
        fill(method, (0.7, 0.7, 0.7))
    found = section(fill("gamma", (0.7, 0.7, 0.7), ids="t"))
    assert untested(found) == {"gamma": "its predictions are of other samples"}


def test_too_few_seeds_are_not_tested(fill):
    fill("alpha", (0.9, 0.9, 0.9), seeds=2)
    found = section(fill("beta", (0.6, 0.6, 0.6)))
    assert untested(found) == {
        "alpha": "fewer than 3 training seeds cannot tell luck from method",
        "beta": "there is no other row to compare it with",
    }
    assert found.tests.empty and not found.cells["star"].any()


def test_a_protocol_that_is_not_here_cannot_be_recomputed(fill, monkeypatch):
    fill("alpha", (0.9, 0.9, 0.9))
    store = fill("beta", (0.6, 0.6, 0.6))
    monkeypatch.setattr(Inter, "version", 2)
    assert untested(section(store))["alpha"] == "protocol inter@1 is not installed here"


def test_a_summary_that_is_not_linear_is_not_tested(fill, monkeypatch):
    fill("alpha", (0.9, 0.9, 0.9))
    store = fill("beta", (0.6, 0.6, 0.6))
    monkeypatch.setattr(Inter, "summarise", lambda self, scores, conditions: min(scores.values()))
    assert "not linear" in untested(section(store))["alpha"]


def test_predictions_that_lack_a_trial_are_told(fill):
    fill("alpha", (0.9, 0.9, 0.9))
    store = fill("beta", (0.6, 0.6, 0.6))
    board = section(store)
    facts = {**board.facts, "protocols": {"inter": dict(board.facts["protocols"]["inter"])}}
    facts["protocols"]["inter"]["mask_seeds"] = 2
    from mmbench.significance import Tests

    tests, why = Tests(store, REGISTRY).of(facts, board.rows)
    assert tests.empty and "do not fit the protocols" in why["alpha"]
