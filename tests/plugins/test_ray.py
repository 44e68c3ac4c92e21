"""plugins/mmbench_executors/ray.py: machines that share nothing, and machines that die.

What needs Ray runs the command line in processes of its own, against a cluster whose two nodes and whose
driver each have a cache of their own.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mmbench.cli import main
from mmbench.errors import UsageError
from mmbench_executors.ray import Ray
from tests.clusters import Nodes, in_time, wait_for, waiting

needs_ray = pytest.mark.skipif(Ray.missing() is not None, reason="needs Ray: tox -e ray")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    yield made
    made.process.communicate(timeout=60)


def test_without_ray_the_mend_is_told(monkeypatch, capsys):
    monkeypatch.setattr("mmbench_executors.ray.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main(["run", "--method", "constant", "--dataset", "tiny", "--executor", "ray"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "mmbench: executor 'ray' needs Ray, which is not installed: pip install \"mmbench[ray]\"\n"
    )


def test_to_list_it_ray_is_not_imported():
    code = "import sys, mmbench.registry as r; r.discover(); assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"address": "ray://there:10001"}, "expected auto or HOST:PORT, got 'ray://there:10001'"),
        ({"address": ""}, "expected auto or HOST:PORT, got ''"),
        ({"gpus_per_job": 0.0}, "expected a share of one GPU, e.g. 0.5, or a whole number"),
        ({"gpus_per_job": 1.5}, "ray.gpus_per_job=1.5: expected a share"),
    ],
)
def test_a_setting_out_of_range_is_told(settings, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        Ray(**settings)


def test_which_gpu_is_up_to_ray():
    with pytest.raises(UsageError, match="Ray chooses the GPU; use --device cuda"):
        Ray().device("cuda:1")
    assert Ray().device("cpu") == Ray(address="there:6379").device("cpu") == "cpu"


@needs_ray
def test_nobody_at_the_address_is_told_at_once(session):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        started = time.monotonic()
        status, out = session.run(
            *("--method", "linear", "--executor", "ray", "--address", f"127.0.0.1:{port}")
        )
    assert status == 2 and time.monotonic() - started < 60
    (line,) = [line for line in out.splitlines() if line.startswith("mmbench: ")]
    assert f"cannot connect to a Ray cluster (127.0.0.1:{port})" in line and "ray start" in line
    assert "Traceback" not in out


@needs_ray
def test_machines_that_share_nothing_give_the_numbers_of_this_one(session, nodes):
    """The data can be made by the driver alone, and the methods are in a file that only the driver has."""
    words = ("--method", "linear,constant", "--seeds", "2", "--store")
    for store, more in (("here", ("--jobs", "1")), ("there", nodes.words)):
        status, out = session.run(*words, store, *more, **nodes.environment)
        assert status == 0, out
    assert "linear, small, seed 1: done" in out
    here, there = (session.manifests(store).values() for store in ("here", "there"))
    assert len(here) == len(there) == 4
    for one, other in zip(here, there, strict=True):
        for what in ("key", "scores", "averages", "predictions_sha256"):
            assert one[what] == other[what], what
    kept = [path for node in range(2) for path in (nodes.folder / f"node-{node}").rglob("*.h5")]
    assert kept and all("shipped" in path.parts for path in kept)


def finished(session):
    """Seeds by method, and when each result was written."""
    found = session.manifests()
    assert {m["status"] for m in found.values()} <= {"finished", "failed"}
    done = {path: m for path, m in found.items() if m["status"] == "finished"}
    cells = sorted((m["job"]["method"], m["job"]["seed"]) for m in done.values())
    return cells, {path: path.stat().st_mtime_ns for path in done}


def resumed(session, before, *words, **more):
    """The cells after the same command was given again; those from before are left as they were."""
    status, out = session.run(*words, **more)
    assert status == 0, out
    cells, after = finished(session)
    assert {path: after[path] for path in before} == before
    assert len(session.manifests()) == len(cells)
    return cells


@needs_ray
def test_a_killed_worker_loses_its_own_job_only_and_a_resumed_run_completes_the_grid(
    session, nodes
):
    die = session.folder / "die"
    die.touch()
    words = ("--method", "dies,linear", "--set", f"dies.wait={die}", "--seeds", "2", *nodes.words)
    status, out = session.run(*words, **nodes.environment)
    assert status == 1 and re.search(
        r"failed: dies.*seed 1: lost: WorkerCrashedError: The worker died.*\(3 times", out
    )
    cells, before = finished(session)
    assert cells == [("linear", 0), ("linear", 1)]
    die.unlink()
    cells = resumed(session, before, *words, **nodes.environment)
    assert cells == [("dies", 0), ("dies", 1), ("linear", 0), ("linear", 1)]


@needs_ray
def test_one_killed_worker_costs_no_cell(session, nodes):
    once = session.folder / "once"
    words = ("--method", "flaky,linear", "--set", f"flaky.wait={once}", "--seeds", "1")
    status, out = session.run(*words, *nodes.words, **nodes.environment)
    assert status == 0 and re.search(r"flaky.*: lost, WorkerCrashedError: .* begun again", out)
    cells, _ = finished(session)
    assert cells == [("flaky", 0), ("linear", 0)]


@needs_ray
def test_a_job_that_hangs_beyond_its_time_is_killed(session, nodes):
    words = ("--method", "hangs", "--seeds", "1", "--time-limit", "0.1")
    status, out = session.run(*words, *nodes.words, **nodes.environment)
    assert status == 1
    assert re.search(r"failed: hangs on small, seed 0: time limit: .* had to be killed", out)


@needs_ray
def test_a_killed_machine_loses_no_cell(session, nodes):
    """The one that is left takes over what was lost."""
    go = session.folder / "go"
    words = ("--method", "linear", "--set", f"linear.wait={go}", "--seeds", "3", *nodes.words)
    process = session.start(*words, **nodes.environment)
    pids = waiting(session, 3)
    nodes.tell("kill")
    # its two workers follow it, but might go on for a moment if they could
    wait_for(lambda: sum(not Path(f"/proc/{pid}").exists() for pid in pids) == 2)
    go.touch()
    out, _ = process.communicate(timeout=240)
    nodes.tell("add")
    assert process.returncode == 0 and "lost, " in out
    cells, _ = finished(session)
    assert cells == [("linear", 0), ("linear", 1), ("linear", 2)]


@needs_ray
def test_a_killed_driver_takes_its_workers_along_and_goes_on_where_it_was(session, nodes):
    go = session.folder / "go"
    words = ("--method", "constant,linear", "--set", f"linear.wait={go}", "--seeds", "4")
    words += nodes.words
    process = session.start(*words, **nodes.environment)
    pids = waiting(session, 3)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    cells, before = finished(session)
    assert cells and {method for method, _ in cells} == {"constant"}
    go.touch()
    cells = resumed(session, before, *words, **nodes.environment)
    assert cells == [(method, seed) for method in ("constant", "linear") for seed in range(4)]


def listening(pids):
    """Addresses, in hex as the kernel tells them, and ports on which processes listen."""
    held = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                held.add(str(handle.readlink()))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {
        tuple(row[1].split(":")) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held
    }


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@needs_ray
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into /proc")
def test_a_cluster_of_its_own_is_for_nobody_else_and_ends_with_it(session, summary):
    words = ("--method", "linear", "--set", f"linear.wait={session.folder / 'go'}")
    process = session.start(*words, "--executor", "ray", "--jobs", "2")
    waiting(session, 2)
    there = session.alive()
    ports = {pid: listening([pid]) for pid in there}
    assert {address for found in ports.values() for address, _ in found} <= LOOPBACK
    ((_, port),) = next(ports[pid] for pid, command in there.items() if "gcs_server" in command)
    stranger = f"import ray; ray.init('127.0.0.1:{int(port, 16)}', log_to_driver=False)"
    free = {n: v for n, v in os.environ.items() if not n.startswith("RAY_")}
    told = subprocess.run(
        [sys.executable, "-c", stranger],
        env={**free, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
        capture_output=True,
        text=True,
    )
    assert told.returncode and "auth" in told.stderr

    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.wait(30)
    seconds = time.monotonic() - started
    out, _ = process.communicate(timeout=30)
    summary.append(f"Ctrl-C on Ray: mmbench returned after {seconds:.1f} s")
    assert process.returncode == 130 and "the same command goes on where it was" in out
    assert seconds < in_time()
    wait_for(lambda: not session.alive(), 30)


HALVES = """
import os, sys, time
from dataclasses import replace
from mmbench.data import Schedule
from mmbench.jobs import Job, Outcome
from mmbench_executors.ray import Ray

def work(jobs, report):
    begun = time.time()
    time.sleep(1)
    return [Outcome({"gpu": os.environ["CUDA_VISIBLE_DEVICES"], "time": (begun, time.time())})]

ray = Ray(address=sys.argv[1], gpus_per_job=0.5)
device = ray.device("auto")
assert device == ray.device("cuda") == "cuda"
jobs = [Job(name, "d", 0, (), "0", "0", Schedule(), device=device) for name in ("a", "b")]
one, other = (outcome.manifest for _, outcome in ray.run(jobs, work, print))
assert one["gpu"] == other["gpu"] == "0", (one, other)
assert one["time"][0] < other["time"][1] and other["time"][0] < one["time"][1]
"""


@needs_ray
def test_two_jobs_share_a_gpu(session, nodes):
    done = subprocess.run(
        [sys.executable, "-c", HALVES, nodes.address],
        env={**session.environment, **nodes.environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@needs_ray
def test_it_keeps_the_contract_of_executors(session):
    command = [sys.executable, "-m", "mmbench", "plugin", "check", "ray"]
    done = subprocess.run(command, env=session.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
