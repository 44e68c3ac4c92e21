"""mmbench/work.py and mmbench/runner.py: from a job to an outcome."""

from dataclasses import replace

import numpy as np
import pytest

from mmbench import datafile, runner, work
from mmbench.data import Schedule
from mmbench.errors import UsageError
from mmbench.executors import Executor
from mmbench.jobs import Job, Outcome, begin_manifest
from mmbench.registry import discover
from mmbench.runner import Grid, expand, outstanding, resolve
from mmbench.store import Store
from mmbench_methods.constant import Constant

SCHEDULE = Schedule(heads=10, epochs=1)


@pytest.fixture
def job() -> Job:
    data = datafile.obtain(discover().find("dataset", "mosi-twin")())
    return Job(
        "constant", "mosi-twin", 0, ("inter@1",), data.sha256, "c", SCHEDULE, versions={"f1": 1}
    )


def ignore(share, doing):
    """Nobody watches."""


def test_a_finished_job_describes_itself(job):
    manifest = work.do(job, ignore).manifest
    assert manifest["status"] == "finished" and manifest["key"] == job.key
    assert manifest["data"]["splits"] == {"train": 1284, "valid": 229, "test": 686}
    assert manifest["data"]["synthetic"] is True
    assert manifest["parameters"] == {"deployed": 0, "total": 0, "modules": {}}
    assert manifest["floor"]["f1"]["sentiment"] == pytest.approx(0.4231, abs=1e-4)
    assert {"mmbench", "torch", "numpy", "python", "device"} <= set(manifest["environment"])
    assert manifest["finished"].endswith("+00:00")


@pytest.mark.parametrize(("method", "competes"), [("constant", True), ("oracle", False)])
def test_a_job_says_whether_its_method_competes(job, method, competes):
    manifest = work.do(replace(job, method=method), ignore).manifest
    assert manifest["method"]["competes"] is competes


def test_predictions_are_kept_sample_by_sample(job):
    predictions = work.do(job, ignore).predictions
    assert len(predictions["ids"]) == len(predictions["targets"]) == 686
    assert predictions["inter/la/0"].shape == (686, 1)


def test_data_that_changed_since_planning_is_refused(job):
    manifest = work.do(replace(job, data_sha256="other"), ignore).manifest
    assert manifest["status"] == "failed" and "changed since" in manifest["reason"]


def test_the_number_of_threads_is_left_as_found(job):
    import torch

    before = torch.get_num_threads()
    work.do(job, ignore)
    assert torch.get_num_threads() == before


def test_a_quick_job_keeps_the_whole_test_split(job):
    manifest = work.do(replace(job, quick=True, protocols=("intra@1",)), ignore).manifest
    assert manifest["data"]["splits"]["test"] == 686
    assert {score["mask_seed"] for score in manifest["scores"]} == {0}
    # and yet its masks are those of a full one, of which it used the first
    full = work.do(replace(job, protocols=("intra@1",)), ignore).manifest
    assert manifest["protocols"] == full["protocols"]


def test_code_hash_sees_code_and_not_comments(tmp_path, monkeypatch):
    def digest(text: str) -> str:
        file = tmp_path / "method.py"
        file.write_text(text)
        monkeypatch.setattr(work.inspect, "getfile", lambda cls: str(file))
        return work.code_sha256(Constant)

    plain = digest("def f():\n    return 1\n")
    assert digest('"""Doc."""\n# why\n\ndef f():\n    """Doc."""\n    return 1\n') == plain
    assert digest("def f():\n    return 2\n") != plain
    monkeypatch.setattr(work, "DECISIVE", ("nn",))
    assert digest("def f():\n    return 1\n") != plain  # it is of the training code, too


def test_a_twin_stands_in_with_a_notice_until_real_data_is_there(monkeypatch):
    registry = discover()
    twin, notice = resolve(registry, "mosi")
    assert twin.name == "mosi-twin" and notice is not None and "mmbench data import mosi" in notice
    assert resolve(registry, "mosi-twin")[1] is None
    monkeypatch.setattr(runner.datafile, "is_there", lambda dataset: True)
    real, notice = resolve(registry, "mosi")
    assert real.name == "mosi" and notice is None


def test_a_grid_is_every_method_on_every_data_set_from_every_seed(job):
    registry = discover()
    data = {"mosi-twin": datafile.obtain(registry.find("dataset", "mosi-twin")())}
    grid = Grid(
        ["constant", "hrlf"],
        ["mosi-twin"],
        ["inter@1"],
        range(3),
        {"hrlf": {"depth": 2}},
        quick=True,
    )
    jobs = expand(grid, registry, data)
    assert [(j.seed, j.label) for j in jobs[:3]] == [
        (0, "constant (quick)"),
        (0, "hrlf[depth=2] (quick)"),
        (1, "constant (quick)"),
    ]
    assert len({j.key for j in jobs}) == 6 and len({j.config for j in jobs}) == 2
    assert all(j.schedule.epochs == work.QUICK_EPOCHS for j in jobs)


class Nowhere(Executor):
    """Fails every odd seed."""

    name, summary = "nowhere", ""

    def run(self, jobs, work, report):
        for job in jobs:
            report(job.key, 0.5, "half")
            manifest = {**begin_manifest(job), "finished": "now"}
            if job.seed % 2:
                manifest["reason"] = "odd"
            else:
                manifest["status"] = "finished"
            yield job, Outcome(manifest, {} if job.seed % 2 else {"targets": np.zeros((2, 1))})


def test_outcomes_are_stored_as_they_come_and_failures_are_done_again(job, tmp_path):
    store = Store(tmp_path / "runs")
    store.check_writable()
    jobs = [replace(job, seed=seed) for seed in range(3)]
    events = []
    failures = runner.run(jobs, Nowhere(), store, events.append)
    assert [(j.seed, reason) for j, reason in failures] == [(1, "odd")]
    assert [e.doing for e in events] == ["half", "done", "half", "failed", "half", "done"]
    assert [j.seed for j in outstanding(jobs, store)] == [1]


def test_the_same_job_twice_is_a_mistake(job, tmp_path):
    with pytest.raises(UsageError, match="twice"):
        runner.run([job, job], Nowhere(), Store(tmp_path), print)
