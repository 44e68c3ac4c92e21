"""Files of arrays that a store keeps, read whoever wrote them: one reader for all that looks into a store.

A file is read once, whole and not beyond `LARGEST`, so what is hashed is what is used. It is opened as
`mmbench.hdf5` opens what strangers wrote, and nothing in it may claim more bytes than it has: a store
compresses nothing. Numbers and text of variable length are then taken from the bytes as they lie there,
for HDF5 may follow a damaged heap of text for ever.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mmbench import bounded
from mmbench.errors import DataError
from mmbench.hdf5 import SIGNATURE, datasets, reading

LARGEST = 1 << 30
"""Bytes of a file that is read."""
PLAIN = (
    (np.dtype("<f4"), h5py.h5t.IEEE_F32LE),
    (np.dtype("<f8"), h5py.h5t.IEEE_F64LE),
    (np.dtype("<i8"), h5py.h5t.STD_I64LE),
)
"""Types whose bytes in a file are those in memory."""
ROW = np.dtype([("size", "<u4"), ("heap", "<u8"), ("index", "<u4")])
"""A text of variable length, in a dataset: where it lies."""
HEAD = struct.Struct("<H6xQ")
"""The head of a heap of such texts, and of each text there: its number, and its size."""


def content(path: Path) -> bytes:
    """A file's bytes; DataError if there is none, it cannot be read, or it has more than `LARGEST`."""
    return bounded.read(path, LARGEST)


def sha256(found: bytes) -> str:
    """As manifests have it."""
    return hashlib.sha256(found).hexdigest()


def arrays(found: bytes, path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by their names in it, e.g. "inter/la/0"; text as an array of str.

    found: its `content`; path: what errors name. DataError if it is not plain, or if an array holds neither
    numbers nor text.
    """
    with reading(path):
        if not found.startswith(SIGNATURE):
            raise DataError(f"{path}: no HDF5 file, it does not begin as one")
        opened = h5py.File(h5py.h5f.open_file_image(found))
        try:
            return {
                name: _array(dataset, found, f"{path}: {name}")
                for name, dataset in datasets(opened, path, len(found))
            }
        finally:
            opened.close()


def to_bytes(contents: Mapping[str, np.ndarray]) -> bytes:
    """A file of arrays of numbers or text, which `arrays` reads; the same arrays give the same bytes.

    By HDF5's own calls: there are many small ones, and h5py takes longer to prepare than to write each.
    """
    groups, made = h5py.h5p.create(h5py.h5p.LINK_CREATE), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    groups.set_create_intermediate_group(True)
    made.set_obj_track_times(False)
    made.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # all of it is written
    alike: dict[Any, tuple[h5py.h5s.SpaceID, h5py.h5t.TypeID]] = {}
    options = {"driver": "core", "backing_store": False, "block_size": 1 << 20}  # what it grows by
    with h5py.File("in memory", "w", **options) as file:
        for name, array in contents.items():
            if array.dtype.kind in "UO":
                file.create_dataset(name, data=array.tolist(), dtype=h5py.string_dtype())
                continue
            array = np.asarray(array, order="C")
            sort = array.shape, array.dtype
            if sort not in alike:
                kind = h5py.h5t.py_create(array.dtype, logical=True)
                alike[sort] = h5py.h5s.create_simple(array.shape), kind
            space, kind = alike[sort]
            dataset = h5py.h5d.create(file.id, name.encode(), kind, space, made, groups)
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array, kind)
        file.flush()
        return file.id.get_file_image()


def _array(dataset: h5py.h5d.DatasetID, found: bytes, place: str) -> np.ndarray:
    shape, start, own = dataset.shape, dataset.get_offset(), dataset.get_type()
    count = math.prod(shape or ())
    if start is not None:
        for kind, as_it_lies in PLAIN:
            if own.equal(as_it_lies):
                return np.frombuffer(found, kind, count, start).reshape(shape).copy()
    kind = dataset.dtype
    if shape is None or kind.kind not in "fiuOS":
        raise DataError(f"{place}: holds {kind}, expected numbers or text")
    if kind.kind == "O":
        if h5py.check_string_dtype(kind) is None:
            raise DataError(f"{place}: holds references or lists, expected numbers or text")
        size = dataset.get_storage_size()
        if len(shape) != 1 or (count and (start is None or size != count * ROW.itemsize)):
            raise DataError(f"{place}: its text is not laid out in one row, as a store has it")
        return _texts(_heaped(found, start or 0, count), place)
    values = h5py.Dataset(dataset)[()]
    return _texts(values.reshape(-1).tolist(), place) if kind.kind == "S" else np.asarray(values)


def _texts(values: list[bytes], place: str) -> np.ndarray:
    """Of objects: an array of fixed width would have every text as long as the longest."""
    try:
        return np.array([value.decode() for value in values], dtype=object)
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: its text is not UTF-8") from error


def _heaped(found: bytes, start: int, count: int) -> list[bytes]:
    """Texts of variable length, of a dataset whose rows begin at `start`; ValueError if damaged.

    They may have no more bytes together than the file, for many rows may share a long one.
    """
    heaps: dict[int, dict[int, tuple[int, int]]] = {}
    parts = len(found) // 16  # heaps that overlap have more
    left = len(found)
    texts = []
    for size, heap, index in np.frombuffer(found, ROW, count, start).tolist():
        if not size:
            texts.append(b"")
            continue
        if heap not in heaps:
            heaps[heap] = dict(_heap(found, heap))
            parts -= len(heaps[heap])
        at, has = heaps[heap].get(index, (0, -1))
        left -= size
        if size > has or left < 0 or parts < 0:
            raise ValueError("its text is damaged, or too much")
        texts.append(found[at : at + size])
    return texts


def _heap(found: bytes, at: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number, place and size of each thing in a global heap of HDF5, which begins at `at`.

    Source: HDF5 File Format Specification 3.0, III.E.
    """
    end = at
    if found[at : at + 4] == b"GCOL" and at + HEAD.size <= len(found):
        end += HEAD.unpack_from(found, at)[1]
    if not at < end <= len(found):
        raise ValueError("its text is damaged: no heap where it should be")
    at += HEAD.size
    while at + HEAD.size <= end:
        index, size = HEAD.unpack_from(found, at)
        if not index:  # what is free
            break
        at += HEAD.size
        if at + size > end:
            raise ValueError("its text is damaged: longer than its heap")
        yield index, (at, size)
        at += -(-size // 8) * 8
