"""It keeps the contract of its kind, and a quick run of it ends with a leaderboard."""

import subprocess
import sys

import mmbench.checks
from mmbench_my_plugin import MyPlugin


@mmbench.checks.parametrize(MyPlugin)
def test_it_conforms(check):
    check()


def test_a_quick_run_writes_a_leaderboard(tmp_path):
    words = "OPTIONS"
    run = [sys.executable, "-m", "mmbench", "run", *words.split(), "--quick"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    board = (tmp_path / "leaderboards" / "DATASET.csv").read_text()
    assert "my-plugin" in board
