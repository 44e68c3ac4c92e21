"""mmbench/leaderboard.py: numbers against hand computation, and what is never mixed."""

import copy
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbench.leaderboard import AVERAGE, Leaderboard

LATER = "2026-03-01T00:00:00+00:00"


def cell(board, method="alpha", column="l", metric="f1", label="sentiment", section=0):
    cells = board.sections[section].cells
    (row,) = cells[
        (cells["method"] == method)
        & (cells["column"] == column)
        & (cells["metric"] == metric)
        & (cells["label"] == label)
    ].to_dict("records")
    return row


def board(*manifests):
    return Leaderboard.from_manifests("small", manifests)


def test_mean_and_spread_are_over_seeds_of_the_mean_over_masks(make_manifest):
    values = [0.5, 0.6, 0.9]
    made = board(*(make_manifest(seed=s, scores=(v, 0, 0), masks=2) for s, v in enumerate(values)))
    found = cell(made)
    assert found["mean"] == pytest.approx(np.mean(values) + 0.05)
    assert found["spread"] == pytest.approx(np.std(values, ddof=1))
    assert found["mask_spread"] == pytest.approx(np.std([0, 0.1], ddof=1))
    assert found["seeds"] == 3


def test_the_spread_over_masks_is_the_mean_of_each_seeds(make_manifest):
    manifests = [make_manifest(seed=seed, masks=2) for seed in range(2)]
    for score in manifests[1]["scores"]:
        score["value"] += 0.3 * score["mask_seed"]
    found = cell(board(*manifests))
    spreads = [np.std([0, 0.1], ddof=1), np.std([0, 0.4], ddof=1)]
    assert found["mask_spread"] == pytest.approx(np.mean(spreads))


def test_one_seed_has_no_spread(make_manifest):
    found = cell(board(make_manifest()))
    assert np.isnan(found["spread"]) and np.isnan(found["mask_spread"])


def test_the_average_is_the_one_that_was_stored(make_manifest):
    assert cell(board(make_manifest()), column=AVERAGE)["mean"] == pytest.approx(0.5)


def test_columns_are_incomplete_then_average_then_complete(make_manifest):
    columns = board(make_manifest()).sections[0].columns("inter")
    assert columns == [("l", "{l}"), ("a", "{a}"), (AVERAGE, "Avg."), ("la", "{l, a}")]


def test_below_the_floor_looks_at_the_metrics_direction(make_manifest):
    made = board(make_manifest(scores=(0.6, 0.4, 0.5)))  # mae is 1.4, 1.6, 1.5; floors 0.5 and 1.5
    for metric in ("f1", "mae"):
        below = [cell(made, column=c, metric=metric)["below_floor"] for c in ("l", "a", "la")]
        assert below == [False, True, False]


def test_the_best_of_a_column_and_its_ties(make_manifest):
    made = board(
        make_manifest("alpha", scores=(0.6, 0.4, 0.8)),
        make_manifest("beta", scores=(0.6, 0.5, 0.7)),
    )
    assert [cell(made, m, "l")["best"] for m in ("alpha", "beta")] == [True, True]
    assert [cell(made, m, "a")["best"] for m in ("alpha", "beta")] == [False, True]
    assert [cell(made, m, "la", "mae")["best"] for m in ("alpha", "beta")] == [True, False]


def test_each_label_has_a_best_of_its_own(make_manifest):
    made = board(make_manifest(labels=("happy", "sad")))
    assert cell(made, label="happy")["best"] and cell(made, label="sad")["best"]


def test_quick_results_stand_last_and_do_not_compete(make_manifest):
    made = board(
        make_manifest("alpha", scores=(0.9, 0.9, 0.9), quick=True),
        make_manifest("beta", scores=(0.1, 0.1, 0.1)),
    )
    assert [row.label for row in made.sections[0].rows] == ["beta", "alpha (quick)"]
    assert cell(made, "beta")["best"] and not cell(made, "alpha (quick)")["best"]


def test_what_does_not_compete_is_never_the_best(make_manifest):
    ceiling = make_manifest("alpha", scores=(0.9, 0.9, 0.9))
    ceiling["method"]["competes"] = False
    made = board(ceiling, make_manifest("beta", scores=(0.1, 0.1, 0.1)))
    assert cell(made, "beta")["best"] and not cell(made, "alpha")["best"]


@pytest.mark.parametrize("other", [{"data": "e" * 64}, {"protocol": "q" * 64}])
def test_other_data_or_masks_are_another_section_newest_first(make_manifest, other):
    made = board(
        make_manifest("alpha"), make_manifest("beta", finished="2026-02-01T00:00:00+00:00", **other)
    )
    assert [[row.label for row in s.rows] for s in made.sections] == [["beta"], ["alpha"]]
    assert cell(made, "alpha", section=1)["best"] and cell(made, "beta", section=0)["best"]


def test_seeds_of_one_row_that_were_tested_under_other_masks_are_not_averaged(make_manifest):
    made = board(
        make_manifest(seed=0, protocol="p" * 64),
        make_manifest(seed=1, protocol="q" * 64, finished=LATER),
        make_manifest(seed=2, reason="boom", finished=LATER),
    )
    assert [[row.seeds for row in s.rows] for s in made.sections] == [[1], [1]]
    assert [len(s.rows[0].failed) for s in made.sections] == [1, 0]  # told once, with the newest


def with_metric(manifest, name):
    """The same result, scored by one metric more, which is f1 under another name."""
    made = copy.deepcopy(manifest)
    made["metrics"][name] = made["metrics"]["f1"] | {"id": f"{name}@1"}
    made["floor"][name] = made["floor"]["f1"]
    for part in ("scores", "averages"):
        made[part] += [row | {"metric": name} for row in made[part] if row["metric"] == "f1"]
    return made


@pytest.mark.parametrize("finished", ["2025-01-01T00:00:00+00:00", LATER])
def test_a_metric_that_only_some_results_have_ranks_those(make_manifest, finished):
    made = board(make_manifest(), with_metric(make_manifest("beta", finished=finished), "new"))
    assert len(made.sections) == 1 and list(made.sections[0].facts["metrics"]) == [
        "f1",
        "mae",
        "new",
    ]
    cells = made.sections[0].cells
    assert set(cells["method"][cells["metric"] == "new"]) == {"beta"}
    assert cell(made, "beta", metric="new")["best"] and cell(made, "alpha")["best"]


def test_versions_of_a_metric_are_not_mixed(make_manifest):
    newer = make_manifest("beta", scores=(0.1, 0.1, 0.1), finished=LATER)
    newer["metrics"]["mae"] |= {"id": "mae@2"}
    made = board(make_manifest(), newer)
    cells = made.sections[0].cells
    assert made.sections[0].facts["metrics"]["mae"]["id"] == "mae@2"
    assert set(cells["method"][cells["metric"] == "mae"]) == {"beta"}
    assert set(cells["method"][cells["metric"] == "f1"]) == {"alpha", "beta"}
    assert cell(made, "beta", metric="mae")["best"]


def test_another_version_of_the_headline_metric_is_another_section(make_manifest):
    newer = make_manifest(scores=(0.1, 0.1, 0.1), finished=LATER)
    newer["metrics"]["f1"] |= {"id": "f1@2"}
    made = board(make_manifest(seed=1), newer)
    ids = [section.facts["metrics"]["f1"]["id"] for section in made.sections]
    assert ids == ["f1@2", "f1@1"]
    assert [cell(made, section=i)["mean"] for i in (0, 1)] == pytest.approx([0.1, 0.6])


def test_only_the_newest_code_of_a_label_is_shown(make_manifest):
    old = [make_manifest(seed=s, code="old") for s in range(3)]
    new = make_manifest(code="new", scores=(0.7, 0, 0), finished="2026-03-01T00:00:00+00:00")
    made = board(*old, new)
    (row,) = made.sections[0].rows
    assert row.seeds == 1 and row.superseded == 3
    assert cell(made)["mean"] == pytest.approx(0.7)


def test_a_failure_after_a_success_of_older_code_does_not_hide_it(make_manifest):
    made = board(
        make_manifest(code="old"),
        make_manifest(code="new", reason="boom", finished="2026-03-01T00:00:00+00:00"),
    )
    (row,) = made.sections[0].rows
    assert row.seeds == 1 and row.superseded == 0
    assert [m["reason"] for m in row.failed] == ["boom"]  # nor does the success hide the failure


def test_a_failure_that_newer_code_mended_is_left_out(make_manifest):
    made = board(make_manifest(code="old", reason="boom"), make_manifest(finished=LATER))
    (row,) = made.sections[0].rows
    assert not row.failed and row.superseded == 1 and not made.unfinished


def test_failures_of_some_seeds_stand_with_their_row_and_of_all_by_themselves(make_manifest):
    made = board(
        make_manifest("alpha", 0),
        make_manifest("alpha", 1, reason="diverged"),
        make_manifest("beta", 0, reason="no memory"),
    )
    (row,) = made.sections[0].rows
    assert row.seeds == 1 and row.failed[0]["reason"] == "diverged"
    assert [r.label for r in made.unfinished] == ["beta"]


def test_nothing_at_all_is_a_leaderboard_too():
    made = board()
    assert made.sections == [] and made.unfinished == [] and not made.synthetic


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.randoms(use_true_random=False))
def test_it_is_a_pure_function_of_a_set_of_manifests(make_manifest, rng: random.Random):
    manifests = [
        make_manifest(m, s, (0.1 * s, 0.2, 0.3)) for m in ("alpha", "beta") for s in range(3)
    ]
    manifests += [make_manifest("gamma", reason="boom"), make_manifest("beta", 0, code="old")]
    before = copy.deepcopy(manifests)
    first = board(*manifests)
    rng.shuffle(manifests)
    second = board(*manifests)
    pd.testing.assert_frame_equal(first.sections[0].cells, second.sections[0].cells)
    assert sorted(manifests, key=str) == sorted(before, key=str)


def test_a_cell_has_nine_digits(make_manifest):
    board = Leaderboard.from_manifests("small", [make_manifest(scores=(1 / 3, 0.4, 0.8))])
    assert 0.333333333 in set(board.sections[0].cells["mean"])
