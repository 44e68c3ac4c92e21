"""mmbench/predictions.py: what was predicted comes back, of files old and new, and of no others."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_array

from mmbench import arrays
from mmbench import predictions as module
from mmbench.errors import DataError
from mmbench.predictions import OUTPUTS, TRIALS, from_bytes, to_bytes

PATH = Path("predictions.h5")
ABOUT = {"ids": np.array(["ä", "b"]), "targets": np.array([[0, 1], [1, 0]])}
KEYS = np.array(["inter/l/0", "inter/l/1"])


def same(found, expected):
    assert list(found) == list(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
        assert key == "ids" or found[key].dtype == array.dtype


@given(
    st.lists(st.text("abc/01", min_size=1), min_size=1, max_size=5, unique=True),
    st.integers(0, 3),
    st.data(),
)
def test_outputs_of_all_trials_come_back_in_order(keys, width, data):
    outputs = any_array(np.float32, (2, width), elements=st.floats(width=32))
    predictions = {**ABOUT, **{key: data.draw(outputs) for key in keys}}
    same(from_bytes(to_bytes(predictions), PATH), predictions)


def test_they_stand_in_one_array_which_has_the_trials_beside_it():
    outputs = {key: np.full((2, 3), number, "f4") for number, key in enumerate(KEYS)}
    found = arrays.arrays(to_bytes({**ABOUT, **outputs}), PATH)
    assert set(found) == {*ABOUT, TRIALS, OUTPUTS}
    assert found[TRIALS].tolist() == KEYS.tolist() and found[OUTPUTS].shape == (2, 2, 3)


def test_what_is_not_alike_stands_under_its_name_as_it_did_before():
    before = {**ABOUT, "inter/l/0": np.ones((2, 1), "f4"), "inter/l/1": np.ones((2, 2), "f4")}
    for predictions in (before, ABOUT):
        found = from_bytes(to_bytes(predictions), PATH)
        same({key: found[key] for key in predictions}, predictions)
    same({k: arrays.arrays(to_bytes(before), PATH)[k] for k in before}, before)


def test_a_file_of_before_is_read():
    before = {**ABOUT, **{key: np.ones((2, 1), "f4") for key in KEYS}}
    found = from_bytes(arrays.to_bytes(before), PATH)
    same({key: found[key] for key in before}, before)


def test_a_file_of_more_trials_than_anybody_tests_is_refused(monkeypatch):
    predictions = {**ABOUT, **{key: np.ones((2, 1), "f4") for key in KEYS}}
    for most, refused in ((2, False), (1, True)):
        monkeypatch.setattr(module, "MOST", most)
        with pytest.raises(DataError, match="more than 1 trials") if refused else nullcontext():
            from_bytes(to_bytes(predictions), PATH)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({TRIALS: KEYS}, "outputs has shape (0,) and trials (2,)"),
        ({OUTPUTS: np.ones((2, 2, 1))}, "outputs has shape (2, 2, 1) and trials (0,)"),
        (
            {TRIALS: KEYS, OUTPUTS: np.ones((3, 2, 1))},
            "outputs has shape (3, 2, 1) and trials (2,)",
        ),
        ({TRIALS: KEYS, OUTPUTS: np.array(2.0)}, "outputs has shape () and trials (2,)"),
        ({TRIALS: np.arange(2), OUTPUTS: np.ones((2, 2, 1))}, "expected an array of outputs"),
        ({TRIALS: np.ones((2, 1)), OUTPUTS: np.ones((2, 1))}, "expected an array of outputs"),
        ({TRIALS: KEYS[[0, 0]], OUTPUTS: np.ones((2, 2, 1))}, "a name twice"),
        ({TRIALS: np.array(["ids", "b"]), OUTPUTS: np.ones((2, 2, 1))}, "that of another array"),
    ],
)
def test_a_file_whose_outputs_are_not_those_of_its_trials_is_refused(told, named):
    with pytest.raises(DataError) as refused:
        from_bytes(arrays.to_bytes({**ABOUT, **told}), PATH)
    assert str(refused.value).startswith("predictions.h5: ") and named in str(refused.value)
