"""mmbench/cli/stopping.py: Ctrl-C and SIGTERM, whatever a command is at; the seconds are in the summary."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.clusters import in_time, wait_for, waiting

STUCK = """

class Stuck(mmbench.Reporter):
    name, summary, suffix = "stuck", "", ".txt"

    def render(self, leaderboard):
        Path("writing").touch()
        while True:
            try:
                time.sleep(1)
            except KeyboardInterrupt:
                pass  # as a library may

@mmbench.hookimpl
def mmbench_register_reporters():
    return Stuck
"""


def stopped(process, number, summary, at):
    """What a command that was told to stop has written; a signal goes to all of its processes."""
    started = time.monotonic()
    os.killpg(process.pid, number)
    process.wait(60)
    seconds = time.monotonic() - started
    out, _ = process.communicate(timeout=60)
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    summary.append(f"{name} {at}: mmbench returned after {seconds:.1f} s")
    assert process.returncode == 128 + number
    assert out.rstrip().endswith(
        "mmbench: stopped; what is finished is kept, and the same command goes on where it was"
    )
    assert "Traceback" not in out
    assert seconds < in_time()
    return out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stops_while_workers_train_and_keeps_what_is_finished(session, summary, number):
    go = session.folder / "go"
    words = ("--method", "constant,linear", "--set", f"linear.wait={go}", "--seeds", "1")
    process = session.start(*words, "--jobs", "2")
    wait_for(session.manifests)
    waiting(session, 1)
    stopped(process, number, summary, "while workers train")
    wait_for(lambda: not session.alive(), 10)
    before = {path: path.stat().st_mtime_ns for path in session.manifests()}
    if number == signal.SIGINT:
        go.touch()
        status, out = session.run(*words, "--jobs", "1")
        assert status == 0 and "1 of 2 jobs are in runs already" in out
        assert len(session.manifests()) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
def test_a_run_stops_while_it_imports(session, summary):
    process = session.start("--method", "constant")
    maps = Path(f"/proc/{process.pid}/maps")
    wait_for(lambda: "libtorch" in maps.read_text())
    stopped(process, signal.SIGINT, summary, "while it imports torch")
    assert not session.manifests()


def test_a_run_stops_while_a_leaderboard_is_written_by_what_hears_nothing(session, summary):
    with (session.folder / "small.py").open("a") as plugin:
        plugin.write(STUCK)
    words = ("--method", "constant", "--seeds", "1", "--jobs", "1", "--format")
    process = session.start(*words, "stuck")
    wait_for((session.folder / "writing").exists)
    stopped(process, signal.SIGINT, summary, "while a leaderboard is written")
    assert len(session.manifests()) == 1
