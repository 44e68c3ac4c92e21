"""mmbench/listeners.py: plugins hear how a run goes, and cannot hurt it."""

import os
from dataclasses import replace

import pytest

from mmbench import runner
from mmbench.data import Schedule
from mmbench.executors import Executor
from mmbench.jobs import Epoch, Job, Outcome, Progress, begin_manifest, lost
from mmbench.listeners import Listeners
from mmbench.registry import LISTENING, discover
from mmbench.store import Store

JOB = Job("m", "d", 0, ("inter@1",), "0", "0", Schedule())
JOBS = [replace(JOB, seed=seed) for seed in range(2)]
EPOCH = Epoch("train", 1, {"task": 0.5}, 0.25, 2.0)


class TwoEpochs(Executor):
    """Both seeds side by side; the second one fails in its second epoch."""

    name, summary = "two-epochs", ""

    def run(self, jobs, work, report):
        for number in (1, 2):
            epoch = replace(EPOCH, number=number)
            epochs = {job.seed: epoch for job in jobs if number == 1 or job.seed == 0}
            for job in jobs:
                report(job.key, Progress(number / 2, "train", epochs))
        for job in jobs:
            how = {"reason": "odd", "kind": "exception"} if job.seed else {"status": "finished"}
            yield job, Outcome({**begin_manifest(job), **how})


class Dies(Executor):
    """No worker lives long enough to tell anything."""

    name, summary = "dies", ""

    def run(self, jobs, work, report):
        for job in jobs:
            yield job, lost(job, "killed")


class Stopped(Executor):
    """Someone presses Ctrl-C."""

    name, summary = "stopped", ""

    def run(self, jobs, work, report):
        report(jobs[0].key, Progress(0.0, "starting"))
        raise KeyboardInterrupt
        yield


PLUGIN = """
import mmbench

heard = []

@mmbench.hookimpl
def mmbench_run_started(jobs):
    heard.append(f"run of {len(jobs)}")

@mmbench.hookimpl
def mmbench_job_started(job):
    heard.append(f"start {job.seed}")

@mmbench.hookimpl
def mmbench_epoch_finished(job, epoch):
    heard.append(f"epoch {epoch.number} of {job.seed}")

@mmbench.hookimpl
def mmbench_job_finished(job, manifest):
    heard.append(f"{manifest['status']} {job.seed}")

@mmbench.hookimpl
def mmbench_run_finished(failures):
    heard.append(f"end, {len(failures)} failed")
"""


@pytest.fixture
def listen(tmp_path):
    """Runs both jobs; what a plugin of this text has heard, and what was warned of."""

    def run(text=PLUGIN, executor=TwoEpochs):
        file = tmp_path / "hears.py"
        file.write_text(text)
        registry = discover([file])
        (manager,) = [m for source, m in registry.listeners if source.name == "hears"]
        (module,) = manager.get_plugins()
        warned = []
        store = Store(tmp_path / "runs")
        store.check_writable()
        listeners = Listeners(registry.listeners, warned.append)
        try:
            runner.run(JOBS, executor(), store, lambda event: None, listeners)
        except KeyboardInterrupt:
            module.heard.append("stopped")
        return module.heard, warned

    return run


def test_a_plugin_hears_of_the_run_its_jobs_and_their_epochs(listen):
    heard, warned = listen()
    assert heard == [
        "run of 2",
        *("start 0", "epoch 1 of 0", "start 1", "epoch 1 of 1", "epoch 2 of 0"),
        *("finished 0", "failed 1", "end, 1 failed"),
    ]
    assert not warned


def test_a_job_whose_worker_died_at_once_starts_each_time_and_ends(listen):
    heard, _ = listen(executor=Dies)
    assert heard == [
        *("run of 2", "start 0", "start 1", "start 0", "start 1"),
        *("start 0", "failed 0", "start 1", "failed 1", "end, 2 failed"),
    ]


def test_a_run_that_is_stopped_ends(listen):
    heard, _ = listen(executor=Stopped)
    assert heard == ["run of 2", "start 0", "end, 0 failed", "stopped"]


@pytest.mark.parametrize("error", ["ValueError('boom')", "SystemExit('boom')"])
def test_what_a_hook_raises_is_told_once_and_the_run_goes_on(listen, error):
    told = 'heard.append(f"epoch {epoch.number} of {job.seed}")'
    heard, warned = listen(PLUGIN.replace(told, f"raise {error}"))
    assert heard[-1] == "end, 1 failed"
    (message,) = warned
    assert f"plugin 'hears' (file): mmbench_epoch_finished raised {error[:10]}" in message
    assert message.endswith("without this plugin: MMBENCH_DISABLE_PLUGINS=hears")


def test_a_plugin_may_leave_out_what_it_does_not_use(listen):
    text = PLUGIN.replace("(job, epoch)", "(job)").replace("epoch {epoch.number}", "epoch")
    assert "epoch of 1" in listen(text)[0]


WRITES = """
import os

import mmbench

@mmbench.hookimpl
def mmbench_epoch_finished(job, epoch):
    with open("heard", "a") as file:
        file.write(f"{os.getpid()} {job.seed} {epoch.stage} {epoch.number}\\n")
    raise RuntimeError("full")
"""


def test_hooks_are_called_in_the_process_that_shows_the_bars(tmp_path, monkeypatch, capsys):
    """Two workers, and every epoch of theirs is heard here; what a hook raises is told on standard error."""
    from mmbench.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "hears.py").write_text(WRITES)
    words = "run --plugin hears.py --method oracle,late-fusion --dataset tiny --quick --jobs 2"
    with pytest.raises(SystemExit) as ended:
        main([*words.split(), "--protocol", "inter", "--format", "md"])
    assert ended.value.code == 0
    heard = sorted((tmp_path / "heard").read_text().splitlines())
    assert heard == [f"{os.getpid()} 0 train {number}" for number in (1, 2)]
    assert capsys.readouterr().err.count("mmbench_epoch_finished raised RuntimeError: full") == 1


def test_every_hook_that_tells_of_a_run_is_called(listen):
    assert {f"def {hook}(" for hook in LISTENING} == {
        line.split("(")[0] + "(" for line in PLUGIN.splitlines() if line.startswith("def ")
    }
