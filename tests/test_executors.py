"""mmbench/executors.py: the executor that it shows runs, on a SLURM that is made up."""

import sys
from textwrap import dedent
from types import SimpleNamespace

import pytest

import mmbench.executors
from mmbench.checks import run_checks
from mmbench.checks.executors import JOBS
from mmbench.settings import hyperparameters


class Task:
    """What submitit gives for what was submitted."""

    def __init__(self, work, *arguments):
        self.work, self.arguments = work, arguments

    def result(self):
        return self.work(*self.arguments)


class Pool:
    """Stands in for submitit's."""

    def __init__(self, folder):
        self.parameters = {}

    def update_parameters(self, **parameters):
        self.parameters |= parameters

    def submit(self, work, *arguments):
        return Task(work, *arguments)


@pytest.fixture
def slurm(monkeypatch):
    """The class that the module shows."""
    helpers = SimpleNamespace(as_completed=lambda tasks: reversed(tasks))
    made_up = SimpleNamespace(AutoExecutor=Pool, helpers=helpers)
    monkeypatch.setitem(sys.modules, "submitit", made_up)
    text = mmbench.executors.__doc__
    code = dedent(text[text.index("    import submitit") : text.index("\n`mmbench run")])
    assert len([line for line in code.splitlines() if line]) < 30
    names = {}
    exec(code, names)
    return names["mmbench_register_executors"]()


def test_the_executor_that_is_shown_runs_and_keeps_the_contract(slurm, capsys):
    failed = {r.check.name: r.reason for r in run_checks([slurm]) if r.status == "failed"}
    # nobody watches its jobs, and the kit would have it told
    assert list(failed) == ["progress is told of its own jobs"]
    assert {name: p.default for name, p in hyperparameters(slurm).items()} == {
        "partition": "cpu",
        "minutes": 60,
    }
    assert slurm(partition="long").pool.parameters == {"slurm_partition": "long", "timeout_min": 60}


def test_a_job_that_slurm_gives_up_is_lost(slurm, monkeypatch):
    def cancelled(task):
        raise RuntimeError("cancelled by SLURM")

    monkeypatch.setattr(Task, "result", cancelled)
    done = list(slurm().run(JOBS, mmbench.executors.rehearse, lambda *told: None))
    assert {job.key for job, _ in done} == {job.key for job in JOBS}
    assert {outcome.manifest["reason"] for _, outcome in done} == {"cancelled by SLURM"}
