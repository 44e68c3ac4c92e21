"""mmbench/texts.py: whatever a stranger's result says, it is shown and does nothing."""

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench import board
from mmbench.leaderboard import Leaderboard, render, write_leaderboard
from mmbench.markdown import inline, table
from mmbench.registry import discover
from mmbench.texts import field, harmless, untagged

HOSTILE = "\x1b[2J=cmd|' /C calc'!A0 <script>alert(1)</script> [x](javascript:1) a\\|b\u202e\ud800"


@pytest.mark.parametrize(
    "odd", ["\x1b[31m", "\r", "\b", "\x9b", "\u202e", "\u2028", "\ud800", "\0"]
)
def test_what_moves_a_cursor_or_turns_text_is_replaced(odd):
    assert harmless(f"a{odd}b") == f"a{odd}b".replace(odd[0], "\ufffd")


def test_lines_tabulators_and_letters_of_all_scripts_stay():
    text = "a\tb\nÄ ü → 漢字 עברית ± ↓"
    assert harmless(text) == text


def test_the_beginning_of_a_tag_is_text_and_less_than_stays():
    assert untagged("p < 0.05 <b> </b> <!-- a<3") == "p < 0.05 &lt;b> &lt;/b> &lt;!-- a<3"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_field_is_a_formula(text):
    assert field(text) == f"'{text}"


def test_other_fields_stay():
    assert field("hrlf[head=mlp]") == "hrlf[head=mlp]" and field("") == ""


@given(st.lists(st.text(st.sampled_from("a|\\ \n<`"), max_size=6), min_size=1, max_size=4))
def test_a_row_of_markdown_has_as_many_cells_as_it_was_given(cells):
    *_, line = table([f"h{n}" for n in range(len(cells))], [cells]).splitlines()
    # as GitHub cuts it: a backslash takes the character after it along
    assert len(re.findall(r"(?:\\.|[^\\|])*\|", line[1:])) == len(cells)


def test_a_link_is_text():
    assert "](" not in inline("[x](javascript:1)") and inline("hrlf[head=mlp]") == "hrlf[head=mlp]"


@pytest.fixture
def hostile(make_manifest):
    """A leaderboard that says HOSTILE wherever it may say anything."""
    manifest = make_manifest()
    manifest["job"]["label"] = HOSTILE
    manifest["method"] |= {"summary": HOSTILE, "paper": HOSTILE, "deviations": [HOSTILE]}
    manifest["method"]["privileges"] = [HOSTILE]
    manifest["data"]["source"] = {HOSTILE: HOSTILE}
    manifest["environment"] |= {"torch": HOSTILE, "commit": HOSTILE}
    for about in manifest["metrics"].values():
        about |= {"title": HOSTILE, "formula": HOSTILE}
    about = manifest["protocols"]["inter"]
    about |= {"average": HOSTILE, "average_formula": HOSTILE}
    about["conditions"][0]["title"] = HOSTILE
    failed = make_manifest(seed=1, reason=HOSTILE)
    return Leaderboard.from_manifests("small", json.loads(json.dumps([manifest, failed])))


@pytest.mark.parametrize("name", ["md", "csv", "html", "latex", "json"])
def test_a_strangers_words_do_nothing_in_any_format(hostile, name, tmp_path):
    reporter = discover().find("reporter", name)()
    text = render(hostile, reporter)
    assert harmless(text) == text and "\x1b" not in text
    write_leaderboard(hostile, tmp_path, [reporter])  # has bytes in UTF-8
    if name in ("md", "html"):
        assert "<script>alert" not in text
    if name == "md":
        assert "](javascript" not in text
        lines = [line for line in text.splitlines() if line.startswith("|")]
        cells = [len(re.findall(r"(?:\\.|[^\\|])*\|", line[1:])) for line in lines]
        for before, after, above, line in zip(cells, cells[1:], lines, lines[1:], strict=False):
            assert before == after or "|--" in line or "|--" not in above
    if name == "csv":
        rows = list(csv.reader(io.StringIO(text)))
        assert len({len(row) for row in rows}) == 1
        assert not any(cell.startswith(("=", "+", "@", "\t")) for row in rows for cell in row)
    if name == "json":
        path = tmp_path / "small.json"
        assert board.read(path).dataset == "small"
