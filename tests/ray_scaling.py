"""How long the same grid takes on 1 and on 2 workers of each executor; the numbers have to be the same.

python tests/ray_scaling.py [words of `mmbench run`, by default a small grid]

Also told: what a run that has next to nothing to train takes, which is what an executor costs to start.
"""

import json
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

GRID = (
    "--method",
    "hrlf",
    "--dataset",
    "mosi-twin",
    "--quick",
    "--seeds",
    "4",
    "--protocol",
    "inter",
)
START = ("--method", "constant", "--dataset", "tiny", "--seeds", "1", "--protocol", "inter")


def timed(folder: Path, *words: str) -> tuple[float, list]:
    """Seconds, and what decides a result of every cell."""
    store = folder / "runs"
    command = [sys.executable, "-m", "mmbench", "run", "--store", str(store), "--format", "json"]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--leaderboards", str(folder), *words], check=True, stdout=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - started
    told = [json.loads(path.read_text()) for path in sorted(store.rglob("manifest.json"))]
    return seconds, [(m["key"], m["predictions_sha256"], m["scores"]) for m in told]


def main() -> None:
    grid = sys.argv[1:] or GRID
    with TemporaryDirectory() as name:
        folder = Path(name)
        timed(folder / "first", *grid, "--seeds", "1")  # data is made, inner loops are compiled
        found = {}
        for executor in ("local", "ray"):
            seconds, _ = timed(folder / f"start-{executor}", *START, "--executor", executor)
            say(f"{executor}, next to nothing: {seconds:.1f} s")
        for executor, workers in product(("local", "ray"), ("1", "2")):
            own = folder / f"{executor}-{workers}"
            seconds, found[own] = timed(own, *grid, "--executor", executor, "--jobs", workers)
            say(f"{executor}, workers {workers}: {seconds:.1f} s, {len(found[own])} cells")
    one, *others = found.values()
    assert one and all(other == one for other in others), "the executors' numbers differ"
    say("keys, scores and hashes of predictions are equal")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
