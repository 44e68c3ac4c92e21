"""plugins/mmbench_reporters/latex.py: a fragment of LaTeX that holds together, whatever is in it."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmbench.leaderboard import Leaderboard
from mmbench_reporters.latex import Latex, escape

OURS = {"textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar"}


def tables(text):
    """Caption, columns and rows of each table, cells apart."""
    found = re.findall(r"(?s)\\begin\{table\*\}.*?\\end\{table\*\}", text)
    for table in found:
        caption = re.search(r"\\caption\{(.*)\}\n", table).group(1)
        columns = re.search(r"\\begin\{tabular\}\{(.*)\}\n", table).group(1)
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]
            for line in table.splitlines()
            if line.endswith(r"\\")
        ]
        yield caption, columns, rows


def balanced(text):
    """Whether every brace that is one is closed, and never before it was opened."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        assert depth >= 0
    return depth == 0


@pytest.fixture
def text(rich_board):
    return Latex().render(rich_board)


def test_one_label_has_the_layout_of_table_1(make_manifest):
    manifests = [make_manifest("alpha", s, (0.6 + 0.1 * s, 0.4, 0.8)) for s in (0, 1)]
    manifests.append(make_manifest("beta", scores=(0.3, 0.5, 0.1)))
    f1, _ = tables(Latex().render(Leaderboard.from_manifests("small", manifests)))
    _, columns, rows = f1
    assert columns == "llcccc"
    assert rows == [
        ["", "", r"\multicolumn{4}{c}{Testing conditions}"],
        ["Datasets", "Models", r"\{l\}", r"\{a\}", "Avg.", r"\{l, a\}"],
        [
            "small",
            "alpha",
            r"\mmbest{65.00}\mmspread{7.07}",
            r"40.00\mmspread{0.00}\mmbelow",
            r"\mmbest{52.50}\mmspread{3.54}",
            r"\mmbest{80.00}\mmspread{0.00}",
        ],
        ["", "beta", r"30.00\mmbelow", r"\mmbest{50.00}", r"40.00\mmbelow", r"10.00\mmbelow"],
        ["", r"\emph{floor}", *["50.00"] * 4],
    ]


def test_several_labels_have_the_layout_of_table_2(text):
    _, columns, rows = next(tables(text))
    assert columns == "llcccc" and rows[1][:2] == ["Models", "Labels"]
    alpha = next(n for n, row in enumerate(rows) if row[0] == "alpha")
    assert rows[alpha][1] == "happy" and rows[alpha + 1][:2] == ["", "sad"]
    assert rows[alpha][4] == r"\mmbest{57.50}\mmspread{3.54}\mmstar"
    assert [row[:2] for row in rows[-2:]] == [[r"\emph{floor}", "happy"], ["", "sad"]]


def test_each_protocol_and_metric_has_a_table_and_failures_have_one(text):
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert labels == [
        *(f"tab:small-{p}-{m}" for p in ("inter", "intra") for m in ("f1", "mae")),
        "tab:small-failed",
    ]
    *_, (_, _, failures) = tables(text)
    assert failures[1][:2] == ["gamma", "0"]


def test_sections_have_labels_of_their_own(make_manifest):
    manifests = [make_manifest(), make_manifest("beta", data="e" * 64)]
    text = Latex().render(Leaderboard.from_manifests("small", manifests))
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == len(labels) == 4 and f"tab:small-{'e' * 12}-inter-f1" in labels


@pytest.mark.parametrize("synthetic", [True, False])
def test_every_caption_says_that_data_is_synthetic(make_manifest, synthetic):
    manifests = [make_manifest(synthetic=synthetic), make_manifest(seed=1, reason="boom")]
    text = Latex().render(Leaderboard.from_manifests("small", manifests))
    captions = [caption for caption, _, _ in tables(text)]
    assert len(captions) == 3
    assert all(("Synthetic data: " in caption) is synthetic for caption in captions)


def test_a_hostile_name_neither_ends_a_cell_nor_gives_a_command(text):
    assert balanced(text) and r"\input{x}" not in text
    for _, columns, rows in tables(text):
        width = len(re.sub(r"p\{.*\}", "p", columns))
        assert all(len(row) == width for row in rows if "multicolumn" not in row[-1])


@given(st.text())
@example("[*] --- ''' ,,")
@example("* [")
def test_any_text_stays_text(told):
    made = escape(told)
    assert balanced(made) and "\n" not in made and "\r" not in made
    rest = re.sub(r"\\[{}$&#_%]", "", made)
    commands = set(re.findall(r"\\([A-Za-z]+|.|$)", rest)) - OURS - {"char", "pm"}
    assert not commands and not re.search(r"[&#_%^~]", rest.replace(r"$\pm$", ""))
    assert made[:1] not in ("[", "*") and not re.search(r"--|''|,,", made)


def test_texts_read_as_they_were(hostile):
    assert escape("hrlf-no-hmi, 50 % of x_1\n& {l}") == r"hrlf-no-hmi, 50 \% of x\_1 \& \{l\}"
    assert escape(hostile).startswith(r"\textless{}script\textgreater{}alert(")
    assert escape("--- [*") == "-{}-{}- {[}{*}"


def test_an_empty_leaderboard_can_be_written():
    assert balanced(Latex().render(Leaderboard.from_manifests("small", [])))
