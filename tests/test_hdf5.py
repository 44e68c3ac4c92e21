"""mmbench/hdf5.py: what is not plain is refused before it is read, and named."""

import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest

from mmbench import hdf5
from mmbench.errors import DataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.h5"


def written(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def plain(file):
    x = np.arange(600.0).reshape(100, 6)
    file["a/b/x"] = x
    file["empty"] = np.zeros((0, 3))
    file.create_dataset("scalar", data=3)
    for name, options in (
        ("gzip", {"compression": "gzip", "shuffle": True, "fletcher32": True}),
        ("lzf", {"compression": "lzf"}),
        ("growing", {"maxshape": (None, 6)}),
    ):
        file.create_dataset(name, data=x, **options)
    file.create_dataset("text", data=["é"], dtype=h5py.string_dtype())
    file.create_dataset("fixed", data=np.array([b"one"]))


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_plain_file_is_opened(path, libver):
    with h5py.File(path, "w", libver=libver) as file:
        plain(file)
    with hdf5.open_plain(path) as file:
        for name in ("a/b/x", "gzip", "lzf", "growing"):
            assert file[name][99, 5] == 599
        assert hdf5.text(file["text"], 2) == "é" and hdf5.text(file["fixed"], 3) == "one"
        with pytest.raises(
            DataError, match=r"file\.h5: /text: 2 bytes of text, expected at most 1"
        ):
            hdf5.text(file["text"], 1)
        for name in ("empty", "gzip"):
            with pytest.raises(DataError, match=rf"/{name}: expected one string"):
                hdf5.text(file[name], 9)


def external_link(file):
    file["deep/in"] = h5py.ExternalLink("/etc/hostname", "/x")


def soft_link(file):
    file["deep/x"] = 1.0
    file["deep/in"] = h5py.SoftLink("/deep/x")


def hard_link(file):
    file["deep/a"] = 1.0
    file["deep/in"] = file["deep/a"]


def circle(file):
    file.create_group("deep/a/b")
    file["deep/in"] = file["/"]


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    file.create_virtual_dataset("deep/in", layout)


def external_storage(file):
    file.create_group("deep")
    file["deep"].create_dataset("in", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def scale_offset(file):
    file["deep/other"] = 1.0
    file.create_dataset("deep/in", data=np.arange(100), scaleoffset=0)


def unknown_filter(file):
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((10,))
    made.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((10,))
    group = file.create_group("deep")
    h5py.h5d.create(group.id, b"in", h5py.h5t.NATIVE_FLOAT, space, made)


def never_written(file):
    file.create_dataset("deep/in", (10**6, 10**6), "f4", chunks=(100, 100), compression="gzip")


def huge_item(file):
    file.create_dataset("deep/in", (1,), "S2000000000")


def many_small(file):
    for number in range(20):
        file.create_dataset(f"deep/{number}", (10**6,), "f4", chunks=(10**4,))
    file.create_dataset("deep/in", (10**6,), "f4", chunks=(10**4,))


def huge_chunks(file):
    file.create_dataset("deep/in", (1,), "f4", maxshape=(None,), chunks=(10**9,))


def named_type(file):
    file["deep/in"] = np.dtype("f4")


@pytest.mark.parametrize(
    ("fill", "told"),
    [
        (external_link, "a link, refused"),
        (soft_link, "a link, refused"),
        (hard_link, "another place"),
        (circle, "another place"),
        (virtual, "a virtual dataset"),
        (external_storage, "values lie in another file"),
        (scale_offset, "needs filter 6"),
        (unknown_filter, "needs filter 305; known are gzip"),
        (never_written, "claim 4000000000000 bytes"),
        (huge_item, "claim 2000000000 bytes"),
        (many_small, "the datasets claim"),
        (huge_chunks, "its chunks claim"),
        (named_type, "neither a group nor a dataset"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_plain_is_refused(path, fill, told):
    written(path, fill)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"file\.h5: /deep/.*{told}") as caught:
            hdf5.open_plain(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()
    h5py.File(path, "r+").close()  # no handle of it is left open, though the error is still there
    del caught


def test_a_deep_file_is_walked(path):
    def deep(file):
        group = file
        for _ in range(3000):
            group = group.create_group("g")
        group["in"] = h5py.SoftLink("/")

    with pytest.raises(DataError, match=r"/g/in: a link"):
        hdf5.open_plain(written(path, deep))


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\0" * 200]
)
def test_other_files_are_named(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"file\.h5: "):
        hdf5.open_plain(path)
    with pytest.raises(DataError, match=r"nothing\.h5: .*No such file"):
        hdf5.open_plain(path.with_name("nothing.h5"))


def test_a_group_whose_tree_is_a_circle_does_not_hang(path):
    def many(file):
        for number in range(60):
            file.create_group(f"group{number}")

    content = bytearray(written(path, many).read_bytes())
    tree = -1
    while (tree := content.find(b"TREE\0\0", tree + 1)) >= 0:  # a leaf with names of a group
        content[tree + 16 : tree + 24] = tree.to_bytes(8, "little")  # its own right neighbour
    path.write_bytes(content)
    script = (
        f"from pathlib import Path\nfrom mmbench import hdf5\nhdf5.open_plain(Path({str(path)!r}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )
    assert "DataError" in ran.stderr or ran.returncode == 0


def test_text_that_takes_for_ever_is_refused(path, monkeypatch):
    written(path, plain)
    hdf5.try_text(path)
    endless = "import sys, time\nsys.argv = [sys.argv[0]]\nwhile True: pass\n"
    command = [sys.executable, "-c", endless]
    real = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda _, **options: real(command, **{**options, "timeout": 0.5})
    )
    with pytest.raises(DataError, match=r"file\.h5: its text cannot be read"):
        hdf5.try_text(path)


def test_more_text_than_a_file_can_have_is_refused(path):
    def fill(file):
        file.create_dataset("text", data=["x" * 10_000] + [""] * 3, dtype=h5py.string_dtype())

    written(path, fill)
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        at = file["text"].id.get_offset()
    content[at : at + 64] = content[at : at + 16] * 4  # all rows share the first one's text
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged or too much"):
        hdf5.try_text(path)
