"""Damaged files of every format are refused or imported, and nothing else; `harness.py` does the work."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmbench import Importer, datafile
from mmbench.data import Data, Samples
from mmbench.errors import DataError
from mmbench.tasks import Regression

if not sys.platform.startswith("linux"):
    pytest.skip("forks, and limits memory as Linux does", allow_module_level=True)

HARNESS = Path(__file__).with_name("harness.py")
COUNT = int(os.environ.get("MMBENCH_FUZZ", "40"))
spec = importlib.util.spec_from_file_location("harness", HARNESS)
assert spec and spec.loader
harness = importlib.util.module_from_spec(spec)
spec.loader.exec_module(harness)


@pytest.fixture(scope="module")
def results():
    """Of all formats, from one process, which has no threads and no cache but its own."""
    ran = subprocess.run(
        [sys.executable, str(HARNESS), "--count", str(COUNT)],
        stdout=subprocess.PIPE,  # progress is on the other one
        text=True,
        check=True,
    )
    return json.loads(ran.stdout)


@pytest.mark.parametrize("form", harness.SEEDS)
def test_damaged_files_are_refused_or_imported(form, results):
    if form not in results:
        pytest.skip(f"there is no importer {harness.SEEDS[form][0]!r}")
    found = results[form]
    sys.stdout.write(  # shown by `tox -e fuzz`
        f"\n{form}: {found['refused']} clean errors, {found['imported']} valid imports, "
        f"{len(found['failures'])} failures; the slowest took {found['slowest']:.2f} s"
    )
    assert not found["failures"], f"again: python {HARNESS} --only NUMBER --keep FOLDER {form}"
    assert found["refused"] + found["imported"] == COUNT
    assert found["refused"] and found["imported"]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))


def test_the_damage_follows_from_the_number(tmp_path, own_cache):
    kept = []
    for name in ("one", "two"):
        ended = harness.run(
            "mult-4", Sound(), harness.mult(4), [17], keep=tmp_path / name, seconds=20
        )
        assert ended["imported"] == 1
        kept.append((tmp_path / name / "mosi_data.pkl").read_bytes())
    assert kept[0] == kept[1] != harness.mult(4)(tmp_path)[0].read_bytes()


class Sound(Importer):
    """Takes anything."""

    name, summary = "sound", "any file"

    def recognises(self, paths):
        return True

    def read(self, paths, dataset):
        one = Samples(
            ("a",),
            {"l": np.ones((1, 1, 1), "f4")},
            {"l": np.ones((1, 1), bool)},
            np.ones((1, 1), "f4"),
        )
        splits = dict.fromkeys(("train", "valid", "test"), one)
        return Data(dataset.name, Regression(-3, 3), splits, False, {}), []


class Unsound(Sound):
    """Does `harm` to all but the undamaged file, which is the first that it is given."""

    def __init__(self, valid, harm):
        self.valid, self.harm = valid, harm

    def read(self, paths, dataset):
        if paths[0].read_bytes() != self.valid:
            self.harm(dataset)
        return super().read(paths, dataset)


def raises(dataset):
    raise ValueError("oh")


def dies(dataset):
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(dataset):
    time.sleep(60)


def devours(dataset):
    bytearray(4 << 30)


def scribbles(dataset):
    datafile.path_of(dataset).write_bytes(b"spoilt")
    raise DataError("no")


def leaves(dataset):
    datafile.path_of(dataset).with_name("left.tmp").write_bytes(b"")
    raise DataError("no")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (raises, "ValueError: oh"),
        (dies, "crashed, exit status -9"),
        (hangs, "no end within 0.5 s"),
        (devours, "MemoryError"),
        (scribbles, "the cache has changed"),
        (leaves, "the cache has changed"),
    ],
)
def test_what_must_not_happen_is_seen(tmp_path, own_cache, harm, told):
    valid = harness.mult(4)(tmp_path)[0].read_bytes()
    ended = harness.run("mult-4", Unsound(valid, harm), harness.mult(4), [17], seconds=0.5)
    assert list(ended["failures"]) == [17] and told in ended["failures"][17]
    assert ended["refused"] == ended["imported"] == 0
