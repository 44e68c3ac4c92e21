"""Opens HDF5 files of strangers: a plain tree of groups and datasets, all of it in the one file.

HDF5 can point into other files, load a filter from the search path, or claim any size for a few bytes.
Whatever does is refused before a value is read.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from mmbench.errors import DataError, MmbenchError

FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_LZF: "lzf",
}
PATIENCE = 3
"""Seconds of a processor for reading the text of a file; 20,000 ids take half of one."""
GAIN, SLACK = 100, 1 << 24
"""Datasets may claim this many times the file's size, and so many bytes beside: gzip shrinks zeros to 1/1000."""
MOST = 1_000_000
"""Groups and datasets of a file: walking them takes a minute."""
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def open_plain(path: Path) -> h5py.File:
    """The file, open for reading, once every group and dataset in it was found to be plain.

    Refused with a DataError that names the file and the object: links that are not hard, an object with
    two places, virtual datasets, external storage, filters other than gzip, shuffle, fletcher32 and lzf,
    datasets or chunks that claim over `GAIN` times the file's size, and more than `MOST` objects. It may be read under `reading`.
    While HDF5 unpacks one chunk, that may swell to some 1000 times its bytes in the file, as gzip can.
    """
    with reading(path):
        with path.open("rb") as start:
            if start.read(len(SIGNATURE)) != SIGNATURE:
                raise DataError(f"{path}: no HDF5 file, it does not begin as one")
        file = h5py.File(path, "r")
        try:
            for _ in datasets(file, path, GAIN * path.stat().st_size + SLACK):
                pass
        except BaseException:
            file.close()
            raise
        return file


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Makes whatever reading a damaged file raises a DataError that names it."""
    try:
        yield
    except MmbenchError:
        raise
    except Exception as error:  # HDF5 and h5py may raise anything
        what = str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read, or is damaged ({what})") from error


def try_text(path: Path) -> None:
    """DataError unless all text of variable length in the file can be read, by `PATIENCE`.

    HDF5 may follow a damaged heap of text for ever, or crash, and nothing can stop it from inside. So
    another process reads it first; what has fixed length needs no such care.
    """
    command = [sys.executable, "-m", "mmbench.hdf5", str(path.resolve())]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=20 * PATIENCE)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise DataError(
            f"{path}: its text cannot be read, it is damaged or too much; "
            "write text of fixed length, e.g. numpy.array(ids, 'S')"
        ) from error


def text(dataset: h5py.Dataset, limit: int) -> str:
    """The one string, of shape () or (1,), that a dataset holds; DataError if it has over `limit` bytes.

    The file is tried first if that is of variable length: see `try_text`.
    """
    if dataset.shape not in ((), (1,)) or h5py.check_string_dtype(dataset.dtype) is None:
        raise DataError(f"{dataset.file.filename}: {dataset.name}: expected one string")
    if dataset.dtype.kind == "O":
        try_text(Path(dataset.file.filename))
    value = dataset[()]
    value = value if isinstance(value, bytes) else bytes(np.asarray(value).reshape(-1)[0])
    if len(value) > limit:
        raise DataError(
            f"{dataset.file.filename}: {dataset.name}: {len(value)} bytes of text, "
            f"expected at most {limit}"
        )
    return value.decode("utf-8", "replace")


def _read_text(path: Path) -> None:
    """Reads all text of variable length, row by row: many rows may share one long text."""
    with h5py.File(path, "r") as file:
        left = path.stat().st_size

        def take(_: str, item: object) -> None:
            nonlocal left
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "O":
                for at in np.ndindex(item.shape):
                    left -= len(item[at])
                    if left < 0:
                        raise ValueError("more text than the file has bytes")

        file.visititems(take)


def datasets(file: h5py.File, path: Path, limit: int) -> Iterator[tuple[str, h5py.h5d.DatasetID]]:
    """Every dataset of a file with its name, e.g. "inter/la/0", once it was found to be plain.

    DataError if it is not, if it and those before it claim more than `limit` bytes, or if the file has more
    than `MOST` objects. path: what errors name.
    """
    claimed = 0
    seen: set[int] = set()
    waiting: list[tuple[str, h5py.h5g.GroupID]] = [("", file["/"].id)]
    while waiting:  # a list, not recursion: a hostile file may be deep
        within, group = waiting.pop()
        for name, (kind, address) in _links(group, path).items():
            inside = within + name.decode("utf-8", "replace")
            place = f"{path}: /{inside}"
            if kind != h5py.h5l.TYPE_HARD:
                raise DataError(f"{place}: a link, refused: copy what it points to into the file")
            # `h5o.get_info` has the address as well, but may count a damaged tree for ever
            if address in seen:
                raise DataError(f"{place}: refused, it has another place in the file, too")
            seen.add(address)
            if len(seen) > MOST:
                raise DataError(f"{path}: refused, it has more than {MOST} objects")
            found = h5py.h5o.open(group, name)
            if isinstance(found, h5py.h5g.GroupID):
                waiting.append((f"{inside}/", found))
            elif isinstance(found, h5py.h5d.DatasetID):
                claimed += _claim(found, place, limit)
                if claimed > limit:
                    raise DataError(
                        f"{place}: refused, with it the datasets claim {claimed} bytes, which is more than "
                        f"such a file may hold: {limit}"
                    )
                yield inside, found
            else:
                raise DataError(f"{place}: refused, neither a group nor a dataset")


def _links(group: h5py.h5g.GroupID, path: Path) -> dict[bytes, tuple[int, int]]:
    """Names in a group with their kind and address; h5py would follow a circle of its tree for ever."""
    links: dict[bytes, tuple[int, int]] = {}

    def keep(name: bytes, info: h5py.h5l.LinkInfo) -> None:
        if name in links:
            raise DataError(f"{path}: {_name(group)}: damaged, it names something twice")
        if len(links) >= MOST:
            raise DataError(f"{path}: {_name(group)}: refused, it has more than {MOST} names")
        links[name] = info.type, info.u  # which h5py uses again for the next

    group.links.iterate(keep, info=True)
    return links


def _name(group: h5py.h5g.GroupID) -> str:
    return (h5py.h5i.get_name(group) or b"?").decode("utf-8", "replace")


def _claim(dataset: h5py.h5d.DatasetID, place: str, limit: int) -> int:
    """How many bytes reading a dataset takes; DataError if it is not plain."""
    item = dataset.get_type().get_size()
    if dataset.get_offset() is None:  # else its values lie in the file as they are, in a row
        _check_layout(dataset.get_create_plist(), item, place, limit)
    sizes = dataset.get_space().get_simple_extent_dims()
    return 0 if sizes is None else math.prod(sizes) * item  # None: no space at all


def _check_layout(made: h5py.h5p.PropDCID, item: int, place: str, limit: int) -> None:
    layout = made.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        raise DataError(f"{place}: a virtual dataset, refused: its values lie in other files")
    if made.get_external_count():
        raise DataError(f"{place}: refused, its values lie in another file")
    for number in range(made.get_nfilters()):
        code = made.get_filter(number)[0]
        if code not in FILTERS:
            known = ", ".join(FILTERS.values())
            raise DataError(
                f"{place}: refused, it needs filter {code}; known are {known}: h5repack -f GZIP=4"
            )
    if layout == h5py.h5d.CHUNKED and math.prod(made.get_chunk()) * item > limit:
        raise DataError(f"{place}: refused, its chunks claim {made.get_chunk()} values each")


if __name__ == "__main__":
    with suppress(ImportError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
    _read_text(Path(sys.argv[1]))
