"""plugins/mmbench_importers/hdf5.py: what lies in the file is read, and nothing that lies elsewhere."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmbench import datafile
from mmbench.data import SPLITS
from mmbench.errors import DataError
from mmbench.importers import importer_for
from mmbench.registry import discover
from mmbench.tasks import MultiBinary, Regression
from mmbench_datasets import iemocap, mosi
from mmbench_importers import _layout
from mmbench_importers.hdf5 import HDF5


def write(file, given, **how):
    with h5py.File(file, "w") as out:
        for key, x in given.items():
            if x.dtype.kind == "U":
                out.create_dataset(key, data=x.tolist(), dtype=h5py.string_dtype())
            else:
                out.create_dataset(key, data=x, **(how if x.ndim == 3 else {}))


@cache
def every():
    """Every importer: each must know its own files from the others'."""
    return {name: found.cls for name, found in discover().classes["importer"].items()}


def read_file(file, dataset=None):
    importer = importer_for([file], every())
    assert isinstance(importer, HDF5)
    data, notices = importer.read([file], dataset or mosi.MOSI())
    datafile.check(data)
    return data, [notice.text for notice in notices]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.h5"


def test_a_file_is_read(file, read_whole):
    def read(given):
        write(file, given)
        return read_file(file)

    read_whole(read)


@pytest.mark.parametrize("how", [{"compression": "gzip"}, {"compression": "lzf"}])
def test_a_compressed_file_is_read(file, layout, how):
    write(file, layout(), shuffle=True, fletcher32=True, **how)
    assert len(read_file(file)[0].splits["train"]) == 4


def test_what_does_not_fit_is_named(file, spoilt):
    given, told = spoilt
    write(file, given)
    with pytest.raises(DataError, match=rf"mine\.h5: {told}"):
        read_file(file)


def replaced(key, make):
    """A change of an open file: what `make` puts in place of a key."""

    def change(out):
        if key in out:
            del out[key]
        make(out, key)

    return change


def virtual(out, key):
    layout = h5py.VirtualLayout((4, 6, 4), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4, 6, 4))
    out.create_virtual_dataset(key, layout)


def link(target):
    def make(out, key):
        out[key] = target

    return make


def stored_outside(out, key):
    out.create_dataset(key, (4, 6, 4), "f8", external=[("other.bin", 0, 768)])


def filtered(out, key):
    out.create_dataset(key, data=np.zeros((4, 6, 4), "i4"), scaleoffset=0)


def itself(out, key):
    group = out.create_group(key)
    group["again"] = group


L = "train/features/l"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (replaced(L, link(h5py.ExternalLink("other.h5", "x"))), f"{L}: a link, refused: copy"),
        (replaced(L, link(h5py.SoftLink("/train/features/a"))), f"{L}: a link, refused: copy"),
        (
            replaced("train", link(h5py.ExternalLink("other.h5", "/"))),
            "train: a link, refused: copy",
        ),
        (replaced(L, virtual), f"{L}: a virtual dataset, refused"),
        (replaced(L, stored_outside), f"{L}: refused, its values lie in another file"),
        (replaced(L, filtered), f"{L}: refused, it needs filter"),
        (replaced(L, itself), "refused, it has another place"),
        (replaced(L, link(np.dtype("f8"))), f"{L}: refused, neither a group"),
        (replaced(L, link(h5py.Empty("f8"))), f"{L}: expected an array of numbers or text"),
        (replaced(L, link(np.zeros(3, [("x", "f4")]))), f"{L}: expected an array of numbers or"),
        (
            replaced(
                L, lambda out, key: out.create_dataset(key, (10**6, 10**6), "f4", chunks=True)
            ),
            "refused, its chunks claim|the datasets claim 4000000",
        ),
        (
            replaced(L, lambda out, key: out.create_dataset(key, (4,), h5py.string_dtype())),
            f"{L}: expected an array of numbers, got list",
        ),
        (
            replaced(L, lambda out, key: out.create_dataset(key, (4, 1), h5py.string_dtype())),
            r"expected text of shape \(N,\), got \(4, 1\)",
        ),
    ],
)
def test_what_is_not_plainly_in_the_file_is_refused(file, layout, change, told):
    write(file, layout())
    write(file.with_name("other.h5"), {"x": np.ones((4, 6, 4))})
    file.with_name("other.bin").write_bytes(b"\0" * 768)
    with h5py.File(file, "r+") as out:
        change(out)
    with pytest.raises(DataError, match=rf"mine\.h5: .*{told}"):
        read_file(file)


def test_rows_that_share_one_long_text_are_refused(file, layout):
    write(file, layout())
    with h5py.File(file, "r+") as out:
        ids = out["train/ids"]
        ids[0] = "x" * 10_000
    content = bytearray(file.read_bytes())
    # each row is (length, address of a heap, index in it): let all be the first
    with h5py.File(file) as there:
        at = there["train/ids"].id.get_offset()
    content[at : at + 64] = content[at : at + 16] * 4
    file.write_bytes(content)
    size = file.stat().st_size
    with h5py.File(file) as there:
        assert [len(x) for x in there["train/ids"][:]] == [10_000] * 4 and size < 4 * 10_000
    with pytest.raises(DataError, match=r"its text cannot be read, it is damaged or too much"):
        read_file(file)


def test_more_than_there_is_memory_for_is_refused(file, layout, monkeypatch):
    write(file, layout())
    monkeypatch.setattr(_layout, "_free_memory", lambda: 1000)
    with pytest.raises(DataError, match="but this machine has 1000 of free memory"):
        read_file(file)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_damaged_file_is_named(file, layout, keep):
    write(file, layout())
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=r"mine\.h5: cannot be read, or is damaged"):
        read_file(file)


def test_several_files_are_refused():
    with pytest.raises(DataError, match="one HDF5 file, got 2 files"):
        HDF5().read([Path("a"), Path("b")], mosi.MOSI())


def own(make_data, **more):
    """A data set as mmbench writes it; modalities in an order of their own."""
    return dataclasses.replace(make_data(modalities="val"), synthetic=False, **more)


def test_a_file_of_mmbench_is_read(file, make_data):
    data = datafile.write(own(make_data, name="other"), file)
    again, notices = read_file(file)
    assert notices == [] and again.name == "mosi"
    for s in SPLITS:
        assert again.splits[s].ids == data.splits[s].ids
        for m in "lav":
            np.testing.assert_array_equal(again.splits[s].features[m], data.splits[s].features[m])
            np.testing.assert_array_equal(again.splits[s].valid[m], data.splits[s].valid[m])


def test_a_twin_is_never_taken_for_real_data(file, make_data):
    datafile.write(dataclasses.replace(own(make_data), synthetic=True), file)
    with pytest.raises(DataError, match="synthetic, made by mmbench; mosi takes real data alone"):
        read_file(file)


def test_a_file_of_mmbench_with_another_task_is_refused(file, make_data):
    task = MultiBinary(iemocap.TASK.labels)
    datafile.write(dataclasses.replace(make_data(task), synthetic=False), file)
    with h5py.File(file, "r+") as out:  # the targets would do, but the task is another
        out.attrs["task"] = np.bytes_(json.dumps(Regression(-1, 1).to_dict()))
    with pytest.raises(DataError, match=r"its task is Regression.*but that of iemocap is"):
        read_file(file, iemocap.IEMOCAP())


def test_a_file_of_mmbench_that_was_altered_is_refused(file, make_data):
    datafile.write(own(make_data), file)
    with h5py.File(file, "r+") as out:
        out["test/targets"][0] = 0.5
    with pytest.raises(DataError, match="altered, its content has not the SHA-256"):
        read_file(file)
    with h5py.File(file, "r+") as out:
        del out.attrs["sha256"]
    with pytest.raises(DataError, match=r"mine\.h5: cannot be read, or is damaged"):
        read_file(file)
