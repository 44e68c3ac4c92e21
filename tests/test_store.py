"""mmbench/store.py: a result is whole or not there, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmbench import store as module
from mmbench.data import Schedule
from mmbench.errors import DataError, UsageError
from mmbench.jobs import Job, Outcome, begin_manifest, lost
from mmbench.store import Store

JOB = Job("alpha", "small", 3, ("inter@1",), "data", "code", Schedule())
ARRAYS = {
    "ids": np.array(["ä", "b"]),
    "targets": np.array([[1.0], [2.0]], np.float32),
    "inter/la/0": np.array([[0.5], [0.25]], np.float32),
}


def outcome(job: Job = JOB, mark: float = 0.0) -> Outcome:
    manifest = begin_manifest(job) | {"status": "finished", "finished": "now", "mark": mark}
    return Outcome(manifest, {**ARRAYS, "inter/a/0": np.full((2, 1), mark, np.float32)})


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "runs")
    made.check_writable()
    return made


def test_what_is_saved_is_read_back(store):
    assert not store.finished(JOB)
    path = store.save(outcome())
    assert path == store.root / "small" / "alpha" / f"seed-3-{JOB.key}"
    assert store.finished(JOB) and store.datasets() == ["small"]
    (manifest,) = store.manifests("small")
    assert manifest["mark"] == 0.0 and not store.damaged()
    arrays = store.predictions(manifest)
    assert arrays["ids"].tolist() == ["ä", "b"]
    for name in ("targets", "inter/la/0"):
        np.testing.assert_array_equal(arrays[name], ARRAYS[name])


def test_representations_stand_beside_predictions_and_are_checked(store):
    plain = outcome()
    assert store.representations(plain.manifest) == {}
    arrays = {"values": np.ones((2, 3), np.float32), "groups": np.array(["über 0", ""])}
    manifest = {**plain.manifest, "representations": {"condition": "{l}"}}
    path = store.save(Outcome(manifest, plain.predictions, arrays))
    assert manifest["representations"] == {"condition": "{l}"}  # what it was given is left alone
    (saved,) = store.manifests()
    read = store.representations(saved)
    assert read["groups"].tolist() == ["über 0", ""]
    np.testing.assert_array_equal(read["values"], arrays["values"])
    assert store.predictions(saved)["ids"].tolist() == ["ä", "b"]
    file = path / module.REPRESENTATIONS
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"representations\.h5: altered"):
        store.representations(saved)


def test_a_result_without_representations_is_done_again_for_a_job_that_asks_for_them(store):
    asks = replace(JOB, embeddings=True)
    plain = outcome()
    store.save(plain)
    assert store.finished(JOB) and not store.finished(asks)
    store.save(Outcome({**plain.manifest, "representations": {"absent": "why"}}, plain.predictions))
    assert store.finished(JOB) and store.finished(asks)  # none is an answer, too


def test_a_failure_is_kept_but_not_finished_and_gives_way(store):
    store.save(lost(JOB, "killed"))
    assert not store.finished(JOB)
    assert store.manifests()[0]["reason"] == "killed"
    store.save(outcome())
    assert store.finished(JOB) and len(store.manifests()) == 1
    assert not list(store.root.glob(f"{module.UNFINISHED}*"))


def test_manifests_come_in_one_order(store):
    for seed in (2, 0, 1):
        store.save(outcome(Job("alpha", "small", seed, ("inter@1",), "d", "c", Schedule())))
    store.save(outcome(Job("beta", "other", 0, ("inter@1",), "d", "c", Schedule())))
    assert [m["job"]["seed"] for m in store.manifests("small")] == [0, 1, 2]
    assert store.datasets() == ["other", "small"]


@pytest.mark.parametrize("point", ["write", "_flush", "_sha256", "rename"])
def test_a_crash_while_saving_leaves_the_state_before(store, monkeypatch, point):
    def crash(*_):
        raise KeyboardInterrupt

    store.save(lost(JOB, "before"))
    with monkeypatch.context() as patch:
        if point == "rename":
            patch.setattr(Path, "rename", crash)
        else:
            patch.setattr(module, point, crash)
        with pytest.raises(KeyboardInterrupt):
            store.save(outcome())
    assert [m["reason"] for m in store.manifests()] == ["before"]
    assert not list(store.root.glob(f"{module.UNFINISHED}*"))


def test_a_result_appears_whole_by_a_rename(store, monkeypatch):
    seen, rename = [], Path.rename

    def watch(source, target):
        assert not target.exists()
        seen.append((target, sorted(file.name for file in source.iterdir())))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", watch)
    path = store.save(outcome())
    assert seen == [(path, [module.MANIFEST, module.PREDICTIONS])]


def test_a_writer_killed_at_any_moment_leaves_whole_results_only(store, tmp_path):
    (tmp_path / "writer.py").write_text(
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
        "import test_store as t\n"
        "from pathlib import Path\n"
        "s = t.Store(Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "for seed in range(10**6):\n"
        "    s.save(t.outcome(t.Job('alpha', 'small', seed, ('i@1',), 'd', 'c', t.Schedule()), seed))\n"
    )
    rng = np.random.default_rng(0)
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, str(tmp_path / "writer.py"), str(store.root)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.05, 0.4))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    found = store.manifests()
    assert found and not store.damaged()
    for manifest in found:
        assert (store.predictions(manifest)["inter/a/0"] == manifest["mark"]).all()
    store.check_writable()  # sweeps away what was begun
    assert not list(store.root.glob(f"{module.UNFINISHED}*"))


def test_what_a_living_writer_has_begun_is_left_alone(store):
    begun = store.root / f"{module.UNFINISHED}{os.getpid()}-abc"
    begun.mkdir()
    store.check_writable()
    assert begun.exists()


def test_altered_predictions_are_noticed(store):
    path = store.save(outcome()) / module.PREDICTIONS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="altered since it was written"):
        store.predictions(store.manifests()[0])


def test_missing_predictions_are_not_a_finished_result(store):
    (store.save(outcome()) / module.PREDICTIONS).unlink()
    assert not store.finished(JOB)
    with pytest.raises(DataError, match=r"predictions\.h5"):
        store.predictions(store.manifests()[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 9, "job": {"dataset": "small"}}',
        '{"schema": 1, "job": 3}',
        '{"schema": 1, "job": {"dataset": 3}}',
    ],
)
def test_a_damaged_manifest_is_told_apart(store, text):
    path = store.save(outcome()) / module.MANIFEST
    path.write_text(text)
    assert store.manifests() == [] and store.damaged() == [path]
    assert not store.finished(JOB)


def test_a_number_that_json_has_not_is_refused(store):
    with pytest.raises(ValueError, match="Out of range float"):
        store.save(outcome(mark=float("nan")))
    assert store.manifests() == []


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "a\\b"])
def test_a_name_that_leads_elsewhere_is_refused(store, name):
    job = Job(name, "small", 0, ("inter@1",), "d", "c", Schedule())
    with pytest.raises(UsageError, match="cannot be the name of a folder"):
        store.save(outcome(job))


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write results to .*below: Not a directory"):
        Store(tmp_path / "file" / "below").check_writable()


def test_a_file_in_the_folders_place_is_told(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(UsageError, match=r"cannot write results to .*runs: .*; choose another"):
        Store(tmp_path / "runs").check_writable()


def test_a_folder_without_permission_is_told(store, monkeypatch):
    def refuse(*_, **__):  # in place of chmod: root may write anywhere
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match="Permission denied; choose another --store"):
        store.check_writable()


def test_results_can_be_read_by_those_whom_the_umask_lets(store):
    before = os.umask(0o022)
    try:
        path = store.save(outcome())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_manifest_is_json_that_people_can_read(store):
    text = (store.save(outcome()) / module.MANIFEST).read_text()
    assert len(text.splitlines()) > 10 and json.loads(text)["key"] == JOB.key
