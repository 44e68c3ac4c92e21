"""The store: a folder of results, each one whole or not there at all.

    <root>/<dataset>/<method>/seed-<n>-<key>/manifest.json     what was done and what it scored
                                             predictions.h5    what was predicted, sample by sample
                                             representations.h5    if asked for: values, groups

What a manifest has is told in mmbench/manifests.py, what a file of predictions has in mmbench/predictions.py.

A result is written beside the others, as `.unfinished-<host>-<process>-<random>`, and appears by a rename. One that
is replaced is first moved into such a folder. Whatever a killed writer left there whole is put in its place by
the next run.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import arrays, manifests, predictions
from mmbench.errors import DataError, UsageError
from mmbench.jobs import Job, Outcome
from mmbench.manifests import MANIFEST

PREDICTIONS, REPRESENTATIONS = "predictions.h5", "representations.h5"
UNFINISHED = ".unfinished-"
ROOM = 1 << 20
"""Bytes that there must be room for when a run begins."""
ABANDONED = 3600.0
"""Seconds after which an unfinished folder belongs to nobody, whatever process has the number of its writer."""


class Store:
    """Results below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def check_writable(self) -> None:
        """Creates the folder; UsageError if results could not be written there.

        Also puts in its place what writers that were killed have left whole, and sweeps the rest away.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._recover()
            probe = self._unfinished()
            try:
                _write(probe / "probe", bytes(ROOM))
            finally:
                shutil.rmtree(probe, ignore_errors=True)
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
        """Whether there is a finished result of this very job, with representations if it asks for them, or the
        reason why there are none."""
        return self.answers(job, self.manifest(job))

    def answers(self, job: Job, manifest: Mapping[str, Any] | None) -> bool:
        """Whether its manifest, as `manifest` gives it, is that of a finished result with all that it asks for."""
        return (
            manifest is not None
            and manifest["status"] == "finished"
            and (not job.embeddings or "representations" in manifest)
        )

    def manifest(self, job: Job) -> dict[str, Any] | None:
        """That of this very job, finished or failed; None unless every file of it is as it was written."""
        return _whole(self.folder(vars(job), job.key))

    def save(self, outcome: Outcome) -> Path:
        """Files an outcome; a crash at any moment leaves the old state or the new one.

        A failure never takes the place of a finished result of the same job. UsageError, with everything as it
        was, if the folder cannot be written: a disk that is full, say.
        """
        manifest = dict(outcome.manifest)
        target = self.folder(manifest["job"], manifest["key"])
        if manifest["status"] != "finished" and _standing(_whole(target))[0]:
            return target
        try:
            temporary = self._unfinished()
            try:
                if outcome.predictions:
                    content = predictions.to_bytes(outcome.predictions)
                    manifest["predictions_sha256"] = _write_hashed(temporary / PREDICTIONS, content)
                if outcome.representations:
                    content = arrays.to_bytes(outcome.representations)
                    sha256 = _write_hashed(temporary / REPRESENTATIONS, content)
                    manifest["representations"] = {**manifest["representations"], "sha256": sha256}
                _write(temporary / MANIFEST, manifests.to_bytes(manifest))
                _flush(temporary)
                self._place(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:
            raise UsageError(
                f"cannot write results to {self.root}: {error.strerror or error}. What was finished is kept: make "
                "room there, or mend what is wrong, and give the same command again"
            ) from error
        return target

    def _place(self, folder: Path, target: Path) -> None:
        """Makes a whole result appear where it belongs, in place of what is there."""
        target.parent.mkdir(parents=True, exist_ok=True)
        aside: list[Path] = []
        placed = False
        try:
            while not placed:
                try:
                    folder.rename(target)
                    placed = True
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    # A folder cannot be replaced at once. A crash before the next turn leaves what was here in
                    # `aside`, whole, and the new one in `folder`: `_recover` finds both.
                    aside.append(self._unfinished() / target.name)
                    with suppress(FileNotFoundError):  # another writer was faster
                        target.rename(aside[-1])
            for above in (target.parent, target.parent.parent, self.root):
                _flush(above)
        except BaseException:
            if not placed:
                for old in filter(Path.exists, aside):
                    with suppress(OSError):  # another writer's stands there by now
                        old.rename(target)
            raise
        finally:
            for old in aside:
                if placed or target.exists():  # not there: another writer has just moved it away
                    shutil.rmtree(old.parent, ignore_errors=True)

    def _recover(self) -> None:
        """Puts in its place what killed writers have left whole, unless what stands there is as good."""
        mine = []
        for left in self.root.glob(f"{UNFINISHED}*"):
            if not _is_alive(left):
                name = self._name()
                with suppress(FileNotFoundError):  # another process sweeps as well
                    left.rename(name)
                    mine.append(name)
        # what had not got to its place yet before what had been moved out of the way
        for folder in (*mine, *(below for left in mine for below in left.glob("seed-*"))):
            manifest = _whole(folder)
            if manifest is not None:
                with suppress(UsageError):  # of a name that is none of ours
                    target = self.folder(manifest["job"], manifest["key"])
                    if _standing(manifest) > _standing(_whole(target)):
                        self._place(folder, target)
        for left in mine:
            shutil.rmtree(left, ignore_errors=True)

    def datasets(self) -> list[str]:
        """Names of the data sets that there are results of."""
        return sorted({manifest["job"]["dataset"] for manifest in self.each()})

    def folders(self, dataset: str | None = None) -> list[Path]:
        """Where results stand, in order; writers may be at work meanwhile."""
        datasets = [self.root / dataset] if dataset else _below(self.root)
        methods = [path for each in datasets for path in _below(each)]
        return [path for each in methods for path in _below(each) if path.name.startswith("seed-")]

    def manifests(self, dataset: str | None = None) -> list[dict[str, Any]]:
        """All manifests, or those of one data set, in an order that does not depend on the disk."""
        return list(self.each(dataset))

    def each(
        self, dataset: str | None = None, but: Collection[Path] = ()
    ) -> Iterator[dict[str, Any]]:
        """The same, one at a time: those of a grid together fill the memory. Without those of the folders `but`."""
        return (m for _, m in self._all(dataset, but) if m is not None)

    def damaged(self) -> list[Path]:
        """Manifests that cannot be read."""
        return [path for path, manifest in self._all(None) if manifest is None]

    def predictions(self, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a result, as in `Outcome`; DataError if the file was altered."""
        path = self._path(manifest, PREDICTIONS)
        return predictions.from_bytes(_unaltered(path, manifest["predictions_sha256"]), path)

    def representations(self, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """As in `Outcome`, empty if the result has none; DataError if the file was altered."""
        sha256 = manifest.get("representations", {}).get("sha256")
        if sha256 is None:
            return {}
        path = self._path(manifest, REPRESENTATIONS)
        return arrays.arrays(_unaltered(path, sha256), path)

    def _path(self, manifest: Mapping[str, Any], name: str) -> Path:
        return self.folder(manifest["job"], manifest["key"]) / name

    def _all(
        self, dataset: str | None, but: Collection[Path] = ()
    ) -> Iterator[tuple[Path, dict[str, Any] | None]]:
        for folder in self.folders(dataset):
            if folder in but:
                continue
            path = folder / MANIFEST
            manifest = _read(path)
            if manifest is not None or path.exists():  # else it was being replaced
                yield path, manifest

    def _unfinished(self) -> Path:
        """A folder of this process, beside the results and never read as one."""
        path = self._name()
        path.mkdir()  # not mkdtemp, which shuts out everyone whom the umask lets read
        return path

    def _name(self) -> Path:
        name = f"{UNFINISHED}{_HOST}-{os.getpid()}-{secrets.token_hex(8)}"
        _OURS.add(name)
        return self.root / name


_HOST = re.sub(r"[^\w.]", "_", platform.node()) or "_"
_OURS: set[str] = set()
"""Names that this process has given; another one may have had its number before."""


def _read(path: Path) -> dict[str, Any] | None:
    """A manifest; None if there is none that can be read."""
    try:
        return manifests.read(path)
    except DataError:
        return None


def _below(folder: Path) -> list[Path]:
    """What is in a folder, in order, without what is hidden: that comes and goes."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _whole(folder: Path) -> dict[str, Any] | None:
    """The manifest of a result, finished or failed; None unless every file of it is as it was written."""
    manifest = _read(folder / MANIFEST)
    if manifest is None:
        return None
    about = manifest.get("representations")
    expected = {PREDICTIONS: manifest.get("predictions_sha256")}
    expected[REPRESENTATIONS] = about.get("sha256") if isinstance(about, dict) else None
    try:
        good = all(
            arrays.sha256(arrays.content(folder / name)) == sha256
            for name, sha256 in expected.items()
            if sha256 is not None
        )
    except DataError:
        return None
    status = manifest.get("status")
    complete = status == "failed" or (status == "finished" and expected[PREDICTIONS] is not None)
    return manifest if good and complete else None


def _standing(manifest: Mapping[str, Any] | None) -> tuple[bool, str]:
    """How a result ranks beside another one of its job: a finished one first, then the newer one."""
    if manifest is None:
        return False, ""
    return manifest["status"] == "finished", str(manifest.get("finished", "")) or " "


def _unaltered(path: Path, sha256: str) -> bytes:
    """A file's bytes; DataError if they are others than were written."""
    found = arrays.content(path)
    if arrays.sha256(found) != sha256:
        raise DataError(f"{path}: altered since it was written; delete its folder, run again")
    return found


def _write_hashed(path: Path, content: bytes) -> str:
    """Writes a file; its SHA-256. Of HDF5 made in memory, which itself does not get over a disk that is full."""
    _write(path, content)
    return arrays.sha256(content)


def _write(path: Path, content: bytes) -> None:
    """A file that the disk keeps."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    """Has the disk keep a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_alive(left: Path) -> bool:
    """Whether the process that an unfinished folder names may still be writing there."""
    if left.name in _OURS:
        return True
    try:
        if time.time() - left.stat().st_mtime > ABANDONED:
            return False
        host, pid, _ = left.name.removeprefix(UNFINISHED).rsplit("-", 2)
        if host != _HOST:
            return True
        if int(pid) == os.getpid():
            return False
        os.kill(int(pid), 0)
    except (PermissionError, ValueError):  # another user's, or named by another version
        return True
    except OSError:
        return False
    return True
