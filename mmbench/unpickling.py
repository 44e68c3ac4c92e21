"""Reads pickles of arrays and plain containers, and nothing else: no pickle can run code here.

A pickle names functions to call. This reader knows a handful, each replaced by one of its own that
checks what it is given; any other name is refused before it is looked up.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.errors import DataError


class _ArrayType:
    """Stands for `numpy.ndarray`, which is only ever an argument: nobody may call it for any size."""

    __slots__ = ()


_ARRAY_TYPE = _ArrayType()


class _Reconstruct:
    """An empty array, filled by its state in the next step: how numpy pickles an array."""

    __slots__ = ()  # without a dict or settable attributes, the BUILD opcode cannot alter it

    def __call__(self, kind: object, shape: object, code: object) -> np.ndarray:
        if kind is not _ARRAY_TYPE or shape != (0,):
            raise pickle.UnpicklingError(f"an array of type {kind!r} and shape {shape!r}")
        return np.ndarray((0,), np.int8)


class _Scalar:
    """One number."""

    __slots__ = ()

    def __call__(self, dtype: object, content: object = b"") -> Any:
        if isinstance(content, str):  # bytes of Python 2
            content = content.encode("latin1")
        if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(content, bytes):
            raise pickle.UnpicklingError("a scalar that is not a number")
        return np.frombuffer(content, dtype, count=1)[0]


class _FromBuffer:
    """An array over bytes: how numpy pickles one under protocol 5."""

    __slots__ = ()

    def __call__(self, buffer: object, dtype: object, shape: object, order: object) -> np.ndarray:
        plain = isinstance(dtype, np.dtype) and not dtype.hasobject
        if not plain or not isinstance(buffer, (bytes, bytearray)) or order not in ("C", "F"):
            raise pickle.UnpicklingError("an array that is not over plain bytes")
        return np.frombuffer(buffer, dtype).reshape(shape, order=order)  # type: ignore[call-overload]


class _Dtype:
    """A type of numbers or strings, or of references to what this reader lets in."""

    __slots__ = ()

    def __call__(self, code: object, align: object = False, copy: object = False) -> np.dtype[Any]:
        if not isinstance(code, str) or len(code) > 16:
            raise pickle.UnpicklingError(f"a dtype from {code!r}")
        return np.dtype(code)


class _Encode:
    """Bytes, as protocols 0 to 2 write them: text in Latin-1."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("bytes in an encoding other than Latin-1")
        return text.encode("latin1")


class _Bytes:
    """Empty or given bytes, or a bytearray of bytes."""

    __slots__ = ("kind",)

    def __init__(self, kind: type[bytes] | type[bytearray]) -> None:
        self.kind = kind

    def __call__(self, *content: object) -> bytes | bytearray:
        if not content:
            return self.kind()
        first = content[0]
        if isinstance(first, str) and content[1:] in (("latin1",), ("latin-1",)):
            first = first.encode("latin1")
        elif content[1:]:
            raise pickle.UnpicklingError("bytes in an encoding other than Latin-1")
        if not isinstance(first, (bytes, bytearray)):  # a number would ask for that much memory
            raise pickle.UnpicklingError("bytes from something else than bytes")
        return self.kind(first)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY_TYPE,
    ("numpy", "dtype"): _Dtype(),
    ("_codecs", "encode"): _Encode(),
    ("collections", "OrderedDict"): OrderedDict,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[_core + ".multiarray", "_reconstruct"] = _Reconstruct()
    _ALLOWED[_core + ".multiarray", "scalar"] = _Scalar()
    _ALLOWED[_core + ".numeric", "_frombuffer"] = _FromBuffer()
for _module in ("builtins", "__builtin__"):
    _ALLOWED[_module, "bytes"] = _Bytes(bytes)
    _ALLOWED[_module, "bytearray"] = _Bytes(bytearray)
    _ALLOWED[_module, "set"] = set
    _ALLOWED[_module, "frozenset"] = frozenset


class _Unpickler(pickle.Unpickler):
    """Looks names up in the list above, and nowhere else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}; only arrays and plain containers are read"
            ) from None

    def persistent_load(self, reference: object) -> Any:
        raise pickle.UnpicklingError("it refers to something outside of itself")


def load(path: Path) -> Any:
    """The content of a pickle of arrays, numbers, strings, lists, tuples, sets and dicts.

    Raises DataError for anything else, for a file that is cut short, and for one that asks for more
    memory than there is.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise DataError(f"{path}: refused, it asks for more memory than there is") from error
    except Exception as error:  # a hostile or broken stream may raise anything inside the machine
        text = str(error) or type(error).__name__
        raise DataError(f"{path}: refused or damaged: {text}") from error
