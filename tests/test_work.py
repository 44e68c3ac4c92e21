"""mmbench/work.py and mmbench/runner.py: from a job to an outcome."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import mmbench
from mmbench import checkpoints, datafile, runner, work
from mmbench.data import Schedule
from mmbench.errors import UsageError
from mmbench.executors import Executor
from mmbench.jobs import Epoch, Job, Outcome, Progress, begin_manifest, rules
from mmbench.registry import Registry, discover
from mmbench.runner import Grid, expand, resolve, survey
from mmbench.sources import code_sha256, rules_sha256
from mmbench.start import QUICK_EPOCHS
from mmbench.store import Store
from mmbench.training import Diverged, train_side_by_side
from mmbench_methods.constant import Constant

SCHEDULE = Schedule(heads=10, epochs=1)


@pytest.fixture
def job() -> Job:
    data = datafile.obtain(discover().find("dataset", "mosi-twin")())
    registry = discover()
    code = code_sha256(Constant)
    made = Job(
        *("constant", "mosi-twin", 0, ("inter@1",), data.sha256, code, SCHEDULE),
        sampler="msm@1",
        versions={"f1": 1},
    )
    return with_rules(made, registry)


def with_rules(job: Job, registry: Registry) -> Job:
    return replace(job, rules_sha256=rules_sha256(registry, rules(job)))


def by(job: Job, method: str, **others) -> Job:
    """The same job by another method."""
    registry = discover()
    cls, dataset = registry.find("method", method), registry.find("dataset", job.dataset)
    code = code_sha256(cls, dataset)
    changed = replace(job, method=method, code_sha256=code, **others)
    return with_rules(changed, registry)


def ignore(progress):
    """Nobody watches."""


def test_a_finished_job_describes_itself(job):
    manifest = work.do([job], ignore)[0].manifest
    assert manifest["status"] == "finished" and manifest["key"] == job.key
    assert manifest["data"]["splits"] == {"train": 1284, "valid": 229, "test": 686}
    assert manifest["data"]["synthetic"] is True
    assert manifest["parameters"] == {"deployed": 0, "total": 0, "modules": {}}
    assert manifest["floor"]["f1"]["sentiment"] == pytest.approx(0.4231, abs=1e-4)
    assert {"mmbench", "torch", "numpy", "python", "device"} <= set(manifest["environment"])
    assert manifest["finished"].endswith("+00:00")


@pytest.mark.parametrize(
    ("method", "competes"), [("late-fusion", True), ("constant", False), ("oracle", False)]
)
def test_a_job_says_whether_its_method_competes(job, method, competes):
    manifest = work.do([by(job, method, quick=True)], ignore)[0].manifest
    assert manifest["method"]["competes"] is competes


def test_a_result_says_which_distribution_its_method_came_from(job):
    manifest = work.do([job], ignore)[0].manifest
    expected = f"plugin 'constant' (mmbench {mmbench.__version__})"
    assert manifest["method"]["plugin"] == expected


def test_predictions_are_kept_sample_by_sample(job):
    predictions = work.do([job], ignore)[0].predictions
    assert len(predictions["ids"]) == len(predictions["targets"]) == 686
    assert predictions["inter/la/0"].shape == (686, 1)


def test_representations_are_kept_if_asked_for_and_never_the_reason_to_fail(job, monkeypatch):
    assert "representations" not in work.do([job], ignore)[0].manifest
    asked = replace(job, embeddings=True)
    assert (asked.key, asked.config) == (job.key, job.config)
    without = work.do([asked], ignore)[0]
    assert without.manifest["status"] == "finished" and not without.representations
    assert "does not define represent" in without.manifest["representations"]["absent"]

    targets = without.predictions["targets"]
    monkeypatch.setattr(Constant, "represent", lambda self, batch: batch.features["l"].mean(1))
    kept = work.do([asked], ignore)[0]
    assert kept.manifest["representations"] == {"condition": "{l}, p=0.5"}
    assert kept.representations["values"].shape[0] == 686
    assert (kept.representations["groups"] == "above 0").sum() == (targets > 0).sum()

    def fails(self, batch):
        raise RuntimeError("boom")

    monkeypatch.setattr(Constant, "represent", fails)
    failed = work.do([asked], ignore)[0].manifest
    assert failed["status"] == "finished"
    assert failed["representations"]["absent"] == "RuntimeError: boom"


def test_data_that_changed_since_planning_is_refused(job):
    manifest = work.do([replace(job, data_sha256="other")], ignore)[0].manifest
    assert (manifest["status"], manifest["kind"]) == ("failed", "refused")
    assert "changed since" in manifest["reason"]


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"code_sha256": "other"}, "the code of constant, or what trains it"),
        ({"rules_sha256": "other"}, "the code of sampler, protocols or metrics"),
        ({"versions": {"f1": 1, "mae": 9}}, "metric mae"),
        ({"versions": {"f1": 1, "nothing": 1}}, "metric nothing"),
    ],
)
def test_a_worker_whose_code_differs_refuses(job, change, culprit):
    """It would file numbers of one code under the key of another."""
    manifest = work.do([replace(job, **change)], ignore)[0].manifest
    assert manifest["kind"] == "refused" and "scores" not in manifest
    assert manifest["reason"].startswith(f"{culprit} differs in this process from where the run")


def test_the_number_of_threads_is_left_as_found(job):
    before = torch.get_num_threads()
    work.do([job], ignore)[0]
    assert torch.get_num_threads() == before


def test_a_quick_job_keeps_the_whole_test_split(job):
    intra = with_rules(replace(job, protocols=("intra@1",)), discover())
    manifest = work.do([replace(intra, quick=True)], ignore)[0].manifest
    assert manifest["data"]["splits"]["test"] == 686
    assert {score["mask_seed"] for score in manifest["scores"]} == {0}
    # and yet its masks are those of a full one, of which it used the first
    full = work.do([intra], ignore)[0].manifest
    assert manifest["protocols"] == full["protocols"]


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
    assert all(j.schedule.epochs == QUICK_EPOCHS for j in jobs)


class Nowhere(Executor):
    """Fails every odd seed."""

    name, summary = "nowhere", ""

    def run(self, jobs, work, report):
        for job in jobs:
            epoch = Epoch("train", 1, {"task": 0.5}, 0.25, 2.0)
            report(job.key, Progress(0.5, "half", {job.seed: epoch}))
            manifest = {**begin_manifest(job), "finished": "now"}
            if job.seed % 2:
                manifest |= {"reason": "odd", "kind": "exception"}
            else:
                manifest |= {"status": "finished", "environment": {}}
            yield job, Outcome(manifest, {} if job.seed % 2 else {"targets": np.zeros((2, 1))})


def test_outcomes_are_stored_as_they_come_and_failures_stay_until_asked_for(job, tmp_path):
    store = Store(tmp_path / "runs")
    store.check_writable()
    jobs = [replace(job, seed=seed) for seed in range(3)]
    events = []
    failures = runner.run(jobs, Nowhere(), store, events.append)
    assert [(f.job.seed, f.why) for f in failures] == [(1, "odd")]
    assert [e.doing for e in events] == ["half", "done", "half", "failed", "half", "done"]
    assert survey(jobs, store).todo == []
    assert [j.seed for j in survey(jobs, store, retry_failed=True).todo] == [1]


def test_the_same_job_twice_is_a_mistake(job, tmp_path):
    with pytest.raises(UsageError, match="twice"):
        runner.run([job, job], Nowhere(), Store(tmp_path), print)


def test_jobs_side_by_side_are_what_each_is_alone(job):
    jobs = [by(job, "late-fusion", seed=seed, quick=True) for seed in range(2)]
    together = work.do(jobs, ignore)
    for each, outcome in zip(jobs, together, strict=True):
        (alone,) = work.do([each], ignore)
        assert outcome.manifest["key"] == each.key and outcome.manifest["side_by_side"] == 2
        for key, outputs in alone.predictions.items():
            if key not in ("ids",):
                np.testing.assert_allclose(outcome.predictions[key], outputs, rtol=0, atol=1e-4)


class Interrupted(BaseException):
    """As Ctrl-C or a crash: no failure of the job."""


def test_a_job_that_was_interrupted_ends_in_the_same_result(job, monkeypatch):
    asked = by(job, "hrlf", quick=True, schedule=Schedule(heads=10, epochs=2))
    (whole,) = work.do([asked], ignore)
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    told = []

    def report(progress):
        told.append(progress.doing)
        if progress.epochs:
            raise Interrupted

    for _ in range(4):
        with pytest.raises(Interrupted):
            work.do([asked], report)
    (outcome,) = work.do([asked], report)
    assert [doing for doing in told if doing.startswith("going on")] == [
        f"going on after {stage} {epoch}/2" for stage in ("teacher", "student") for epoch in (1, 2)
    ]
    for name, outputs in whole.predictions.items():
        assert outputs.tobytes() == outcome.predictions[name].tobytes()
    for one, other in zip(whole.manifest["training"], outcome.manifest["training"], strict=True):
        assert one["history"] == other["history"] and one["steps"] == other["steps"]
    checkpoints.forget(asked)


def test_what_cannot_be_done_together_is_done_one_by_one(job, monkeypatch):
    def refuse(methods, *args):
        if len(methods) > 1:
            raise work.NotStackable("only alone")
        return train_side_by_side(methods, *args)

    monkeypatch.setattr(work, "train_side_by_side", refuse)
    told = []
    jobs = [replace(job, seed=seed) for seed in range(2)]
    outcomes = work.do(jobs, lambda progress: told.append(progress.share))
    assert [o.manifest["status"] for o in outcomes] == ["finished"] * 2
    assert {o.manifest["not_side_by_side"] for o in outcomes} == {"only alone"}
    assert told == sorted(told)


def test_a_seed_that_diverges_is_a_row_beside_one_that_does_not(job, monkeypatch):
    monkeypatch.setattr(work, "train_side_by_side", lambda *args: [Diverged("nan"), []])
    failed, finished = work.do([replace(job, seed=seed) for seed in range(2)], ignore)
    assert (failed.manifest["kind"], failed.manifest["reason"]) == ("diverged", "nan")
    assert finished.manifest["status"] == "finished"


def too_much():
    return torch.empty(1 << 60)


def no_room():
    raise torch.OutOfMemoryError("CUDA out of memory")  # as on a GPU


def off():
    raise SystemExit("sys.exit")


@pytest.mark.parametrize(
    ("raises", "kind", "reason"),
    [
        (lambda: 1 / 0, "exception", "ZeroDivisionError: division by zero"),
        (too_much, "out of memory", "RuntimeError: .*can't allocate memory"),
        (lambda: np.empty(1 << 50), "out of memory", ".*MemoryError: Unable to allocate"),
        (no_room, "out of memory", "OutOfMemoryError: CUDA out of memory"),
        (off, "exception", "SystemExit: sys.exit"),
    ],
)
@pytest.mark.parametrize("together", [1, 2])
def test_whatever_a_method_does_is_told_by_its_kind(
    job, monkeypatch, raises, kind, reason, together
):
    monkeypatch.setattr(Constant, "stages", lambda self: raises())
    outcomes = work.do([replace(job, seed=seed) for seed in range(together)], ignore)
    assert len(outcomes) == together
    for manifest in (outcome.manifest for outcome in outcomes):
        assert (manifest["status"], manifest["kind"]) == ("failed", kind)
        assert re.match(reason, manifest["reason"]) and "Traceback" in manifest["traceback"]


def test_a_prediction_that_is_not_finite_has_diverged(job, monkeypatch):
    nan = torch.full((), float("nan"))
    monkeypatch.setattr(Constant, "forward", lambda self, batch: nan.expand(len(batch), 1))
    manifest = work.do([job], ignore)[0].manifest
    assert manifest["kind"] == "diverged" and "NaN" in manifest["reason"]


def test_a_method_that_does_not_apply_has_a_kind_of_its_own(job, monkeypatch):
    monkeypatch.setattr(Constant, "supports", classmethod(lambda cls, spec: "no"))
    manifest = work.do([job], ignore)[0].manifest
    assert (manifest["kind"], manifest["reason"]) == ("not applicable", "not applicable: no")


@pytest.mark.parametrize("together", [1, 2])
def test_a_job_ends_within_its_time_between_two_updates(job, monkeypatch, together):
    """Jobs that are trained as one have the time of all of them, and then fail together."""
    clock = [0.0]

    def forward(self, batch):
        clock[0] += 10.0
        return late_fusion(self, batch)

    cls = discover().find("method", "late-fusion")
    late_fusion = cls.forward
    monkeypatch.setattr(cls, "forward", forward)
    monkeypatch.setattr(work.time, "monotonic", lambda: clock[0])
    asked = by(job, "late-fusion", quick=True, time_limit=45.0)
    outcomes = work.do([replace(asked, seed=seed) for seed in range(together)], ignore)
    for manifest in (outcome.manifest for outcome in outcomes):
        assert manifest["kind"] == "time limit" and manifest["key"]
        expected = "it took longer than the 0.75 minutes of --time-limit"
        assert manifest["reason"] == expected
        assert "not_side_by_side" not in manifest
    assert clock == [50.0 if together == 1 else 100.0]
    assert replace(asked, time_limit=0.0).key == asked.key


def test_a_trace_is_written_where_it_was_asked_for(job, tmp_path):
    asked = by(job, "late-fusion", quick=True, profile=str(tmp_path / "traces"))
    schedule = Schedule(heads=10, epochs=2, batch_size=16)
    manifest = work.do([replace(asked, schedule=schedule)], ignore)[0].manifest
    (file,) = (tmp_path / "traces").iterdir()
    assert file.name == "late-fusion-mosi-twin-0.json.gz" and file.stat().st_size > 1000
    (stage,) = manifest["training"]
    assert stage["steps"] == 64  # of 512 samples, twice
    assert sum(stage["spent"].values()) == pytest.approx(stage["seconds"], rel=0.25)
    assert replace(asked, profile="").key == asked.key


def test_a_job_multiplies_on_one_thread(job, monkeypatch):
    """Two jobs at a time, each on as many threads as there are cores, would wait for each other."""
    seen = []

    def look(job, report):
        seen.extend(p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas")

    monkeypatch.setattr(work, "_one", look)
    with threadpool_limits(2, user_api="blas"):
        work.do([job], ignore)
    assert seen and set(seen) == {1}
