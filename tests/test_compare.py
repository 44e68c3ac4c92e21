"""mmbench/compare.py and `mmbench compare`: what is set side by side, what is said of it, how it ends."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.cli import main
from mmbench.compare import SPREADS, compare
from mmbench.errors import DataError, UsageError
from mmbench.jobs import Outcome
from mmbench.leaderboard import Leaderboard
from mmbench.registry import discover
from mmbench.sides import Side, read
from mmbench.store import Store
from mmbench_reporters.csv import Csv

TWIN = Path(__file__).parent.parent / "leaderboards" / "iemocap-twin.csv"
SCORES = (0.6, 0.4, 0.8)


@pytest.fixture(scope="module")
def registry():
    return discover()


@pytest.fixture
def csv(tmp_path):
    """Writes the CSV of a leaderboard."""

    def write(name, *manifests):
        path = tmp_path / f"{name}.csv"
        path.write_text(Csv().render(Leaderboard.from_manifests("small", manifests)))
        return str(path)

    return write


@pytest.fixture
def store(tmp_path):
    """Files results in a store."""

    def write(name, *manifests):
        results = Store(tmp_path / name)
        results.check_writable()
        for manifest in manifests:
            results.save(Outcome(manifest))
        return str(tmp_path / name)

    return write


@pytest.fixture
def pair(registry):
    """The comparison of two sides that have one data set in common."""

    def make(left, right):
        (found,) = compare(read(left, registry), read(right, registry), registry)
        return found

    return make


@pytest.fixture
def mmbench(tmp_path, monkeypatch, capsys):
    """Runs `mmbench compare` in an empty folder; gives (exit status, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *words])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def seeds(make_manifest, method="alpha", base=SCORES, step=0.02, **more):
    """Three seeds around `base`, whose standard deviation is `step`."""
    return [
        make_manifest(method, s, tuple(b + (s - 1) * step for b in base), **more) for s in range(3)
    ]


def cells(pair, metric="f1"):
    """One metric's cells by column."""
    return pair.cells[pair.cells["metric"] == metric].set_index("column")


# -- Cells ---------------------------------------------------------------------------------------


def test_a_difference_is_left_less_right_and_a_gain_has_the_metrics_direction(
    pair, csv, make_manifest
):
    left = csv("left", make_manifest(scores=(0.7, 0.4, 0.7)))
    found = pair(left, csv("right", make_manifest(scores=SCORES)))
    assert list(cells(found)["difference"]) == pytest.approx(
        [0.1, 0.0, -0.1, 0.05]
    )  # l, a, la, Avg.
    assert list(cells(found)["gain"]) == pytest.approx([0.1, 0.0, -0.1, 0.05])
    assert list(cells(found, "mae")["difference"]) == pytest.approx([-0.1, 0.0, 0.1, -0.05])
    assert list(cells(found, "mae")["gain"]) == pytest.approx([0.1, 0.0, -0.1, 0.05])


def test_each_side_has_its_own_floor(pair, csv, make_manifest):
    other = make_manifest(data="e" * 64)
    other["floor"]["f1"]["sentiment"] = 0.65
    found = cells(pair(csv("left", make_manifest()), csv("right", other)))
    assert found.loc["l", "floor_left"] == 0.5 and found.loc["l", "floor_right"] == 0.65
    assert not found.loc["l", "below_left"] and found.loc["l", "below_right"]


def test_a_regression_is_worse_by_more_than_the_larger_spread_allows(pair, csv, make_manifest):
    right = csv("right", *seeds(make_manifest, step=0.001))
    for shift, expected in ((SPREADS - 0.1, False), (SPREADS + 0.1, True)):
        lower = tuple(score - shift * 0.02 for score in SCORES)
        found = pair(csv("left", *seeds(make_manifest, base=lower)), right)
        assert (found.cells["regressed"] == expected).all(), shift
        assert (
            not pair(right, csv("better", *seeds(make_manifest, base=lower)))
            .cells["regressed"]
            .any()
        )


def test_without_a_spread_anything_worse_is_a_regression_but_for_rounding(pair, csv, make_manifest):
    right = csv("right", make_manifest(scores=SCORES))
    for less, expected in ((1e-9, False), (1e-8, True)):
        worse = make_manifest(scores=tuple(score - less for score in SCORES))
        assert (pair(csv("left", worse), right).cells["regressed"] == expected).all(), less


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_swapping_the_sides_turns_every_difference_round(scores):
    def side(origin, values):
        table = pd.DataFrame(
            {
                "dataset": "small",
                "protocol": "inter",
                "metric": "f1",
                "label": "x",
                "column": ["l", "a", "la"],
                "method": "alpha",
                "mean": values,
                "spread": np.nan,
                "floor": 0.5,
                "synthetic": True,
            }
        )
        return Side(origin, table)

    nothing = SimpleNamespace(classes={"dataset": {}, "metric": {}})
    a, b = side("a", scores[:3]), side("b", scores[3:])
    (there,), (back,) = compare(a, b, nothing), compare(b, a, nothing)
    assert np.array_equal(there.cells["difference"], -back.cells["difference"])
    assert np.array_equal(there.cells["below_left"], back.cells["below_right"])
    assert not (there.cells["regressed"] & back.cells["regressed"]).any()


# -- What only one side has, and why they may differ -------------------------------------------------


def test_what_one_side_lacks_is_told_once_and_as_a_whole(pair, csv, make_manifest):
    more = make_manifest("beta")
    fewer = make_manifest()
    for part in ("scores", "averages"):
        fewer[part] = [row for row in fewer[part] if row["metric"] != "mae"]
    fewer["scores"] = [row for row in fewer["scores"] if row["condition"] != "a"]
    found = pair(csv("left", make_manifest(), more), csv("right", fewer))
    assert found.only == ({"metric": ["mae"], "column": ["a"], "method": ["beta"]}, {})


def test_a_single_cell_that_is_lacking_is_named(pair, csv, make_manifest):
    gap = make_manifest("beta")
    gap["scores"] = [r for r in gap["scores"] if (r["condition"], r["metric"]) != ("a", "f1")]
    left = csv("left", make_manifest(), make_manifest("beta"), make_manifest("gamma"))
    found = pair(left, csv("right", make_manifest(), gap))
    assert found.only == ({"method": ["gamma"], "cell": ["inter f1 sentiment a beta"]}, {})


def reasons(pair):
    return {(r.what, r.left, r.right): list(r.methods) for r in pair.reasons}


def test_a_csv_tells_data_protocol_and_seeds(pair, csv, make_manifest):
    left = [make_manifest(data="e" * 64), make_manifest("beta", 0, data="e" * 64)]
    for manifest in left:
        manifest["protocols"]["inter"]["id"] = "inter@2"
    left.append(make_manifest("beta", 1, data="e" * 64) | {"protocols": left[1]["protocols"]})
    found = pair(csv("left", *left), csv("right", make_manifest(), make_manifest("beta")))
    assert reasons(found) == {
        ("data", "e" * 12, "d" * 12): ["alpha", "beta"],
        ("protocol inter", "inter@2", "inter@1"): ["alpha", "beta"],
        ("seeds", "2", "1"): ["beta"],
    }


def test_a_csv_tells_every_protocol(registry):
    facts = read(str(TWIN), registry).facts["iemocap-twin", "hrlf"]
    assert facts["protocol inter"] == "inter@1" and facts["protocol intra"] == "intra@1"


def test_a_store_tells_settings_code_metrics_masks_and_versions_too(pair, store, make_manifest):
    new = make_manifest(code="c1", protocol="q" * 64)
    new["job"] |= {"hyperparameters": {"depth": 2, "width": 40}, "sampler": "msm@2"}
    new["job"]["schedule"] |= {"epochs": 3}
    new["metrics"]["mae"]["id"] = "mae@2"
    new["environment"] |= {"torch": "2.6.0", "commit": "f" * 40, "dirty": True}
    old = make_manifest()
    old["job"] |= {"hyperparameters": {"depth": 4, "width": 40}, "sampler": "msm@1"}
    old["environment"] |= {"commit": "f" * 40, "dirty": False}
    found = reasons(pair(store("new", new), store("old", old)))
    expected = [
        ("masks of inter", "q" * 12, "p" * 12),
        ("metric mae", "mae@2", "mae@1"),
        ("code", "c1", "c0"),
        ("sampler", "msm@2", "msm@1"),
        ("setting depth", "2", "4"),
        ("schedule epochs", "3", "20"),
        ("torch", "2.6.0", "2.13.0"),
        ("commit", "f" * 40 + " with changes", "f" * 40),
    ]
    assert found == {reason: ["alpha"] for reason in expected}


def test_a_store_has_the_cells_of_its_csv(pair, store, csv, make_manifest):
    manifests = [*seeds(make_manifest), make_manifest("beta", reason="boom")]
    found = pair(store("runs", *manifests), csv("same", *manifests))
    assert len(found.cells) == 8 and (found.cells["difference"] == 0).all()
    assert not found.reasons and found.only == ({}, {})


def test_of_older_data_only_what_is_newest_is_compared(pair, csv, make_manifest):
    later = "2026-03-01T00:00:00+00:00"
    both = [
        make_manifest(scores=(0.1, 0.1, 0.1)),
        make_manifest(scores=(0.9, 0.9, 0.9), data="e" * 64, finished=later),
    ]
    found = pair(csv("left", *both), csv("right", make_manifest()))
    assert cells(found).loc["l", "mean_left"] == pytest.approx(0.9)
    assert ("data", "e" * 12, "d" * 12) in reasons(found)


# -- The paper -----------------------------------------------------------------------------------


def test_cells_of_the_paper_below_the_floors_of_iemocap(pair):
    """85 of 216, of which one is printed 70.3 where the floor is 70.32."""
    table = pair(str(TWIN), "paper").sides[1]
    part = table[table["incomplete"]]
    assert len(part) == 216 and part["below"].sum() == 85
    assert part[part["below"]].groupby("method").size().to_dict() == {
        "self-mm": 14,
        "cubemlp": 15,
        "dmd": 15,
        "mctn": 11,
        "transm": 9,
        "smil": 7,
        "gcnet": 6,
        "corrkd": 4,
        "hrlf": 4,
    }
    close = part[part["below"] & (part["mean"] + part["half"] > part["floor"])]
    assert close[["name", "label", "column"]].to_numpy().tolist() == [["CubeMLP", "sad", "la"]]


def test_against_the_paper_each_cell_has_both_numbers_their_difference_and_the_floor(mmbench):
    status, out, _ = mmbench(str(TWIN), "paper")
    table = [[c.strip() for c in line.split("|")[1:-1]] for line in out.splitlines()]
    left = pd.read_csv(TWIN).query(
        "method == 'hrlf' and metric == 'weighted_f1' and label == 'happy'"
    )
    mean, spread = 100 * left[left["column"] == "Avg."][["mean", "spread"]].to_numpy()[0]
    assert (
        status == 0 and ["Label", "Column", "Measured", "Reported", "Difference", "Floor"] in table
    )
    row = ["", "Avg.", f"{mean:.2f} ± {spread:.2f}", "78.5* ↓", f"{mean - 78.5:+.2f}", "78.97"]
    assert row in table
    assert "## hrlf: F1 (%), inter, table 2 (HRLF)" in out
    assert "**85 of the 216 cells** that table 2 reports with a modality missing" in out
    assert ", 1 of them by less than the paper rounds:" in out
    assert ["Self-MM", "self-mm", "6", "5", "3", "0", "14 of 24"] in table
    assert re.search("^- Only measured: protocol intra; method .*constant.*oracle", out, re.M)
    assert all(len(line) <= 80 for line in out.splitlines() if line.startswith("|"))


def test_against_the_paper_each_column_has_the_order_of_the_methods_on_both_sides(mmbench):
    _, out, _ = mmbench(str(TWIN), "paper")
    told = out.split("## Order of the methods, table 2")[1].split("\n## ")[0]
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in re.findall(r"^\|.*", told, re.M)]
    by_column = {row[0].split()[-1]: row[1:] for row in rows[2:]}
    assert list(by_column) == ["l", "a", "v", "la", "lv", "av", "Avg.", "lav"]
    assert all(-1 <= float(tau) <= 1 and 0 <= float(p) <= 1 for tau, p in by_column.values())
    (best,) = re.findall(r"^- F1, inter Avg\.: measured (.*); reported (.*)$", told, re.M)
    assert best[1].startswith("hrlf, corrkd, gcnet, smil, transm, mctn")  # as in table 2
    assert sorted(best[0].split(", ")) == sorted(best[1].split(", "))


def test_the_order_of_methods_is_told_beside_a_paper_alone(mmbench):
    assert "## Order" not in mmbench(str(TWIN), str(TWIN))[1]


def test_a_twin_beside_the_paper_is_said_to_prove_nothing_before_any_number(mmbench):
    _, out, _ = mmbench(str(TWIN), "paper")
    title, notice, *_ = out.split("\n\n")
    assert title == f"# Measured: iemocap-twin of {TWIN}. Reported: iemocap of paper"
    assert notice.startswith("> **Synthetic data.** iemocap-twin is a made-up twin of iemocap.")
    assert "says nothing about the numbers of real data" in notice


def test_a_twin_is_found_by_what_it_stands_in_for_and_not_by_its_name(registry):
    class Renamed:
        stand_in = "iemocap-twin"

    left = read(str(TWIN), registry)
    metric = registry.classes["metric"]
    for known, expected in (({}, []), ({"emotions": SimpleNamespace(cls=Renamed)}, ["emotions"])):
        made = SimpleNamespace(classes={"dataset": known, "metric": metric})
        better = left.cells["mean"] + 1
        right = Side("right", left.cells.assign(dataset="emotions", synthetic=False, mean=better))
        if not expected:
            with pytest.raises(UsageError, match="nothing to compare"):
                compare(left, right, made)
            continue
        for a, b in ((left, right), (right, left)):
            (found,) = compare(a, b, made)
            assert {found.left, found.right} == {"iemocap-twin", "emotions"} and found.mixed
            assert not found.cells["regressed"].any()


def real(path, dataset, methods, metric="f1", label="sentiment", floor=0.4231):
    """The CSV of a leaderboard of real data: every column 70 ± 1."""
    columns = ["l", "a", "v", "la", "lv", "av", "Avg.", "lav"]
    rows = [
        f"{dataset},False,{'a' * 64},inter@1,{m},{metric},{label},{c},0.700000,0.010000,,5,{floor},False,False"
        for m in methods
        for c in columns
    ]
    header = TWIN.read_text().splitlines()[0]
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_ablations_are_matched_with_table_3_and_the_method_with_both_tables(mmbench, tmp_path):
    file = real(
        tmp_path / "mosi.csv", "mosi", ["hrlf", "hrlf-no-frf", "hrlf-no-hmi", "hrlf-no-hal"]
    )
    status, out, _ = mmbench(file, "paper")
    headings = [line for line in out.splitlines() if line.startswith("## ")]
    assert headings[:5] == [
        "## hrlf: F1 (%), inter, table 1 (HRLF)",
        "## hrlf: F1 (%), inter, table 3 (HRLF (Full))",
        "## hrlf-no-frf: F1 (%), inter, table 3 (w/o FRF)",
        "## hrlf-no-hmi: F1 (%), inter, table 3 (w/o HMI)",
        "## hrlf-no-hal: F1 (%), inter, table 3 (w/o HAL)",
    ]
    assert "ynthetic" not in out and status == 0
    assert "| a        | 70.00 ± 1.00 |      68.09 |        +1.91 |   42.31 |" in out
    assert (
        "**4 of the 54 cells** that table 1" in out and "**0 of the 24 cells** that table 3" in out
    )


OTHERS = ["hrlf", "hrlf[depth=1]", "dmd[depth=2] (quick)"]


def test_a_changed_configuration_is_not_matched_with_the_papers_row_and_said_to_be_there(
    mmbench, tmp_path
):
    file = real(tmp_path / "mosi.csv", "mosi", OTHERS)
    _, out, _ = mmbench(file, "paper")
    assert "depth" not in out.split("## Other settings")[0].split("## What one side lacks")[0]
    assert "- measured hrlf, hrlf[depth=1]; reported hrlf\n" in out
    assert "- measured dmd[depth=2] (quick); reported dmd\n" in out
    assert "`--other-settings` compares these, too" in out
    lacks = out.split("## What one side lacks")[1].split("##")[0]
    assert "depth" not in lacks and "dmd" not in lacks


def test_a_changed_configuration_is_matched_if_asked_and_is_called_one(mmbench, tmp_path):
    file = real(tmp_path / "mosi.csv", "mosi", OTHERS)
    status, out, _ = mmbench(file, "paper", "--other-settings", "--fail-on-regression")
    assert "## hrlf[depth=1] beside hrlf: F1 (%), inter, table 1 (HRLF)" in out
    assert "## dmd[depth=2] (quick) beside dmd: F1 (%), inter, table 1 (DMD)" in out
    assert out.count("## hrlf: F1 (%), inter, table 1 (HRLF)") == 1
    assert status == 1 and "- hrlf, f1 of sentiment, inter lav" in out
    assert "- dmd[depth=2]" not in out  # other settings are no regression


def test_rows_of_two_stores_are_matched_by_their_settings(pair, store, make_manifest, registry):
    def depth(value):
        made = make_manifest()
        made["job"] |= {
            "label": f"alpha[depth={value}]",
            "hyperparameters": {"depth": value},
        }
        made["key"] = f"key{value}"
        return made

    left, right = store("left", make_manifest(), depth(1)), store("right", depth(1), depth(2))
    found = pair(left, right)
    assert set(found.cells["method"]) == {"alpha[depth=1]"}
    assert found.only == ({}, {})
    assert found.settings == {
        "alpha": (["alpha", "alpha[depth=1]"], ["alpha[depth=1]", "alpha[depth=2]"])
    }
    sides = read(left, registry), read(right, registry)
    (more,) = compare(*sides, registry, other_settings=True)
    assert set(more.cells["method"]) == {
        "alpha[depth=1]",
        "alpha beside alpha[depth=1]",
        "alpha beside alpha[depth=2]",
        "alpha[depth=1] beside alpha[depth=2]",
    }
    assert ("setting depth", "1", "2") in reasons(more)


def test_the_json_of_a_leaderboard_tells_what_its_store_tells(registry):
    file, csv = (read(str(TWIN.with_suffix(s)), registry) for s in (".json", ".csv"))
    assert file.cells.equals(csv.cells) and file.store is None
    facts = file.facts["iemocap-twin", "hrlf"]
    assert facts.items() >= csv.facts["iemocap-twin", "hrlf"].items()
    assert "code" in facts and "torch" in facts and any(k.startswith("setting ") for k in facts)


def test_a_regression_against_the_paper_is_told(mmbench, tmp_path):
    file = real(
        tmp_path / "mosi.csv", "mosi", ["dmd"]
    )  # 70 against 70.51 {l, a} and 84.50 {l, a, v}
    status, out, _ = mmbench(file, "paper", "--fail-on-regression")
    assert status == 1 and mmbench(file, "paper")[0] == 0
    assert "## Regressions\n\n- dmd, f1 of sentiment, inter lav: 70.00 against 84.50\n" in out
    assert "**-14.50**" in out and "-0.51" in out and "**-0.51**" not in out
    assert (
        "better in 6, equal in 0, worse in 2, 1 of them by more than 3 standard deviations" in out
    )


# -- The command -----------------------------------------------------------------------------------


def test_equal_tables_are_said_to_be_so_in_a_line_each(mmbench, csv, make_manifest):
    file = csv("small", make_manifest())
    status, out, _ = mmbench(file, file, "--fail-on-regression")
    assert status == 0 and out.count("Equal in all 4 cells.") == 2 and "| " not in out
    assert "Left is better in 0, equal in 8, worse in 0." in out
    assert "> **Synthetic data** on both sides" in out
    assert "Nothing that both sides tell differs." in out


def test_a_regression_fails_where_that_is_asked_for(mmbench, csv, make_manifest):
    worse = csv("worse", *seeds(make_manifest, base=(0.4, 0.4, 0.8)))
    right = csv("right", *seeds(make_manifest))
    status, out, _ = mmbench(worse, right, "--fail-on-regression")
    assert status == 1 and mmbench(worse, right)[0] == 0
    assert "- alpha, f1 of sentiment, inter l: 40.00 against 60.00\n" in out
    row = r"^\| l +\| +40\.00 ± 2\.00 ↓ \| +60\.00 ± 2\.00 \| +\*\*-20\.00\*\* \| +50\.00 \|"
    assert re.search(row, out, re.M)
    assert mmbench(right, worse, "--fail-on-regression")[0] == 0


def test_labels_stand_in_the_table_where_there_are_several(mmbench, csv, make_manifest):
    left = csv("left", make_manifest(labels=("happy", "sad"), scores=(0.5, 0.5, 0.5)))
    _, out, _ = mmbench(left, csv("right", make_manifest(labels=("happy", "sad"))))
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in out.splitlines()]
    assert ["happy", "l", "50.00", "60.00", "**-10.00**", "50.00"] in lines
    assert ["sad", "l", "50.00", "60.00", "**-10.00**", "50.00"] in lines


def test_a_damaged_result_is_named(mmbench, store, make_manifest, tmp_path):
    results = store("runs", make_manifest(), make_manifest("beta"))
    (damaged,) = tmp_path.glob("runs/*/beta/*/manifest.json")
    damaged.write_text("{")
    _, out, err = mmbench(results, results)
    assert "left out" in err and "beta" in err and "alpha" in out and "beta" not in out


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (
            "nothing.csv",
            "paper",
            "expected a store, a leaderboard's .json or .csv, or the word paper",
        ),
        ("small.md", "paper", "small.md: expected a store, a leaderboard's .json or .csv"),
        ("small.csv", "paper", "nothing to compare: small.csv has data sets small; paper has mosi"),
        ("paper", "paper", "both sides are the paper"),
        ("empty", "paper", "empty: a folder without a finished result"),
        ("odd.csv", "paper", "odd.csv: not a leaderboard as"),
        ("blank.csv", "paper", "blank.csv: not a leaderboard as"),
        ("binary.csv", "paper", "binary.csv: not a leaderboard as"),
        ("text.csv", "paper", "could not convert string to float: 'high'"),
        ((str(TWIN), "paper", "--fail-on-regression"), None, "is no regression"),
    ],
)
def test_a_mistake_is_told_in_one_message(
    mmbench, csv, make_manifest, tmp_path, left, right, message
):
    csv("small", make_manifest())
    text = (tmp_path / "small.csv").read_text()
    (tmp_path / "text.csv").write_text(text.replace("0.600000000", "high"))
    (tmp_path / "small.md").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    (tmp_path / "blank.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    status, out, err = mmbench(*(left if right is None else (left, right)))
    assert status == 2 and message in err and not out
    assert "Traceback" not in err and len(err.splitlines()) == 1


def test_a_file_that_is_no_leaderboard_is_an_error_of_data(tmp_path, registry):
    (tmp_path / "odd.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="it has no column dataset"):
        read(str(tmp_path / "odd.csv"), registry)


def test_manifests_without_what_newer_ones_have_are_compared_too(pair, store, make_manifest):
    old = json.loads(json.dumps(make_manifest()))
    old["job"].pop("sampler")
    old["method"] = {}
    assert len(pair(store("old", old), store("new", make_manifest())).cells) == 8


@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (lambda text: text.splitlines()[0], "no line below its header"),
        (lambda text: re.sub(r"0\.60*\b", "nan", text), "is no number"),
        (lambda text: re.sub(r"0\.60*\b", "inf", text), "is infinite"),
        (lambda text: re.sub(r"0\.60*\b", "1e999", text), "is infinite"),
        (lambda text: text.replace("mean", "spread"), "no column mean"),
    ],
)
def test_a_csv_that_is_none_is_refused_in_one_line(csv, make_manifest, registry, alter, told):
    path = csv("odd", make_manifest(scores=SCORES))
    Path(path).write_text(alter(Path(path).read_text()))
    with pytest.raises(DataError, match=told) as error:
        read(path, registry)
    assert path in str(error.value) and len(str(error.value).splitlines()) == 1
