"""mmbench/unpickling.py: arrays and plain containers come through, and nothing else runs."""

import contextlib
import datetime
import decimal
import fractions
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmbench.errors import DataError
from mmbench.unpickling import load

PROTOCOLS = range(6)

arrays = hnp.arrays(
    st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(endianness="?"),
        hnp.unsigned_integer_dtypes(endianness="?"),
        hnp.floating_dtypes(endianness="?"),
        hnp.byte_string_dtypes(min_len=1),
        hnp.unicode_string_dtypes(min_len=1, endianness="?"),
    ),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.just(np.float32(2)),
)
plain = st.recursive(
    st.one_of(scalars, arrays, st.sets(st.integers()), st.frozensets(st.text())),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(), st.integers()), inner, max_size=4),
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray) and type(b) is np.ndarray
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype == object:
            return all(same(x, y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert type(b) is dict and list(a) == list(b)
        assert all(same(a[key], b[key]) for key in a)
    elif isinstance(a, (list, tuple)):
        assert type(a) is type(b) and len(a) == len(b)
        assert all(same(x, y) for x, y in zip(a, b, strict=True))
    else:
        assert type(a) is type(b) and (a == b or (a != a and b != b))
    return True


def read(tmp_path, content: bytes):
    file = tmp_path / "some.pkl"
    file.write_bytes(content)
    return load(file)


def refused(tmp_path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"some\.pkl"):
        read(tmp_path, content)


@given(plain, st.sampled_from(PROTOCOLS))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_plain_content_comes_through(tmp_path, content, protocol):
    same(content, read(tmp_path, pickle.dumps(content, protocol)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=">f4").reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        np.arange(10)[::2],
        np.array([[b"video", "text", 3, None, [1, np.arange(2)]]], object),
        np.array(7.5),
        np.zeros((0, 3), ">i8"),
        np.array([["añ", "日本"]]),
    ],
    ids=["big-endian", "fortran", "transposed", "strided", "objects", "0-d", "empty", "text"],
)
def test_every_layout_of_an_array(tmp_path, array, protocol):
    shared = {"once": array, "twice": array}
    found = read(tmp_path, pickle.dumps(shared, protocol))
    same(shared, found)
    assert found["once"] is found["twice"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_plain_types(tmp_path, protocol):
    content = [
        bytearray(b"ab\xff"),
        b"",
        bytearray(),
        OrderedDict(a=1, b=2),
        np.dtype(">f4"),
        2**100,
    ]
    found = read(tmp_path, pickle.dumps(content, protocol))
    assert found == content and type(found[3]) is dict


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_names_of_numpy_before_and_since_version_2(tmp_path, protocol):
    written = pickle.dumps({"x": np.arange(3.0), "y": np.float32(1)}, protocol)
    if protocol < 4:  # lengths are not written before names
        assert b"numpy._core" in written or b"numpy.core" in written
        old = written.replace(b"numpy._core", b"numpy.core")
        new = old.replace(b"numpy.core", b"numpy._core")
        for content in (old, new):
            same({"x": np.arange(3.0), "y": np.float32(1)}, read(tmp_path, content))
    same({"x": np.arange(3.0), "y": np.float32(1)}, read(tmp_path, written))


def test_python_2_strings(tmp_path):
    # a str of Python 2 is bytes; arrays were written over such strings
    assert read(tmp_path, b"S'caf\\xe9'\n.") == "caf\xe9"
    written = pickle.dumps(np.arange(3, dtype="<i2"), 2)
    text = "\x00\x00\x01\x00\x02\x00"
    call = b"h\x03X" + struct.pack("<I", len(text.encode())) + text.encode()
    start = written.index(call)
    end = written.index(b"R", start) + 1
    found = read(tmp_path, written[:start] + b"U\x06" + text.encode() + written[end:])
    assert found.tolist() == [0, 1, 2]


def test_a_long_python_2_string_stays_bytes(tmp_path):
    for size in (1 << 16, (1 << 16) + 1):
        found = read(tmp_path, b"\x80\x02T" + struct.pack("<i", size) + b"\xe9" * size + b".")
        assert found == ("\xe9" * size if size == 1 << 16 else b"\xe9" * size)


class Runs:
    """Pickles itself as a call of any function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "make",
    [
        lambda mark: Runs(os.system, f"touch {mark}"),
        lambda mark: Runs(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Runs(exec, f"open({str(mark)!r}, 'w')"),
        lambda mark: Runs(getattr, "x", "format"),
        lambda mark: Runs(np.load, str(mark)),
        lambda mark: Runs(np.ndarray, (2**40,)),
        lambda mark: Runs(np.zeros, (10,)),
        lambda mark: Runs(open, str(mark), "w"),
        lambda mark: Runs(__import__, "antigravity"),
        lambda mark: np.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        lambda mark: np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        lambda mark: np.ma.array([1, 2]),
        lambda mark: np.array(["2020-01-01"], "M8[D]"),
        lambda mark: datetime.date(2020, 1, 1),
        lambda mark: decimal.Decimal(1),
        lambda mark: fractions.Fraction(1, 2),
        lambda mark: Runs(bytes, 10),
        lambda mark: Runs(bytearray, 10),
        lambda mark: os.system,
        lambda mark: Runs,
        lambda mark: np.ndarray,
        lambda mark: np.dtype,
        lambda mark: range(2**60),
    ],
)
def test_anything_else_is_refused_and_nothing_runs(tmp_path, make, protocol):
    mark = tmp_path / "mark"
    refused(tmp_path, pickle.dumps([1, {"a": make(mark)}], protocol))
    assert not mark.exists()


def test_the_message_names_the_class(tmp_path):
    with pytest.raises(
        DataError, match=r"posix\.system.*only arrays and plain containers are read"
    ):
        read(tmp_path, pickle.dumps(os.system))


def call(module: str, name: str, arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + arguments + b"R"


DTYPE = call("numpy", "dtype", b"(X\x02\x00\x00\x00f4\x89\x88t")
EMPTY = call(
    "numpy.core.multiarray", "_reconstruct", b"(cnumpy\nndarray\n(K\x00tX\x01\x00\x00\x00bt"
)
BYTES4 = b"C\x04\x00\x00\x80?"


@pytest.mark.parametrize(
    "content",
    {
        # BUILD on what is allowed: attributes, state, the class itself
        "attribute": b"c_codecs\nencode\n}X\x08\x00\x00\x00__call__cos\nsystem\nsb.",
        "attribute of an allowed": b"cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb.",
        "slot state": b"cbuiltins\nbytes\n(N}X\x04\x00\x00\x00kindX\x01\x00\x00\x00xstb.",
        "state of a builtin": b"cbuiltins\nset\n}X\x03\x00\x00\x00addK\x01sb.",
        # arrays that are not what they say
        "array is a method": EMPTY + b"K\x01b.",
        "huge shape": EMPTY
        + b"(K\x01(\x8a\x08"
        + struct.pack("<q", 2**62)
        + b"t"
        + DTYPE
        + b"\x89"
        + BYTES4
        + b"tb.",
        "two negative sizes": EMPTY
        + b"(K\x01(J\xff\xff\xff\xffJ\xff\xff\xff\xfft"
        + DTYPE
        + b"\x89"
        + BYTES4
        + b"tb.",
        "too many bytes": EMPTY + b"(K\x01(K\x00t" + DTYPE + b"\x89" + BYTES4 + b"tb.",
        "too few bytes": EMPTY + b"(K\x01(K\x02t" + DTYPE + b"\x89" + BYTES4 + b"tb.",
        "shape of text": EMPTY + b"(K\x01(X\x01\x00\x00\x001t" + DTYPE + b"\x89" + BYTES4 + b"tb.",
        "dtype of text": EMPTY + b"(K\x01(K\x01tX\x02\x00\x00\x00f4\x89" + BYTES4 + b"tb.",
        "never filled, big": call(
            "numpy.core.multiarray",
            "_reconstruct",
            b"(cnumpy\nndarray\n(J\xff\xff\xff\x7ftX\x01\x00\x00\x00bt",
        )
        + b".",
        "reconstruct of another": call(
            "numpy.core.multiarray", "_reconstruct", b"(cbuiltins\nset\n(K\x00tX\x01\x00\x00\x00bt"
        )
        + b".",
        # dtypes whose state numpy would believe
        "fields": DTYPE
        + b"(K\x03X\x01\x00\x00\x00<N(X\x01\x00\x00\x00at}X\x01\x00\x00\x00a(cnumpy\ndtype\nK\x99tsJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
        "object flag": call(
            "numpy.core.multiarray",
            "scalar",
            b"(" + call("numpy", "dtype", b"(X\x02\x00\x00\x00O8\x89\x88t") + b"C\x08AAAAAAAAt",
        )
        + b".",
        "void": call("numpy", "dtype", b"(X\x02\x00\x00\x00V8\x89\x88t") + b".",
        "record": call("numpy", "dtype", b"(X\x05\x00\x00\x00f4,f4\x89\x88t") + b".",
        "no size": call("numpy", "dtype", b"(X\x02\x00\x00\x00S0\x89\x88t") + b".",
        "letter beyond Unicode": EMPTY
        + b"(K\x01(K\x01t"
        + call("numpy", "dtype", b"(X\x02\x00\x00\x00U1\x89\x88t")
        + b"\x89C\x04\xff\xff\xff\x7ftb.",
        # codecs
        "other codec": call("_codecs", "encode", b"(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13t")
        + b".",
        # bombs
        "memo text": b"K\x01p99999999999999\n0h\x05.",
        "bytes8": b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
        "bytes8 over signed": b"\x8e" + struct.pack("<Q", 2**64 - 1) + b"x.",
        "bytearray8": b"\x96" + struct.pack("<Q", 2**34) + b"x.",
        "text8": b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b"N.",
        "long digits": b"I" + b"9" * 100_000 + b"\n.",
        "negative long": b"\x8b\xff\xff\xff\xff.",
        "deep": b"]" * 100_000 + b"a" * 99_999 + b".",
        "itself": b"]q\x00h\x00a.",
        "hash of shared tuples": b"}N\x85" + b"2\x86" * 200 + b"K\x01s.",
        "set of shared tuples": b"N\x85" + b"2\x86" * 200 + b"q\x01\x8f(h\x01\x90.",
        # instructions for classes
        "inst": b"(S'true'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'true'\no.",
        "newobj": b"cnumpy\ndtype\n)\x81.",
        "newobj of a string": b"X\x01\x00\x00\x00a)\x81.",
        "persistent": b"Pfile\n.",
        "extension": b"\x82\x01.",
        "call a string": b"X\x01\x00\x00\x00a)R.",
        "out of band": b"\x97.",
        # garbage
        "empty": b"",
        "no stop": b"N",
        "stack": b"0.",
        "unknown": b"\xff.",
        "text": b"hello, world",
        "future": b"\x80\x63N.",
    }.items(),
    ids=lambda item: item[0],
)
def test_crafted_pickles_are_refused(tmp_path, content):
    refused(tmp_path, content[1])


def test_a_huge_memo_index_costs_nothing(tmp_path):
    content = b"K\x01r" + struct.pack("<I", 2**32 - 1) + b"."
    tracemalloc.start()
    try:
        assert read(tmp_path, content) == 1
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_shared_containers_are_read_once(tmp_path):
    content = pickle.dumps([])
    doubled = b"]" + b"".join(b"q\x00](h\x00h\x00e" for _ in range(200)) + b"."
    assert read(tmp_path, content) == []
    found = read(tmp_path, doubled)  # 2 ** 200 leaves, were each made anew
    assert found[0] is found[1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_cut_short_anywhere_is_refused(tmp_path, protocol):
    split = {
        "text": np.zeros((2, 3, 4), np.float32),
        "id": [b"a", "b"],
        "labels": np.ones((2, 1, 1)),
    }
    whole = pickle.dumps({"train": split, "valid": split}, protocol)
    for end in range(0, len(whole), max(1, len(whole) // 150)):
        refused(tmp_path, whole[:end])


@given(data=st.data(), protocol=st.sampled_from(PROTOCOLS))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_altered_file_is_read_or_refused(tmp_path, data, protocol):
    written = bytearray(pickle.dumps({"x": np.arange(6.0).reshape(2, 3), "y": [1, b"a"]}, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        read(tmp_path, bytes(written))


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.pkl: cannot be read"):
        load(tmp_path / "nothing.pkl")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path)
