"""mmbench/numbers.py: the one way to write a number with a point; and nothing else writes one."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmbench.numbers import fixed, score, share

ROOT = Path(__file__).parent.parent
ZERO = re.compile(r"[+-]0*\.?0*")
FINITE = st.floats(-1e6, 1e6)


@given(FINITE, st.integers(0, 6), st.sampled_from(["", "+"]))
@example(-0.0, 2, "")
@example(-0.004, 2, "")
@example(-0.0, 2, "+")
@example(-0.4, 0, "")
def test_zero_has_no_sign_and_any_other_number_its_own(value, digits, sign):
    text = fixed(value, digits, sign)
    assert not ZERO.fullmatch(text)
    assert float(text) == float(f"{value:.{digits}f}")
    if float(text):
        assert text == f"{value:{sign}.{digits}f}"


@given(st.floats(-1e-7, 1e-7))
def test_next_to_nothing_is_zero_in_every_form(value):
    assert share(value) == "0.0 %"
    assert score(value, "%", "+") == "0.00" and score(value, "", "+") == "0.000"


def test_what_is_not_finite_stays_what_it_is():
    assert [fixed(v, 2) for v in (float("nan"), float("inf"), -float("inf"))] == [
        *("nan", "inf", "-inf")
    ]


CHECKED = [*ROOT.glob("mmbench/**/*.py"), *ROOT.glob("plugins/mmbench_reporters/**/*.*")]


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_other_code_writes_a_number_with_a_fixed_point(path):
    if path == ROOT / "mmbench" / "numbers.py" or path.suffix == ".pyc":
        return
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"\{[^{}]*:[^{}]*\.[\d{][^{}]*f\}|%[+]?\.\d+f", text)
