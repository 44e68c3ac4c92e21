"""One's own data as an HDF5 file, or a data set that mmbench wrote.

<split>/features/<modality>  numbers (N, T, D); splits are train, valid and test, modalities e.g. l, a, v
<split>/valid/<modality>     bool (N, T), optional: False for padding; else all but zero frames at the ends
<split>/targets              numbers (N,) or (N, L), as the data set's task wants them
<split>/ids                  text or numbers (N,), optional

`_layout.py` says more. Everything must lie in the file itself: links, virtual data sets and external
storage are refused, and so are filters that are no part of HDF5 and h5py. A file of mmbench
(`mmbench/datafile.py`) has this layout, too; its task and its checksum must be right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import mmbench
from mmbench import datafile
from mmbench.data import Data, Dataset, Notice
from mmbench.errors import DataError
from mmbench.tasks import task_from_dict
from mmbench_importers._layout import check_size, one_of, read_layout

_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}
_DEPTH = 3
"""Parts of the longest key."""
_ARRAYS = 1000
"""So many are looked at: by hard links, a small file can name one array a billion times."""


class HDF5(mmbench.Importer):
    """One such file."""

    name = "hdf5"
    summary = (
        "an HDF5 file with <split>/features/<modality>, <split>/targets, ..., or mmbench's own"
    )

    def recognises(self, paths: Sequence[Path]) -> bool:
        """One HDF5 file."""
        try:
            with paths[0].open("rb") as file:
                return len(paths) == 1 and file.read(8) == b"\x89HDF\r\n\x1a\n"
        except (OSError, IndexError):
            return False

    def read(self, paths: Sequence[Path], dataset: Dataset) -> tuple[Data, list[Notice]]:
        """From one file; DataError if it does not fit."""
        path = one_of(paths, dataset, "HDF5 file")
        try:
            with h5py.File(path, "r") as file:
                found = dict(islice(_walk(path, file), _ARRAYS + 1))
                if len(found) > _ARRAYS:
                    raise DataError(f"{path}: refused, it has more than {_ARRAYS} arrays")
                check_size(path, sum(x.size * x.dtype.itemsize for x in found.values()))
                data, notices = read_layout(
                    path, dataset, found, lambda key: _array(path, found[key])
                )
                if file.attrs.get("format") == datafile.FORMAT:
                    _check_own(path, file.attrs, data)
                return data, notices
        except (DataError, KeyboardInterrupt):
            raise
        except MemoryError as error:
            raise DataError(f"{path}: there is not enough memory for it") from error
        except Exception as error:  # what reads a hostile or damaged file may raise anything
            what = str(error) or type(error).__name__
            raise DataError(f"{path}: not a whole HDF5 file of arrays ({what})") from error


def _walk(path: Path, group: h5py.Group, above: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """Every array by its key; DataError for what is no array, or not in this file."""
    for name in group:
        key = above + name
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise DataError(f"{path}: {key}: a link; copy the array itself to this place")
        item = group[name]
        if isinstance(item, h5py.Group):
            if key.count("/") + 1 >= _DEPTH:  # a group that holds itself would never end
                raise DataError(f"{path}: {key}: expected an array, got a group")
            yield from _walk(path, item, key + "/")
        elif isinstance(item, h5py.Dataset):
            _check_stored(path, key, item)
            yield key, item
        else:
            raise DataError(f"{path}: {key}: expected an array, got a type")


def _check_stored(path: Path, key: str, x: h5py.Dataset) -> None:
    """DataError if an array is not plainly in the file."""
    if x.is_virtual or x.external:
        raise DataError(f"{path}: {key}: its content lies in other files; copy it into this one")
    made = x.id.get_create_plist()
    for number in range(made.get_nfilters()):
        code, _, _, title = made.get_filter(number)
        if code not in _FILTERS:
            raise DataError(
                f"{path}: {key}: filter {title.decode(errors='replace') or code!r}; "
                "expected none, or gzip, lzf, shuffle or fletcher32"
            )
    if x.shape is None or (x.dtype.kind not in "biufS" and not h5py.check_string_dtype(x.dtype)):
        raise DataError(f"{path}: {key}: expected an array of numbers or text, got {x.dtype}")


def _array(path: Path, x: h5py.Dataset) -> np.ndarray | list[Any]:
    """All of an array. Text of any length is read row by row: rows may share one long text."""
    if x.dtype.kind != "O":
        return x[()]
    if x.ndim != 1:
        raise DataError(f"{path}: {x.name}: expected text of shape (N,), got {x.shape}")
    rows: list[Any] = []
    left = path.stat().st_size
    for number in range(len(x)):
        rows.append(x[number])
        left -= len(rows[-1])
        if left < 0:
            raise DataError(
                f"{path}: {x.name}: refused, it holds more text than the file has bytes"
            )
    return rows


def _check_own(path: Path, said: h5py.AttributeManager, data: Data) -> None:
    """DataError if a file of mmbench is a twin, of another task, or altered."""
    if said["synthetic"]:
        raise DataError(f"{path}: synthetic, made by mmbench; {data.name} takes real data alone")
    task = task_from_dict(json.loads(said["task"]))
    if task != data.task:
        raise DataError(f"{path}: its task is {task}, but that of {data.name} is {data.task}")
    order = json.loads(said["modalities"])
    splits = {
        split: replace(
            samples,
            features={m: samples.features[m] for m in order},
            valid={m: samples.valid[m] for m in order},
        )
        for split, samples in data.splits.items()
    }
    if datafile.content_hash(replace(data, name=said["name"], splits=splits)) != said["sha256"]:
        raise DataError(f"{path}: altered, its content has not the SHA-256 it claims")


@mmbench.hookimpl
def mmbench_register_importers() -> type[mmbench.Importer]:
    """HDF5 files."""
    return HDF5
