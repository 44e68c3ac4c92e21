"""mmbench/board.py: a file renders as the store did, and what is wrong with a file is told."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbench import board
from mmbench.errors import DataError
from mmbench.leaderboard import Leaderboard
from mmbench_reporters.csv import Csv
from mmbench_reporters.json import Json
from mmbench_reporters.markdown import Markdown


@pytest.fixture
def made(make_manifest):
    """Two sections, a failed seed, an unfinished row, a ceiling; one seed without a spread."""
    labels = ("happy", "sad")
    manifests = [make_manifest("alpha", s, (0.6 + s / 7, 0.4, 0.8), labels=labels) for s in (0, 1)]
    manifests += [
        make_manifest("alpha", 2, labels=labels, reason="<lost> | found"),
        make_manifest("beta", 0, (0.3, 0.2, 0.1), labels=labels, masks=2),
        make_manifest("gamma", 0, reason="never began"),
        make_manifest("delta", 0, data="e" * 64, labels=labels),
    ]
    top = make_manifest("top", 0, (0.9, 0.9, 0.9), labels=labels)
    top["method"] |= {"competes": False}
    manifests = json.loads(json.dumps([*manifests, top]))  # as a store has them
    return Leaderboard.from_manifests("small", manifests)


@pytest.fixture
def file(made, tmp_path):
    path = tmp_path / "small.json"
    path.write_text(Json().render(made), encoding="utf-8")
    return path


@pytest.mark.parametrize("reporter", [Markdown(), Csv(), Json()])
def test_a_file_renders_byte_for_byte_as_what_it_was_written_from(made, file, reporter):
    again = board.read(file)
    assert reporter.render(again) == reporter.render(made)


def test_everything_comes_back(made, file):
    again = board.read(file)
    assert (again.dataset, again.synthetic) == ("small", True)
    assert list(again.unfinished) == list(made.unfinished)
    for mine, theirs in zip(made.sections, again.sections, strict=True):
        assert mine.facts == theirs.facts and list(mine.rows) == list(theirs.rows)
        for name in board.TABLES:
            a, b = getattr(mine, name), getattr(theirs, name)
            assert a.equals(b) and list(a.dtypes) == list(b.dtypes), name


def test_an_empty_leaderboard_has_a_file_too(tmp_path):
    path = tmp_path / "none.json"
    path.write_text(board.write(Leaderboard.from_manifests("none", [])))
    assert board.read(path).sections == []


def test_no_sample_and_no_score_of_a_single_seed_is_in_it(file):
    text = file.read_text()
    assert "scores" not in text and "targets" not in text and "ids" not in text


WRONG = [
    (("version",), 2, "format and version"),
    (("dataset",), "../x", "dataset"),
    (("sections",), {}, "sections"),
    (("sections", 0, "facts", "labels"), "happy", "sections[0].facts.labels"),
    (("sections", 0, "facts", "headline"), "f2", "sections[0].facts.headline"),
    (("sections", 0, "facts", "floor", "f1"), {}, "sections[0].facts.floor.f1"),
    (("sections", 0, "facts", "protocols", "inter", "effective_rate", "l"), 1, "effective_rate.l"),
    (("sections", 0, "facts", "protocols", "inter", "effective_rate", "l"), {}, "effective_rate.l"),
    (("sections", 0, "rows", 0, "label"), None, "sections[0].rows[0].label"),
    (("sections", 0, "rows", 0, "finished"), [], "sections[0].rows[0]"),
    (("sections", 0, "rows", 0, "finished", 1, "seconds"), {"train": "1"}, "[1].seconds"),
    (("sections", 0, "rows", 0, "common", "method"), {"deviations": [1]}, "method.deviations[0]"),
    (("sections", 0, "cells", "columns"), ["mean"], "sections[0].cells.columns"),
    (("sections", 0, "cells", "rows", 3), [1], "sections[0].cells.rows[3]"),
    (("sections", 0, "cells", "rows", 3, 1), "nobody", "sections[0].cells.rows[3], method"),
    (("sections", 0, "cells", "rows", 3, 3), "p=2", "sections[0].cells.rows[3], column"),
    (("sections", 0, "cells", "rows", 3, 5), None, "sections[0].cells.rows[3], mean"),
    (("sections", 0, "cells", "rows", 3, 5), 1e999, "Infinity"),
    (("sections", 0, "cells", "rows", 3, 5), True, "sections[0].cells.rows[3], mean"),
    (("sections", 0, "cells", "rows", 3, 11), 1, "sections[0].cells.rows[3], best"),
    (
        ("sections", 0, "summaries", "rows", 0, 3),
        "charm",
        "sections[0].summaries.rows[0], quantity",
    ),
    (("unfinished", 0, "failed"), [], "unfinished[0]"),
]


@pytest.mark.parametrize(("place", "value", "told"), WRONG)
def test_what_is_wrong_is_told_with_its_place(file, place, value, told):
    content = json.loads(file.read_text())
    part = content
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    file.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        board.read(file)
    assert told in str(error.value) and str(file) in str(error.value)


def test_a_number_beyond_all_floats_is_none(file):
    text = file.read_text()
    file.write_text(
        text.replace('"mask_seeds": 1', '"mask_seeds": 1, "x": 1e999').replace("0.4", "1e999")
    )
    with pytest.raises(DataError, match="Infinity, which is no number"):
        board.read(file)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, '{"format": NaN}', "\udcff"])
def test_what_is_no_leaderboard_is_told(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"x\.json"):
        board.read(path)


def test_a_file_that_is_too_large_is_not_read(file, monkeypatch):
    monkeypatch.setattr(board, "LARGEST", 100)
    with pytest.raises(DataError, match="more than 100 bytes"):
        board.read(file)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: there is no such file"):
        board.read(tmp_path / "none.json")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.data())
def test_a_damaged_file_renders_or_is_told(file, data):
    """One value anywhere is another one: no other error than ours comes of it."""
    content = json.loads(file.read_text())
    part, steps = content, []
    while isinstance(part, dict | list) and part:
        keys = sorted(part) if isinstance(part, dict) else range(len(part))
        steps.append((part, data.draw(st.sampled_from(keys))))
        part = part[steps[-1][1]]
    holder, key = data.draw(st.sampled_from(steps))
    holder[key] = data.draw(
        st.sampled_from([None, 0, -1, 0.5, "", "x", True, [], {}, [1], {"x": 1}])
    )
    other = file.with_name("other.json")
    other.write_text(json.dumps(content))
    try:
        again = board.read(other)
    except DataError:
        return
    Markdown().render(again), Csv().render(again)
