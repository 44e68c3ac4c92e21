"""plugins/mmbench_importers/mmsa.py: what MMSA's pickles say of their padding, and what they do not."""

import hashlib
import pickle

import numpy as np
import pytest

from mmbench import datafile
from mmbench.data import SPLITS
from mmbench.errors import DataError
from mmbench.importers import importer_for
from mmbench.registry import discover
from mmbench_datasets import iemocap, mosi
from mmbench_importers import _reading
from mmbench_importers.mmsa import MMSA

WORDS = (5, 3, 1, 4)
SOUNDS = (7, 2, 8, 4)


def content(aligned=True):
    """What such a pickle holds: padded at the back, but BERT's output is nowhere zero."""
    rng = np.random.default_rng(0)
    n, words = len(WORDS), np.array(WORDS)

    def split(name):
        lengths = {"audio": words, "vision": words} if aligned else {}
        for key in ("audio", "vision"):
            lengths.setdefault(key, np.array(SOUNDS))
        frames = {key: 5 if aligned else 8 for key in lengths}
        given = {
            "raw_text": np.array(["nobody may keep this"] * n),
            "text": rng.standard_normal((n, 5, 6)) + 5,
            "text_bert": np.zeros((n, 3, 5)),
            "id": np.array([f"{name}$_${i}" for i in range(n)]),
            "regression_labels": rng.uniform(-3, 3, n),
            "classification_labels": np.zeros(n),
            "annotations": ["Neutral"] * n,
        }
        given["text_bert"][:, 1] = np.arange(5) < words[:, None]
        for key, length in lengths.items():
            there = np.arange(frames[key]) < length[:, None]
            given[key] = (rng.standard_normal((n, frames[key], 3)) + 5) * there[..., None]
            if not aligned:
                given[f"{key}_lengths"] = length.tolist()
        return given

    return {name: split(name) for name in SPLITS}


def imported(tmp_path, given, dataset=None):
    file = tmp_path / "aligned_50.pkl"
    file.write_bytes(pickle.dumps(given))
    known = {name: found.cls for name, found in discover().classes["importer"].items()}
    importer = importer_for([file], known)
    assert isinstance(importer, MMSA)
    data, notices = importer.read([file], dataset or mosi.MOSI())
    datafile.check(data)
    return data, [notice.text for notice in notices]


def lengths(data, m, split="train"):
    valid = data.splits[split].valid[m]
    assert (np.diff(valid.astype(int), axis=1) <= 0).all()  # padded at the back
    return tuple(valid.sum(1).tolist())


def test_an_aligned_pickle_is_read(tmp_path):
    given = content()
    data, notices = imported(tmp_path, given)
    assert {m: (x.length, x.width) for m, x in data.modalities().items()} == {
        "l": (5, 6),
        "a": (5, 3),
        "v": (5, 3),
    }
    assert all(lengths(data, m, s) == WORDS for m in "lav" for s in SPLITS)
    valid = data.splits["valid"]
    np.testing.assert_allclose(valid.targets[:, 0], given["valid"]["regression_labels"], rtol=1e-6)
    np.testing.assert_allclose(valid.features["l"][1, :3], given["valid"]["text"][1, :3], rtol=1e-6)
    assert valid.ids[1] == "valid$_$1"
    assert not valid.features["l"][1, 3:].any()
    assert notices == [
        f"aligned_50.pkl: 7 frames of text in {s} lie in what the file calls padding, now 0"
        for s in SPLITS
    ]


def test_transcripts_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "aligned_50.pkl").write_bytes(pickle.dumps(content()))
    datafile.store_import(mosi.MOSI(), MMSA(), [tmp_path / "aligned_50.pkl"])
    assert b"nobody" not in datafile.path_of(mosi.MOSI()).read_bytes()


def test_an_unaligned_pickle_has_lengths_of_its_own(tmp_path):
    given = content(aligned=False)
    given["train"]["audio"][0, 6] = 0  # silence inside what is said to be there
    data, _ = imported(tmp_path, given)
    assert lengths(data, "l") == WORDS and lengths(data, "a") == lengths(data, "v") == SOUNDS
    given["train"]["audio_lengths"] = np.array([9, 2, 8, 4])  # more than was kept
    given["train"]["vision"][1] = 0
    data, notices = imported(tmp_path, given)
    assert lengths(data, "a") == (8, 2, 8, 4) and lengths(data, "v") == (7, 0, 8, 4)
    assert "aligned_50.pkl: 1 samples have no vision, it is zero throughout" in notices


def test_where_nothing_is_said_zeros_tell(tmp_path):
    given = content(aligned=False)
    for split in given.values():
        del split["audio_lengths"], split["text_bert"]
        split["vision"] = split["vision"][:, ::-1]  # at the other side than is said
        split["text"] = split["text"] * (np.arange(5) >= 2)[:, None]
        split["audio"] = split["audio"][:, ::-1]
    del given["test"]["vision_lengths"]
    data, _ = imported(tmp_path, given)
    assert data.splits["test"].valid["a"].sum(1).tolist() == list(SOUNDS)
    assert data.splits["test"].valid["v"][1].tolist() == [False] * 6 + [True] * 2
    assert data.splits["train"].valid["l"][3].tolist() == [False] * 2 + [True] * 3


@pytest.mark.parametrize("aligned", [True, False])
def test_padding_in_front_loses_nothing(tmp_path, aligned):
    given = content(aligned)
    for split in given.values():
        for key in ("text", "audio", "vision"):
            split[key] = split[key][:, ::-1]
        split["text_bert"] = split["text_bert"][:, :, ::-1]
    data, notices = imported(tmp_path, given)
    for m, key, frames in (("l", "text", WORDS), ("a", "audio", SOUNDS), ("v", "vision", SOUNDS)):
        valid = data.splits["test"].valid[m]
        assert (np.diff(valid.astype(int), axis=1) >= 0).all()  # padded in front
        assert tuple(valid.sum(1)) == (WORDS if aligned else frames)
        if m != "l":  # whose padding is not zero
            x = data.splits["test"].features[m]
            np.testing.assert_allclose(x, given["test"][key], rtol=1e-6)
    assert all("frames of text" in notice for notice in notices)


def test_aligned_audio_beyond_the_words_is_not_cut(tmp_path):
    given = content()
    for split in given.values():
        split["audio"] = split["audio"][:, ::-1]  # padded in front
    data, _ = imported(tmp_path, given)
    assert lengths(data, "l") == lengths(data, "v") == WORDS
    assert data.splits["train"].valid["a"][1].tolist() == [False] * 2 + [True] * 3


def test_what_is_not_finite_becomes_zero_and_is_counted(tmp_path):
    given = content()
    given["test"]["audio"][0, 0, :2] = [-np.inf, np.nan]
    data, notices = imported(tmp_path, given)
    assert not data.splits["test"].features["a"][0, 0, :2].any()
    assert "aligned_50.pkl: 2 values of audio in test were not finite, now 0" in notices


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("regression_labels", None, "missing"),
        ("regression_labels", np.full(4, 3.5), "scores must lie in"),
        ("regression_labels", np.zeros(3), "but 3 labels"),
        ("text_bert", np.zeros((4, 2, 5)), r"expected the shape \(4, 3, 5\), got \(4, 2, 5\)"),
        ("text_bert", "text", "expected an array of numbers, got str"),
        ("audio_lengths", [1, 2, 3], "expected 4 whole numbers"),
        ("audio_lengths", [1, 2, 3, "4"], "expected 4 whole numbers, got list"),
        ("audio_lengths", np.ones(4), "expected 4 whole numbers, got an array of float64"),
        ("audio_lengths", np.array([1, 2, 3, -4]), "expected 4 whole numbers"),
        ("audio_lengths", np.ones((4, 2), int), "expected 4 whole numbers"),
        ("audio_lengths", [-(10**30), 2, 3, 4], "expected 4 whole numbers"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, key, value, told):
    given = content(aligned=False)
    if value is None:
        given["train"]["other"] = given["train"].pop(key)
    else:
        given["train"][key] = value
    with pytest.raises(DataError, match=rf"aligned_50\.pkl: \['train'\]\['.*{told}"):
        imported(tmp_path, given)


def test_scores_are_no_emotions(tmp_path):
    with pytest.raises(DataError, match=r"\['regression_labels'\]: expected zeros and ones"):
        imported(tmp_path, content(), iemocap.IEMOCAP())


def test_a_published_file_is_recognised(tmp_path, monkeypatch):
    sha256 = hashlib.sha256(pickle.dumps(content())).hexdigest()
    monkeypatch.setitem(_reading.PUBLISHED, sha256[:8], "somebody's MOSI")
    data, notices = imported(tmp_path, content())
    assert data.source == {
        "file": "aligned_50.pkl",
        "sha256": sha256,
        "recognised": "somebody's MOSI",
    }
    assert "aligned_50.pkl: recognised by its SHA-256: somebody's MOSI" in notices
    given = content()
    given["train"]["regression_labels"][0] = 0
    assert "recognised" not in imported(tmp_path, given)[0].source
