"""mmbench/cli/new.py: a package that runs and passes its own test, unedited."""

import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmbench.cli import cli
from mmbench.cli.new import LONGEST, RUNS
from mmbench.errors import UsageError
from tests.installing import installed


def new(*words: str) -> list[str]:
    """What the command prints."""
    done = CliRunner().invoke(cli, ["plugin", "new", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", RUNS)
def test_what_is_written_is_listed_and_passes_its_own_test(here, kind):
    lines = new("mine", "--kind", kind)
    folder = here / "mmbench-mine"
    environment = installed(folder, here / "site")

    def python(*words: str, cwd: Path = here) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    listed = [line.split() for line in python("-m", "mmbench", "list", "plugins").splitlines()]
    assert ["mmbench-mine", "mmbench-mine", "0.1.0", kind, "mine"] in listed
    if find_spec("mmbench.checks") is None:  # the conformance kit is not here yet
        test = folder / "tests" / "test_mine.py"
        text = test.read_text().replace("import mmbench.checks\n", "")
        test.write_text(text[: text.index("@mmbench")] + text[text.index("def test_a_quick") :])
    out = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", cwd=folder)
    assert "passed" in out
    assert lines[-1].endswith(f"mmbench run {RUNS[kind].replace('my-plugin', 'mine')} --quick")


@pytest.mark.parametrize("name", ["a", "x" * LONGEST, "a-b3-c"])
@pytest.mark.parametrize("kind", RUNS)
def test_what_is_written_is_formatted_and_clean(here, name, kind):
    new(name, "--kind", kind, "--out", "made")
    for words in (
        ["format", "--check"],
        ["check", "--select", "E,F,W,I,UP,B,D1", "--ignore", "D1"],
    ):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", "--no-cache", "made"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    for file in (here / "made").rglob("*"):
        if file.is_file():
            assert not any(w in file.read_text() for w in ("my-plugin", "my_plugin", "MyPlugin"))
            assert not any(w in file.read_text() for w in ("OPTIONS", "DATASET", "KIND", "RUN\n"))


def test_the_next_three_commands_are_for_the_python_that_runs(here):
    lines = new("mine", "--out", "some where/mine")
    commands = [shlex.split(line) for line in lines if line.startswith("  ")]
    python = commands[0][0]
    assert python == "python" or Path(python) == Path(sys.executable)
    assert [command[1:3] for command in commands] == [
        ["-m", "pip"],
        ["-m", "pytest"],
        ["-m", "mmbench"],
    ]
    assert {command[0] for command in commands} == {python}
    assert commands[0][-1] == "some where/mine[test]" and commands[1][-1] == "some where/mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My Method", "for example my-method"),
        ("MyMethod", "for example my-method"),
        ("my_method", "for example my-method"),
        ("-x", "cannot be a name"),
        ("3d", "for example my-method"),
        ("é", "for example my-method"),
        ("", "cannot be a name"),
        ("../up", "for example up"),
        ("x" * (LONGEST + 1), f"at most {LONGEST} in all"),
        ("none", "'none' would be the class None in Python; try my-none"),
        ("methods", "there is a module mmbench_methods already"),
        ("hrlf", "method 'hrlf' is registered already, by plugin 'hrlf' (mmbench"),
    ],
)
def test_a_name_that_cannot_be_is_told_with_the_mend(here, name, message):
    with pytest.raises(UsageError) as caught:
        new("--", name)
    assert message in str(caught.value)
    assert not list(here.iterdir())


def test_a_folder_that_is_there_is_left_alone(here):
    (here / "mmbench-mine").mkdir()
    with pytest.raises(UsageError, match=r"mmbench-mine is there already; choose another --out"):
        new("mine")
    assert not list((here / "mmbench-mine").iterdir())
    (here / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write file.below: .*; choose another --out"):
        new("mine", "--out", "file/below")
