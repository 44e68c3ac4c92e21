"""mmbench/arrays.py: what a store keeps comes back, and of what a stranger wrote nothing but arrays."""

import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench import arrays as module
from mmbench.arrays import arrays, content, sha256, to_bytes
from mmbench.errors import DataError


def write(path, given):
    path.write_bytes(to_bytes(given))


def read(path):
    return arrays(content(path), path)


def written(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def test_what_is_written_comes_back(tmp_path):
    given = {
        "ids": np.array(["ä", "", "a longer one"]),
        "targets": np.arange(12).reshape(3, 4),
        "inter/la/0": np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2),
        "inter/la/1": np.zeros((0, 2), np.float32),
        "values": np.linspace(0, 1, 3),
        "scalar": np.array(1.5),
        "small": np.arange(3, dtype=np.int16),
    }
    path = tmp_path / "file.h5"
    write(path, given)
    found = read(path)
    assert set(found) == set(given)
    for name, array in given.items():
        assert found[name].tolist() == array.tolist() and found[name].shape == array.shape
        assert name == "ids" or found[name].dtype == array.dtype
    found["targets"][0, 0] = 7  # its own memory


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    given = {"ids": np.array(["a"]), "inter/la/0": np.ones((1, 2), np.float32)}
    for name in "ab":
        write(tmp_path / name, given)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_as_h5py_wrote_it_it_is_read_too(tmp_path):
    def fill(file):
        file["deep/big"] = np.arange(3, dtype=">f4")
        file["fixed"] = np.array([b"one", b"three"])
        file["chunked"] = file.create_dataset("c", data=np.ones((2, 2)), chunks=(1, 2))[:]
        file.create_dataset("text", data=["x", "y" * 5000], dtype=h5py.string_dtype())

    found = read(written(tmp_path / "file.h5", fill))
    assert found["deep/big"].tolist() == [0, 1, 2] and found["c"].tolist() == [[1, 1], [1, 1]]
    assert found["fixed"].tolist() == ["one", "three"]
    assert [len(value) for value in found["text"]] == [1, 5000]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=40
    )
)
def test_text_of_any_length_comes_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("text") / "file.h5"
    write(path, {"ids": np.array(values, dtype=object)})
    assert read(path)["ids"].tolist() == values


def references(file):
    file["x"] = 1.0
    made = file.create_dataset("in", (1,), dtype=h5py.ref_dtype)
    made[0] = file["x"].ref


def lists(file):
    made = file.create_dataset("in", (1,), dtype=h5py.vlen_dtype(np.float32))
    made[0] = np.ones(3)


def compound(file):
    file["in"] = np.zeros(2, [("a", "f4"), ("b", "i4")])


def no_space(file):
    file["in"] = h5py.Empty("f4")


def imaginary(file):
    file["in"] = np.zeros(2, complex)


def bomb(file):
    file.create_dataset("in", data=np.zeros(10**7, "f4"), compression="gzip")


def never_written(file):
    file.create_dataset("in", (10**6, 10**6), "f4", chunks=(10, 10))


def external_link(file):
    file["in"] = h5py.ExternalLink("/etc/hostname", "/x")


def external_storage(file):
    file.create_dataset("in", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    file.create_virtual_dataset("in", layout)


def table_of_text(file):
    file.create_dataset("in", data=[["x", "y"]], dtype=h5py.string_dtype())


def latin(file):
    file["in"] = np.array([b"\xff"])


@pytest.mark.parametrize(
    ("fill", "told"),
    [
        (references, "references or lists"),
        (lists, "references or lists"),
        (compound, "expected numbers or text"),
        (no_space, "expected numbers or text"),
        (imaginary, "expected numbers or text"),
        (bomb, "datasets claim 40000000 bytes"),
        (never_written, "datasets claim 4000000000000 bytes"),
        (external_link, "a link, refused"),
        (external_storage, "values lie in another file"),
        (virtual, "a virtual dataset"),
        (table_of_text, "not laid out in one row"),
        (latin, "not UTF-8"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_plain_array_is_refused(tmp_path, fill, told):
    path = written(tmp_path / "file.h5", fill)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"file\.h5: .*{told}"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


@pytest.fixture
def texts(tmp_path):
    """A file with two texts, its bytes, and where its first row begins."""
    path = tmp_path / "file.h5"
    write(path, {"ids": np.array(["x" * 3000, "y"])})
    with h5py.File(path) as file:
        return path, bytearray(path.read_bytes()), file["ids"].id.get_offset()


@pytest.mark.parametrize("value", [0, 1, 2**31, 2**63, 10**4])
@pytest.mark.parametrize("part", [0, 4, 12])
def test_a_row_of_text_that_points_elsewhere_is_refused_or_text(texts, part, value):
    path, found, start = texts
    width = 8 if part == 4 else 4
    found[start + part : start + part + width] = (value % 2 ** (8 * width)).to_bytes(
        width, "little"
    )
    try:
        values = arrays(bytes(found), path)["ids"]
    except DataError as error:
        assert str(error).startswith(str(path))
    else:
        assert sum(map(len, values)) <= len(found)


def test_a_heap_that_is_none_or_longer_than_the_file_is_refused(texts):
    path, found, _ = texts
    at = found.find(b"GCOL")
    none, longer = "no heap where it should be", "longer than its heap"
    for place, value, why in (
        (at, b"COLG", none),
        (at + 8, b"\xff" * 8, none),
        (at + 24, b"\xff" * 8, longer),
    ):
        altered = found.copy()
        altered[place : place + len(value)] = value
        with pytest.raises(DataError, match=f"its text is damaged: {why}"):
            arrays(bytes(altered), path)


def test_rows_that_share_a_text_may_have_no_more_than_the_file(tmp_path):
    path = tmp_path / "file.h5"
    write(path, {"ids": np.array(["x" * 9000, "", "", ""])})
    found = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        start = file["ids"].id.get_offset()
    found[start : start + 64] = found[start : start + 16] * 4
    with pytest.raises(DataError, match="damaged, or too much"):
        arrays(bytes(found), path)


def test_a_file_that_is_too_large_lacking_or_a_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 100)
    (tmp_path / "large").write_bytes(b"x" * 101)
    for name, told in (("large", "more than 100 bytes"), ("none", "no such file"), ("", "no such")):
        with pytest.raises(DataError, match=told):
            content(tmp_path / name)
    with pytest.raises(DataError, match="does not begin as one"):
        arrays(b"hello", tmp_path)
    assert sha256(b"").startswith("e3b0c442")
