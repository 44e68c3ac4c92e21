"""mmbench/datafile.py: what is written is read back, and nothing that was altered is believed."""

import dataclasses
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbench import datafile
from mmbench.data import SPLITS, Data, Dataset, Notice, Samples
from mmbench.errors import DataError
from mmbench.importers import Importer
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench_datasets import mosi


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))


def samples(n=4, task=None, widths=None, seed=0, name="s"):
    task, widths = task or Regression(-3, 3), widths or {"l": (5, 3), "a": (1, 2)}
    rng = np.random.default_rng(seed)
    valid = {m: rng.random((n, length)) < 0.7 for m, (length, _) in widths.items()}
    features = {
        m: rng.standard_normal((n, length, width), dtype=np.float32) * valid[m][..., None]
        for m, (length, width) in widths.items()
    }
    if isinstance(task, Regression):
        targets = task.check(rng.uniform(-3, 3, n))
    elif isinstance(task, MultiBinary):
        targets = task.check(rng.integers(0, 2, (n, len(task.labels))))
    else:
        targets = task.check(rng.integers(0, 2, n))
    return Samples(tuple(f"{name}{i}" for i in range(n)), features, valid, targets)


def make_data(name="small", task=None, synthetic=True, seed=0, **more):
    task = task or Regression(-3, 3)
    splits = {s: samples(4 + i, task, seed=seed + i, **more) for i, s in enumerate(SPLITS)}
    return Data(name, task, splits, synthetic, {"generator": "test"})


class Small(Dataset):
    name = "small"
    task = Regression(-3, 3)
    synthetic = True
    made = 0

    def make(self):
        type(self).made += 1
        return make_data()


class Real(Dataset):
    name = "real"
    task = Regression(-3, 3)


class Numbered(Importer):
    """Makes its data from the number that a file is called."""

    name = "numbered"
    summary = "files called by a number"

    def recognises(self, paths):
        return True

    def read(self, paths, dataset):
        data = make_data(dataset.name, synthetic=False, seed=int(paths[0].name))
        return data, [Notice("hello")]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def equal(a, b):
    assert dataclasses.replace(a, splits={}) == dataclasses.replace(b, splits={})
    assert list(a.modalities().items()) == list(b.modalities().items())
    for split in SPLITS:
        x, y = a.splits[split], b.splits[split]
        assert x.ids == y.ids
        for left, right in ((x.features, y.features), (x.valid, y.valid)):
            assert list(left) == list(right)
            for m in left:
                assert left[m].dtype == right[m].dtype
                np.testing.assert_array_equal(left[m], right[m])
        assert x.targets.dtype == y.targets.dtype
        np.testing.assert_array_equal(x.targets, y.targets)
    return True


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(
    n=st.integers(1, 5),
    task=st.sampled_from([Regression(-3, 3), MultiBinary(("a", "b")), MultiClass(("x", "y", "z"))]),
    widths=st.dictionaries(
        st.sampled_from(["v", "l", "text", "ä"]),
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        min_size=1,
    ),
    ids=st.lists(text, min_size=5, max_size=5, unique=True),
    name=text,
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_written_is_read(tmp_path, n, task, widths, ids, name):
    one = dataclasses.replace(samples(n, task, widths), ids=tuple(ids[:n]))
    data = Data(name, task, dict.fromkeys(SPLITS, one), True, {"ü": "x"})
    datafile.check(data)
    written = datafile.write(data, tmp_path / "file.h5")
    assert written.sha256 == datafile.content_hash(data)
    equal(datafile.read(tmp_path / "file.h5"), written)


def test_the_layout_is_the_documented_one(tmp_path):
    data = datafile.write(make_data(task=MultiBinary(("x", "y"))), tmp_path / "file.h5")
    with h5py.File(tmp_path / "file.h5") as file:
        attributes = dict(file.attrs)
        for key in ("sha256", "task", "source", "modalities", "format", "name"):
            attributes[key] = attributes[key].decode()
        assert attributes.pop("sha256") == data.sha256 and len(data.sha256) == 64
        assert attributes.pop("synthetic")
        assert json.loads(attributes.pop("task")) == {"kind": "multi-binary", "labels": ["x", "y"]}
        assert json.loads(attributes.pop("source")) == {"generator": "test"}
        assert json.loads(attributes.pop("modalities")) == ["l", "a"]
        assert attributes == {"format": "mmbench-dataset", "format_version": 2, "name": "small"}
        assert set(file) == set(SPLITS)
        assert file["valid/features/l"].shape == (5, 5, 3)
        assert file["valid/features/l"].dtype == np.float32
        assert file["test/valid/a"].shape == (6, 1) and file["test/valid/a"].dtype == bool
        assert file["train/targets"].dtype == np.int64
        assert file["train/ids"].asstr()[0] == "s0"


def test_the_hash_is_of_the_content_alone():
    one = Samples(
        ("a", "é"),
        {"l": np.arange(6, dtype=np.float32).reshape(2, 3, 1)},
        {"l": np.ones((2, 3), bool)},
        np.array([[1.5], [-2]], np.float32),
    )
    data = Data("name", Regression(-3, 3), dict.fromkeys(SPLITS, one), False, {})
    # a change of this value makes every file on disk unreadable: it needs a new format version
    golden = "3d0cac83eb51f00bf22eb95d6b383b0fe23270251f08869224bcbab7aa7e9553"
    assert datafile.content_hash(data) == golden
    other = dataclasses.replace(
        data, source={"other": "source"}, sha256="x", splits={s: one for s in reversed(SPLITS)}
    )
    assert datafile.content_hash(other) == golden
    strided = dataclasses.replace(
        one, features={"l": np.asfortranarray(one.features["l"].astype(">f4"))}
    )
    other = dataclasses.replace(data, splits=dict.fromkeys(SPLITS, strided))
    assert datafile.content_hash(other) == golden


def changes():
    def features(s):
        s.features["a"][0, 0, 0] += 1

    def valid(s):
        s.valid["l"][1, 2] ^= True

    def targets(s):
        s.targets[2, 0] += 0.5

    return [features, valid, targets]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("change", changes(), ids=lambda f: f.__name__)
def test_the_hash_sees_every_change(split, change):
    data = make_data()
    before = datafile.content_hash(data)
    change(data.splits[split])
    assert datafile.content_hash(data) != before


def test_the_hash_sees_names_and_order():
    data = make_data()
    renamed = dataclasses.replace(data.splits["test"], ids=("other", *data.splits["test"].ids[1:]))
    swapped = {
        s: dataclasses.replace(x, features=dict(reversed(x.features.items())))
        for s, x in data.splits.items()
    }
    others = [
        dataclasses.replace(data, name="other"),
        dataclasses.replace(data, task=Regression(-3, 4)),
        dataclasses.replace(data, synthetic=False),
        dataclasses.replace(data, splits={**data.splits, "test": renamed}),
        dataclasses.replace(data, splits=swapped),
    ]
    hashes = {datafile.content_hash(x) for x in (data, *others)}
    assert len(hashes) == 6


def test_a_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "file.h5"
    datafile.write(make_data(), path)
    whole = path.read_bytes()
    for end in (0, 1, 7, 100, len(whole) // 2, len(whole) - 1000, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"file\.h5.*delete it"):
            datafile.read(path)


def test_an_altered_byte_is_refused_or_changes_nothing(tmp_path):
    path = tmp_path / "file.h5"
    data = datafile.write(make_data(), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(len(whole), 150, replace=False):
        altered = bytearray(whole)
        altered[place] ^= 0xFF
        path.write_bytes(altered)
        try:
            found = datafile.read(path)
        except DataError:
            refused += 1
        else:
            equal(dataclasses.replace(found, source=data.source), data)
    assert refused > 10


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_no_data_set_is_refused(tmp_path, content):
    (tmp_path / "file.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"file\.h5"):
        datafile.read(tmp_path / "file.h5")
    with pytest.raises(DataError, match=r"nothing\.h5"):
        datafile.read(tmp_path / "nothing.h5")


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "file.h5"
    datafile.write(make_data(), path)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 3
    with pytest.raises(DataError, match="format version 2"):
        datafile.read(path)


def test_a_twin_is_made_once_and_made_again_when_damaged():
    Small.made = 0
    assert not datafile.is_there(Small())
    first = datafile.obtain(Small())
    path = datafile.path_of(Small())
    assert datafile.is_there(Small()) and path.name == "small-v1.h5"
    equal(datafile.obtain(Small()), first)
    assert Small.made == 1
    path.write_bytes(path.read_bytes()[:500])
    equal(datafile.obtain(Small()), first)
    assert Small.made == 2
    datafile.write(make_data("another"), path)  # a file that was renamed
    equal(datafile.obtain(Small()), first)
    assert Small.made == 3
    assert names(path.parent) == [path.name]


def test_real_data_is_imported_and_never_made_up(tmp_path):
    with pytest.raises(DataError, match="mmbench data import real FILE"):
        datafile.obtain(Real())
    data, notices = datafile.store_import(Real(), Numbered(), [tmp_path / "1"])
    assert [n.text for n in notices] == ["hello"]
    equal(datafile.obtain(Real()), data)
    path = datafile.path_of(Real())
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"real-v1\.h5.*delete it.*mmbench data import real FILE"):
        datafile.obtain(Real())


def test_a_failed_import_leaves_the_cache_as_it_was(tmp_path, monkeypatch):
    first, _ = datafile.store_import(Real(), Numbered(), [tmp_path / "1"])
    with pytest.raises(ValueError, match="invalid literal"):
        datafile.store_import(Real(), Numbered(), [tmp_path / "no number"])

    def bad(self, paths, dataset):
        data = make_data("real", synthetic=False)
        data.splits["test"].features["l"][0, 0, 0] = np.nan
        return data, []

    with monkeypatch.context() as patch, pytest.raises(DataError, match=r"'test'.*'l'.*finite"):
        patch.setattr(Numbered, "read", bad)
        datafile.store_import(Real(), Numbered(), [tmp_path / "2"])

    def fails(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(DataError, match=r"real-v1\.h5.*No space"):
        patch.setattr(os, "fsync", fails)
        datafile.store_import(Real(), Numbered(), [tmp_path / "3"])
    equal(datafile.obtain(Real()), first)
    assert names(datafile.path_of(Real()).parent) == ["real-v1.h5"]


def with_samples(change):
    data = make_data()
    return dataclasses.replace(data, splits={**data.splits, "valid": change(data.splits["valid"])})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: dataclasses.replace(s, ids=("a",) * 5), "ids that are unique"),
        (lambda s: s.take(0), "at least one sample"),
        (lambda s: dataclasses.replace(s, features={"l": s.features["l"]}), "features and valid"),
        (lambda s: dataclasses.replace(s, targets=s.targets[:3]), r"targets must be .*\(5, 1\)"),
        (lambda s: dataclasses.replace(s, targets=s.targets * 100), "scores must lie in"),
        (
            lambda s: dataclasses.replace(s, targets=s.targets.astype(float)),
            "targets must be float32",
        ),
        (
            lambda s: dataclasses.replace(
                s, features={m: x * 1.0 + 1 for m, x in s.features.items()}
            ),
            "zero where valid is False",
        ),
        (
            lambda s: dataclasses.replace(
                s, features={m: x.astype(float) for m, x in s.features.items()}
            ),
            "must be float32",
        ),
        (
            lambda s: dataclasses.replace(s, valid={m: x * 1 for m, x in s.valid.items()}),
            "must be bool",
        ),
    ],
)
def test_what_breaks_the_promises_of_data_is_refused(change, told):
    datafile.check(make_data())
    with pytest.raises(DataError, match=f"'small', split 'valid'.*{told}"):
        datafile.check(with_samples(change))


def test_two_processes_may_import_at_once(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mmbench import datafile\n"
        "from mmbench_datasets.mosi import MOSI\n"
        "from mmbench_importers.hdf5 import HDF5\n"
        "print('ready', flush=True); input()\n"
        "for _ in range(20): datafile.store_import(MOSI(), HDF5(), [Path(sys.argv[1])])\n"
    )
    file, target = tmp_path / "mine.h5", datafile.path_of(mosi.MOSI())
    widths = {"l": (50, 300), "a": (50, 5)}
    data = datafile.write(make_data("mosi", synthetic=False, widths=widths), file)
    importers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in importers:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in importers:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in importers:
        process.communicate()
        assert process.returncode == 0
    found = datafile.obtain(mosi.MOSI())
    equal(dataclasses.replace(found, source=data.source), data)
    assert names(target.parent) == [target.name]


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="MMBENCH_CACHE"):
        datafile.obtain(Small())


def test_what_a_killed_writer_left_beside_a_file_is_removed_an_hour_later(tmp_path):
    old, new, other = (
        tmp_path / name for name in (".a.h5.1-x.tmp", ".a.h5.2-x.tmp", ".b.h5.1-x.tmp")
    )
    for left in (old, new, other):
        left.touch()
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    with datafile.replacing(tmp_path / "a.h5") as file:
        file.touch()
    assert not old.exists() and new.exists() and other.exists()
