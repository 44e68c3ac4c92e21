"""The store: a folder of results, each one whole or not there at all.

    <root>/<dataset>/<method>/seed-<n>-<key>/manifest.json     what was done and what it scored
                                             predictions.h5    what was predicted, sample by sample
                                             representations.h5    if asked for: values, groups

A manifest has `schema`, `status` ("finished" or "failed"), `key` (of everything that decides the
numbers), `config` (the same without the seed), `job`, `data`, `method`, `protocols`, `metrics`, `floor`,
`scores`, `averages`, `training`, `parameters`, `seconds`, `environment` and `predictions_sha256`; a
failure has `reason` and `traceback` instead of what it did not reach. `representations` is there if they
were asked for: their `condition` and `sha256`, or why they are `absent`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import plainjson
from mmbench.arrays import arrays, content, write
from mmbench.arrays import sha256 as found_sha256
from mmbench.errors import DataError, UsageError
from mmbench.jobs import SCHEMA, Job, Outcome

MANIFEST, PREDICTIONS = "manifest.json", "predictions.h5"
REPRESENTATIONS = "representations.h5"
UNFINISHED = ".unfinished-"
MANIFEST_LIMIT = 1 << 26
"""Bytes; a manifest of some 20,000 scores has a twentieth of it."""


class Store:
    """Results below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def check_writable(self) -> None:
        """Creates the folder; UsageError if results could not be written there.

        Also sweeps away what writers that were killed have left.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for left in self.root.glob(f"{UNFINISHED}*"):
                if not _is_alive(left):
                    shutil.rmtree(left, ignore_errors=True)
            shutil.rmtree(self._unfinished())
        except OSError as error:
            raise UsageError(
                f"cannot write results to {self.root}: {error.strerror}; choose another --store"
            ) from error

    def folder(self, job: Mapping[str, Any], key: str) -> Path:
        """Where the result of a job stands."""
        for name in (job["dataset"], job["method"], key):
            if not re.fullmatch(r"[\w][\w.+-]*", name):
                raise UsageError(
                    f"{name!r} cannot be the name of a folder; use letters, digits, - _ ."
                )
        return self.root / job["dataset"] / job["method"] / f"seed-{int(job['seed'])}-{key}"

    def finished(self, job: Job) -> bool:
        """Whether there is a finished result of this very job, with representations if it asks for them."""
        folder = self.folder(vars(job), job.key)
        manifest = _read(folder / MANIFEST)
        return (
            manifest is not None
            and manifest.get("status") == "finished"
            and (folder / PREDICTIONS).is_file()
            and (not job.embeddings or "representations" in manifest)
        )

    def save(self, outcome: Outcome) -> Path:
        """Files an outcome; a crash at any moment leaves the old state or the new one."""
        manifest = dict(outcome.manifest)
        target = self.folder(manifest["job"], manifest["key"])
        temporary, replaced = self._unfinished(), None
        try:
            if outcome.predictions:
                predictions = temporary / PREDICTIONS
                write(predictions, outcome.predictions)
                manifest["predictions_sha256"] = _sha256(predictions)
            if outcome.representations:
                beside = temporary / REPRESENTATIONS
                write(beside, outcome.representations)
                about = manifest["representations"]
                manifest["representations"] = {**about, "sha256": _sha256(beside)}
            (temporary / MANIFEST).write_text(_text(manifest), encoding="utf-8")
            for file in temporary.iterdir():
                _flush(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                # An earlier failure, or damage. A folder cannot be replaced at once: a crash between
                # these two lines leaves no result, and the job is done again.
                replaced = self._unfinished()
                target.rename(replaced / target.name)
            temporary.rename(target)
            _flush(target.parent)
        finally:
            for left in (temporary, replaced):
                if left is not None:
                    shutil.rmtree(left, ignore_errors=True)
        return target

    def datasets(self) -> list[str]:
        """Names of the data sets that there are results of."""
        return sorted({manifest["job"]["dataset"] for manifest in self.each()})

    def manifests(self, dataset: str | None = None) -> list[dict[str, Any]]:
        """All manifests, or those of one data set, in an order that does not depend on the disk."""
        return list(self.each(dataset))

    def each(self, dataset: str | None = None) -> Iterator[dict[str, Any]]:
        """The same, one at a time: those of a grid together fill the memory."""
        return (m for _, m in self._all(dataset) if m is not None)

    def damaged(self) -> list[Path]:
        """Manifests that cannot be read."""
        return [path for path, manifest in self._all(None) if manifest is None]

    def predictions(self, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a result, as in `Outcome`; DataError if the file was altered."""
        return self._arrays(manifest, PREDICTIONS, manifest["predictions_sha256"])

    def representations(self, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """As in `Outcome`, empty if the result has none; DataError if the file was altered."""
        sha256 = manifest.get("representations", {}).get("sha256")
        return self._arrays(manifest, REPRESENTATIONS, sha256) if sha256 else {}

    def _arrays(self, manifest: Mapping[str, Any], name: str, sha256: str) -> dict[str, np.ndarray]:
        path = self.folder(manifest["job"], manifest["key"]) / name
        found = content(path)
        if found_sha256(found) != sha256:
            raise DataError(f"{path}: altered since it was written; delete its folder, run again")
        return arrays(found, path)

    def _all(self, dataset: str | None) -> Iterator[tuple[Path, dict[str, Any] | None]]:
        for path in sorted(self.root.glob(f"{dataset or '*'}/*/seed-*/{MANIFEST}")):
            yield path, _read(path)

    def _unfinished(self) -> Path:
        """A folder of this process, beside the results and never read as one."""
        path = self.root / f"{UNFINISHED}{os.getpid()}-{secrets.token_hex(8)}"
        path.mkdir()  # not mkdtemp, which shuts out everyone whom the umask lets read
        return path


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest; DataError, which says why, if it is damaged, too long, or of a layout unknown here."""
    try:
        manifest = plainjson.read(path, MANIFEST_LIMIT)
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"schema {manifest['schema']!r}, expected {SCHEMA}")
        if not isinstance(manifest["job"]["dataset"], str):
            raise ValueError("its job names no data set")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as a manifest ({error!r})") from error
    return manifest


def _text(manifest: Mapping[str, Any]) -> str:
    """A line for each part, and for each part of that; one for each score would take longer than they do."""
    encode = json.JSONEncoder(allow_nan=False).encode

    def lines(told: Mapping[str, Any], indent: str, depth: int) -> str:
        deeper = indent + " "
        parts = (
            f"{deeper}{encode(name)}: "
            + (lines(v, deeper, depth - 1) if depth and v and isinstance(v, dict) else encode(v))
            for name, v in told.items()
        )
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"

    return lines(manifest, "", 1) + "\n"


def _read(path: Path) -> dict[str, Any] | None:
    """A manifest; None if there is none that can be read."""
    try:
        return read_manifest(path)
    except DataError:
        return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flush(path: Path) -> None:
    """Has the disk keep a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_alive(left: Path) -> bool:
    """Whether the process that an unfinished folder names is still there."""
    pid = left.name.removeprefix(UNFINISHED).split("-")[0]
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True
