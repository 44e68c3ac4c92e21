"""Runs that are killed, or whose disk fills: a few of what `python tests/fire.py` does."""

from contextlib import suppress

import pytest

from mmbench import checkpoints
from mmbench.store import Store
from tests import fire


@pytest.fixture
def place(tmp_path, cache, monkeypatch):
    for module in (fire.work, fire.runner, fire.verify):
        monkeypatch.setattr(module, "code_sha256", fire._code_sha256)
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)  # as its plugin does, but put back
    (tmp_path / "range").mkdir()
    return tmp_path / "range"


def test_what_was_finished_outlives_runs_that_are_killed(place):
    told = []
    tallies = fire.fire(place, kills=6, seed=1, show=told.append).values()
    assert sum(tally.moments for tally in tallies) >= 7, told
    assert sum(tally.lost + tally.wrong for tally in tallies) == 0, told


def test_a_disk_that_fills_in_the_middle_of_a_grid_stops_it_and_loses_nothing(small_disk, place):
    there = fire.Range(small_disk)
    there.store.check_writable()
    rest = small_disk / "rest"

    def fill():
        save, count = Store.save, 0

        def filling(store, outcome):
            nonlocal count
            count += 1
            if count == 3:
                with suppress(OSError), rest.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1024))
            return save(store, outcome)

        Store.save = filling  # type: ignore[method-assign]

    run = fire.Run(there, fill)
    status, output = run.wait(), there.output.read_text()
    assert status == 2, output
    said = [line for line in output.splitlines() if line.startswith("mmbench: ")]
    assert len(said) == 1 and "Traceback" not in output
    text = f"mmbench: cannot write results to {there.store.root}: No space left on device. What was"
    assert said[0].startswith(text)
    assert len(there.results()) == 2 and there.check(run.stored) == (2, 0, 0)
    run = fire.Run(there)
    assert run.wait() == 2  # told before anything is trained
    assert "No space left on device; choose another --store" in there.output.read_text()
    rest.unlink()
    assert fire.Run(there).wait() == 0
    assert there.check(set()) == (6, 0, 0)
    whole = there.whole()
    there.reset()
    assert fire.Run(there).wait() == 0 and there.agree(whole) == 0
