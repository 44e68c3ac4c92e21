"""mmbench/plan.py: what a grid would take follows from what results took, and says whose."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench import manifests
from mmbench import plan as module
from mmbench.cli.plan import COLUMNS, duration, show_plan
from mmbench.data import Schedule
from mmbench.jobs import Job, Outcome, lost
from mmbench.plan import Plan, Rate, Work, closest, published, rates, span
from mmbench.registry import discover
from mmbench.runner import survey
from mmbench.store import Store
from mmbench_executors.local import Local

WORK = Work(epochs=10, batch_size=10, train=100, test=50, frames=30, trials=3, mib=100.0)
RATE = Rate("alpha", "alpha", "small", False, "cpu (x86_64)", 5, 60.0, 6.0, 1000.0, WORK)
JOB = Job("alpha", "small", 0, ("inter@1",), "d", "c", Schedule(epochs=10, batch_size=10))


def test_the_same_work_takes_what_it_took():
    assert RATE.scaled(WORK) == (66.0, 1000.0)


def test_twice_the_work_takes_twice_the_time():
    assert RATE.scaled(replace(WORK, epochs=20, trials=6))[0] == 132.0
    assert RATE.scaled(replace(WORK, train=200))[0] == 126.0  # testing is as it was


def test_memory_is_the_process_the_data_and_what_grows_with_an_update():
    larger = replace(WORK, mib=300.0)
    assert RATE.scaled(larger)[1] == 1200.0
    longer = replace(WORK, frames=30 + 180)  # an update of 1500 + 2100 frames, not 1500 + 300
    assert RATE.scaled(longer)[1] == 550 + 100 + 350 * 2


@pytest.mark.parametrize(
    "worse",
    [
        {"dataset": "other"},
        {"label": "alpha[depth=2]"},
        {"dataset": "other", "work": replace(WORK, frames=10**6)},
    ],
)
def test_the_closest_rate_is_taken(worse):
    assert closest(JOB, WORK, [replace(RATE, **worse), RATE]) is RATE


def test_of_other_data_sets_the_one_whose_updates_are_most_alike_is_taken():
    near, far = (
        replace(RATE, dataset=n, work=replace(WORK, frames=f)) for n, f in (("a", 40), ("b", 4000))
    )
    assert closest(JOB, WORK, [far, near]) is near


@pytest.mark.parametrize(
    "other", [{"method": "beta"}, {"device": "cuda:0 (H100)"}, {"quick": True}]
)
def test_rates_of_another_method_device_or_a_first_look_say_nothing(other):
    assert closest(JOB, WORK, [replace(RATE, **other)]) is None


def test_a_rate_is_the_median_of_the_newest_configuration(make_manifest):
    slow = make_manifest(seed=3, code="old", finished="2025-01-01T00:00:00+00:00")
    slow["seconds"]["train"] = 999.0
    (rate,) = rates([*(make_manifest(seed=n) for n in range(3)), slow])
    assert (rate.seeds, rate.train, rate.evaluate, rate.memory) == (3, 3.0, 0.1, 100.0)
    assert (rate.work.train, rate.work.test, rate.work.frames, rate.work.trials) == (24, 10, 12, 3)


@pytest.mark.parametrize("part", ["seconds", "data", "job", "protocols", "environment"])
@pytest.mark.parametrize("value", [None, {}, {"label": []}, "text"])
def test_a_result_that_does_not_say_what_it_took_is_passed_over(make_manifest, part, value):
    sound = make_manifest()
    odd = {**make_manifest(seed=1), part: value}
    assert len(rates([sound, odd])) <= 1


def test_a_result_that_took_for_ever_is_passed_over(make_manifest):
    odd = make_manifest()
    odd["seconds"]["train"] = float("inf")
    assert rates([odd]) == []


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=30), st.integers(1, 9))
def test_no_packing_ends_before_its_longest_job_or_its_fair_share(seconds, workers):
    end = span(seconds, workers)
    least = max(max(seconds), sum(seconds) / workers)
    assert least * (1 - 1e-9) <= end <= least * (4 / 3) + max(seconds) / 3 + 1e-6


def test_the_longest_job_is_taken_first():
    assert span([3, 3, 2, 2, 2], 2) == 7 and span([1, 1, 2], 2) == 2  # not 3, as they come
    assert span([5, 1, 1, 1, 1, 1], 2) == 5 and span([], 3) == 0


def test_published_rates_are_of_whole_runs_and_name_their_machine():
    every = published()
    assert every and not any(rate.quick for rate in every)
    assert all(rate.device and rate.seeds and rate.memory > 0 for rate in every)


@pytest.fixture
def planned(tmp_path, make_data, make_manifest, monkeypatch):
    """A plan of four seeds of `alpha`: one is there, one has failed; and of one of `beta`, never measured."""
    monkeypatch.setattr(module, "published", list)
    return plan_of(tmp_path, make_data, make_manifest)


def plan_of(tmp_path, make_data, make_manifest):
    store = Store(tmp_path / "runs")
    store.check_writable()
    jobs = [replace(JOB, seed=seed) for seed in range(4)] + [replace(JOB, method="beta")]
    manifest = make_manifest() | {"key": jobs[0].key, "config": jobs[0].config}
    manifest["job"]["schedule"] |= {"epochs": 10, "batch_size": 10}
    store.save(Outcome(manifest, {"targets": np.ones((1, 1))}))
    store.save(lost(jobs[1], "killed"))
    return Plan.of(jobs, survey(jobs, store), store, {"small": make_data()}, Local(2), discover())


def test_a_plan_counts_what_is_there_what_failed_and_what_is_left(planned):
    alpha, beta = planned.cells
    assert (alpha.jobs, alpha.there, alpha.failed, alpha.left) == (4, 1, 1, 3)
    assert (beta.left, beta.estimate, planned.unknown) == (1, None, 1)
    assert (planned.jobs, planned.left, planned.workers) == (5, 4, 2)
    assert planned.seconds == pytest.approx(3 * alpha.estimate.seconds)
    assert planned.span == pytest.approx(2 * alpha.estimate.seconds)
    assert planned.mib == pytest.approx(2 * alpha.estimate.mib)
    assert alpha.estimate.source == "1 seed here" and not alpha.estimate.published


def test_what_was_measured_here_goes_before_what_was_published(
    tmp_path, make_data, make_manifest, monkeypatch
):
    manifest = make_manifest()
    manifest["job"]["schedule"] |= {"epochs": 10, "batch_size": 10}
    alike, beta = rates([manifest])[0], replace(RATE, method="beta")
    monkeypatch.setattr(module, "published", lambda: [alike, beta])
    cells = plan_of(tmp_path, make_data, make_manifest).cells
    assert [cell.estimate.published for cell in cells] == [False, True]
    assert cells[0].estimate.source == "1 seed here"


def test_each_manifest_is_read_once_also_those_of_other_jobs(
    tmp_path, make_data, make_manifest, monkeypatch
):
    other = replace(JOB, method="beta", seed=7)
    manifest = make_manifest(method="beta") | {"key": other.key, "config": other.config}
    manifest["job"] |= {"method": "beta", "label": "beta", "seed": 7}
    store = Store(tmp_path / "runs")
    store.check_writable()
    store.save(Outcome(manifest, {"targets": np.ones((1, 1))}))
    read, read_manifest = [], manifests.read

    def count(path):
        found = read_manifest(path)
        read.append(path)
        return found

    monkeypatch.setattr(manifests, "read", count)
    beta = plan_of(tmp_path, make_data, make_manifest).cells[1]
    assert beta.estimate.source == "1 seed here"
    assert len(set(read)) == len(read) == 3


def test_a_plan_is_aligned_text_where_nobody_looks_and_says_what_is_unknown(planned, capsys):
    show_plan(planned, "runs")
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert re.split(r" {2,}", lines[0])[:6] == [*COLUMNS[:6]]
    assert "1 seed here" in lines[1] and "nothing measured" in lines[2]
    assert "4 of 5 jobs to do" in out and "on 2 workers" in out
    assert "without 1 of which nothing was measured" in out
    assert "here: what the results in runs took" in out and "published" not in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (119, "119 s"), (150, "2 min"), (7200, "2.0 h"), (200000, "2.3 days")],
)
def test_a_duration_has_one_unit(seconds, told):
    assert duration(seconds) == told
