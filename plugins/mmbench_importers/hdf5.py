"""One's own data as an HDF5 file, or a data set that mmbench wrote.

<split>/features/<modality>  numbers (N, T, D); splits are train, valid and test, modalities e.g. l, a, v
<split>/valid/<modality>     bool (N, T), optional: False for padding; else all but zero frames at the ends
<split>/targets              numbers (N,) or (N, L), as the data set's task wants them
<split>/ids                  text or numbers (N,), optional

`_layout.py` says more, and `mmbench/hdf5.py` what is refused: whatever does not lie in the file itself. A
file of mmbench (`mmbench/datafile.py`) has this layout, too; its task and its checksum must be right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import mmbench
from mmbench import datafile
from mmbench.data import Data, Dataset, Notice
from mmbench.errors import DataError
from mmbench.hdf5 import SIGNATURE, open_plain, reading, try_text
from mmbench.tasks import task_from_dict
from mmbench_importers._layout import check_size, one_of, read_layout


class HDF5(mmbench.Importer):
    """One such file."""

    name = "hdf5"
    summary = (
        "an HDF5 file with <split>/features/<modality>, <split>/targets, ..., or mmbench's own"
    )

    def recognises(self, paths: Sequence[Path]) -> bool:
        """One HDF5 file, unless its name says that it is a computational sequence."""
        try:
            with paths[0].open("rb") as file:
                here = len(paths) == 1 and file.read(len(SIGNATURE)) == SIGNATURE
            return here and paths[0].suffix.lower() != ".csd"
        except (OSError, IndexError):
            return False

    def read(self, paths: Sequence[Path], dataset: Dataset) -> tuple[Data, list[Notice]]:
        """From one file; DataError if it does not fit."""
        path = one_of(paths, dataset, "HDF5 file")
        with open_plain(path) as file, reading(path):
            found = _arrays(path, file)
            if any(x.dtype.kind == "O" for x in found.values()):
                try_text(path)
            check_size(path, sum(x.size * x.dtype.itemsize for x in found.values()))
            data, notices = read_layout(path, dataset, found, lambda key: _array(path, found[key]))
            if datafile.is_own(file):
                _check_own(path, datafile.header(file), data)
            return data, notices


def _arrays(path: Path, file: h5py.File) -> dict[str, h5py.Dataset]:
    """Every array of a plain file by its key; DataError for one that has neither numbers nor text."""
    found: dict[str, h5py.Dataset] = {}

    def keep(key: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            if item.shape is None or (
                item.dtype.kind not in "biufS" and not h5py.check_string_dtype(item.dtype)
            ):
                raise DataError(
                    f"{path}: {key}: expected an array of numbers or text, got {item.dtype}"
                )
            found[key] = item

    file.visititems(keep)
    return found


def _array(path: Path, x: h5py.Dataset) -> np.ndarray | list[Any]:
    """All of an array."""
    if x.dtype.kind != "O":
        return x[()]
    if x.ndim != 1:
        raise DataError(f"{path}: {x.name}: expected text of shape (N,), got {x.shape}")
    return [x[number] for number in range(len(x))]


def _check_own(path: Path, said: Mapping[str, Any], data: Data) -> None:
    """DataError if a file of mmbench is a twin, of another task, or altered."""
    if said["synthetic"]:
        raise DataError(f"{path}: synthetic, made by mmbench; {data.name} takes real data alone")
    task = task_from_dict(said["task"])
    if task != data.task:
        raise DataError(f"{path}: its task is {task}, but that of {data.name} is {data.task}")
    order = said["modalities"]
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
