"""Clusters on one machine whose nodes share nothing, and `mmbench run` in processes that can be told apart."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

PLUGIN = '''
"""Small data that only the driver can make, and methods that wait, fail or have their worker die."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

import mmbench
import mmbench.executors

mmbench.executors.GRACE = 5.0


class Small(mmbench.Dataset):
    name = "small"
    summary = "40 samples"
    task = mmbench.Regression(-3, 3)
    schedule = mmbench.Schedule(heads=2, epochs=2, batch_size=16)
    synthetic = True

    def make(self):
        if "DRIVER" not in os.environ:
            raise RuntimeError("made on a worker")
        rng = np.random.default_rng(0)

        def split(name, n):
            x = {m: rng.standard_normal((n, 6, d), dtype=np.float32) for m, d in zip("lav", (5, 4, 3))}
            y = np.clip(x["l"].mean((1, 2)) * 4, -3, 3)[:, None]
            valid = {m: np.ones((n, 6), bool) for m in x}
            return mmbench.Samples(tuple(f"{name}{i}" for i in range(n)), x, valid, self.task.check(y))

        splits = {"train": split("a", 40), "valid": split("b", 20), "test": split("c", 20)}
        return mmbench.Data(self.name, self.task, splits, True, {"generator": "small"})


class Linear(mmbench.Method):
    """Says by a file that it trains, and goes on when the file `wait` is there."""

    name = "linear"

    def __init__(self, spec, *, wait: str = ""):
        super().__init__(spec)
        self.wait = wait
        self.head = torch.nn.Linear(5, 1)

    def forward(self, batch):
        if self.training and self.wait:
            Path(f"{self.wait}-{os.getpid()}").touch()
            while not Path(self.wait).exists():
                time.sleep(0.05)
        return self.head(batch.features["l"].mean(1))


class Dies(Linear):
    """Its worker is killed for as long as the file `wait` is there."""

    name = "dies"

    def forward(self, batch):
        if self.training and Path(self.wait).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return self.head(batch.features["l"].mean(1))


class Flaky(Linear):
    """Its worker is killed once: the file `wait` is there from then on."""

    name = "flaky"

    def forward(self, batch):
        if self.training and not Path(self.wait).exists():
            Path(self.wait).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.head(batch.features["l"].mean(1))


class Hangs(Linear):
    """Its first update never ends."""

    name = "hangs"

    def forward(self, batch):
        while self.training:
            time.sleep(1)
        return self.head(batch.features["l"].mean(1))


class Explodes(Linear):
    name = "explodes"

    def forward(self, batch):
        return self.head(batch.features["l"].mean(1)) * float("nan")


@mmbench.hookimpl
def mmbench_register_datasets():
    return Small


@mmbench.hookimpl
def mmbench_register_methods():
    return [Linear, Dies, Flaky, Hangs, Explodes]
'''

CLUSTER = """
import os, sys
from pathlib import Path
from ray.cluster_utils import Cluster

cluster = Cluster()


def add(number, **resources):
    os.environ["MMBENCH_CACHE"] = str(Path(sys.argv[1], f"node-{number}"))
    return cluster.add_node(**resources)


add(0, num_cpus=1, num_gpus=0, include_dashboard=False)
other = add(1, num_cpus=2, num_gpus=1)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "kill":
        cluster.remove_node(other, allow_graceful=False)
    else:
        other = add(1, num_cpus=2, num_gpus=1)
    print("done", flush=True)
cluster.shutdown()
"""


class Session:
    """Processes that are known by a mark in their environment, with a cache of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, uuid4().hex
        (folder / "small.py").write_text(PLUGIN)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "MMBENCH_CACHE": str(folder / "driver"),
            "DRIVER": "1",
            "MARK": self.mark,
            "COLUMNS": "200",
        }

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """`mmbench run` on the small data."""
        command = [sys.executable, "-m", "mmbench", "run", "--plugin", "small.py", "--dataset"]
        return subprocess.Popen(
            [*command, "small", "--format", "json", *words],
            cwd=self.folder,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **more: str) -> tuple[int, str]:
        """The exit status and all that was written."""
        process = self.start(*words, **more)
        out, _ = process.communicate(timeout=900)
        return process.returncode, out

    def alive(self) -> dict[int, str]:
        """Its processes that have not ended, with their command lines."""
        found = {}
        for place in Path("/proc").iterdir():
            try:
                if place.name.isdigit() and f"MARK={self.mark}".encode() in (
                    (place / "environ").read_bytes().split(b"\0")
                ):
                    found[int(place.name)] = (place / "cmdline").read_bytes().decode()
            except OSError:
                pass  # it has ended, or is not ours
        return found

    def manifests(self, store: str = "runs") -> dict[Path, dict]:
        """What a store has, by file."""
        return {
            path: json.loads(path.read_text())
            for path in sorted(self.folder.glob(f"{store}/*/*/*/manifest.json"))
        }


def wait_for(what, seconds=90.0):
    """The first true value of `what`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def waiting(session, count):
    """Processes of the workers that train `linear`, once there are so many."""

    def look():
        found = [int(path.name.removeprefix("go-")) for path in session.folder.glob("go-*")]
        return found if len(found) == count else None

    return wait_for(look)


def in_time():
    """The seconds in which a stopped command has to end: 2, if this machine does nothing else."""
    return 2.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Nodes:
    """A cluster on this machine: two nodes of 1 and 2 cores, each with a cache of its own.

    The second says that it has a GPU, and can be killed and come back.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # so that it listens on 127.0.0.1 only, and drivers look for it there
        self.environment = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        free = {n: v for n, v in os.environ.items() if not n.startswith("RAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, str(folder)],
            env={**free, **self.environment, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._answer(r"[\d.]+:\d+")
        self.words = ("--executor", "ray", "--address", self.address, "--device", "cpu")

    def tell(self, word: str) -> None:
        """Has it "kill" the second node, or "add" it."""
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        self._answer("done")

    def _answer(self, pattern: str) -> str:
        for line in self.process.stdout:
            if re.fullmatch(pattern, line.strip()):
                return line.strip()
        raise AssertionError("the cluster has ended")
