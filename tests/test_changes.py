"""mmbench/changes.py: of two stores, what differs significantly, what cannot be tested, and the gate on it."""

import numpy as np
import pytest

from mmbench.changes import CHANGE_COLUMNS, FAMILY
from mmbench.cli import main
from mmbench.compare import SPREADS, compare
from mmbench.registry import discover
from mmbench.sides import read
from mmbench.statistics import ALPHA, holm
from mmbench.store import PREDICTIONS
from mmbench.summary import ALL
from mmbench_missing.inter import Inter

REGISTRY = discover()
GOOD, BAD = (0.9, 0.7, 0.9), (0.6, 0.7, 0.9)
"""How often {l}, {a} and {l, a} are right."""


@pytest.fixture
def both(fill, tmp_path):
    """The comparison of two stores of one method, `left` against `right`."""

    def make(left, right, **others):
        fill("alpha", left, folder="left", **others)
        fill("alpha", right, folder="right")
        return of(tmp_path)

    return make


def of(folder, **options):
    left, right = (read(str(folder / name), REGISTRY) for name in ("left", "right"))
    (pair,) = compare(left, right, REGISTRY, **options)
    return pair


@pytest.fixture
def gate(tmp_path, monkeypatch, capsys):
    """Runs `mmbench compare left right --fail-on-regression`: (exit status, output)."""
    monkeypatch.chdir(tmp_path)

    def call(*sides):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *(sides or ("left", "right")), "--fail-on-regression"])
        return int(ended.value.code or 0), capsys.readouterr().out

    return call


def significant(pair):
    return set(pair.cells[pair.cells["significant"]]["column"])


def test_of_the_same_predictions_nothing_is_tested_and_nothing_differs(both, gate):
    pair = both(GOOD, GOOD)
    assert pair.tests.empty and list(pair.tests) == list(CHANGE_COLUMNS)
    assert pair.untested == {"alpha": "it says the same of every sample on both sides"}
    assert not significant(pair) and not pair.regressed
    status, out = gate()
    assert status == 0 and "- alpha: it says the same of every sample on both sides." in out


def test_a_clear_shift_is_significant_where_it_is_and_nowhere_else(both, gate):
    pair = both(BAD, GOOD)
    assert significant(pair) == {"l", "Avg."} and pair.untested == {}
    assert set(pair.cells[pair.cells["regressed"]]["column"]) == {"l", "Avg."}
    assert {"l", "Avg."} == set(pair.lost[pair.lost["label"] == ALL]["column"])
    status, out = gate()
    assert status == 1 and "## Regressions" in out and "## Tests, mean over labels" in out
    assert "- alpha, weighted_f1 of all labels, inter l: -3" in out
    assert "-0.00" not in out


def test_what_is_better_is_no_regression(both, gate):
    pair = both(GOOD, BAD)
    assert significant(pair) == {"l", "Avg."} and not pair.regressed
    assert gate()[0] == 0


def test_a_small_loss_is_found_that_three_spreads_would_pass_over(both):
    """Paired by sample, noise that both sides share is taken off."""
    pair = both((0.885, 0.7, 0.9), GOOD)
    lost = pair.cells[pair.cells["regressed"]]
    assert len(lost) and (-lost["gain"] < SPREADS * lost["spread_right"]).any()


def test_a_difference_is_that_of_the_cells_and_of_their_mean_over_labels(both):
    pair = both(BAD, GOOD)
    found = pair.cells.merge(pair.tests, on=["protocol", "metric", "label", "column", "method"])
    assert len(found) == len(pair.cells) == 16
    assert found["difference_x"].to_numpy() == pytest.approx(
        found["difference_y"].to_numpy(), abs=2e-6
    )
    means = found.groupby("column")["difference_x"].mean()
    over = pair.tests[pair.tests["label"] == ALL].set_index("column")["difference"]
    assert over.to_dict() == pytest.approx(means.to_dict(), abs=2e-6)


def test_p_is_adjusted_over_the_columns_of_a_label_and_over_everything(both, fill):
    fill("beta", (0.8, 0.7, 0.9), folder="left")
    fill("beta", (0.8, 0.65, 0.9), folder="right")
    tests = both(BAD, GOOD).tests
    assert len(tests) == 2 * 5 * 4  # methods, labels with their mean, columns with the summary
    for _, family in tests.groupby(FAMILY):
        assert family["p_adjusted"].to_numpy() == pytest.approx(holm(family["p"].to_numpy()))
    assert tests["p_overall"].to_numpy() == pytest.approx(holm(tests["p"].to_numpy()))
    assert (tests["p_overall"] >= tests["p_adjusted"]).all()


def test_swapping_the_stores_turns_every_test_round(both, tmp_path):
    there = both(BAD, GOOD)
    right, left = (read(str(tmp_path / name), REGISTRY) for name in ("right", "left"))
    (back,) = compare(right, left, REGISTRY)
    assert np.array_equal(there.tests["difference"], -back.tests["difference"])
    assert np.array_equal(there.tests["p"], back.tests["p"])


def test_other_samples_are_not_tested_and_the_spread_decides(both, gate):
    pair = both(BAD, GOOD, ids="t")
    assert pair.untested == {"alpha": "its predictions are of other samples"}
    assert pair.tests.empty and not significant(pair)
    assert set(pair.cells[pair.cells["regressed"]]["column"]) == {"l", "Avg."}
    status, out = gate()
    assert status == 1 and "- alpha: its predictions are of other samples." in out
    assert "by more than 3 standard deviations over seeds" in out


def test_two_seeds_are_too_few_and_only_those_of_both_sides_count(both):
    pair = both(BAD, GOOD, seeds=2)
    assert pair.untested == {"alpha": "fewer than 3 training seeds are on both sides"}
    assert set(both(BAD, GOOD, seeds=3).tests["seeds"]) == {3}


def test_other_masks_are_not_tested(both):
    pair = both(BAD, GOOD, protocol="q" * 64)
    assert pair.untested == {"alpha": "the masks differ under every protocol"}


def test_altered_predictions_are_not_tested(both, tmp_path):
    both(BAD, GOOD)
    path = next(tmp_path.glob(f"right/*/*/seed-2-*/{PREDICTIONS}"))
    path.write_bytes(path.read_bytes() + b"x")
    pair = of(tmp_path)
    assert pair.untested == {"alpha": "the predictions of seed 2 are missing or altered"}


def test_a_protocol_that_is_not_here_is_told(both, monkeypatch):
    monkeypatch.setattr(Inter, "version", 2)
    assert both(BAD, GOOD).untested == {"alpha": "protocol inter@1 is not installed here"}


def test_what_a_leaderboard_alone_cannot_test_is_not_complained_of(both, gate, tmp_path):
    from mmbench import board
    from mmbench.leaderboard import Leaderboard
    from mmbench.store import Store

    both(BAD, GOOD)
    made = Leaderboard.from_store(Store(tmp_path / "left"), "small", REGISTRY)
    (tmp_path / "left.json").write_text(board.write(made))
    sides = read(str(tmp_path / "left.json"), REGISTRY), read(str(tmp_path / "right"), REGISTRY)
    (pair,) = compare(*sides, REGISTRY)
    assert pair.tests.empty and pair.untested == {} and pair.cells["regressed"].any()
    status, out = gate("left.json", "right")
    assert status == 1 and "Not tested" not in out


def test_the_rate_of_false_alarms_is_below_alpha(fill, tmp_path):
    """Stores of one distribution: other draws of the same accuracies."""
    alarms = 0
    for trial in range(6):
        for side in ("left", "right"):
            fill("alpha", GOOD, folder=f"{trial}/{side}", noise=side + str(trial))
        alarms += of(tmp_path / str(trial)).regressed
    assert alarms <= 1 and ALPHA == 0.05
