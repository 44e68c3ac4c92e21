"""leaderboards/: what is published is what its JSON gives; files: tests/plugins/test_reporters.py."""

import matplotlib as mpl
import pytest

from tests.published import FIGURES, RATES, boards, draw, index, rates, told


@pytest.fixture(scope="module")
def every():
    return boards()


def test_the_index_lists_what_the_leaderboards_hold(every):
    ours = told().replace(told().rpartition("matplotlib ")[2], f"{mpl.__version__}.\n")
    assert ours == index(every)


def test_the_figures_are_what_the_leaderboards_draw(every, tmp_path):
    if f"matplotlib {mpl.__version__}." not in told():
        pytest.skip("figures were drawn by another version of matplotlib")
    drawn = draw(tmp_path, every)
    assert {path.name for path in drawn} == {path.name for path in FIGURES.iterdir()}
    for path in drawn:
        assert path.read_bytes() == (FIGURES / path.name).read_bytes(), path.name


def test_the_rates_that_a_plan_goes_by_are_those_of_the_leaderboards(every):
    assert RATES.read_text() == rates(every)
