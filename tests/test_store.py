"""mmbench/store.py: a result is whole or not there, whatever happens."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("point", ["_write_hashed", "_write", "_flush", "rename"])
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
    begun = store._unfinished()
    other = begun.with_name(begun.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    elsewhere = begun.with_name(f"{module.UNFINISHED}elsewhere-1-abc")
    for folder in (other, elsewhere):
        folder.mkdir()
    store.check_writable()
    assert begun.exists() and other.exists() and elsewhere.exists()
    for folder in (other, elsewhere):  # its number is another process's by now, or who knows
        os.utime(folder, (0, 0))
    store.check_writable()
    assert begun.exists() and not other.exists() and not elsewhere.exists()


def test_what_a_process_left_that_had_our_number_is_swept_away(store):
    begun = store._unfinished()
    begun.rename(begun.with_name(f"{begun.name}0"))
    store.check_writable()
    assert not list(store.root.glob(f"{module.UNFINISHED}*"))


def killed_at(step, action):
    """Does something in a process that is killed before its `step`-th operation on a file; whether it was."""
    child = os.fork()
    if not child:
        try:
            count = 0

            def kill(event, _):
                nonlocal count
                if event in OPERATIONS:
                    count += 1
                    if count == step:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(kill)
            action()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir")


@pytest.mark.parametrize("before", ["nothing", "a failure", "a result"])
def test_a_writer_killed_at_each_step_leaves_the_old_result_or_the_new(tmp_path, before):
    """Never neither, once the next run has looked; and what was there stays where it is but in one moment."""
    new, marks = outcome(mark=2.0), []
    for step in range(1, 100):
        store = Store(tmp_path / f"runs-{step}")
        store.check_writable()
        if before != "nothing":
            store.save(lost(JOB, "old") if before == "a failure" else outcome(mark=1.0))
        was_killed = killed_at(step, lambda s=store: s.save(new))
        store.check_writable()
        assert not store.damaged() and not list(store.root.glob(f"{module.UNFINISHED}*"))
        found = [m.get("mark", m.get("reason")) for m in store.manifests()]
        for manifest in store.manifests():
            if manifest["status"] == "finished":
                arrays = store.predictions(manifest)
                assert (arrays["inter/a/0"] == manifest["mark"]).all()
        marks += found or [None]
        if not was_killed:
            break
    old = {"nothing": None, "a failure": "old", "a result": 1.0}[before]
    assert step > 8 and marks == [old] * marks.count(old) + [2.0] * marks.count(2.0)
    assert marks.count(old) and marks.count(2.0) > 2


def test_a_sweep_that_is_killed_at_each_step_loses_nothing(tmp_path):
    """After a writer was killed in the one moment when neither the old nor the new stands in its place."""
    for step in range(1, 200):
        store = Store(tmp_path / f"runs-{step}")
        store.check_writable()
        name = f"{module.UNFINISHED}{module._HOST}-99999999-"
        for mark, left in ((1.0, f"{name}old/seed"), (2.0, f"{name}new")):
            result = outcome(mark=mark)
            path = store.save(
                Outcome({**result.manifest, "finished": str(mark)}, result.predictions)
            )
            aside = store.root / left.replace("seed", path.name)
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
        assert not store.manifests()
        was_killed = killed_at(step, store.check_writable)
        store.check_writable()
        assert [m["mark"] for m in store.manifests()] == [2.0]
        assert not list(store.root.glob(f"{module.UNFINISHED}*"))
        if not was_killed:
            break
    assert step > 8


def test_what_is_put_in_its_place_by_the_next_run_is_whole(store):
    path = store.save(outcome(mark=1.0))
    left = store.root / f"{module.UNFINISHED}{module._HOST}-99999999-abc"
    path.rename(left)
    with (left / module.PREDICTIONS).open("ab") as file:
        file.write(b"x")
    store.check_writable()
    assert not store.manifests() and not left.exists()


def test_a_failure_never_takes_the_place_of_a_finished_result(store):
    path = store.save(outcome())
    store.save(lost(JOB, "killed"))
    assert store.finished(JOB)
    (path / module.PREDICTIONS).write_bytes(b"")  # but of a damaged one it does
    store.save(lost(JOB, "killed"))
    assert [m["reason"] for m in store.manifests()] == ["killed"]


def test_a_writer_leaves_nothing_though_another_takes_its_result_away(store, monkeypatch):
    path = store.save(outcome(mark=1.0))
    flush = module._flush

    def taken(folder):
        if folder == path.parent:  # it has just been placed
            path.rename(store.root / "elsewhere")
        flush(folder)

    monkeypatch.setattr(module, "_flush", taken)
    store.save(outcome(mark=2.0))
    assert (store.root / "elsewhere").exists()
    assert not list(store.root.glob(f"{module.UNFINISHED}*"))


def _write_many(root, worker, count):
    store = Store(Path(root))
    for turn in range(count):
        store.save(outcome(mark=100.0 * worker + turn))  # all the same job
        job = replace(JOB, seed=100 * (1 + worker) + turn)
        store.save(outcome(job, mark=float(job.seed)))
        if turn % 3 == 0:
            store.check_writable()


def test_many_writers_and_readers_at_once_see_none_or_a_whole_result(store):
    children = []
    for worker in range(4):
        children.append(os.fork())
        if not children[-1]:
            status = 1
            try:
                _write_many(store.root, worker, 12)
                status = 0
            finally:
                os._exit(status)
    looks = 0
    while children:
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            children.remove(done)
            assert status == 0
        for manifest in store.manifests():
            looks += 1
            try:
                arrays = store.predictions(manifest)
            except DataError:  # of the job that all of them write: replaced since
                assert manifest["key"] == JOB.key
                continue
            assert (arrays["inter/a/0"] == manifest["mark"]).all()
        assert not [path for path in store.damaged() if path.exists()]
    assert looks and len(store.manifests()) == 1 + 4 * 12
    assert store.finished(JOB) and not list(store.root.glob(f"{module.UNFINISHED}*"))


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


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("point", ["_write", "_flush", "mkdir", "rename"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_disk_that_fills_is_told_and_leaves_what_was_there(store, monkeypatch, point, step):
    store.save(outcome(mark=1.0))
    where, name = (module, point) if point.startswith("_") else (Path, point)
    real, count = getattr(where, name), 0

    def full(*arguments, **others):
        nonlocal count
        count += 1
        if count == step:
            raise FULL
        return real(*arguments, **others)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, full)
        try:
            store.save(outcome(mark=2.0))
        except UsageError as error:
            text = (
                f"cannot write results to {store.root}: No space left on device. What was finished"
            )
            assert str(error).startswith(text) and "\n" not in str(error)
        else:
            assert count < step
            return
    assert [m["mark"] for m in store.manifests()] in ([1.0], [2.0]) and store.finished(JOB)
    store.check_writable()
    store.save(outcome(mark=3.0))
    assert [m["mark"] for m in store.manifests()] == [3.0]
    assert not list(store.root.glob(f"{module.UNFINISHED}*"))


def test_a_real_disk_that_is_full_is_told_before_and_while_results_are_written(small_disk):
    store = Store(small_disk / "runs")
    store.check_writable()
    store.save(outcome(mark=1.0))
    rest = small_disk / "rest"
    with pytest.raises(OSError, match="No space left"), rest.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(UsageError, match=r"cannot write results to .*: No space left on device; "):
        store.check_writable()
    with pytest.raises(UsageError, match=r"cannot write results to .*: No space left on device\. "):
        store.save(outcome(mark=2.0))
    assert [m["mark"] for m in store.manifests()] == [1.0] and store.finished(JOB)
    rest.unlink()
    store.check_writable()
    store.save(outcome(mark=2.0))
    assert [m["mark"] for m in store.manifests()] == [2.0]


def test_a_folder_that_is_read_only_is_told_before(small_disk):
    store = Store(small_disk / "runs")
    store.check_writable()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UsageError, match="Read-only file system; choose another --store"):
        store.check_writable()


@given(st.data())
def test_a_result_that_was_damaged_anywhere_is_none(data):
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        result = outcome(mark=0.25)
        about = {**result.manifest, "representations": {"condition": "{l}"}}
        values = {"values": np.ones((2, 3), np.float32)}
        path = store.save(Outcome(about, result.predictions, values))
        file = path / data.draw(st.sampled_from(sorted(f.name for f in path.iterdir())))
        content = bytearray(file.read_bytes())
        how = data.draw(st.sampled_from(["cut", "any byte", "a digit"]))
        digits = [i for i, byte in enumerate(content) if chr(byte).isdigit() and byte < 128]
        if how == "a digit" and digits:
            content[data.draw(st.sampled_from(digits))] ^= 1
        else:
            at = data.draw(st.integers(0, len(content) - 1))
            if how == "cut":
                del content[at:]
            else:
                content[at] ^= data.draw(st.integers(1, 255))
        file.write_bytes(content)
        shown = store.manifests()
        if store.finished(JOB):  # white space, or the like: it says what it said
            assert shown and shown[0]["mark"] == 0.25
        for manifest in shown:
            assert manifest["mark"] == 0.25 and manifest["key"] == JOB.key
        assert len(shown) + len(store.damaged()) == 1


def test_a_manifest_of_before_there_was_a_seal_is_read(store):
    path = store.save(outcome()) / module.MANIFEST
    manifest = json.loads(path.read_text())
    assert list(manifest)[-1] == "sha256"
    path.write_text(json.dumps({**manifest, "mark": 7.0}))
    assert store.damaged() == [path] and not store.finished(JOB)
    del manifest["sha256"]
    path.write_text(json.dumps({**manifest, "mark": 7.0}))
    assert store.manifests()[0]["mark"] == 7.0 and store.finished(JOB)
