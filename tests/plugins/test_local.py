"""plugins/mmbench_executors/local.py: jobs in processes, and processes that die."""

import os
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from mmbench.data import Schedule
from mmbench.jobs import Job
from mmbench_executors.local import Local


def job(seed: int) -> Job:
    return Job("m", "d", seed, ("inter@1",), "0", "0", Schedule())


WORK = """
import os, signal, time

from mmbench.jobs import Outcome


def square(job, report):
    report(0.5, "half way")
    return Outcome({"pid": os.getpid(), "square": job.seed**2})


def die_on_one(job, report):
    if job.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome({"square": job.seed**2})


def sleep(job, report):
    report(0.0, str(os.getpid()))
    time.sleep(60)
    return Outcome({})
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """What to do, in a module that a process of its own can import; pytest's modules it cannot."""
    (tmp_path / "work_of_test_local.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "work_of_test_local", raising=False)
    return import_module("work_of_test_local")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once_and_reports(work, workers):
    told = []
    jobs = [job(seed) for seed in range(4)]
    done = list(Local(workers).run(jobs, work.square, lambda *words: told.append(words)))
    assert {j.seed: outcome.manifest["square"] for j, outcome in done} == {0: 0, 1: 1, 2: 4, 3: 9}
    assert sorted(told) == sorted((j.key, 0.5, "half way") for j in jobs)
    here = {outcome.manifest["pid"] == os.getpid() for _, outcome in done}
    assert here == {workers == 1}


def test_a_killed_process_loses_its_own_job_only(work):
    jobs = [job(seed) for seed in range(3)]
    done = {j.seed: o.manifest for j, o in Local(2).run(jobs, work.die_on_one, lambda *words: None)}
    assert done[1]["status"] == "failed"
    assert done[1]["reason"] == "its process ended with exit code -9"
    assert done[0]["square"] == 0 and done[2]["square"] == 4


def test_stopping_leaves_no_process_behind(work):
    pids = []

    def report(key, share, doing):
        pids.append(int(doing))
        if len(pids) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Local(2).run([job(0), job(1)], work.sleep, report))
    for _ in range(50):
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists() and not _zombie(pid)]
        if not alive:
            return
        time.sleep(0.1)
    raise AssertionError(f"still running: {alive}")


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
