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
    file: Path
    """Of the data set, in the cache of the sender."""
    sha256: str
    """Of its content."""
    card: str | None
    """Text of the card that describes it, if one does."""


def pack(job: Job) -> Shipment:
    """What `job`, and every other on the same data set, needs."""
    dataset = discover(job.plugin_files).find("dataset", job.dataset)
    card = cards.path_of(job.dataset) if dataset.from_card else None
    return Shipment(
        tuple((Path(file).name, Path(file).read_text("utf-8")) for file in job.plugin_files),
        datafile.path_of(dataset()),
        job.data_sha256,
        card.read_text("utf-8") if card else None,
    )


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
    for cache in (cache_dir(), below):
        if _holds(cache / "datasets", shipment):
            return cache
    folder = below / "datasets"
    try:
        if shipment.card is not None:
            with datafile.replacing(
                folder / f"{shipment.file.name.rpartition('-v')[0]}.yaml"
            ) as card:
                card.write_text(shipment.card, "utf-8")
        with datafile.replacing(folder / shipment.file.name) as file:
            file.write_bytes(fetch())
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error}); MMBENCH_CACHE may name another folder"
        ) from error
    return below


def _holds(folder: Path, shipment: Shipment) -> bool:
    """Whether the file says that it is this data (to read it will prove it), and is described alike."""
    file = folder / shipment.file.name
    try:
        with h5py.File(file, "r") as opened:
            found = datafile.is_own(opened) and datafile.header(opened)["sha256"]
        if shipment.card is not None:
            card = folder / f"{shipment.file.name.rpartition('-v')[0]}.yaml"
            return found == shipment.sha256 and card.read_text("utf-8") == shipment.card
    except Exception:  # there is none, or HDF5 cannot read it
        return False
    return found == shipment.sha256
