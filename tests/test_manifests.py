"""mmbench/manifests.py: what is written is read, by people too, and nothing that was altered since."""

import json

import pytest

from mmbench.errors import DataError
from mmbench.manifests import MANIFEST, read, to_bytes

TOLD = {
    "schema": 1,
    "job": {"dataset": "small", "protocols": ["inter@1"]},
    "scores": [{"value": number / 7, "label": "ä"} for number in range(300)],
    "none": {},
    "deep": {"one": {"two": {"three": [1, None, True]}}},
}


@pytest.fixture
def path(tmp_path):
    (tmp_path / MANIFEST).write_bytes(to_bytes(TOLD))
    return tmp_path / MANIFEST


def test_what_is_written_is_read(path):
    assert read(path) == TOLD
    sealed = read(path, sealed=False)
    assert list(sealed) == [*TOLD, "sha256"] and len(sealed["sha256"]) == 64


def test_it_is_json_that_people_can_read(path):
    text = path.read_text()
    assert json.loads(text) == read(path, sealed=False) and text.endswith('"\n}\n')
    assert '\n "job": {\n  "dataset": "small",\n  "protocols"' in text  # a line each
    assert '\n "none": {},\n' in text and '\n  "one": {"two": {"three"' in text
    assert len(text.splitlines()) == 13


@pytest.mark.parametrize("at", [10, 100, -100, -10])
def test_one_that_was_altered_is_refused(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json: "):
        read(path)


def test_a_value_put_behind_the_seal_is_refused(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "more": 1}))
    with pytest.raises(DataError, match="altered since it was written"):
        read(path)
    assert read(path, sealed=False)["more"] == 1
