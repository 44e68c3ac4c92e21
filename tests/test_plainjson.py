"""mmbench/plainjson.py: JSON of strangers is read within bounds, or refused with its path."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench import plainjson
from mmbench.errors import DataError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_plain_values_come_back(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "file.json"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    found = plainjson.read(path, 1 << 20)
    assert found == value and json.dumps(found) == json.dumps(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"[NaN]", "NaN, which is no number"),
        (b"[-Infinity]", "Infinity, which is no number"),
        (b"[1e999]", "Infinity, which is no number"),
        (b"[" + b"9" * 400 + b".0]", "Infinity, which is no number"),
        (b"[" + b"9" * 299 + b"e99]", "Infinity, which is no number"),
        (b"[" * 33 + b"]" * 33, "more than 32 lists and objects in each other"),
        (b"[" * 100_000, "more than 32"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "more than 32"),
        (b'"\xff"', "not JSON"),
        (b"{", "not JSON"),
        (b"[0,0,0,0,0,0,0,0,0,0,0,0]", "more than 10 values"),
        (b" " * 300_000, "more than 250000 bytes"),
    ],
)
def test_what_is_not_plain_is_refused(tmp_path, monkeypatch, text, told):
    path = tmp_path / "file.json"
    path.write_bytes(text)
    if "values" in told:
        monkeypatch.setattr(plainjson, "VALUES", 10)
    with pytest.raises(DataError, match=rf"file\.json: .*{told}"):
        plainjson.read(path, 250_000)


def test_what_is_no_file_is_told(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="there is no such file"):
            plainjson.read(path, 100)


def test_as_deep_as_allowed_is_read(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("[" * 32 + "]" * 32)
    assert plainjson.read(path, 100) == json.loads("[" * 32 + "]" * 32)
