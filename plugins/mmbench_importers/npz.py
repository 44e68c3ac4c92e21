"""One's own data as a NumPy archive: `np.savez("mine.npz", **{"train/features/l": x, ...})`.

<split>/features/<modality>  numbers (N, T, D); splits are train, valid and test, modalities e.g. l, a, v
<split>/valid/<modality>     bool (N, T), optional: False for padding; else all but zero frames at the ends
<split>/targets              numbers (N,) or (N, L), as the data set's task wants them
<split>/ids                  text or numbers (N,), optional

`_layout.py` says more. An archive is a ZIP file whose headers may lie, so nothing is decompressed before
its size, as stated, has been found possible, and never more than was stated. No pickle is read.
"""

from __future__ import annotations

import math
import stat
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import mmbench
from mmbench.data import Data, Dataset, Notice
from mmbench.errors import DataError
from mmbench_importers._layout import check_size, one_of, read_layout

_ENCRYPTED = 0x1 | 0x40
"""Flags of a member: encrypted, and strongly so."""


class NPZ(mmbench.Importer):
    """One such file."""

    name = "npz"
    summary = "a NumPy archive with the keys <split>/features/<modality>, <split>/targets, ..."

    def recognises(self, paths: Sequence[Path]) -> bool:
        """One ZIP file."""
        try:
            with paths[0].open("rb") as file:
                return len(paths) == 1 and file.read(4) == b"PK\x03\x04"
        except (OSError, IndexError):
            return False

    def read(self, paths: Sequence[Path], dataset: Dataset) -> tuple[Data, list[Notice]]:
        """From one file; DataError if it does not fit."""
        path = one_of(paths, dataset, "NumPy archive")
        try:
            with zipfile.ZipFile(path) as archive:
                members = _members(path, archive)
                return read_layout(
                    path, dataset, members, lambda key: _array(path, archive, members[key])
                )
        except (DataError, KeyboardInterrupt):
            raise
        except MemoryError as error:
            raise DataError(f"{path}: there is not enough memory for it") from error
        except Exception as error:  # what reads a hostile or damaged archive may raise anything
            what = str(error) or type(error).__name__
            raise DataError(f"{path}: not a whole NumPy archive ({what})") from error


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """By key; DataError for what no archive of arrays has."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        where = f"{path}: member {info.filename!r}"
        key = info.filename.removesuffix(".npy")
        if key == info.filename or key in members:
            raise DataError(f"{where}: expected one NAME.npy of each name")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(f"{where}: a link; put the array itself there")
        if info.flag_bits & _ENCRYPTED:
            raise DataError(f"{where}: encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{where}: compressed in another way than np.savez does")
        members[key] = info
    check_size(path, sum(info.file_size for info in members.values()))
    return members


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array, if it is exactly as large as its member is stated to be."""
    where = f"{path}: member {info.filename!r}"
    with archive.open(info) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers that Python 2 wrote
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise DataError(f"{where}: expected an array of numbers or text, in NPY 1.0 or 2.0")
        if dtype.kind not in "biufUS":
            raise DataError(f"{where}: expected an array of numbers or text, got one of {dtype}")
        stated = info.file_size - stream.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != stated:
            raise DataError(f"{where}: an array of {dtype} {shape} in {stated} bytes")
    with archive.open(info) as stream:  # gives no more bytes than stated, and checks their sum
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


@mmbench.hookimpl
def mmbench_register_importers() -> type[mmbench.Importer]:
    """NumPy archives."""
    return NPZ
