"""Reads pickles of arrays and plain containers, and nothing else: no pickle can run code here.

A pickle is a program that names functions and calls them. This reader knows the handful of names by
which numpy and Python write arrays, numbers, bytes and sets. Each stands for a function of this module
that checks what it is given; any other name is refused before it is looked up. No class and no array
is in the pickle's reach: it can only describe arrays, which are made when it has been read.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmbench.errors import DataError

_PLAIN = (str, bytes, bytearray, int, float, complex, type(None), np.generic, set, frozenset)
_DTYPES = re.compile(r"[<>=|]?([biufcSU][1-9][0-9]{0,8}|O[48]?)")  # no records, no dates

_LONG = 1 << 16
"""Bytes; a longer string of Python 2 is what an array holds, and as text it would take its memory again."""


def load(path: Path) -> Any:
    """The content of a pickle: arrays, dtypes, numbers, strings, lists, tuples, sets, dicts.

    An OrderedDict becomes a dict, and an array may be read-only. Keys of dicts and members of sets are
    no tuples. What Python 2 wrote as a string is text, or bytes if it is longer than `_LONG`. Raises
    DataError, naming the file, for anything else and for a damaged file.
    """
    try:
        with Path(path).open("rb") as file:
            return _finish(_Unpickler(file).load(), {})
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise DataError(f"{path}: refused, it asks for more memory than there is") from error
    except RecursionError as error:
        raise DataError(f"{path}: refused, it is nested too deeply or holds itself") from error
    except Exception as error:  # a hostile or broken stream may raise anything
        what = str(error) or type(error).__name__
        raise DataError(
            f"{path}: not a whole pickle of arrays and plain containers ({what})"
        ) from error


def looks_like_pickle(path: Path) -> bool:
    """Whether a file begins as pickles do: by its protocol, or by an empty dict in the oldest ones."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError:
        return False
    return start in (b"(d", b"}q", *(bytes([0x80, protocol]) for protocol in range(2, 6)))


def mentions(path: Path, word: bytes) -> bool:
    """Whether a file has these bytes anywhere, e.g. a key of its dicts; reads a block at a time."""
    tail = b""
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                if word in tail + block:
                    return True
                tail = block[-len(word) :]
    except OSError:
        pass
    return False


class _Part:
    """What a pickle may hold while it is read, but not keep, nor alter by its BUILD instruction."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:  # takes the hash away: no part of a set, no key
        return self is other


class _ArrayType(_Part):
    """Stands for `numpy.ndarray`, which is only ever an argument."""

    __slots__ = ()


class _Dtype(_Part):
    """A dtype, whose state gives it a byte order and may give it nothing else."""

    __slots__ = ("dtype",)

    def __init__(self, code: str) -> None:
        self.dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        # (version, byte order, subarray, names, fields, ...): numpy trusts fields and sizes blindly
        if not isinstance(state, tuple) or any(isinstance(part, tuple) for part in state):
            raise pickle.UnpicklingError("a dtype with fields")
        if len(state) < 5 or state[2:5] != (None, None, None) or state[1] not in tuple("<>=|"):
            raise pickle.UnpicklingError("a dtype that is not of plain numbers or strings")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(_Part):
    """An array, empty until its state comes; `items` are the members of one of objects."""

    __slots__ = ("array", "items")

    def __init__(self) -> None:
        self.array: np.ndarray = np.empty(0)
        self.items: list[Any] | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array with a state that is not numpy's")
        _, shape, dtype, fortran, content = state
        if isinstance(dtype, _Dtype) and dtype.dtype == object:
            if not isinstance(content, list) or len(content) != math.prod(_checked(shape)):
                raise pickle.UnpicklingError("an array with too many or too few members")
            self.array, self.items = np.empty(shape, object), content
        else:
            self.array = _numbers(content, dtype, shape, "F" if fortran else "C")


class _Reconstruct(_Part):
    """The first half of how numpy writes an array; the second is its state."""

    __slots__ = ()

    def __call__(self, kind: object, shape: object, code: object) -> _Array:
        if not isinstance(kind, _ArrayType) or not isinstance(shape, tuple) or shape != (0,):
            raise pickle.UnpicklingError("an array that is not numpy's")
        return _Array()


class _FromBuffer(_Part):
    """How numpy writes an array under protocol 5."""

    __slots__ = ()

    def __call__(
        self, content: object, dtype: object, shape: object, order: object, axes: Any = None
    ) -> _Array:
        made = _Array()
        if order == "K":  # written as C, with its axes in another order
            made.array = _numbers(content, dtype, shape, "C").transpose(axes)
        else:
            made.array = _numbers(content, dtype, shape, order)
        return made


class _Scalar(_Part):
    """One number, or one string of numpy's."""

    __slots__ = ()

    def __call__(self, dtype: object, content: object) -> Any:
        return _numbers(content, dtype, (), "C")[()]


class _MakeDtype(_Part):
    """A dtype of numbers, strings or references."""

    __slots__ = ()

    def __call__(self, code: object, align: object = False, copy: object = False) -> _Dtype:
        if not isinstance(code, str) or not _DTYPES.fullmatch(code):
            raise pickle.UnpicklingError("a dtype that is not of plain numbers or strings")
        return _Dtype(code)


class _Bytes(_Part):
    """Bytes: protocols 0 to 2 write them as Latin-1 text."""

    __slots__ = ()

    def __call__(self, content: object = b"", encoding: object = "latin1") -> bytes:
        if isinstance(content, str) and encoding in ("latin1", "latin-1"):
            return content.encode("latin1")
        if not isinstance(content, (bytes, bytearray)):  # a number would ask for that much memory
            raise pickle.UnpicklingError("bytes that are not written as bytes or as Latin-1")
        return bytes(content)


class _Bytearray(_Bytes):
    """The same, as a bytearray."""

    __slots__ = ()

    def __call__(self, content: object = b"", encoding: object = "latin1") -> Any:
        return bytearray(super().__call__(content, encoding))


class _Set(_Part):
    """A set of the members of a list."""

    __slots__ = ()

    def __call__(self, members: object = ()) -> set[Any]:
        if not isinstance(members, (list, tuple)):
            raise pickle.UnpicklingError("a set of something else than a list")
        return set(members)


class _Frozenset(_Set):
    """A frozenset of the members of a list."""

    __slots__ = ()

    def __call__(self, members: object = ()) -> Any:
        return frozenset(super().__call__(members))


class _OrderedDict(_Part):
    """A dict, from pairs or filled later."""

    __slots__ = ()

    def __call__(self, pairs: Any = ()) -> dict[Any, Any]:
        return {key: value for key, value in pairs}


_ALLOWED: dict[tuple[str, str], _Part] = {
    ("numpy", "ndarray"): _ArrayType(),
    ("numpy", "dtype"): _MakeDtype(),
    ("_codecs", "encode"): _Bytes(),
    ("collections", "OrderedDict"): _OrderedDict(),
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _ALLOWED[_core + ".multiarray", "_reconstruct"] = _Reconstruct()
    _ALLOWED[_core + ".multiarray", "scalar"] = _Scalar()
    _ALLOWED[_core + ".numeric", "_frombuffer"] = _FromBuffer()
for _module in ("builtins", "__builtin__"):  # protocols 3 to 5, and 0 to 2
    _ALLOWED[_module, "bytes"] = _Bytes()
    _ALLOWED[_module, "bytearray"] = _Bytearray()
    _ALLOWED[_module, "set"] = _Set()
    _ALLOWED[_module, "frozenset"] = _Frozenset()


class _Tuple(tuple[Any, ...]):
    """A tuple without a hash: that of tuples which share their members may take forever."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]


class _Unpickler(pickle._Unpickler):
    """Looks names up in the list above, and nowhere else.

    It is the one in Python, not the one in C, because its memo is a dict, in which a huge index costs
    nothing, and because its instructions can be replaced.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names the class {f'{module}.{name}'!r}; only arrays and plain containers are read"
            ) from None

    def _decode_string(self, value: bytes) -> str | bytes:
        return value if len(value) > _LONG else value.decode("latin1")


def _load_bytearray(unpickler: Any) -> None:
    """As Python's, but takes no more memory than the file has bytes."""
    (size,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.append(bytearray(unpickler.read(size)))


def _without_hash(make: Callable[[Any], None]) -> Callable[[Any], None]:
    def make_tuple(unpickler: Any) -> None:
        make(unpickler)
        unpickler.stack[-1] = _Tuple(unpickler.stack[-1])

    return make_tuple


_Unpickler.dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray
for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _Unpickler.dispatch[_code[0]] = _without_hash(_Unpickler.dispatch[_code[0]])


def _numbers(content: object, dtype: object, shape: object, order: Any) -> np.ndarray:
    """An array over `content`, which must be exactly as long as dtype and shape say."""
    if isinstance(content, str):  # bytes of Python 2
        content = content.encode("latin1")
    if not isinstance(content, (bytes, bytearray)) or not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array that is not over plain bytes")
    kind = dtype.dtype
    sizes = _checked(shape)
    if kind.hasobject or len(content) != kind.itemsize * math.prod(sizes):
        raise pickle.UnpicklingError(
            f"an array of {kind} with {len(content)} bytes, which do not fill its shape"
        )
    if kind.kind == "U":
        letters = np.frombuffer(content, np.dtype("u4").newbyteorder(kind.byteorder))
        if letters.max(initial=0) > 0x10FFFF:
            raise pickle.UnpicklingError("a string with letters beyond Unicode")
    return np.ndarray(sizes, kind, content, order=order)


def _checked(shape: object) -> tuple[int, ...]:
    """A shape whose product is what it seems: two negative sizes would make a positive one."""
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise pickle.UnpicklingError("an array whose shape is not of whole numbers")
    return shape


def _finish(value: Any, done: dict[int, Any]) -> Any:
    """`value` with all that it describes made; `done` keeps, by id, what has several places."""
    if isinstance(value, _PLAIN):
        return value
    if id(value) not in done:
        done[id(value)] = _made(value, done)
    return done[id(value)]


def _made(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, list):
        return [_finish(item, done) for item in value]
    if isinstance(value, tuple):
        return tuple([_finish(item, done) for item in value])
    if isinstance(value, dict):
        return {key: _finish(item, done) for key, item in value.items()}
    if isinstance(value, _Dtype):
        return value.dtype
    if isinstance(value, _Array):
        if value.items is not None:
            flat = np.empty(len(value.items), object)
            for row, item in enumerate(value.items):
                flat[row] = _finish(item, done)
            return flat.reshape(value.array.shape)
        return value.array
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__.strip('_')}, which is not data")
