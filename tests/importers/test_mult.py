"""plugins/mmbench_importers/mult.py: the pickles of MulT, well-formed and not."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmbench import datafile
from mmbench.data import SPLITS
from mmbench.errors import DataError
from mmbench_datasets import iemocap, mosi
from mmbench_importers.mult import MulT


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))


def content(n=6, length=5, words=3, emotions=False):
    """What a pickle of MulT holds: word-aligned, padded in front."""
    rng = np.random.default_rng(0)

    def split(name):
        features = {
            key: rng.standard_normal((n, length, width)) + 5  # no zero by chance
            for key, width in (("text", 4), ("audio", 3), ("vision", 2))
        }
        for x in features.values():
            x[:, : length - words] = 0
        labels = rng.uniform(-3, 3, (n, 1, 1))
        if emotions:
            present = np.eye(4, dtype=int)[np.arange(n) % 4]  # neutral, happy, sad, angry in turn
            labels = np.stack([1 - present, present], -1)  # (N, 4, 2)
        ids = np.array([[f"{name}{i}".encode(), b"0.5", b"1.5"] for i in range(n)])
        return {**features, "labels": labels, "id": ids}

    return {name: split(name) for name in SPLITS}


def imported(tmp_path, given, dataset=None):
    file = tmp_path / "mosi_data.pkl"
    file.write_bytes(pickle.dumps(given))
    data, notices = MulT().read([file], dataset or mosi.MOSI())
    datafile.check(data)
    return data, [notice.text for notice in notices]


def test_a_pickle_is_read(tmp_path):
    given = content()
    data, notices = imported(tmp_path, given)
    assert notices == [] and not data.synthetic and data.name == "mosi"
    assert {m: (x.length, x.width) for m, x in data.modalities().items()} == {
        "l": (5, 4),
        "a": (5, 3),
        "v": (5, 2),
    }
    valid = data.splits["valid"]
    np.testing.assert_allclose(valid.features["a"], given["valid"]["audio"], rtol=1e-6)
    np.testing.assert_allclose(valid.targets, given["valid"]["labels"][:, :, 0], rtol=1e-6)
    assert valid.ids[1] == "valid1_0.5_1.5"
    assert data.source["file"] == "mosi_data.pkl" and len(data.source["sha256"]) == 64
    assert str(tmp_path) not in str(data.source)


def test_two_modalities_of_any_length(tmp_path):
    given = content()
    for split in given.values():
        del split["vision"]
        split["audio"] = split["audio"][:, -1:]
    data, _ = imported(tmp_path, given)
    assert {m: x.length for m, x in data.modalities().items()} == {"l": 5, "a": 1}


def test_emotions_are_in_the_order_of_the_task(tmp_path):
    data, _ = imported(tmp_path, content(n=8, emotions=True), iemocap.IEMOCAP())
    # the file says neutral, happy, sad, angry in turn; the task happy, sad, angry, neutral
    expected = np.eye(4, dtype=np.int64)[[3, 0, 1, 2] * 2]
    np.testing.assert_array_equal(data.splits["train"].targets, expected)


def change(place, value):
    """A change of the item at `place`; `value` may be a function of it, or a deletion."""

    def apply(given):
        *path, last = place
        for key in path:
            given = given[key]
        if value is DELETE:
            del given[last]
        else:
            given[last] = value(given[last]) if callable(value) else value

    return apply


DELETE = object()


def put(index, number):
    def value(x):
        x = np.array(x, float)
        x[index] = number
        return x

    return value


def without_all(keys):
    def apply(given):
        for split in given.values():
            for key in keys:
                del split[key]

    return apply


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (change(["valid"], DELETE), r"\['valid'\]: expected a dict; there are 'train', 'test'"),
        (change(["test"], 3), r"\['test'\]: expected a dict"),
        (change(["valid", "audio"], DELETE), r"\['valid'\]\['audio'\]: missing; there are 'text'"),
        (change(["train", "vision"], DELETE), r"\['train'\]\['vision'\]: missing"),
        (change(["test", "labels"], DELETE), r"\['test'\]\['labels'\]: missing"),
        (without_all(["audio", "vision"]), r"\['train'\]: expected at least two of text, audio"),
        (
            change(["valid", "audio"], lambda x: x[:, 0]),
            r"\['audio'\]: expected the shape \(N, T, D",
        ),
        (
            change(["valid", "audio"], lambda x: x.tolist()),
            r"expected an array of numbers, got list",
        ),
        (
            change(["valid", "text"], lambda x: x.astype(str)),
            r"an array of numbers, got an array of <U",
        ),
        (change(["valid", "text"], lambda x: x.astype(object)), r"got an array of object"),
        (change(["valid", "text"], lambda x: x + 1j), r"got an array of complex"),
        (change(["valid", "text"], lambda x: x[:, :0]), r"\['text'\]: expected the shape"),
        (
            change(["test", "text"], lambda x: x[:-1]),
            r"\['test'\]\['text'\]: 5 samples, but 6 labels",
        ),
        (change(["test", "labels"], lambda x: x[:-1]), r"\['test'\]\['text'\]: 6 samples, but 5"),
        (change(["test", "id"], lambda x: x[:-1]), r"\['test'\]\['id'\]: expected 6 ids"),
        (change(["test", "id"], np.array(b"a")), r"\['test'\]\['id'\]: expected 6 ids"),
        (change(["test", "id"], [{}] * 6), r"\['test'\]\['id'\]: expected text or numbers"),
        (
            change(["test", "audio"], lambda x: x[:, :4]),
            r"\['test'\]\['audio'\]: \(T, D\) is \(4, 3\)",
        ),
        (change(["valid", "audio"], lambda x: x[..., :2]), r"\['valid'\]\['audio'\]: .*\(5, 2\)"),
        (change(["train", "labels"], put((1, 0, 0), np.nan)), r"\['labels'\]: 1 are not finite"),
        (change(["train", "labels"], put((1, 0, 0), 1e300)), r"\['labels'\]: 1 are not finite"),
        (change(["train", "labels"], put((1, 0, 0), 3.5)), r"\['labels'\]: scores must lie in"),
        (
            change(["train", "labels"], lambda x: np.repeat(x, 7, 2)),
            r"\['labels'\]: expected one score",
        ),
        (change(["train", "labels"], np.array(1.0)), r"\['labels'\]: expected an array of numbers"),
        (change(["valid", "audio"], lambda x: x[:0]), r"\['valid'\]\['audio'\]: empty"),
        (
            change(["valid"], lambda s: {k: x[:0] for k, x in s.items()}),
            r"\['valid'\]\['text'\]: empty",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, spoil, told):
    given = content()
    spoil(given)
    with pytest.raises(DataError, match=rf"mosi_data\.pkl: .*{told}"):
        imported(tmp_path, given)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (lambda x: x[..., 0], r"expected the shape \(N, 4, 2\)"),
        (lambda x: x[:, :3], r"expected the shape \(N, 4, 2\)"),
        (lambda x: x * 2, "expected one-hot pairs"),
        (lambda x: x * 0, "expected one-hot pairs"),
        (lambda x: x[..., ::-1], r"happy in 75%.*expected less than half.*reversed"),
    ],
)
def test_emotions_that_do_not_fit_are_named(tmp_path, labels, told):
    given = content(n=8, emotions=True)
    given["train"]["labels"] = labels(given["train"]["labels"])
    with pytest.raises(DataError, match=rf"\['train'\]\['labels'\]: .*{told}"):
        imported(tmp_path, given, iemocap.IEMOCAP())


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"mosi_data\.pkl: expected a dict of splits, got list"):
        imported(tmp_path, [1, 2])
    with pytest.raises(DataError, match="one pickle of MulT, got 2 files"):
        MulT().read([Path("a"), Path("b")], mosi.MOSI())
    with pytest.raises(DataError, match="got 0 files"):
        MulT().read([], mosi.MOSI())
    with pytest.raises(DataError, match="made by mmbench"):
        datafile.store_import(mosi.MOSITwin(), MulT(), [Path("a")])


def test_what_is_not_finite_becomes_zero_and_is_counted(tmp_path):
    given = content()
    given["train"]["audio"][0, 4] = [np.nan, np.inf, -np.inf]
    given["train"]["audio"][1, 4, 0] = 1e300
    data, notices = imported(tmp_path, given)
    assert (data.splits["train"].features["a"][0, 4] == 0).all()
    assert data.splits["train"].features["a"][1, 4, 0] == 0
    assert data.splits["train"].valid["a"][0].tolist() == [False, False, True, True, True]
    assert notices == ["mosi_data.pkl: 4 values of audio in train were not finite, now 0"]


@pytest.mark.parametrize(
    ("given_ids", "expected"),
    [
        (None, ["test-0", "test-1", "test-2", "test-3", "test-4", "test-5"]),
        (list("abcdef"), list("abcdef")),
        ([b"a", "b", 3, 4.5, ("x", 1), [b"y", b"z"]], ["a", "b", "3", "4.5", "x_1", "y_z"]),
        (np.array(list("aabaac")), ["a", "a#2", "b", "a#3", "a#4", "c"]),
        (["a", "a#2", "a", "a", "b", "b"], ["a", "a#2", "a#3", "a#4", "b", "b#2"]),
        ([b"\xff", "nul\0", "\ud800", "", "", "é"], ["�", "nul?", "?", "", "#2", "é"]),
    ],
)
def test_ids(tmp_path, given_ids, expected):
    given = content()
    del given["test"]["id"]
    if given_ids is not None:
        given["test"]["id"] = given_ids
    data, notices = imported(tmp_path, given)
    assert list(data.splits["test"].ids) == expected
    repeat = [n for n in notices if "ids in test repeat" in n]
    assert bool(repeat) == any("#" in x for x in expected)


def test_many_equal_ids_take_no_time(tmp_path):
    given = content(n=20_000, length=2, words=1)
    given["train"]["id"] = ["same"] * 20_000
    data, _ = imported(tmp_path, given)
    assert data.splits["train"].ids[-1] == "same#20000"


def frames(data, m, split="train"):
    return ["".join("01"[int(x)] for x in row) for row in data.splits[split].valid[m]]


def test_aligned_modalities_share_the_words(tmp_path):
    given = content(words=5)
    x = given["train"]
    for key in ("text", "audio", "vision"):
        x[key][0, :2] = 0  # two frames of padding in all
        x[key][1, 2] = 0  # a pause inside
        x[key][3] = 0  # nothing at all
    x["audio"][0, :4] = 0  # audio starts later, but the words are there
    x["vision"][2] = 0  # no vision at all
    data, notices = imported(tmp_path, given)
    assert frames(data, "l")[:4] == ["00111", "11111", "11111", "00000"]
    assert frames(data, "a")[:4] == ["00111", "11111", "11111", "00000"]
    assert frames(data, "v")[:4] == ["00111", "11111", "00000", "00000"]
    assert any("2 samples have no vision" in n for n in notices)


def test_unaligned_modalities_have_their_own_padding(tmp_path):
    given = content(words=5)
    for split in given.values():
        split["audio"] = np.concatenate([split["audio"]] * 2, 1)  # (N, 10, 3)
    given["train"]["text"][0, :2] = 0
    given["train"]["audio"][0, :7] = 0
    data, _ = imported(tmp_path, given)
    assert frames(data, "l")[0] == "00111"
    assert frames(data, "a")[0] == "0000000111"


def test_padding_is_on_the_side_where_the_file_has_more(tmp_path):
    given = content(words=5)
    for split in ("train", "test"):
        for key in ("text", "audio", "vision"):
            given[split][key][:, 3:] = 0  # at the back
            given["valid"][key][0, 0] = 0  # one pause in front, in a split without padding
    data, _ = imported(tmp_path, given)
    assert frames(data, "l")[0] == "11100"
    assert frames(data, "l", "valid")[0] == "11111"


def test_single_vectors_are_there_or_not(tmp_path):
    given = content(length=1, words=1)
    given["train"]["audio"][0] = 0
    data, notices = imported(tmp_path, given)
    assert frames(data, "a")[:2] == ["0", "1"] and frames(data, "l")[:2] == ["1", "1"]
    assert notices == ["mosi_data.pkl: 1 samples have no audio, it is zero throughout"]


@pytest.mark.skipif(
    "MMBENCH_REAL_MOSI" not in os.environ,
    reason="MMBENCH_REAL_MOSI does not name the folder of export.py, which has the real CMU-MOSI",
)
def test_real_mosi(tmp_path):
    script = Path(os.environ["MMBENCH_REAL_MOSI"]) / "export.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True)
    for name, sizes, shapes in (
        ("trimodal", (437, 86, 229), {"l": (50, 300), "a": (1, 73), "v": (1, 100)}),
        ("standard", (1284, 229, 686), {"l": (50, 300), "a": (1, 73)}),
    ):
        file = tmp_path / name / "mosi_data_noalign.pkl"
        data, _ = datafile.store_import(mosi.MOSI(), MulT(), [file])
        assert datafile.obtain(mosi.MOSI()).sha256 == data.sha256
        assert tuple(len(data.splits[s]) for s in SPLITS) == sizes
        assert {m: (x.length, x.width) for m, x in data.modalities().items()} == shapes
        for samples in data.splits.values():
            words = samples.valid["l"].sum(1)
            assert 5 < words.mean() < 20 and words.max() <= 50
            assert (np.diff(samples.valid["l"].astype(int), axis=1) >= 0).all()  # padded in front
            assert samples.valid["a"].mean() > 0.95
            assert np.abs(samples.targets).max() <= 3 and samples.targets.std() > 1
    signs = np.sign(data.splits["test"].targets[:, 0])
    assert [(signs == s).sum() for s in (-1, 0, 1)] == [379, 30, 277]  # the published split
