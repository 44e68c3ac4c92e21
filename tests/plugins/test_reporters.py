"""plugins/mmbench_reporters: what people read, and what programs do."""

import io
from dataclasses import replace

import pandas as pd
import pytest

from mmbench.jobs import Outcome
from mmbench.leaderboard import Leaderboard, write_leaderboard
from mmbench.registry import discover
from mmbench.store import Store
from mmbench_reporters.csv import Csv
from mmbench_reporters.html import Html
from mmbench_reporters.markdown import Markdown


def lines(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, header first, without the rule."""
    table = text.split(f"### {heading}\n\n")[1].split("\n\n")[0].splitlines()
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in [table[0], *table[2:]]]


@pytest.fixture
def text(make_manifest):
    manifests = [
        make_manifest("alpha", s, (0.6 + 0.1 * s, 0.4, 0.8), labels=("happy", "sad"))
        for s in (0, 1)
    ]
    manifests += [
        make_manifest("beta", 0, (0.3, 0.2, 0.1), labels=("happy", "sad")),
        make_manifest("beta", 1, labels=("happy", "sad"), reason="lost | found"),
        make_manifest("gamma", 0, reason="never began"),
    ]
    return Markdown().render(Leaderboard.from_manifests("small", manifests))


def test_the_table_has_the_papers_layout(text):
    header, *rows = lines(text, "inter@1: F1 (%)")
    assert header == ["Method", "Label", "Seeds", "{l}", "{a}", "Avg.", "{l, a}"]
    assert rows[0] == [
        "alpha",
        "happy",
        "2",
        "**65.00 ± 7.07**",
        "**40.00 ± 0.00** ↓",
        "**52.50 ± 3.54**",
        "**80.00 ± 0.00**",
    ]
    assert rows[1][:3] == ["", "sad", "2"]
    assert rows[-3] == ["*floor*", "happy", "", *["50.00"] * 4]
    assert rows[-1] == ["*frames missing*", "", "", "50.0 %", "50.0 %", "50.0 %", "0.0 %"]


def test_a_row_that_is_below_the_floor_throughout_is_marked(text):
    rows = lines(text, "inter@1: F1 (%)")
    assert ["beta ↓", "happy", "1", "30.00 ↓", "20.00 ↓", "25.00 ↓", "10.00 ↓"] in rows


def test_the_short_table_has_the_best_first_and_no_empty_column(text):
    header, *rows = lines(text, "inter@1 in short: F1 (%), mean over happy, sad")
    assert header == [
        *("Method", "Avg.", "Worst", "Retention", "Violations", "Shapley l", "Shapley a"),
    ]
    assert [row[0] for row in rows] == ["alpha", "beta"]
    assert rows[0][1:] == ["52.50", "40.00", "8.3 %", "0 of 2", "27.50", "2.50"]
    assert rows[1][3:5] == ["-", "2 of 2"]


def judged(make_manifest):
    """A leaderboard whose tests are written by hand: alpha's star, beta and gamma a tie."""
    names = ("alpha", "beta", "gamma")
    manifests = [
        make_manifest(name, scores=(0.9 - 0.1 * k, 0.4, 0.8)) for k, name in enumerate(names)
    ]
    board = Leaderboard.from_manifests("small", manifests)
    (section,) = board.sections
    rows = [replace(row, untested="") for row in section.rows]
    cells = section.cells.assign(star=section.cells["best"] & (section.cells["column"] == "l"))
    ranks = [
        ("inter", "sentiment", name, "rank", rank)
        for name, rank in zip(names, (1, 2, 2), strict=True)
    ]
    added = pd.DataFrame(ranks, columns=section.summaries.columns)
    summaries = pd.concat([added, section.summaries], ignore_index=True)
    return replace(board, sections=[replace(section, rows=rows, cells=cells, summaries=summaries)])


def test_ranks_and_stars_are_shown(make_manifest):
    text = Markdown().render(judged(make_manifest))
    _, *short = lines(text, "inter@1 in short: F1 (%)")
    assert [row[:2] for row in short] == [["alpha", "1"], ["beta", "2"], ["gamma", "2"]]
    _, first, *_ = lines(text, "inter@1: F1 (%)")
    assert first[2:4] == [r"**90.00** \*", "**40.00** ↓"]
    assert "Rank: going down the order" in text and "No rank" not in text


def test_rows_without_a_test_are_named_with_the_reason(text):
    assert "No rank and no test for alpha, beta: its predictions are not at hand." in text


def test_a_long_table_is_folded_away(make_manifest):
    labels = tuple("abcdefghijklmnopqrst")
    text = Markdown().render(Leaderboard.from_manifests("small", [make_manifest(labels=labels)]))
    assert "### inter@1: F1 (%)\n\n<details><summary>F1 (%): 41 lines</summary>\n\n| Method" in text


def test_one_label_needs_no_column(make_manifest):
    text = Markdown().render(Leaderboard.from_manifests("small", [make_manifest()]))
    header, first, *_ = lines(text, "inter@1: MAE")
    assert header == ["Method", "Seeds", "{l}", "{a}", "Avg.", "{l, a}"]
    assert first == ["alpha", "1", "**1.400**", "**1.600** ↓", "**1.500**", "**1.200**"]


def test_a_metric_that_a_result_lacks_is_a_gap_that_is_explained(make_manifest):
    lacks, has = make_manifest(), make_manifest("beta", finished="2026-03-01T00:00:00+00:00")
    has["metrics"]["mae"] |= {"id": "mae@2"}
    board = Leaderboard.from_manifests("small", [lacks, has])
    text = Markdown().render(board)
    assert lines(text, "inter@1: MAE")[1] == ["alpha", "1", "-", "-", "-", "-"]
    assert "alpha has no score by mae@2: it was made with mae@1. Run it again." in text
    assert "nan" not in text and Csv().render(board)


def test_a_failure_of_newer_code_is_told_beside_the_older_success(make_manifest):
    later = "2026-03-01T00:00:00+00:00"
    manifests = [
        make_manifest(code="old"),
        make_manifest(code="new", reason="boom", finished=later),
    ]
    text = Markdown().render(Leaderboard.from_manifests("small", manifests))
    assert "alpha, seed 0, failed after a change of code or versions: boom" in text


def test_every_environment_is_told_with_its_commit(make_manifest):
    manifests = [make_manifest(m) for m in ("alpha", "beta", "gamma")]
    manifests[0]["environment"] |= {"torch": "2.6.0", "commit": "c" * 40, "dirty": True}
    text = Markdown().render(Leaderboard.from_manifests("small", manifests))
    assert "Made by mmbench 0.1.0, torch 2.13.0; " in text
    assert "mmbench 0.1.0, torch 2.6.0, commit cccccccccccc with changes." in text


def test_what_would_break_a_table_is_escaped(make_manifest):
    failed = make_manifest("a", reason="<lambda>() of x|y\nfailed")
    odd = make_manifest("b")
    odd["protocols"]["inter"]["conditions"][0]["title"] = "p|q"
    text = Markdown().render(Leaderboard.from_manifests("small", [failed, odd]))
    assert r"| &lt;lambda>() of x\|y failed |" in text and r"p\|q" in text


def test_each_reason_is_told_once_by_its_kind_and_with_its_seeds(make_manifest):
    def failed(seed, reason, **more):
        return {**make_manifest("beta", seed, reason=reason), **more}

    manifests = [failed(0, "x", kind="diverged"), failed(1, "boom"), failed(2, "boom")]
    found = Leaderboard.from_manifests("small", [*manifests, make_manifest("alpha")])
    told = [line for line in Markdown().render(found).splitlines() if line.startswith("| beta")]
    assert [" ".join(line.split()) for line in told] == [
        "| beta | diverged: x (seed 0) |",
        "| beta | boom (seed 1, 2) |",
    ]
    page = Html().render(found)
    assert "diverged: x" in page and page.count("boom") == 2


def test_failures_are_told_with_their_reasons(text):
    assert "beta, seed 1, failed: lost \\| found" in text
    assert "| gamma" in text and "never began" in text and "Traceback" not in text


def test_formulas_hashes_and_privileges_stand_beside_the_numbers(text):
    for said in (
        "Avg. of inter@1 = mean of the incomplete",
        "F1 (f1@1): f; higher is better",
        "MAE (mae@1): m; lower is better",
        "SHA-256 pppppppppppp",
        "Data dddddddddddd",
        "| teacher",
        "mmbench 0.1.0, torch 2.13.0",
    ):
        assert said in text, said


def decided(manifest, method, *deviations):
    manifest["method"] |= {"deviations": list(deviations), "paper": f"the paper of {method}"}
    return manifest


def test_deviations_stand_in_full_and_folded_away(make_manifest):
    points = ("E* < 1, H~ and `x*~` as\n printed", "two")
    manifests = [decided(make_manifest("alpha", s), "alpha", *points) for s in (0, 1)]
    text = Markdown().render(Leaderboard.from_manifests("small", manifests))
    assert text.split("### What each method decides for itself\n\n")[1] == (
        "<details><summary>alpha: 2 points that the paper leaves open or states otherwise</summary>\n\n"
        "the paper of alpha\n\n"
        "1. E\\* &lt; 1, H\\~ and `x*~` as printed\n"
        "2. two\n\n"
        "</details>\n"
    )


def test_methods_that_decide_the_same_say_so_once(make_manifest):
    manifests = [decided(make_manifest(m), "alpha", "one") for m in ("alpha", "beta")]
    manifests.append(decided(make_manifest("gamma"), "gamma", "another"))
    text = Markdown().render(Leaderboard.from_manifests("small", manifests))
    assert text.count("<details>") == 2 and text.count("1. one") == 1
    assert "<summary>alpha, beta: 1 point that" in text and "<summary>gamma: 1 point that" in text


@pytest.mark.parametrize(
    "lack", [("deviations",), ("deviations", "privileges", "paper", "summary")]
)
def test_results_that_say_nothing_of_their_method_are_shown_too(make_manifest, lack):
    manifest = make_manifest()
    for name in lack:
        del manifest["method"][name]
    text = Markdown().render(Leaderboard.from_manifests("small", [manifest]))
    assert "| alpha" in text and "<details>" not in text and "decides for itself" not in text


def test_the_file_that_was_imported_stands_beside_the_numbers(make_manifest, text):
    manifest = make_manifest(synthetic=False)
    manifest["data"]["source"] = {"file": "a|b.pkl", "sha256": "f" * 64, "recognised": "a release"}
    told = Markdown().render(Leaderboard.from_manifests("small", [manifest]))
    assert f"Made from: file a\\|b.pkl, sha256 {'f' * 64}, recognised a release." in told
    assert "Made from" not in text


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_data_is_never_mistaken_for_real(make_manifest, synthetic):
    manifests = [make_manifest(synthetic=synthetic)]
    board = Leaderboard.from_manifests("small", manifests)
    assert ("**Synthetic data.**" in Markdown().render(board)) is synthetic
    table = pd.read_csv(io.StringIO(Csv().render(board)))
    assert (table["synthetic"] == synthetic).all()


def test_a_failure_on_synthetic_data_says_so_where_it_is_known(make_manifest):
    failed = make_manifest(reason="boom")
    board = Leaderboard.from_manifests("small", [failed | {"data": {"synthetic": True}}])
    assert "**Synthetic data.**" in Markdown().render(board)


def test_csv_has_every_number(make_manifest):
    board = Leaderboard.from_manifests(
        "small", [make_manifest(), make_manifest("beta", quick=True)]
    )
    text = Csv().render(board)
    table = pd.read_csv(io.StringIO(text))
    assert len(table) == 2 * 2 * 4  # methods, metrics, columns
    row = table[(table.method == "alpha") & (table.metric == "mae") & (table.column == "Avg.")]
    assert row["mean"].item() == pytest.approx(1.5) and row["seeds"].item() == 1
    assert set(table["protocol"]) == {"inter@1"} and "\r" not in text


@pytest.mark.parametrize("reporter", [Markdown(), Csv()])
def test_an_empty_leaderboard_can_be_written(reporter):
    assert reporter.render(Leaderboard.from_manifests("small", []))


def test_the_same_store_gives_the_same_bytes(make_manifest, tmp_path):
    store = Store(tmp_path / "runs")
    store.check_writable()
    for seed in (1, 0):
        store.save(Outcome(make_manifest(seed=seed)))
    reporters = [Csv(), Markdown()]

    def made(folder):
        board = Leaderboard.from_store(Store(tmp_path / "runs"), "small", discover())
        return write_leaderboard(board, tmp_path / folder, reporters)

    first = [p.read_bytes() for p in made("a")]
    paths = made("b")
    assert [p.name for p in paths] == ["small.csv", "small.md"]
    assert [p.read_bytes() for p in paths] == first
