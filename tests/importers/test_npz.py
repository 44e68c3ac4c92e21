"""plugins/mmbench_importers/npz.py: one's own archive is read, and a hostile one is not."""

import io
import pickle
import stat
import struct
import tracemalloc
import warnings
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mmbench import datafile
from mmbench.errors import DataError
from mmbench.importers import importer_for
from mmbench.registry import discover
from mmbench_datasets import mosi
from mmbench_importers import _layout
from mmbench_importers.npz import NPZ


@pytest.fixture
def read(tmp_path):
    """Writes an archive, and reads it as MOSI."""

    def write_and_read(given, save=np.savez_compressed):
        file = tmp_path / "mine.npz"
        save(file, **given)
        return read_file(file)

    return write_and_read


@cache
def every():
    """Every importer: each must know its own files from the others'."""
    return {name: found.cls for name, found in discover().classes["importer"].items()}


def read_file(file):
    importer = importer_for([file], every())
    assert isinstance(importer, NPZ)
    data, notices = importer.read([file], mosi.MOSI())
    datafile.check(data)
    return data, [notice.text for notice in notices]


def test_an_archive_is_read(read, read_whole):
    read_whole(read)
    read_whole(lambda given: read(given, np.savez))


def test_what_does_not_fit_is_named(read, spoilt):
    given, told = spoilt
    with pytest.raises(DataError, match=rf"mine\.npz: {told}"):
        read(given)


def test_what_is_not_finite_becomes_zero(read, layout):
    given = layout()
    given["train/features/l"][0, 1, :2] = [np.nan, np.inf]
    data, notices = read(given)
    assert not data.splits["train"].features["l"][0, 1, :2].any()
    assert "mine.npz: 2 values of l in train were not finite, now 0" in notices


def test_one_modality_is_not_enough(read, layout):
    given = {k: x for k, x in layout().items() if k[-2:] not in ("/a", "/x")}
    with pytest.raises(DataError, match="expected two modalities at least, got 1"):
        read(given)


def npy(x, **more):
    out = io.BytesIO()
    np.lib.format.write_array(out, x, **more)
    return out.getvalue()


def archive(file, layout, change):
    """An archive of the layout, but for what `change` makes of a member's header and content."""
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as out:
        warnings.simplefilter("ignore")  # about a name that comes twice
        for key, x in layout().items():
            info = zipfile.ZipInfo(f"{key}.npy")
            content = npy(x)
            if key == "train/features/l":
                content = change(info, content)
            out.writestr(info, content, compress_type=info.compress_type)


def link(info, content):
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return b"/etc/passwd"


def named(name):
    def change(info, content):
        info.filename = name
        return content

    return change


def compressed(info, content):
    info.compress_type = zipfile.ZIP_BZIP2
    return content


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (link, "'train/features/l.npy': a link"),
        (named("../../evil.npy"), r"'\.\./\.\./evil': no key of the layout"),
        (named("/train/features/l.npy"), "no key of the layout"),
        (named("train/features/b/c.npy"), "no key of the layout"),
        (named("train/features/l"), "expected one NAME.npy"),
        (named("train/features/a.npy"), "expected one NAME.npy of each name"),
        (compressed, "compressed in another way"),
        (
            lambda info, x: npy(np.array([{}], object), allow_pickle=True),
            "expected an array of numbers or text, got one of object",
        ),
        (lambda info, x: pickle.dumps({}), "not a whole NumPy archive"),
        (lambda info, x: npy(np.zeros(3, [("x", "f4")])), "numbers or text, got one of"),
        (
            lambda info, x: x.replace(b"(4, 6, 4)", b"(9, 6, 4)"),
            r"float64 \(9, 6, 4\) in 768 bytes",
        ),
        (lambda info, x: x.replace(b"(4, 6, 4)", b"(-4,-6,4)"), "in 768 bytes"),
        (lambda info, x: x.replace(b"(4, 6, 4)", b"10**99999"), "not a whole NumPy archive"),
        (lambda info, x: x[:-1], "in 767 bytes"),
        (lambda info, x: x[:9], "not a whole NumPy archive"),
    ],
)
def test_a_member_that_is_none_of_ours_is_refused(tmp_path, layout, change, told):
    archive(tmp_path / "mine.npz", layout, change)
    with pytest.raises(DataError, match=rf"mine\.npz: .*{told}"):
        read_file(tmp_path / "mine.npz")


def test_an_encrypted_member_is_refused(tmp_path, layout):
    file = tmp_path / "mine.npz"
    np.savez(file, **layout())
    content = bytearray(file.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # flags of the last member
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"member .*: encrypted"):
        read_file(file)


def stated(content: bytes, name: bytes, size: int) -> bytes:
    """The archive with another size of a member, where it is stated after all members."""
    at = content.rindex(name) - 46 + 24
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def test_a_bomb_is_refused_before_it_is_decompressed(tmp_path):
    file = tmp_path / "mine.npz"
    np.savez_compressed(file, **{"train/features/l": np.zeros((1000, 1000, 100), np.uint8)})
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError, match=r"refused, its .* claim to hold 100000128, more than 200"
        ):
            NPZ().read([file], mosi.MOSI())
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [1000, 4000])  # less than its header says, and just as much
def test_a_bomb_that_understates_its_size_gets_no_more_than_that(tmp_path, layout, size):
    file = tmp_path / "mine.npz"
    given = layout()
    big = npy(np.zeros((4, 6, 4)))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for key, x in given.items():
            if key != "train/features/l":
                out.writestr(f"{key}.npy", npy(x))
        shape = "(4, 6, 4)" if size == 1000 else f"({(size - 128) // 8}, 1, 1)"
        header = npy(np.zeros((4, 6, 4))).replace(
            b"(4, 6, 4), }" + b" " * (len(shape) - 9), shape.encode() + b", }"
        )
        assert len(header) == len(big)
        out.writestr("train/features/l.npy", header + b"\1" * 50_000_000)
    file.write_bytes(stated(file.read_bytes(), b"train/features/l.npy", size))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"mine\.npz: "):
            NPZ().read([file], mosi.MOSI())
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_more_than_there_is_memory_for_is_refused(read, layout, monkeypatch):
    monkeypatch.setattr(_layout, "_free_memory", lambda: 1000)
    with pytest.raises(DataError, match="but this machine has 1000 of free memory"):
        read(layout())


def test_free_memory_is_some():
    assert 2**20 < _layout._free_memory() <= 2**63


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_damaged_archive_is_named(tmp_path, layout, keep):
    file = tmp_path / "mine.npz"
    np.savez(file, **layout())
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=r"mine\.npz: not a whole NumPy archive"):
        read_file(file)


def test_an_altered_member_is_named(tmp_path, layout):
    file = tmp_path / "mine.npz"
    np.savez(file, **layout())
    content = bytearray(file.read_bytes())
    at = content.index(b"train/features/l.npy") + 400
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"mine\.npz: not a whole NumPy archive .*CRC"):
        read_file(file)


def test_several_files_are_refused():
    with pytest.raises(DataError, match="one NumPy archive, got 2 files"):
        NPZ().read([Path("a"), Path("b")], mosi.MOSI())
