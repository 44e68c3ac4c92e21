"""A store under fire: runs are killed at any moment, and go on. `python tests/fire.py` prints the kill table.

Each run is `mmbench run` on a small grid: most in a fork of this process, so that its moments are dense, some as
commands with workers of their own. SIGKILL goes to the whole process group, at a random moment of a phase or
before a numbered operation on a file. After each, everything that had been stored must still be there, byte by
byte, and `mmbench verify` must find nothing; the next run goes on. A grid that is complete must be what it is
when nothing is killed: scores, predictions, training logs, and leaderboards but for times.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from mmbench import cli, leaderboard, runner, states, training, verify, work
from mmbench.leaderboard import Leaderboard, write_leaderboard
from mmbench.manifests import MANIFEST
from mmbench.markdown import table
from mmbench.registry import discover
from mmbench.store import UNFINISHED, Store

SPARK = '''
"""A method that learns a little, and whose training leaves a checkpoint after every epoch."""

import torch
from torch import nn

import mmbench
from mmbench import checkpoints

checkpoints.EVERY = 0.0


class Spark(mmbench.Method):
    """One layer on mean frames, in two stages, with dropout."""

    name = "spark"

    def __init__(self, spec):
        super().__init__(spec)
        self.drop = mmbench.nn.Dropout(0.3)
        self.head = nn.Linear(sum(spec.widths.values()), spec.task.n_out)

    def forward(self, batch):
        means = torch.cat([x.mean(1) for x in batch.features.values()], -1)
        return self.head(self.drop(means))

    def stages(self):
        step = mmbench.Step(self.loss, updates=[self])
        return [
            mmbench.Stage(name, data="incomplete", steps=[step], epochs=6) for name in ("one", "two")
        ]


@mmbench.hookimpl
def mmbench_register_methods():
    return Spark
'''
PHASES = ("start", "training", "evaluation", "saving", "leaderboard")
OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir")
"""Audit events of Python that are an operation on a file."""
SEEDS = 3


@dataclass
class Tally:
    """What became of the kills of one kind."""

    moments: int = 0
    finished: int = 0
    """Results in the store at all of these moments together."""
    resumed: int = 0
    """Trainings that had gone on from a checkpoint in these runs."""
    lost: int = 0
    wrong: int = 0


@dataclass
class Range:
    """A grid, where it is stored, and what has been seen of it."""

    root: Path
    known: dict[str, str] = field(default_factory=dict)
    """By folder of a finished result the hash of its files."""

    def __post_init__(self) -> None:
        self.output = self.root.with_name(f"{self.root.name}.output")
        self.plugin = self.root / "spark.py"
        self.plugin.write_text(SPARK)
        self.registry = discover([self.plugin])
        self.reset()

    def reset(self) -> None:
        """An empty store."""
        for folder in ("runs", "boards"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        self.store, self.boards = Store(self.root / "runs"), self.root / "boards"
        self.known.clear()

    @property
    def words(self) -> list[str]:
        """The command, without `mmbench`."""
        places = ["--store", self.store.root, "--leaderboards", self.boards]
        what = (
            f"run --method constant,spark --dataset tiny --protocol inter --quick --seeds {SEEDS}"
        )
        return [*what.split(), "--plugin", str(self.plugin), *map(str, places)]

    def results(self) -> dict[str, str]:
        """By folder, relative, of every result that is finished and whole: the hash of its files."""
        found = {}
        for folder in self.store.folders():
            with suppress(OSError, ValueError, KeyError):
                if json.loads((folder / MANIFEST).read_text())["status"] == "finished":
                    content = b"".join(file.read_bytes() for file in sorted(folder.iterdir()))
                    name = folder.relative_to(self.store.root).as_posix()
                    found[name] = hashlib.sha256(content).hexdigest()
        return found

    def check(self, told: set[str]) -> tuple[int, int, int]:
        """Results that are there, that are lost, and places that are wrong; `told` have been reported as stored."""
        found = self.results()
        lost = [name for name in (*self.known, *told) if name not in found]
        wrong = [name for name, sha in self.known.items() if found.get(name, sha) != sha]
        wrong += self.verified([name for name in found if name not in self.known])
        for file in self.boards.glob("[!.]*"):
            if not file.read_text().endswith("\n"):
                wrong.append(f"{file} is cut off")
        for problem in (*(f"lost: {name}" for name in lost), *wrong):
            click.echo(problem, err=True)
        self.known = found
        return len(found), len(lost), len(wrong)

    def verified(self, names: list[str]) -> list[str]:
        """What `mmbench verify` finds in some results; the others have not changed since it looked."""
        if not names:
            return []
        with TemporaryDirectory() as folder:
            for name in names:
                shutil.copytree(self.store.root / name, Path(folder, name))
            report = verify.verify(Store(Path(folder)), self.registry)
            return [f"{finding.where}: {finding.text}" for finding in report.wrong]

    def whole(self) -> dict[str, Any]:
        """What a complete grid says, and its leaderboards: without whatever tells of time."""
        told: dict[str, Any] = {}
        for manifest in self.store.manifests():
            manifest |= {"finished": "then", "peak_memory_mib": 1.0}
            for name in ("commit", "dirty"):  # of a checkout that somebody works in
                manifest["environment"].pop(name, None)
            manifest["seconds"] = dict.fromkeys(manifest["seconds"], 1.0)
            for log in manifest["training"]:
                log |= {"seconds": 1.0, "spent": {}}
            told[f"{manifest['job']['method']} {manifest['job']['seed']}"] = manifest
        store = _Timeless(self.store.root, list(told.values()))
        board = Leaderboard.from_store(store, "tiny", self.registry)
        reporters = [entry.cls() for entry in self.registry.classes["reporter"].values()]
        with TemporaryDirectory() as folder:
            files = write_leaderboard(board, Path(folder), reporters)
            return told | {file.name: file.read_text() for file in files}

    def agree(self, expected: dict[str, Any]) -> int:
        """How many places of a complete grid, and of its leaderboards as they stand, are not as expected."""
        found = self.whole()
        wrong = [name for name in expected if found.get(name) != expected[name]]
        report = verify.verify(self.store, self.registry, self.boards)
        wrong += [f.where + f.text for f in report.wrong]
        for problem in wrong:
            click.echo(f"differs: {problem}", err=True)
        return len(wrong) + (len(found) != len(expected)) + (report.boards < 4)


class _Timeless(Store):
    """A store whose manifests tell no times."""

    def __init__(self, root: Path, told: list[dict[str, Any]]) -> None:
        super().__init__(root)
        self.told = told

    def manifests(self, dataset: str | None = None) -> list[dict[str, Any]]:
        return self.told


class Run:
    """`mmbench run` in a process group of its own: a fork of this process, which tells its phases."""

    def __init__(self, place: Range, prepare: Callable[[], None] = lambda: None) -> None:
        self.reader, writer = os.pipe()
        self.rest, self.stored, self.phase, self.resumed = b"", set[str](), "start", 0
        self.pid = os.fork()
        if not self.pid:
            _child(place, writer, prepare)
        os.close(writer)

    def told(self, until: float) -> Iterator[str]:
        """Its phases as it enters them, until a moment or its end."""
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.reader], [], [], left)[0]:
                return
            read = os.read(self.reader, 4096)
            if not read:
                return
            yield from self._lines(read)

    def _lines(self, read: bytes) -> Iterator[str]:
        *lines, self.rest = (self.rest + read).split(b"\n")
        for line in map(bytes.decode, lines):
            if line.startswith("stored "):
                self.stored.add(line.removeprefix("stored "))
            elif line == "resumed":
                self.resumed += 1
            else:
                self.phase = line
                yield line

    def kill(self) -> None:
        """SIGKILL to all of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its status, negative for a signal; all that it told has been read."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        while read := os.read(self.reader, 4096):
            for _ in self._lines(read):
                pass
        os.close(self.reader)
        return status


def _child(place: Range, writer: int, prepare: Callable[[], None]) -> None:
    """Never returns."""
    os.setsid()
    status = 1
    try:
        sink = os.open(place.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(sink, number)
        sys.stdout = sys.stderr = os.fdopen(sink, "w", buffering=1)

        def tell(line: str) -> None:
            os.write(writer, f"{line}\n".encode())

        def entering(module: Any, name: str, phase: str, after: str = "") -> None:
            real = getattr(module, name)

            def wrapped(*arguments: Any, **others: Any) -> Any:
                tell(phase)
                made = real(*arguments, **others)
                if name == "save":
                    tell(f"stored {made.relative_to(place.store.root).as_posix()}")
                if after:
                    tell(after)
                return made

            setattr(module, name, wrapped)

        entering(training.StageLoop, "epoch", "training")
        entering(states, "restore", "resumed")
        entering(work, "evaluate", "evaluation")
        entering(Store, "save", "saving", "training")
        entering(leaderboard, "write_leaderboard", "leaderboard")
        prepare()
        tell("start")
        cli.main([*place.words, "--jobs", "1"])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def before_operation(place: Range, number: int) -> Callable[[], None]:
    """Has a run kill itself before its so manieth operation on a file below the folder of a range."""

    def prepare() -> None:
        count = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event in OPERATIONS and str(arguments[0]).startswith(str(place.root / "")):
                count += 1
                if count == number:
                    os.killpg(0, signal.SIGKILL)

        sys.addaudithook(watch)

    return prepare


def operations(place: Range) -> int:
    """How many a run does from an empty store to its end."""
    counts = place.root.parent / "operations"

    def prepare() -> None:
        count = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event in OPERATIONS and str(arguments[0]).startswith(str(place.root / "")):
                count += 1

        sys.addaudithook(watch)
        end = os._exit

        def exit_and_tell(status: int) -> None:
            counts.write_text(str(count))
            end(status)

        vars(os)["_exit"] = exit_and_tell

    place.reset()
    run = Run(place, prepare)
    if run.wait() != 0:
        raise RuntimeError(place.output.read_text())
    return int(counts.read_text())


def at_random(place: Range, phase: str, spans: dict[str, float], rng: np.random.Generator) -> Run:
    """A run that is killed at a random moment of a phase or, where it never comes to it, of its end."""
    run = Run(place)
    entries = int(rng.integers(1, {"training": 8, "evaluation": 2, "saving": 2}.get(phase, 1) + 1))
    for told in run.told(time.monotonic() + 300):
        entries -= told == phase
        if not entries:
            for _ in run.told(time.monotonic() + rng.uniform(0, spans.get(phase, 0.1))):
                pass
            break
    run.kill()
    return run


def spans_of(place: Range) -> dict[str, float]:
    """How long a phase takes, from its beginning to the next one's: the mean over a run."""
    run, since, sums = Run(place), time.monotonic(), dict[str, list[float]]()
    before = "start"
    for told in run.told(since + 300):
        sums.setdefault(before, []).append(time.monotonic() - since)
        since, before = time.monotonic(), told
    sums.setdefault(before, []).append(time.monotonic() - since)
    if run.wait() != 0:
        raise RuntimeError(place.output.read_text())
    return {phase: float(np.mean(values)) for phase, values in sums.items()}


def cold(place: Range, seconds: float) -> bool:
    """The command itself, with two workers, killed after some time; whether it was."""
    command = [sys.executable, "-m", "mmbench", *place.words, "--jobs", "2"]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def fire(
    root: Path,
    kills: int,
    commands: int = 0,
    seconds: float = 20.0,
    seed: int = 0,
    show: Callable[[str], None] = click.echo,
) -> dict[str, Tally]:
    """Kills so many runs, and so many commands; what became of each kind of moment."""
    rng, tallies = np.random.default_rng(seed), dict[str, Tally]()
    for module in (work, runner, verify):  # read once, not by each run
        vars(module)["code_sha256"] = _code_sha256
    place = Range(root)
    total = operations(place)
    expected = place.whole()
    place.reset()
    spans = spans_of(place)
    show(f"{total} operations on files; seconds: { {k: round(v, 3) for k, v in spans.items()} }")
    place.reset()
    left = Counter({"random": kills - kills // 3, "operation": kills // 3, "command": commands})
    phases = [PHASES[i % len(PHASES)] for i in rng.permutation(left["random"])]
    while left.total():
        kind = str(rng.choice(sorted(left.elements())))
        stored, resumed = set[str](), 0
        if kind == "command":
            killed, at = cold(place, seconds * rng.uniform(0.2, 1.0)), "a command with 2 workers"
        else:
            share = 1 - len(place.known) / (2 * SEEDS)  # of the grid that is left
            if kind == "random":
                phase = phases[left["random"] - 1]
                if not share and phase in PHASES[1:4]:
                    place.reset()
                run = at_random(place, phase, spans, rng)
            else:
                most = max(total // 4, int(total * share))
                run = Run(place, before_operation(place, int(rng.integers(1, most))))
            status = run.wait()
            stored, resumed, at = run.stored, run.resumed, run.phase
            killed = status == -signal.SIGKILL
            if not killed and status != 0:
                raise RuntimeError(place.output.read_text())
            if kind == "operation":
                at = f"{at}, before an operation on a file"
        tally = tallies.setdefault(at if killed else "not at all: complete", Tally())
        finished, lost, wrong = place.check(stored)
        if killed:
            left[kind] -= 1
            show(
                f"{left.total()} left, killed in {at}: {finished} finished, {lost} lost, {wrong} wrong"
            )
        else:
            wrong += place.agree(expected)
            show(f"complete: {wrong} wrong")
            place.reset()
        tally.moments += 1
        tally.finished += finished
        tally.resumed += resumed
        tally.lost += lost
        tally.wrong += wrong
    run = Run(place)
    if run.wait() != 0:
        raise RuntimeError(place.output.read_text())
    place.check(run.stored)
    tally = tallies.setdefault("not at all: complete", Tally())
    tally.moments += 1
    tally.finished += len(place.known)
    tally.wrong += place.agree(expected)
    place.store.check_writable()
    tally.wrong += len(list(place.store.root.glob(f"{UNFINISHED}*")))
    return tallies


_code_sha256 = lru_cache(maxsize=None)(work.code_sha256)


@click.command()
@click.option("--kills", default=54, show_default=True, help="Of runs in a fork.")
@click.option("--commands", default=6, show_default=True, help="Kills of commands with workers.")
@click.option("--seconds", default=20.0, show_default=True, help="How long a command takes.")
@click.option("--seed", default=0, show_default=True)
def main(kills: int, commands: int, seconds: float, seed: int) -> None:
    """Print the kill table; status 1 if a result was lost or wrong."""
    with TemporaryDirectory() as folder:
        os.environ["MMBENCH_CACHE"] = f"{folder}/cache"
        root = Path(folder, "range")
        root.mkdir()
        tallies = fire(
            root, kills, commands, seconds, seed, lambda text: click.echo(text, err=True)
        )
    names = ("killed in", "moments", "finished results there", "trainings gone on", "lost", "wrong")
    rows = [[at, *map(str, vars(t).values())] for at, t in sorted(tallies.items())]
    every = list(tallies.values())
    bad = sum(t.lost + t.wrong for t in every)
    rows.append(
        [
            "all",
            *(str(sum(getattr(t, name) for t in every)) for name in vars(every[0])),
        ]
    )
    click.echo(table(names, rows, ["killed in"]))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
