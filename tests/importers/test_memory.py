"""plugins/mmbench_importers: how much memory an import takes at its peak, in a process of its own."""

import pickle
import struct
import subprocess
import sys
from typing import Any, ClassVar

import numpy as np
import pytest

SIZE = 64 * 2**20
READ = r"""
import re, resource, sys
from pathlib import Path
from mmbench import datafile
from mmbench_datasets.mosi import MOSI
from mmbench_importers.mult import MulT

def peak():
    # getrusage on Linux starts with the peak of the process that this one was forked from
    if sys.platform == "linux":
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
datafile.store_import(MOSI(), MulT(), [Path(sys.argv[1])])
print(peak() - before)
"""


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 did."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, content):
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(content)

    dispatch[bytes] = save_bytes


@pytest.mark.parametrize(
    ("dtype", "pickler", "protocol", "bound"),
    [
        ("f4", pickle.Pickler, 4, 1.8),
        ("f8", pickle.Pickler, 4, 1.8),
        ("f4", pickle.Pickler, 2, 2.5),  # bytes as text, and both are kept
        ("f4", Python2, 2, 1.8),
    ],
)
def test_memory_is_bounded_by_the_files_size(
    tmp_path, monkeypatch, dtype, pickler, protocol, bound
):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    frame = sum(widths := (300, 74, 35)) * 50 * np.dtype(dtype).itemsize
    given = {}
    for split, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
        n = int(share * SIZE / frame)
        given[split] = {
            key: np.full((n, 50, width), 0.5, dtype)
            for key, width in zip(("text", "audio", "vision"), widths, strict=True)
        }
        given[split]["audio"][:, 0, 0] = -np.inf
        given[split]["labels"] = np.zeros((n, 1, 1))
    file = tmp_path / "big_data.pkl"
    with file.open("wb") as out:
        pickler(out, protocol).dump(given)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(file)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < bound * file.stat().st_size
