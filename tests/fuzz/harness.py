"""Damages valid files at random, imports each in a process of its own, and counts how that ends.

    python tests/fuzz/harness.py [--count 40] [FORMAT ...]         counts and failures, as JSON
    python tests/fuzz/harness.py --only 123 --keep FOLDER FORMAT   one file again, kept

Which damage is done follows from the format and the number alone. Formats without an importer are
passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mmbench import Dataset, Importer, Regression, datafile
from mmbench.data import SPLITS
from mmbench.errors import DataError, UsageError

SECONDS = 5.0
MEMORY = 1 << 30
"""Address space that a worker may take beyond what it starts with."""


class Fuzzed(Dataset):
    """What the files are imported as."""

    name = "fuzzed"
    summary = "for fuzzing"
    task = Regression(-3, 3)


def mult(protocol: int) -> Callable[[Path], list[Path]]:
    """A pickle of MulT."""

    def write(folder: Path) -> list[Path]:
        rng = np.random.default_rng(0)

        def split(name: str) -> dict[str, Any]:
            features = {
                key: rng.standard_normal((3, 4, width)) + 5
                for key, width in (("text", 3), ("audio", 2), ("vision", 2))
            }
            ids = np.array([[f"{name}{row}".encode(), b"0.5", b"1.5"] for row in range(3)])
            return {**features, "labels": rng.uniform(-3, 3, (3, 1, 1)), "id": ids}

        path = folder / "mosi_data.pkl"
        path.write_bytes(pickle.dumps({name: split(name) for name in SPLITS}, protocol))
        return [path]

    return write


def mmsa(folder: Path) -> list[Path]:
    """A pickle of MMSA."""
    rng = np.random.default_rng(0)

    def split(name: str) -> dict[str, Any]:
        tokens = np.zeros((3, 3, 4))
        tokens[:, 0, :3] = 101
        tokens[:, 1, :3] = 1
        content: dict[str, Any] = {
            key: rng.standard_normal((3, 4, width)).astype(np.float32)
            for key, width in (("text", 3), ("audio", 2), ("vision", 2))
        }
        for key in ("audio", "vision"):
            content[key][:, 3:] = 0
            content[f"{key}_lengths"] = [3, 3, 3]
        return content | {
            "raw_text": np.array(["so good a film"] * 3, object),
            "text_bert": tokens,
            "id": [f"{name}$_${row}" for row in range(3)],
            "annotations": ["Positive"] * 3,
            "regression_labels": rng.uniform(-3, 3, 3).astype(np.float32),
            "classification_labels": np.array([0.0, 1, 2]),
        }

    path = folder / "aligned_50.pkl"
    path.write_bytes(pickle.dumps({name: split(name) for name in SPLITS}, 4))
    return [path]


def layout() -> dict[str, np.ndarray]:
    """What a file of one's own has, by key."""
    rng = np.random.default_rng(0)
    content = {}
    for split in SPLITS:
        for m, width in (("l", 3), ("a", 2)):
            content[f"{split}/features/{m}"] = rng.standard_normal((3, 4, width)).astype("f4")
            content[f"{split}/valid/{m}"] = np.ones((3, 4), bool)
        content[f"{split}/targets"] = rng.uniform(-3, 3, 3)
        content[f"{split}/ids"] = np.array([f"{split}{row}" for row in range(3)])
    return content


def npz(folder: Path) -> list[Path]:
    """A NumPy archive."""
    path = folder / "mine.npz"
    np.savez(path, **layout())
    return [path]


def hdf5(folder: Path) -> list[Path]:
    """An HDF5 file."""
    path = folder / "mine.h5"
    with h5py.File(path, "w") as file:
        for key, value in layout().items():
            file[key] = value.astype("S") if value.dtype.kind == "U" else value
    return [path]


def csd(folder: Path) -> list[Path]:
    """Computational sequences, with folds and vectors."""
    rng = np.random.default_rng(0)
    time_of = np.stack([np.arange(8), np.arange(1, 9)], 1).astype(float)
    contents = {
        "words": ("words", np.array([[b"so"], [b"sp"], [b"good"], [b"film"]] * 2), time_of),
        "covarep": ("COVAREP", rng.standard_normal((16, 2)), np.repeat(time_of, 2, 0)),
        "labels": ("Opinion Segment Labels", np.array([[1.5], [-2]]), time_of[[0, 4]] * [1, 4]),
    }
    paths = [folder / f"{name}.csd" for name in contents] + [
        folder / "f.yaml",
        folder / "glove.txt",
    ]
    for path, (root, x, intervals) in zip(paths, contents.values(), strict=False):
        with h5py.File(path, "w") as file:
            file.create_dataset(
                f"{root}/metadata/root name", data=[json.dumps(root)], dtype=h5py.string_dtype()
            )
            for video in "abc":
                packed = "gzip" if video == "b" else None  # not all, so that its bytes are reached
                file.create_dataset(f"{root}/data/{video}/features", data=x, compression=packed)
                file.create_dataset(f"{root}/data/{video}/intervals", data=intervals)
    paths[-2].write_text("train: [a]\nvalid: [b]\ntest: [c]\n")
    paths[-1].write_text("so 1 2 3\ngood 4 5 6\nfilm 7 8 9\n")
    return paths


SEEDS: dict[str, tuple[str, Callable[[Path], list[Path]]]] = {
    "mult-2": ("mult", mult(2)),
    "mult-4": ("mult", mult(4)),
    "mmsa": ("mmsa", mmsa),
    "npz": ("npz", npz),
    "hdf5": ("hdf5", hdf5),
    "csd": ("csd", csd),
}
"""By format: the importer, and what writes a valid file."""

HUGE = [2**k - 1 for k in (7, 8, 15, 16, 31, 32, 40, 63, 64)] + [2**31, 2**63, 10**12]


def damaged(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes of a file changed, cut, repeated or replaced by those of `other`."""
    x = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        at = int(rng.integers(len(x) + 1))
        size = int(min(2 ** rng.uniform(0, 10), len(x) - at))
        block = bytes(x[at : at + size])
        match rng.integers(9):
            case 0 if size:
                x[at] ^= 1 << int(rng.integers(8))
            case 1 if size:
                x[at] = int(rng.integers(256))
            case 2:
                del x[at:]
            case 3:
                x[at:at] = block * int(rng.choice([1, 1, 2, 50]))
            case 4:
                del x[at : at + size]
            case 5:
                x[at:at] = rng.bytes(max(1, size))
            case 6:
                start = int(rng.integers(len(other) + 1))
                x[at : at + size] = other[start : start + size]
            case 7:
                start = int(rng.integers(len(other) + 1))
                x[at:] = other[start:]
            case 8:
                width = int(rng.choice([1, 2, 4, 8]))
                number = HUGE[rng.integers(len(HUGE))] % 2 ** (8 * width)
                x[at : at + width] = number.to_bytes(width, "little" if rng.integers(4) else "big")
    return bytes(x)


def attempt(importer: Importer, paths: Sequence[Path]) -> str:
    """Imports files: `refused`, `imported`, or a traceback of what must not be."""
    warnings.simplefilter("error")  # nobody is to see one of a library
    try:
        try:
            importer.recognises(paths)
            datafile.store_import(Fuzzed(), importer, paths)
        except (DataError, UsageError):
            return "refused"
        datafile.check(datafile.obtain(Fuzzed()))
        return "imported"
    except BaseException:
        return traceback.format_exc()


def in_worker(work: Callable[[], str], seconds: float) -> str:
    """What `work` returns in a forked process, or how that ended before it returned."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads: of libraries, and idle
        pid = os.fork()
    if not pid:
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            os.write(send, work().encode()[-60_000:])  # less than a pipe holds
        finally:
            os._exit(0)
    os.close(send)
    ended, _, _ = select.select([receive], [], [], seconds)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(receive, "rb") as file:
        said = file.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not ended:
        return f"no end within {seconds:g} s"
    return said or f"crashed, exit status {status}"


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def run(
    form: str,
    importer: Importer,
    write: Callable[[Path], list[Path]],
    numbers: Iterable[int],
    *,
    seconds: float = SECONDS,
    keep: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Imports one damaged file for each number; MMBENCH_CACHE must be a folder of its own.

    Returns how many were `refused` and how many `imported`, the slowest in seconds, and `failures`, what
    happened by number.
    """
    counts: dict[str, Any] = {"refused": 0, "imported": 0, "slowest": 0.0, "failures": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        paths = write(folder)
        valid = {path: path.read_bytes() for path in paths}
        first = in_worker(lambda: attempt(importer, paths), 10 * seconds)
        if first != "imported":
            raise RuntimeError(f"{form}: the undamaged file is not imported: {first}")
        cache = datafile.path_of(Fuzzed()).parent
        before = contents(cache)
        for number in numbers:
            rng = np.random.default_rng([zlib.crc32(form.encode()), number])
            culprit = paths[rng.integers(len(paths))]
            other = valid[paths[rng.integers(len(paths))]]
            culprit.write_bytes(damaged(valid[culprit], other, rng))
            started = time.monotonic()
            ended = in_worker(lambda: attempt(importer, paths), seconds)
            counts["slowest"] = max(counts["slowest"], time.monotonic() - started)
            after = contents(cache)
            if ended == "refused" and after != before:
                ended = "refused, but the cache has changed"
            if ended in ("refused", "imported"):
                counts[ended] += 1
            else:
                counts["failures"][number] = ended
            if after != before:
                for name in after:
                    (cache / name).unlink()
                for name, content in before.items():
                    (cache / name).write_bytes(content)
            if keep is None:
                culprit.write_bytes(valid[culprit])
            if progress and number % 20 == 0:
                sys.stderr.write(f"\r{form}: {number}")
                sys.stderr.flush()
    if progress:
        sys.stderr.write(
            f"\r{form}: {counts['refused']} refused, {counts['imported']} imported, "
            f"{len(counts['failures'])} failures; the slowest took {counts['slowest']:.2f} s\n"
        )
    return counts


def main() -> None:
    """The command line."""
    from mmbench.registry import discover

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", default=list(SEEDS))
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    numbers = range(given.count) if given.only is None else [given.only]
    importers = discover().classes["importer"]
    results = {}
    for form in given.formats:
        name, write = SEEDS[form]
        if name in importers:
            with tempfile.TemporaryDirectory() as cache:
                os.environ["MMBENCH_CACHE"] = cache
                results[form] = run(
                    form,
                    importers[name].cls(),
                    write,
                    numbers,
                    keep=given.keep,
                    progress=given.count >= 200,
                )
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
