"""plugins/mmbench_importers/csd: alignment against its definition, and every way files may not fit."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmbench import datafile
from mmbench.data import SPLITS
from mmbench.errors import DataError
from mmbench.importers import importer_for
from mmbench.registry import discover
from mmbench_datasets import iemocap, mosi
from mmbench_importers.csd import CSD, read_csd
from mmbench_importers.csd.align import EPSILON, Intervals, means
from mmbench_importers.csd.folds import read_folds
from mmbench_importers.csd.glove import read_vectors
from mmbench_importers.csd.samples import cut
from mmbench_importers.csd.sequences import Sequence


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))


def csd(path, root, videos, metadata=None):
    """Writes a file as the SDK does; `videos` are features and intervals by name."""
    with h5py.File(path, "w") as file:
        for key, value in (metadata or {"root name": f'"{root}"'}).items():
            file.create_dataset(
                f"{root}/metadata/{key}", data=[value], dtype=h5py.string_dtype(), shape=(1,)
            )
        for video, (features, intervals) in videos.items():
            for key, x in (("features", features), ("intervals", intervals)):
                file.create_dataset(f"{root}/data/{video}/{key}", data=x, compression="gzip")
    return path


def steps(*times):
    """Intervals from one time to the next."""
    return np.stack([times[:-1], times[1:]], 1).astype(float)


class Folder:
    """Small files of three videos that fit; a test changes what it wants to, and writes them."""

    def __init__(self, path):
        self.path = path
        self.roots = {
            "words": "words",
            "covarep": "COVAREP",
            "facet": "FACET_4.2",
            "labels": "Opinion Segment Labels",
        }
        text = np.array([[b"so"], [b"sp"], [b"good"], [b"film"], [b"so"]])
        self.content = {
            "words": {v: (text, steps(0, 1, 2, 3, 4, 5)) for v in "abc"},
            "covarep": {
                v: (np.arange(20.0).reshape(10, 2) + 1, steps(*np.arange(11) / 2)) for v in "abc"
            },
            "facet": {v: (np.full((1, 3), 7.0), np.array([[2.2, 2.8]])) for v in "abc"},
            "labels": {v: (np.array([[1.5], [-3]]), np.array([[0, 3.0], [3, 5]])) for v in "abc"},
        }
        self.folds = {"train": ["a"], "valid": ["b"], "test": ["c"]}
        self.glove = "so 1 2 3 4\ngood 5 6 7 8\nother 0 0 0 1\n"

    def write(self):
        paths = []
        for name, videos in self.content.items():
            paths.append(csd(self.path / f"{name}.csd", self.roots[name], videos))
        if self.folds is not None:
            paths.append(self.path / "folds.yaml")
            paths[-1].write_text(yaml.safe_dump(self.folds))
        if self.glove is not None:
            paths.append(self.path / "glove.txt")
            paths[-1].write_text(self.glove)
        return paths

    def read(self, **options):
        data, notices = read_csd(self.write(), mosi.MOSI(), **options)
        datafile.check(data)
        return data, [notice.text for notice in notices]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_segments_of_words(folder):
    data, notices = folder.read(length=4)
    train = data.splits["train"]
    assert train.ids == ("a[0]", "a[1]") and data.splits["test"].ids == ("c[0]", "c[1]")
    np.testing.assert_array_equal(train.targets, [[1.5], [-3]])
    so, good, zero = [1, 2, 3, 4], [5, 6, 7, 8], [0] * 4
    np.testing.assert_array_equal(
        train.features["l"], [[zero, zero, so, good], [zero, zero, zero, so]]
    )
    # rows 0 and 1 lie in "so", 4 and 5 in "good", and so on: means of two
    np.testing.assert_array_equal(train.features["a"][0], [[0, 0], [0, 0], [2, 3], [10, 11]])
    np.testing.assert_array_equal(train.features["a"][1], [[0, 0], [0, 0], [14, 15], [18, 19]])
    np.testing.assert_array_equal(train.features["v"][0], [[0] * 3, [0] * 3, [0] * 3, [7] * 3])
    front = [[False, False, True, True]]
    for m in "la":
        np.testing.assert_array_equal(train.valid[m], front * 2)
    np.testing.assert_array_equal(train.valid["v"], [*front, [False] * 4])
    assert list(data.modalities()) == ["l", "a", "v"] and not data.synthetic
    assert set(data.source) == {
        *("words.csd", "covarep.csd", "facet.csd", "labels.csd", "folds.yaml", "glove.txt")
    }
    assert notices == [
        "glove.txt: 1 of 3 words are not in it, their vectors are zero: film",
        "3 samples have no vision, it is zero throughout",
    ]


def test_the_last_words_are_kept(folder):
    data, notices = folder.read(length=1)
    np.testing.assert_array_equal(
        data.splits["train"].features["l"][:, 0], [[5, 6, 7, 8], [1, 2, 3, 4]]
    )
    assert "6 segments have more than 1 words and keep their last" in notices
    assert folder.read()[0].modalities()["l"].length == 50


def test_vectors_in_a_csd_instead_of_words(folder):
    vectors = np.arange(10.0).reshape(5, 2) + 1
    folder.glove = None
    folder.roots["vectors"] = "glove_vectors"
    folder.content["vectors"] = {v: (vectors, steps(0, 1, 2, 3, 4, 5)) for v in "abc"}
    data, _ = folder.read(length=3)
    np.testing.assert_array_equal(data.splits["train"].features["l"][0], [[0, 0], [1, 2], [5, 6]])
    del folder.content["words"]  # nothing says which of them are pauses
    data, _ = folder.read(length=3)
    np.testing.assert_array_equal(data.splits["train"].features["l"][0], vectors[:3])
    np.testing.assert_array_equal(data.splits["train"].features["a"][0], [[2, 3], [6, 7], [10, 11]])


def test_text_alone_is_enough(folder):
    del folder.content["covarep"], folder.content["facet"]
    data, _ = folder.read()
    assert list(data.modalities()) == ["l"]


def test_what_is_left_out_is_told(folder):
    x, _ = folder.content["covarep"]["a"]
    x[0] = [np.nan, 3]
    x[1, 0] = 1e300
    folder.content["labels"]["d"] = folder.content["labels"]["a"]
    folder.content["labels"]["a"] = (np.zeros((3, 1)), np.array([[0, 3], [1.2, 1.8], [9, 10]]))
    folder.folds["test"].append("e")
    data, notices = folder.read(length=2)
    assert data.splits["train"].ids == ("a[0]",)
    np.testing.assert_array_equal(data.splits["train"].features["a"][0, 0], [0, 3.5])
    for told in (
        "labels.csd: 1 videos of the folds are not in it: e",
        "words.csd: 1 videos of the folds are not in it: e",
        "labels.csd: 1 videos are in no fold and left out: d",
        "2 segments have no word and are left out",
        "covarep.csd: 2 values were not finite, now 0",
    ):
        assert told in notices, told


def test_words_without_features_get_zeros(folder):
    folder.content["covarep"]["a"] = (np.ones((1, 2)), np.array([[3.0, 3.5]]))
    del folder.content["facet"]["b"]
    data, _ = folder.read(length=2)
    np.testing.assert_array_equal(data.splits["train"].features["a"][1], [[1, 1], [0, 0]])
    assert not data.splits["valid"].valid["v"].any()


spans = st.lists(
    st.tuples(
        st.sampled_from(
            [0, 0.5, 1, 1 + EPSILON / 2, 1 + 2 * EPSILON, 2, 3.5, 7, np.nan, np.inf, -np.inf]
        ),
        st.sampled_from(
            [0, 0.5, 1, 1 + EPSILON / 2, 1 + 2 * EPSILON, 2, 3.5, 7, np.nan, np.inf, -np.inf]
        ),
    )
    | st.tuples(st.floats(0, 9), st.floats(0, 9)),
    max_size=12,
).map(lambda pairs: np.array(pairs, float).reshape(-1, 2))


@given(rows=spans, words=spans)
def test_alignment_is_the_mean_of_what_overlaps(rows, words):
    features = np.random.default_rng(0).normal(size=(len(rows), 2)).astype(np.float32)
    expected = np.zeros((len(words), 2))
    for j, (s, e) in enumerate(words.tolist()):
        found = [
            i
            for i, (a, b) in enumerate(rows.tolist())
            if np.isfinite([a, b, s, e]).all()
            and e > s
            and b > a
            and min(b, e) - max(a, s) > EPSILON
        ]
        assert set(Intervals(rows).overlapping(s, e).tolist()) == set(found)
        if found:
            expected[j] = sum(features[i].astype(float) for i in found) / len(found)
    np.testing.assert_allclose(means(features, rows, words), expected, rtol=1e-6, atol=1e-7)


def test_rows_at_the_ends_of_what_a_number_can_say():
    rows = np.array([[-1.7e308, 1.79e308], [-1.6e308, -1.5e308]])
    assert Intervals(rows).overlapping(1.7e308, 1.75e308).tolist() == [0]


def test_alignment_agrees_with_a_fine_grid():
    rng = np.random.default_rng(0)
    start = rng.integers(0, 50, 40)
    rows = np.stack([start, start + rng.integers(1, 9, 40)], 1).astype(float)
    words = steps(0, 3, 4, 20, 60)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    ticks = np.arange(0, 60, 0.25) + 0.1
    inside = [(ticks[:, None] > t[:, 0]) & (ticks[:, None] < t[:, 1]) for t in (words, rows)]
    shares = inside[0].T.astype(int) @ inside[1] > 0  # (words, rows): a tick is in both
    np.testing.assert_allclose(
        means(x, rows, words), shares @ x / shares.sum(1, keepdims=True), atol=1e-6
    )


def changed(name, value, video="b"):
    def change(folder):
        x, t = folder.content[name][video]
        folder.content[name][video] = value(x, t)

    return change


def without(*names):
    def change(folder):
        for name in names:
            folder.content.pop(name, None)
            if hasattr(folder, name):
                setattr(folder, name, None)

    return change


def called(name, root):
    return lambda folder: folder.roots.update({name: root})


def folds(**content):
    return lambda folder: folder.folds.update(content)


def glove(text):
    return lambda folder: setattr(folder, "glove", text)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("labels"), "no labels among the files: expected a .csd of labels"),
        (without("folds"), "no folds among the files: expected a .yaml"),
        (without("glove"), r"words\.csd holds words, not numbers; expected a .csd of GloVe"),
        (without("words"), r"no text among the files: there are no words"),
        (called("facet", "phonemes"), r"facet\.csd: called 'phonemes', which is nothing known"),
        (called("facet", "OpenSmile"), r"facet\.csd: holds a, as .*covarep\.csd does; leave one"),
        (folds(train=["b"]), r"folds\.yaml: valid: 'b' is there twice"),
        (folds(dev=["d"]), r"folds\.yaml: expected the keys train, valid, test"),
        (folds(valid=[]), r"folds\.yaml: valid: expected a list"),
        (folds(valid=[["b"]]), r"folds\.yaml: valid: expected names"),
        (folds(valid=["\ud800"]), r"folds\.yaml: valid: expected names"),
        (folds(valid=["d"]), r"folds\.yaml: valid: no segment"),
        (
            lambda folder: folder.folds.update(train=["d"], valid=["e"], test=["f"]),
            r"labels\.csd: has no video of .*folds\.yaml; it has a, b, c",
        ),
        (glove("so 1 2\ngood 1\n"), r"glove\.txt: line 2: expected 2 finite"),
        (glove("so 1 2\ngood 1 x\n"), r"glove\.txt: line 2: could not convert"),
        (glove("so 1 2\ngood 1 inf\n"), r"glove\.txt: line 2: expected 2 finite"),
        (glove("so 1 2\ngood 1 1e300\n"), r"glove\.txt: line 2: expected 2 finite"),
        (glove("so" + " 1" * 5000), r"glove\.txt: line 1: expected a word and at most 4096"),
        (glove("so " + "1" * 70000), r"glove\.txt: line 1: expected a word and at most 4096"),
        (glove("word 1 2\n"), r"glove\.txt: has none of the 3 words"),
        (changed("covarep", lambda x, t: (x[1:], t)), r"covarep\.csd: 'b': features must be \(10"),
        (changed("covarep", lambda x, t: (x[:, 0], t)), r"'b': features must be \(10, D\)"),
        (changed("covarep", lambda x, t: (x, t[:, 0])), r"'b': intervals must be numbers \(n, 2"),
        (changed("covarep", lambda x, t: (x, t.astype("S"))), r"'b': intervals must be numbers"),
        (changed("covarep", lambda x, t: (x.astype("S"), t)), r"'b': expected numbers, got text"),
        (changed("covarep", lambda x, t: (x * 1j, t)), r"'b': features must be numbers or fixed"),
        (changed("covarep", lambda x, t: (x[:, :1], t)), r"'b': 1 features a row, but 2 in"),
        (changed("words", lambda x, t: (np.hstack([x, x]), t)), r"'b': expected one word a row"),
        (changed("words", lambda x, t: (np.ones((5, 1)), t)), r"'b': expected one word a row"),
        (changed("labels", lambda x, t: (x * 3, t)), r"labels\.csd: valid: scores must lie in"),
        (changed("labels", lambda x, t: (x * np.nan, t)), r"labels\.csd: valid: 2 scores are not"),
        (changed("labels", lambda x, t: (x.astype("S"), t)), r"'b': expected numbers, got text"),
    ],
)
def test_what_does_not_fit_is_named(folder, change, told):
    change(folder)
    with pytest.raises(DataError, match=told):
        folder.read()


def test_two_sources_of_vectors_are_refused(folder):
    folder.roots["vectors"] = "glove_vectors"
    folder.content["vectors"] = folder.content["covarep"]
    with pytest.raises(DataError, match=r"glove\.txt: .*vectors\.csd has vectors of the words"):
        folder.read()


def test_another_task_is_refused(folder):
    with pytest.raises(DataError, match="iemocap is no regression"):
        read_csd(folder.write(), iemocap.IEMOCAP())


def test_a_sequence_may_say_in_its_metadata_what_it_is(tmp_path):
    rows = {"a": (np.ones((1, 2)), np.ones((1, 2)))}
    for metadata, kind in (
        ({"root name": "OpenFace 2.0"}, "v"),
        ({"root name": '"x"', "computational sequence description": '"FACET features"'}, "v"),
        ({"computational sequence description": '"COVAREP, 74 values"'}, "a"),
    ):
        sequence = Sequence(csd(tmp_path / "x.csd", "x", rows, metadata))
        assert sequence.kind == kind
        sequence.close()
    with pytest.raises(DataError, match="called 'x', which is nothing known"):
        Sequence(csd(tmp_path / "y.csd", "x", rows))
    with pytest.raises(DataError, match=r"root name: 100000 bytes of text, expected at most 65536"):
        Sequence(csd(tmp_path / "z.csd", "x", rows, {"root name": "x" * 100_000}))


def test_hdf5_that_is_no_sequence_is_refused(tmp_path):
    path = tmp_path / "x.csd"
    for name in ("covarep", "covarep/data", "a/b/c"):
        with h5py.File(path, "w") as file:
            file[name] = 1.0
        with pytest.raises(DataError, match=r"x\.csd: "):
            Sequence(path)
    with h5py.File(path, "w") as file:
        file["covarep/data/a/features"] = h5py.ExternalLink("/etc/hostname", "/")
    with pytest.raises(DataError, match=r"/covarep/data/a/features: a link"):
        Sequence(path)


def test_segments_in_any_number_of_one_word_are_refused(folder):
    n = 3000  # each of 50 x 2000 values, 1.2 GB in all
    folder.content["labels"]["a"] = (np.zeros((n, 1)), np.tile([[2.0, 3]], (n, 1)))
    for video in "abc":
        folder.content["facet"][video] = (np.zeros((1, 2000)), np.array([[2.2, 2.8]]))
    with pytest.raises(DataError, match=r"labels\.csd: refused, 3004 segments of 50 x 2006"):
        folder.read()


def test_folds_keep_ids_as_they_are_written(tmp_path):
    path = tmp_path / "folds.yaml"
    path.write_text("train: [0123, 1e5, no]\nvalid: [1:30, -a]\ntest:\n- 12.50\n- null\n")
    assert read_folds(path) == {
        "train": ["0123", "1e5", "no"],
        "valid": ["1:30", "-a"],
        "test": ["12.50", "null"],
    }


@pytest.mark.parametrize(
    "content",
    [
        "train: [",
        "[" * 5000,
        "train: !!python/object/apply:os.system [id]",
        "a: &a [a]\nb: &b [*a, *a]\nc: [*b, *b]",
        "\0",
        "x" * ((1 << 20) + 1),
    ],
)
def test_folds_that_are_none_are_refused(tmp_path, content):
    (tmp_path / "folds.yaml").write_text(content)
    with pytest.raises(DataError, match=r"folds\.yaml: (cannot be read|expected)"):
        read_folds(tmp_path / "folds.yaml")


def test_words_of_glove_may_hold_spaces(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_bytes(b"a 1 2\n. . 3 4\na 5 6\n\xff 7 8\n")
    found = read_vectors(path, {"a", ". .", "b"})
    assert {word: vector.tolist() for word, vector in found.items()} == {"a": [1, 2], ". .": [3, 4]}


def test_files_are_recognised_and_imported(folder):
    paths = folder.write()
    known = {name: found.cls for name, found in discover().classes["importer"].items()}
    importer = importer_for(paths, known)
    assert isinstance(importer, CSD)
    for path in paths:
        if path.suffix == ".csd":  # one alone is no HDF5 file of one's own
            assert isinstance(importer_for([path], known), CSD)
    data, _ = datafile.store_import(mosi.MOSI(), importer, paths)
    assert datafile.obtain(mosi.MOSI()).sha256 == data.sha256


@pytest.fixture(scope="module")
def real():
    if "MMBENCH_REAL_MOSI" not in os.environ:
        pytest.skip("MMBENCH_REAL_MOSI does not name the folder which has the real CMU-MOSI")
    folder = Path(os.environ["MMBENCH_REAL_MOSI"])
    with np.load(folder / "mosi.npz") as arrays:
        expected = {key: arrays[key] for key in ("id", "label", "token_ids", "token_len")}
        expected["split"] = arrays["split_standard"]
    labels = Sequence(folder / "CMU_MOSI_Labels.csd")
    words = Sequence(folder / "CMU_MOSI_ModifiedTimestampedWords.csd")
    yield expected, labels, words
    labels.close()
    words.close()


def test_real_labels_are_those_of_the_other_release(real):
    expected, labels, words = real
    assert (labels.kind, words.kind) == ("labels", "words")
    assert len(labels.videos) == 93 and labels.videos == words.videos
    found = {
        f"{video}_{row + 1}": score  # clips are counted from 1
        for video in labels.videos
        for row, score in enumerate(labels.rows(video).features[:, 0])
    }
    assert len(found) == 2199 and set(found) == set(expected["id"])
    difference = np.array([found[name] for name in expected["id"]]) - expected["label"]
    assert np.abs(difference).max() <= 1e-6


def test_real_segments_have_the_words_of_the_other_release(real):
    expected, labels, words = real
    rows = {name: row for row, name in enumerate(expected["id"])}
    same, pairs = 0, []
    for video in sorted(labels.videos):
        text, intervals = words.words(video)
        for segment in cut(intervals, labels.rows(video), 50):
            row = rows[f"{video}_{segment.row + 1}"]
            tokens = expected["token_ids"][row][: expected["token_len"][row]]
            if len(tokens) == len(segment.words) and not segment.dropped:
                same += 1
                # in this file each word has the time of the one before it
                later = [text[k + 1] for k in segment.words if k + 1 < len(text)]
                pairs += zip(later, tokens.tolist(), strict=False)
    assert same >= 1940  # of 2199; the others differ in words on the border, or were edited
    kinds: dict = {}
    for word, token in pairs:
        kinds.setdefault(word, []).append(token)
    usual = sum(max(map(tokens.count, set(tokens))) for tokens in kinds.values())
    assert len(pairs) > 23_000 and usual / len(pairs) > 0.999  # a word is always the same token


def test_real_files_are_imported(real, tmp_path):
    expected, labels, words = real
    folds = {split: set() for split in SPLITS}
    for name, split in zip(expected["id"], expected["split"], strict=True):
        folds[split].add(str(name).rsplit("_", 1)[0])
    vocabulary = sorted({word for video in words.videos for word in words.words(video).text})
    rng = np.random.default_rng(0)
    with (tmp_path / "glove.txt").open("w") as file:
        for word in vocabulary:
            file.write(" ".join([word, *(f"{x:.4f}" for x in rng.normal(size=8))]) + "\n")
    (tmp_path / "folds.yaml").write_text(
        yaml.safe_dump({split: sorted(videos) for split, videos in folds.items()})
    )
    paths = [labels.path, words.path, tmp_path / "folds.yaml", tmp_path / "glove.txt"]
    data, notices = datafile.store_import(mosi.MOSI(), CSD(), paths)
    assert datafile.obtain(mosi.MOSI()).sha256 == data.sha256
    sizes = [len(data.splits[s]) for s in SPLITS]
    assert sum(sizes) == 2198 and "1 segments have no word" in str(notices)
    scores = {
        f"{name.rsplit('_', 1)[0]}[{int(name.rsplit('_', 1)[1]) - 1}]": score
        for name, score in zip(expected["id"], expected["label"], strict=True)
    }
    for samples in data.splits.values():
        np.testing.assert_allclose(
            samples.targets[:, 0], [scores[name] for name in samples.ids], atol=1e-6
        )
        assert samples.features["l"].shape[1:] == (50, 8) and samples.valid["l"][:, -1].all()
