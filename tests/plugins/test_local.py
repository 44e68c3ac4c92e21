"""plugins/mmbench_executors/local.py: jobs in processes, and processes that die."""

import os
import signal
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from mmbench.data import Schedule
from mmbench.jobs import Epoch, Job
from mmbench_executors.local import Local

EPOCH = Epoch("train", 1, {"task": 0.5}, 0.25, 2.0)


def job(seed: int) -> Job:
    return Job("m", "d", seed, ("inter@1",), "0", "0", Schedule())


WORK = """
import os, signal, time

from mmbench.jobs import Epoch, Outcome, Progress


EPOCH = Epoch("train", 1, {"task": 0.5}, 0.25, 2.0)


def square(jobs, report):
    report(Progress(0.5, "half way", {job.seed: EPOCH for job in jobs}))
    return [Outcome({"pid": os.getpid(), "square": job.seed**2}) for job in jobs]


def die_on_one(jobs, report):
    if 1 in [job.seed for job in jobs]:
        os.kill(os.getpid(), signal.SIGKILL)
    return [Outcome({"square": job.seed**2}) for job in jobs]


def hang_on_one(jobs, report):
    report(Progress(0.0, "starting"))
    if 1 in [job.seed for job in jobs]:
        time.sleep(600)
    return [Outcome({"square": job.seed**2}) for job in jobs]


def mask(jobs, report):
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return [Outcome({"blocked": signal.SIGINT in mask}) for job in jobs]


def sleep(jobs, report):
    report(Progress(0.0, str(os.getpid())))
    time.sleep(60)
    return [Outcome({}) for _ in jobs]
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
    assert {key: (p.share, p.doing) for key, p in told} == {j.key: (0.5, "half way") for j in jobs}
    epochs = {key: progress.epochs for key, progress in told}
    assert all(epochs[j.key][j.seed] == EPOCH for j in jobs) and len(told) == len(jobs)
    here = {outcome.manifest["pid"] == os.getpid() for _, outcome in done}
    assert here == {workers == 1}


def test_a_killed_process_loses_its_own_job_only(work):
    jobs = [job(seed) for seed in range(3)]
    done = {j.seed: o.manifest for j, o in Local(2).run(jobs, work.die_on_one, lambda *words: None)}
    assert done[1]["status"] == "failed"
    assert (done[1]["kind"], done[1]["reason"]) == (
        "lost",
        "its process ended with exit code -9, killed: by the system, perhaps, for want of memory, and "
        "fewer --jobs take less",
    )
    assert done[0]["square"] == 0 and done[2]["square"] == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_hangs_beyond_its_time_is_killed_and_the_others_go_on(
    work, workers, monkeypatch
):
    monkeypatch.setattr("mmbench.executors.GRACE", 3.0)
    jobs = [replace(job(seed), time_limit=limit) for seed, limit in ((0, 600), (1, 0.1), (2, 600))]
    run = Local(workers).run(jobs, work.hang_on_one, lambda *words: None)
    done = {j.seed: o.manifest for j, o in run}
    assert done[1]["kind"] == "time limit" and "had to be killed" in done[1]["reason"]
    assert done[0]["square"] == 0 and done[2]["square"] == 4


def test_a_process_hears_no_ctrl_c(work):
    (blocked,) = (o.manifest["blocked"] for _, o in Local(2).run([job(0)], work.mask, print))
    assert blocked
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_stopping_leaves_no_process_behind(work):
    pids = []

    def report(key, progress):
        pids.append(int(progress.doing))
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


def test_seeds_are_grouped_as_they_fit():
    """On a CPU each by itself, on a GPU all of a method; other methods never together."""
    jobs = [replace(job(seed), method=method) for seed in range(5) for method in ("m", "n")]
    sizes = {side: [len(g) for g in Local(None, side).groups(jobs)] for side in (None, 2, 3, 9)}
    assert sizes == {None: [1] * 10, 2: [2, 2, 2, 2, 1, 1], 3: [3, 3, 2, 2], 9: [5, 5]}
    on_gpu = Local().groups([replace(one, device="cuda") for one in jobs])
    assert [len(group) for group in on_gpu] == [5, 5]
    for group in on_gpu:
        assert len({one.method for one in group}) == 1
    assert {one.key for group in Local(None, 2).groups(jobs) for one in group} == {
        one.key for one in jobs
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_of_a_group_are_done_in_one_call(work, workers):
    jobs = [job(seed) for seed in range(4)]
    told = []
    done = list(Local(workers, 2).run(jobs, work.square, lambda *words: told.append(words)))
    assert {j.seed: outcome.manifest["square"] for j, outcome in done} == {0: 0, 1: 1, 2: 4, 3: 9}
    assert len({outcome.manifest["pid"] for _, outcome in done}) == workers
    assert {key: (p.share, p.doing) for key, p in told} == {j.key: (0.5, "half way") for j in jobs}
    epochs = {key: progress.epochs for key, progress in told}
    assert all(epochs[j.key][j.seed] == EPOCH for j in jobs) and len(told) == len(jobs)
