"""tests/outoftree: a stranger's package. `tox -e outoftree` installs its wheel; this only puts it on the path."""

import subprocess
import sys
from pathlib import Path

from tests.installing import installed

PACKAGE = Path(__file__).parent / "outoftree"


def test_a_strangers_package_passes_its_tests(tmp_path):
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*words, "-c", str(PACKAGE / "pyproject.toml"), str(PACKAGE)],
        cwd=tmp_path,
        env=installed(PACKAGE, tmp_path / "site"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr
