"""From the command line to a leaderboard, on the real engine: small, but nothing is stood in for."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from mmbench.cli import main

SMALL = '''
"""A small data set and a method that fails, as a plugin file."""

import numpy as np
import torch

import mmbench


class Small(mmbench.Dataset):
    name = "small"
    summary = "40 samples"
    task = mmbench.Regression(-3, 3)
    schedule = mmbench.Schedule(heads=2, epochs=2, batch_size=16)
    synthetic = True

    def make(self):
        rng = np.random.default_rng(0)

        def split(name, n):
            x = {m: rng.standard_normal((n, 6, d), dtype=np.float32) for m, d in zip("lav", (5, 4, 3))}
            y = np.clip(x["l"].mean((1, 2)) * 4, -3, 3)[:, None]
            valid = {m: np.ones((n, 6), bool) for m in x}
            return mmbench.Samples(tuple(f"{name}{i}" for i in range(n)), x, valid, self.task.check(y))

        splits = {"train": split("a", 40), "valid": split("b", 20), "test": split("c", 20)}
        return mmbench.Data(self.name, self.task, splits, True, {"generator": "small"})


class Fails(mmbench.Method):
    name = "fails"

    def __init__(self, spec):
        super().__init__(spec)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        raise RuntimeError("this method always fails")


class Slow(mmbench.Method):
    """Trains in no time but for its last epoch of seed 2, which waits to be killed."""

    name = "slow"

    def __init__(self, spec):
        super().__init__(spec)
        self.weight = torch.nn.Parameter(torch.randn(1))

    def forward(self, batch):
        import os, pathlib, time

        if self.training and os.environ.get("WAIT"):
            time.sleep(float(os.environ["WAIT"]))
        return self.weight.expand(len(batch), 1)


class Hungry(mmbench.Method):
    name = "picky"

    @classmethod
    def supports(cls, spec):
        return "needs a fourth modality"


@mmbench.hookimpl
def mmbench_register_datasets():
    return Small


@mmbench.hookimpl
def mmbench_register_methods():
    return [Fails, Slow, Hungry]
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "small.py").write_text(SMALL)
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--plugin", "small.py", "--dataset", "small", "--jobs", "1", *words])
    return int(ended.value.code or 0)


def manifests(folder):
    return {
        path: json.loads(path.read_text())
        for path in sorted(folder.glob("runs/*/*/*/manifest.json"))
    }


def test_one_command_trains_tests_and_writes_a_leaderboard(folder, capsys):
    assert (
        run("--method", "hrlf,late-fusion,constant", "--seeds", "2", "--set", "hrlf.depth=1") == 0
    )
    out = capsys.readouterr().out
    assert "small, synthetic: F1 x 100, mean over seeds" in out and "Avg. (inter)" in out
    found = manifests(folder)
    assert len(found) == 6
    assert all(m["status"] == "finished" for m in found.values())
    text = (folder / "leaderboards" / "small.md").read_text()
    for word in (
        "hrlf[depth=1]",
        "late-fusion",
        "constant",
        "{l, a, v}",
        "Avg.",
        "p=1.0",
        "ynthetic",
    ):
        assert word in text, word
    assert "hrlf[depth=1]" in (folder / "leaderboards" / "small.csv").read_text()

    one = next(m for m in found.values() if m["job"]["method"] == "hrlf")
    assert [stage["stage"] for stage in one["training"]] == ["teacher", "student"]
    assert one["job"]["hyperparameters"]["depth"] == 1 and one["job"]["sampler"] == "msm@1"
    assert one["environment"]["torch"] and one["data"]["sha256"] and one["peak_memory_mib"] > 0
    assert one["protocols"]["intra"]["id"] == "intra@1"

    # Everything is there: nothing is trained again, and the tables are the same to the byte.
    before = {path: path.stat().st_mtime_ns for path in found}
    capsys.readouterr()
    assert (
        run("--method", "hrlf,late-fusion,constant", "--seeds", "2", "--set", "hrlf.depth=1") == 0
    )
    assert "6 of 6 jobs are in runs already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in manifests(folder)} == before
    assert (folder / "leaderboards" / "small.md").read_text() == text


def test_processes_give_the_numbers_of_this_process(folder):
    assert run("--method", "late-fusion", "--seeds", "2", "--store", "one", "--jobs", "1") == 0
    assert run("--method", "late-fusion", "--seeds", "2", "--store", "two", "--jobs", "2") == 0
    scores = [
        [
            json.loads(p.read_text())["scores"]
            for p in sorted(folder.glob(f"{store}/*/*/*/manifest.json"))
        ]
        for store in ("one", "two")
    ]
    assert scores[0] == scores[1] and len(scores[0]) == 2


def test_a_failure_is_a_row_with_its_reason(folder, capsys):
    assert run("--method", "fails,constant,picky", "--seeds", "1") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "RuntimeError: this method always fails" in out
    text = (folder / "leaderboards" / "small.md").read_text()
    assert re.search(r"^\| fails +\| RuntimeError: this method always fails", text, re.M)
    assert re.search(r"^\| picky +\| not applicable: needs a fourth modality +\|$", text, re.M)
    assert "Traceback" not in text
    (failed,) = [m for m in manifests(folder).values() if m["job"]["method"] == "fails"]
    assert failed["status"] == "failed" and "Traceback" in failed["traceback"]


def test_a_method_that_does_not_apply_is_a_row_and_no_failure_of_the_run(folder, capsys):
    for _ in range(2):
        assert run("--method", "picky,constant", "--seeds", "2") == 0
        out = " ".join(capsys.readouterr().out.split())
        assert out.count("picky on small: not applicable: needs a fourth modality") == 1
        assert "--retry-failed" not in out


def test_quick_results_are_marked_and_kept_apart(folder):
    assert run("--method", "constant", "--quick") == 0
    assert run("--method", "constant", "--seeds", "1") == 0
    quick, full = sorted((m["job"]["quick"] for m in manifests(folder).values()), reverse=True)
    assert quick and not full
    assert "constant (quick)" in (folder / "leaderboards" / "small.md").read_text()


def test_a_changed_setting_is_another_result(folder):
    assert run("--method", "late-fusion", "--seeds", "1") == 0
    assert run("--method", "late-fusion", "--seeds", "1", "--set", "late-fusion.depth=1") == 0
    assert len({m["key"] for m in manifests(folder).values()}) == 2


def test_a_killed_run_goes_on_where_it_was(folder):
    """SIGKILL in the third seed; then only seeds 2 to 4 are done."""
    words = ["run", "--plugin", "small.py", "--dataset", "small", "--method", "slow", "--jobs", "1"]
    command = [sys.executable, "-m", "mmbench", *words]
    process = subprocess.Popen(
        command,
        env={**os.environ, "WAIT": "0.2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while len(manifests(folder)) < 2:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)  # into the third seed
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    before = {path: path.stat().st_mtime_ns for path in manifests(folder)}
    assert sorted(m["job"]["seed"] for m in manifests(folder).values()) == [0, 1]
    assert run("--method", "slow") == 0
    after = manifests(folder)
    assert sorted(m["job"]["seed"] for m in after.values()) == [0, 1, 2, 3, 4]
    assert {path: path.stat().st_mtime_ns for path in before} == before
