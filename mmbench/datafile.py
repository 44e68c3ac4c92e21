"""Data sets on disk: one HDF5 file each, with a checksum of its content.

attributes  format = "mmbench-dataset", format_version = 2, name, task (JSON), synthetic,
            source (JSON), modalities (JSON list, in order), sha256
train/, valid/, test/
    features/<modality>  float32 (N, T, D), finite, padding is zero
    valid/<modality>     bool (N, T), False for padding
    targets              float32 (N, 1) or int64 (N, L)
    ids                  UTF-8 strings (N,), unique

All text has a fixed length: HDF5 may read a damaged heap of other text for ever.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mmbench.data import SPLITS, Data, Dataset, Notice, Samples
from mmbench.errors import DataError
from mmbench.importers import Importer
from mmbench.paths import cache_dir
from mmbench.tasks import task_from_dict

FORMAT, FORMAT_VERSION = "mmbench-dataset", 2


def path_of(dataset: Dataset) -> Path:
    """Where a data set is kept."""
    return cache_dir() / "datasets" / f"{dataset.name}-v{dataset.version}.h5"


def is_there(dataset: Dataset) -> bool:
    """Whether it has been made or imported; its file is not opened."""
    return path_of(dataset).is_file()


def obtain(dataset: Dataset) -> Data:
    """The data set, read from the cache or, if it can be, made and kept there.

    Raises DataError for real data that has not been imported, or whose file was altered.
    """
    path = path_of(dataset)
    if path.is_file():
        try:
            data = read(path)
            if (data.name, data.task) != (dataset.name, dataset.task):
                raise DataError(
                    f"{path}: holds {data.name!r}, expected {dataset.name!r}; delete it"
                )
            return data
        except DataError as error:
            if not dataset.synthetic:
                raise DataError(
                    f"{error}; then: mmbench data import {dataset.name} FILE"
                ) from error
    made = dataset.make()
    if made is None:
        raise DataError(
            f"data set {dataset.name!r} has not been imported; "
            f"import it: mmbench data import {dataset.name} FILE"
        )
    check(made)
    return write(made, path)


def check_importable(dataset: Dataset) -> None:
    """DataError if it is made by mmbench: real data never takes a twin's name."""
    if dataset.synthetic:
        raise DataError(f"data set {dataset.name!r} is made by mmbench and cannot be imported")


def store_import(
    dataset: Dataset, importer: Importer, paths: Sequence[Path]
) -> tuple[Data, list[Notice]]:
    """Reads foreign files and keeps what they hold; on any error the cache stays as it was."""
    check_importable(dataset)
    data, notices = importer.read(paths, dataset)
    check(data)
    return write(data, path_of(dataset)), notices


def check(data: Data) -> None:
    """DataError, naming split and modality, where a data set is not what `Data` promises."""
    for split in SPLITS:
        if split not in data.splits:
            raise DataError(f"data set {data.name!r}: there is no split {split!r}")
        samples, shapes = data.splits[split], data.modalities()
        where, n = f"data set {data.name!r}, split {split!r}", len(samples.ids)
        if not n or len(set(samples.ids)) != n:
            raise DataError(f"{where}: expected at least one sample, and ids that are unique")
        if not list(shapes) == list(samples.features) == list(samples.valid):
            raise DataError(f"{where}: expected features and valid of {', '.join(shapes)}")
        for m, shape in shapes.items():
            x, valid, expected = (
                samples.features[m],
                samples.valid[m],
                (n, shape.length, shape.width),
            )
            if x.dtype != np.float32 or x.shape != expected:
                raise DataError(
                    f"{where}: features of {m!r} must be float32 {expected}, got {x.dtype} {x.shape}"
                )
            if valid.dtype != np.bool_ or valid.shape != expected[:2]:
                raise DataError(
                    f"{where}: valid of {m!r} must be bool {expected[:2]}, "
                    f"got {valid.dtype} {valid.shape}"
                )
            if not np.isfinite([x.min(initial=0), x.max(initial=0)]).all():  # copies nothing
                raise DataError(f"{where}: features of {m!r} must be finite")
            if (x.any(-1) & ~valid).any():
                raise DataError(f"{where}: features of {m!r} must be zero where valid is False")
        try:
            targets = data.task.check(samples.targets)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        got, expected_targets = samples.targets, (n, *targets.shape[1:])
        if got.dtype != targets.dtype or got.shape != expected_targets:
            raise DataError(
                f"{where}: targets must be {targets.dtype} {expected_targets}, "
                f"got {got.dtype} {got.shape}"
            )


def write(data: Data, path: Path) -> Data:
    """Writes a file, whole or not at all; returns the data with its checksum."""
    data = replace(data, sha256=content_hash(data))
    said = {
        "format": FORMAT,
        "name": data.name,
        "task": json.dumps(data.task.to_dict()),
        "source": json.dumps(dict(data.source)),
        "modalities": json.dumps(list(data.modalities())),
        "sha256": data.sha256,
    }
    try:
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs.update({key: np.bytes_(text.encode()) for key, text in said.items()})
            file.attrs.update(format_version=FORMAT_VERSION, synthetic=data.synthetic)
            for split in SPLITS:
                samples, group = data.splits[split], file.create_group(split)
                for m, x in samples.features.items():
                    group[f"features/{m}"] = x
                    group[f"valid/{m}"] = samples.valid[m]
                group["targets"] = samples.targets
                names = [name.encode() for name in samples.ids]
                kind = h5py.string_dtype(length=max(1, *map(len, names)))
                group.create_dataset("ids", data=np.array(names, kind), dtype=kind)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error}); MMBENCH_CACHE may name another folder"
        ) from error
    return data


def read(path: Path) -> Data:
    """Reads a file and verifies its checksum; DataError if it was cut short or altered."""
    try:
        with h5py.File(path, "r") as file:
            if not is_own(file):
                raise ValueError(f"not {FORMAT} of format version {FORMAT_VERSION}")
            said = header(file)
            data = Data(
                name=said["name"],
                task=task_from_dict(said["task"]),
                splits={split: _samples(file[split], said["modalities"]) for split in SPLITS},
                synthetic=said["synthetic"],
                source=said["source"],
                sha256=said["sha256"],
            )
        found = content_hash(data)
    except Exception as error:  # HDF5 and what reads a damaged file may raise anything
        raise DataError(
            f"{path}: cut short, altered, or no data set ({error}); delete it"
        ) from error
    if found != data.sha256:
        raise DataError(f"{path}: altered, its content has not the SHA-256 it claims; delete it")
    return data


def is_own(file: h5py.File) -> bool:
    """Whether it is a data set of this layout."""
    form, version = _attribute(file, "format"), _attribute(file, "format_version")
    return form == FORMAT.encode() and version == FORMAT_VERSION


def header(file: h5py.File) -> dict[str, Any]:
    """What its attributes say of a data set; ValueError, with the name, if one is missing."""
    said: dict[str, Any] = {"synthetic": bool(_attribute(file, "synthetic"))}
    for key in ("name", "task", "source", "modalities", "sha256"):
        value = _attribute(file, key)
        if not isinstance(value, bytes):
            raise ValueError(f"no attribute {key!r}")
        said[key] = value.decode() if key in ("name", "sha256") else json.loads(value)
    return said


def _attribute(file: h5py.File, name: str) -> Any:
    """The value of an attribute of fixed length, None for any other and if there is none."""
    if name not in file.attrs or file.attrs.get_id(name).dtype.kind == "O":
        return None
    return file.attrs[name]


def _samples(group: h5py.Group, modalities: Sequence[str]) -> Samples:
    return Samples(
        tuple(group["ids"].asstr()[:]),
        {m: group[f"features/{m}"][:] for m in modalities},
        {m: group[f"valid/{m}"][:] for m in modalities},
        group["targets"][:],
    )


def content_hash(data: Data) -> str:
    """SHA-256, in hex, of what a data set says, however HDF5 lays it out and wherever it came from."""
    modalities = list(data.modalities())
    digest = hashlib.sha256()
    said = [data.name, data.task.to_dict(), bool(data.synthetic), modalities]
    digest.update(json.dumps(said).encode())
    for split in SPLITS:
        samples = data.splits[split]
        digest.update(json.dumps([split, list(samples.ids)]).encode())
        features, valid = samples.features, samples.valid
        for array in (*(x[m] for x in (features, valid) for m in modalities), samples.targets):
            array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file that takes its place when the block ends well.

    Two writers may race: each has a name of its own, and the last one to finish stays. What those have left
    that were killed is removed an hour later.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
