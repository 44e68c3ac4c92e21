"""mmbench/textdiff.py: where two tables differ is told by line and cell."""

from hypothesis import given
from hypothesis import strategies as st

from mmbench.textdiff import Difference, differences

TABLE = (
    "# t\n\n| Method | {l} | {a} |\n|:--|--:|--:|\n| hrlf | 1.0 | 2.0 |\n| constant | 3.0 | 4.0 |"
)
LINES = st.lists(st.text("ab|,1 ", max_size=6), max_size=8).map("\n".join)


def test_a_cell_of_markdown_has_the_names_of_its_row_and_column():
    (only,) = differences(TABLE.replace("4.0", "9.0"), TABLE)
    assert only == Difference("line 6 (constant), {a}", "9.0", "4.0")


def test_a_cell_of_csv_has_the_names_of_its_row_and_column():
    true = 'dataset,method,mean\ntiny,"a,b",0.5\n'
    (only,) = differences(true.replace("0.5", "0.6"), true, comma=True)
    assert only == Difference("line 2 (tiny, a,b), mean", "0.6", "0.5")


def test_a_long_line_is_told_where_it_differs():
    true = "x" * 500 + "no" + "y" * 500
    (only,) = differences(true.replace("no", "on"), true)
    assert only.place == "line 1" and only.said != only.true and len(only.said) < 100


@given(LINES, LINES, st.booleans())
def test_texts_differ_somewhere_unless_they_are_equal(said, true, comma):
    found = list(differences(said, true, comma=comma))
    assert bool(found) == (said != true)
    assert all(d.said != d.true for d in found)
