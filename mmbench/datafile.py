"""Data sets on disk: one documented HDF5 file each, with a checksum of its content.

    attributes  format = "mmbench-dataset", format_version = 1, name, task (JSON), synthetic,
                source (JSON), modalities (JSON list, in order), sha256
    train/, valid/, test/
        features/<modality>  float32 (N, T, D), padding is zero
        valid/<modality>     bool (N, T), False for padding
        targets              float32 (N, 1) or int64 (N, L)
        ids                  UTF-8 strings (N,)
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from mmbench.data import SPLITS, Data, Dataset, Notice, Samples
from mmbench.errors import DataError
from mmbench.paths import cache_dir
from mmbench.tasks import task_from_dict

FORMAT, FORMAT_VERSION = "mmbench-dataset", 1


def path_of(dataset: Dataset) -> Path:
    """Where a data set is kept."""
    return cache_dir() / "datasets" / f"{dataset.name}-v{dataset.version}.h5"


def is_there(dataset: Dataset) -> bool:
    """Whether it has been made or imported."""
    return path_of(dataset).is_file()


def obtain(dataset: Dataset) -> Data:
    """The data set, read from the cache or, if it can be, made and kept there.

    Raises DataError for real data that has not been imported, or whose file was altered.
    """
    path = path_of(dataset)
    if path.is_file():
        try:
            return read(path)
        except DataError as error:
            if not dataset.synthetic:
                raise DataError(
                    f"{error}; import it again: mmbench data import {dataset.name} FILE"
                ) from error
    made = dataset.make()
    if made is None:
        raise DataError(
            f"{dataset.name} has not been imported; mmbench data import {dataset.name} FILE"
        )
    return write(made, path)


def store_import(
    dataset: Dataset, paths: Sequence[Path]
) -> tuple[Data, list[Notice]]:
    """Reads foreign files and keeps what they hold; on any error the cache stays as it was."""
    data, notices = dataset.read(paths)
    return write(data, path_of(dataset)), notices


def write(data: Data, path: Path) -> Data:
    """Writes a file, whole or not at all; returns the data with its checksum."""
    data = replace(data, sha256=content_hash(data))
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            name=data.name,
            task=json.dumps(data.task.to_dict()),
            synthetic=data.synthetic,
            source=json.dumps(dict(data.source)),
            modalities=json.dumps(list(data.modalities())),
            sha256=data.sha256,
        )
        for split in SPLITS:
            samples = data.splits[split]
            group = file.create_group(split)
            for m, x in samples.features.items():
                group[f"features/{m}"] = x
                group[f"valid/{m}"] = samples.valid[m]
            group["targets"] = samples.targets
            group.create_dataset("ids", data=list(samples.ids), dtype=h5py.string_dtype())
    return data


def read(path: Path) -> Data:
    """Reads a file and verifies its checksum; DataError if it was cut short or altered."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise DataError(f"{path}: not a data set of mmbench")
            if file.attrs["format_version"] != FORMAT_VERSION:
                raise DataError(
                    f"{path}: format version {file.attrs['format_version']}, expected {FORMAT_VERSION}"
                )
            modalities = json.loads(file.attrs["modalities"])
            data = Data(
                name=file.attrs["name"],
                task=task_from_dict(json.loads(file.attrs["task"])),
                splits={split: _read_split(file[split], modalities) for split in SPLITS},
                synthetic=bool(file.attrs["synthetic"]),
                source=json.loads(file.attrs["source"]),
                sha256=file.attrs["sha256"],
            )
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read, it was cut short or altered ({error})") from error
    if content_hash(data) != data.sha256:
        raise DataError(f"{path}: its content does not have the checksum that it was written with")
    return data


def _read_split(group: h5py.Group, modalities: Sequence[str]) -> Samples:
    return Samples(
        tuple(group["ids"].asstr()[:]),
        {m: group[f"features/{m}"][:] for m in modalities},
        {m: group[f"valid/{m}"][:] for m in modalities},
        group["targets"][:],
    )


def content_hash(data: Data) -> str:
    """SHA-256 of what a data set says, however HDF5 lays it out."""
    digest = hashlib.sha256()
    said = [data.name, data.task.to_dict(), bool(data.synthetic), list(data.modalities())]
    digest.update(json.dumps(said).encode())
    for split in SPLITS:
        samples = data.splits[split]
        digest.update(json.dumps([split, list(samples.ids)]).encode())
        for array in (*samples.features.values(), *samples.valid.values(), samples.targets):
            array = np.ascontiguousarray(array)
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(memoryview(array).cast("B"))
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place when the block ends well.

    Two writers may race: each has a file of its own, and the last one to finish stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
