"""mmbench/markdown.py."""

from mmbench.markdown import escape, prose, table


def test_numbers_stand_to_the_right():
    assert table(["Method", "x"], [["a", "1.50"], ["bb", "10"]], left=["Method"]) == (
        "| Method   |    x |\n|----------|------|\n| a        | 1.50 |\n| bb       |   10 |"
    )


def test_text_stays_text_in_a_cell():
    assert escape("a|b *c* _d_ `e` [f]\n<g>") == r"a\|b \*c\* \_d\_ \`e\` \[f] &lt;g>"


def test_prose_keeps_its_code():
    assert prose("L_x * y ~ `p*~<q` <b>\n  end") == r"L_x \* y \~ `p*~<q` &lt;b> end"
