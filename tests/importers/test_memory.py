"""plugins/mmbench_importers: how much memory an import takes at its peak, in a process of its own."""

import pickle
import struct
import subprocess
import sys
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest

SIZE = 64 * 2**20
READ = r"""
import re, resource, sys
from pathlib import Path
from mmbench import datafile
from mmbench.importers import importer_for
from mmbench_datasets.mosi import MOSI
from mmbench_importers import hdf5, mult, npz

def peak():
    # getrusage on Linux starts with the peak of the process that this one was forked from
    if sys.platform == "linux":
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
paths = [Path(sys.argv[1])]
importers = {kind.name: kind for kind in (hdf5.HDF5, mult.MulT, npz.NPZ)}
datafile.store_import(MOSI(), importer_for(paths, importers), paths)
print(peak() - before)
"""


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 did."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, content):
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(content)

    dispatch[bytes] = save_bytes


def splits(dtype):
    """By split (N, T, D) of l, a and v, `SIZE` bytes in all."""
    widths = {"l": 300, "a": 74, "v": 35}
    frame = 50 * sum(widths.values()) * np.dtype(dtype).itemsize
    return {
        split: {
            m: np.full((int(share * SIZE / frame), 50, d), 0.5, dtype) for m, d in widths.items()
        }
        for split, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2))
    }


def peak_over_size(file):
    """Bytes that importing it takes at the peak, over its own."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(file)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / file.stat().st_size


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("dtype", "pickler", "protocol", "bound"),
    [
        ("f4", pickle.Pickler, 4, 1.8),
        ("f8", pickle.Pickler, 4, 1.8),
        ("f4", pickle.Pickler, 2, 2.5),  # bytes as text, and both are kept
        ("f4", Python2, 2, 1.8),
    ],
)
def test_a_pickles_memory_is_bounded_by_its_size(tmp_path, dtype, pickler, protocol, bound):
    given = {}
    for split, features in splits(dtype).items():
        features["a"][:, 0, 0] = -np.inf
        given[split] = {"text": features["l"], "audio": features["a"], "vision": features["v"]}
        given[split]["labels"] = np.zeros((len(features["l"]), 1, 1))
    file = tmp_path / "big_data.pkl"
    with file.open("wb") as out:
        pickler(out, protocol).dump(given)
    assert peak_over_size(file) < bound


def save_hdf5(file, **arrays):
    with h5py.File(file, "w") as out:
        for key, x in arrays.items():
            out[key] = x


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("save", "suffix"), [(np.savez, "npz"), (save_hdf5, "h5")])
def test_the_memory_of_ones_own_file_is_bounded_by_its_size(tmp_path, dtype, save, suffix):
    file, given = tmp_path / f"mine.{suffix}", {}
    for split, features in splits(dtype).items():
        given |= {f"{split}/features/{m}": x for m, x in features.items()}
        given[f"{split}/targets"] = np.zeros(len(features["l"]))
    save(file, **given)
    assert peak_over_size(file) < 1.8
