"""mmbench/runner.py: which jobs are done, which are done again, and what is never replaced."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mmbench import runner
from mmbench.data import Schedule
from mmbench.executors import Executor
from mmbench.jobs import KINDS, Job, Outcome, begin_manifest, failure, kind_of, lost, overdue, why
from mmbench.runner import survey
from mmbench.store import Store
from mmbench.work import versions

JOBS = [Job("m", "d", seed, ("inter@1",), "0", "0", Schedule()) for seed in range(4)]


def finished(job):
    manifest = {**begin_manifest(job), "status": "finished", "finished": "now"}
    return Outcome({**manifest, "environment": versions()}, {"targets": np.zeros((2, 1))})


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "runs")
    made.check_writable()
    return made


class Scripted(Executor):
    """A worker that does what the script says of a seed, time after time; its groups in `calls`."""

    name, summary = "scripted", ""

    def __init__(self, script, side_by_side=None):
        super().__init__(None, side_by_side)
        self.script, self.calls, self.times = script, [], Counter()

    def run(self, jobs, work, report):
        for group in self.groups(jobs):
            self.calls.append([job.seed for job in group])
            said = []
            for job in group:
                script = self.script.get(job.seed, "f")
                said.append(script[min(self.times[job.seed], len(script) - 1)])
                self.times[job.seed] += 1
            for job, word in zip(group, said, strict=True):
                if "l" in said:  # the worker of a group is one for all
                    yield job, lost(job, "killed")
                else:
                    yield job, finished(job) if word == "f" else failure(job, "exception", "odd")


def run(store, executor, jobs=JOBS):
    events = []
    return runner.run(jobs, executor, store, events.append), events


def test_a_job_that_lost_its_worker_is_done_again_and_no_other(store):
    executor = Scripted({1: "lf", 2: "e"})
    failures, events = run(store, executor)
    assert [(f.job.seed, f.kind, f.why) for f in failures] == [(2, "exception", "odd")]
    assert executor.calls == [[0], [1], [2], [3], [1]]
    assert [(e.doing, e.reason) for e in events if e.job.seed == 1] == [
        ("lost", "killed"),
        ("done", None),
    ]
    assert [store.finished(job) for job in JOBS] == [True, True, False, True]


def test_a_job_that_ends_its_worker_every_time_is_given_up_and_says_so(store):
    executor = Scripted({1: "l"})
    failures, _ = run(store, executor)
    assert [(f.job.seed, f.kind) for f in failures] == [(1, "lost")]
    assert executor.times == {0: 1, 1: runner.TRIES, 2: 1, 3: 1}
    (manifest,) = [m for m in store.manifests() if m["status"] == "failed"]
    assert manifest["reason"] == "killed (3 times, each for itself at last)"


def test_a_group_that_lost_its_worker_is_done_again_seed_by_seed(store):
    """The seed that ended it takes no other along."""
    executor = Scripted({1: "l"}, side_by_side=4)
    failures, _ = run(store, executor)
    assert executor.calls == [[0, 1, 2, 3], [0], [1], [2], [3], [1]]
    assert [(f.job.seed, f.kind) for f in failures] == [(1, "lost")]
    assert [store.finished(job) for job in JOBS] == [True, False, True, True]


KEPT = {"exception", "out of memory", "diverged", "time limit", "not applicable"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_of_the_methods_own_making_stays_and_the_machines_does_not(store, kind):
    store.save(failure(JOBS[0], kind, "some reason"))
    store.save(finished(JOBS[1]))
    found = survey(JOBS, store)
    assert found.there == 1
    assert found.todo == (JOBS[2:] if kind in KEPT else [JOBS[0], *JOBS[2:]])
    assert survey(JOBS, store, retry_failed=True).todo == [JOBS[0], *JOBS[2:]]
    assert survey(JOBS, store, force=True).todo == JOBS
    told = [(f.job, f.kind, f.before) for f in found.failures]
    assert told == ([(JOBS[0], kind, True)] if kind in KEPT else [])


def test_a_result_that_asks_for_more_than_there_is_is_done_again(store):
    store.save(finished(JOBS[0]))
    asked = replace(JOBS[0], embeddings=True)
    assert survey([asked], store).todo == [asked]


@pytest.mark.parametrize("word", ["e", "l"])
def test_a_failure_never_takes_the_place_of_a_finished_result(store, word):
    store.save(finished(JOBS[0]))
    failures, _ = run(store, Scripted({0: word}), JOBS[:1])
    assert len(failures) == 1 and store.finished(JOBS[0])
    again = finished(JOBS[0])
    store.save(failure(JOBS[1], "exception", "odd"))
    run(store, Scripted({1: "f"}), JOBS[:2])
    assert store.finished(JOBS[1]) and again.manifest["key"] == JOBS[0].key


@pytest.mark.parametrize(
    ("manifest", "kind", "told"),
    [
        ({"reason": "ValueError: x", "traceback": "T"}, "exception", "ValueError: x"),
        ({"reason": "not applicable: x", "traceback": "T"}, "not applicable", "not applicable: x"),
        ({"reason": "its process ended with exit code -9"}, "lost", "lost: its process ended"),
        ({"reason": "x", "kind": "diverged", "traceback": "T"}, "diverged", "diverged: x"),
        ({"reason": "x", "kind": "of another version", "traceback": "T"}, "exception", "x"),
    ],
)
def test_a_failure_of_an_older_version_has_a_kind_too(manifest, kind, told):
    whole = {**begin_manifest(JOBS[0]), **manifest}
    assert kind_of(whole) == kind and why(whole).startswith(told)
    assert kind_of(finished(JOBS[0]).manifest) is None


def test_a_job_that_was_killed_for_its_time_says_the_limit():
    manifest = overdue(replace(JOBS[0], time_limit=90.0)).manifest
    assert kind_of(manifest) == "time limit"
    assert manifest["reason"] == (
        "it took longer than the 1.5 minutes of --time-limit, and had to be killed"
    )


def test_a_group_has_the_time_of_its_jobs_and_each_its_own_again_should_it_fall_apart():
    jobs = [replace(job, time_limit=100.0) for job in JOBS]
    assert Executor.time_limit(JOBS) is None
    assert Executor.time_limit(jobs[:1]) == 100 + 30
    assert Executor.time_limit(jobs) == 2 * 400 + 30


def test_results_of_other_libraries_are_kept_and_told(store):
    old = finished(JOBS[0])
    environment = {**old.manifest["environment"], "torch": "1.0"}
    store.save(replace(old, manifest={**old.manifest, "environment": environment}))
    store.save(finished(JOBS[1]))
    found = survey(JOBS, store)
    assert found.todo == JOBS[2:] and found.made_by == ["torch 1.0"]
