"""What a job needs on a machine that shares no folder with this one: plugin files, a data set, its card.

Code of plugins travels as text, and mmbench itself does not: every machine has it installed. A data set is
known by its SHA-256, and travels only to where the cache does not have it yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py

from mmbench import cards, datafile
from mmbench.errors import DataError
from mmbench.jobs import Job
from mmbench.paths import cache_dir
from mmbench.registry import discover


@dataclass(frozen=True)
class Shipment:
    """Everything but the bytes of the data, which the receiver asks for if it has to."""

    plugins: tuple[tuple[str, str], ...]
    """Name and text of each file."""
    file: Path | None
    """Of the data set, in the cache of the sender; None where nothing has to be sent."""
    sha256: str
    """Of its content."""
    card: str | None
    """Text of the card that describes it, if one does."""

    def data(self) -> bytes:
        """The file's bytes."""
        return self.file.read_bytes() if self.file else b""


def pack(job: Job, *, same_cache: bool) -> Shipment:
    """What `job`, and every other on the same data set, needs; `same_cache`: receivers see the cache of this machine."""
    plugins = tuple((Path(file).name, Path(file).read_text("utf-8")) for file in job.plugin_files)
    found = discover(job.plugin_files).classes["dataset"].get(job.dataset)
    if same_cache or found is None or not datafile.is_there(found.cls()):
        return Shipment(plugins, None, job.data_sha256, None)  # what is wrong, the work will tell
    card = cards.path_of(job.dataset).read_text("utf-8") if found.cls.from_card else None
    return Shipment(plugins, datafile.path_of(found.cls()), job.data_sha256, card)


@contextmanager
def unpacked(
    shipment: Shipment, jobs: Sequence[Job], fetch: Callable[[], bytes]
) -> Iterator[list[Job]]:
    """The jobs as this machine can do them, inside of the block; `fetch` gives the file of the data."""
    before = os.environ.get("MMBENCH_CACHE")
    os.environ["MMBENCH_CACHE"] = str(_cache_with(shipment, fetch))
    try:
        with TemporaryDirectory(prefix="mmbench-plugins-") as folder:
            files = []
            for name, text in shipment.plugins:
                file = Path(folder, name)
                file.write_text(text, "utf-8")
                files.append(str(file))
            yield [replace(job, plugin_files=tuple(files)) for job in jobs]
    finally:
        del os.environ["MMBENCH_CACHE"]
        if before is not None:
            os.environ["MMBENCH_CACHE"] = before


def _cache_with(shipment: Shipment, fetch: Callable[[], bytes]) -> Path:
    """A cache that holds this very data: the user's or, where that has no or other data of the name, one
    below it, so that nobody's import is replaced."""
    below = cache_dir() / "shipped" / shipment.sha256
    if shipment.file is None or _holds(cache_dir(), shipment, shipment.file.name):
        return cache_dir()
    if not _holds(below, shipment, shipment.file.name):
        try:
            if shipment.card is not None:
                with datafile.replacing(_card(below, shipment.file.name)) as card:
                    card.write_text(shipment.card, "utf-8")
            with datafile.replacing(below / "datasets" / shipment.file.name) as file:
                file.write_bytes(fetch())
        except OSError as error:
            raise DataError(
                f"{below}: cannot be written ({error}); MMBENCH_CACHE may name another folder"
            ) from error
    return below


def _holds(cache: Path, shipment: Shipment, file: str) -> bool:
    """Whether it has a file that says it is this data (to read it will prove it), described alike."""
    try:
        with h5py.File(cache / "datasets" / file) as opened:
            found = datafile.is_own(opened) and datafile.header(opened)["sha256"]
        card = shipment.card is None or _card(cache, file).read_text("utf-8") == shipment.card
    except Exception:  # there is none, or HDF5 cannot read it
        return False
    return card and found == shipment.sha256


def _card(cache: Path, file: str) -> Path:
    return cache / "datasets" / f"{file.rpartition('-v')[0]}.yaml"
