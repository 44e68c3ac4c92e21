"""Results of strangers, damaged at random: each reads as it did, or is refused in one line.

What is damaged, and how, follows from the test and the number alone; `$MMBENCH_FUZZ` says how many numbers.
"""

import hashlib
import json
import os
import sys
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench import arrays, board, figures, sides
from mmbench.errors import MmbenchError
from mmbench.leaderboard import Leaderboard
from mmbench.manifests import MANIFEST
from mmbench.plan import rates
from mmbench.registry import discover
from mmbench.store import PREDICTIONS
from mmbench.verify import verify

if not sys.platform.startswith("linux"):
    pytest.skip("forks, and limits memory as Linux does", allow_module_level=True)

from tests.fuzz.harness import damaged, in_worker

COUNT = int(os.environ.get("MMBENCH_FUZZ", "40"))
SECONDS = 30.0
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        0.5,
        1e300,
        -1e300,
        10**30,
        "",
        "x",
        "a/b",
        "../../x",
        "\x1b[31m",
    ),
    *("<script>alert(1)</script>", "a|b\nc", "=1+1", "\ud800", [], {}, [[]], [1], ["x"], {"x": 1}),
    {"name": "x"},
]
REGISTRY = discover()
REPORTERS = [found.cls() for found in REGISTRY.classes["reporter"].values()]


def altered(tree: Any, rng: np.random.Generator) -> Any:
    """A copy of plain values of which a few are others, lacking, repeated, or elsewhere."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice([1, 1, 2, 4])):
        holder: Any = {"": tree}
        key: Any = ""
        depth = int(rng.integers(1, 9))
        for _ in range(depth):
            inner = holder[key]
            if not isinstance(inner, dict | list) or not inner:
                break
            keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
            holder, key = inner, keys[int(rng.integers(len(keys)))]
        match rng.integers(4):
            case 0 if holder is not tree or key != "":
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.append(holder[key])
            case 2 if isinstance(holder, dict):
                holder[str(ODD[rng.integers(len(ODD))])] = holder[key]
            case _:
                holder[key] = ODD[rng.integers(len(ODD))]
        if not isinstance(tree, dict):
            break
    return tree


def outcome(work: Callable[[], Any]) -> str:
    """`read`, `refused`, or what must not be: a traceback, an error of many lines."""
    warnings.simplefilter("ignore")
    try:
        work()
    except MmbenchError as error:
        told = str(error)
        return "refused" if len(told.splitlines()) == 1 else f"in several lines: {told!r}"
    except BaseException:
        return traceback.format_exc()
    return "read"


def fuzz(
    name: str, attempt: Callable[[np.random.Generator], Any], count: int = COUNT
) -> Counter[str]:
    """Attempts in processes of their own, which may neither hang, nor crash, nor take a GiB."""
    ends: Counter[str] = Counter()
    for number in range(count):
        rng = np.random.default_rng([zlib.crc32(name.encode()), number])
        ended = in_worker(partial(outcome, partial(attempt, rng)), SECONDS)
        assert ended in ("read", "refused"), f"{name}, number {number}: {ended}"
        ends[ended] += 1
    sys.stdout.write(f"\n{name}: {dict(ends)}")  # shown by `tox -e fuzz`
    return ends


@pytest.fixture
def store(fill):
    for method, right in (("good", (0.9, 0.8, 0.95)), ("fair", (0.6, 0.5, 0.7))):
        made = fill(method, right, seeds=3)
    return made


def renderings(made: Leaderboard) -> list[str]:
    return [reporter.render(made) for reporter in REPORTERS]


def as_bytes(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def unsealed(path: Path) -> bytes:
    """A manifest without its own hash, as who alters one would leave it out."""
    manifest = json.loads(path.read_bytes())
    manifest.pop("sha256", None)
    return as_bytes(manifest)


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """Another tree, or other bytes."""
    if rng.integers(4):
        return as_bytes(altered(json.loads(content), rng))
    return damaged(content, content, rng)


def test_manifests_give_a_leaderboard_or_one_line(store):
    paths = sorted(store.root.rglob(MANIFEST))

    def attempt(rng):
        path = paths[rng.integers(len(paths))]
        path.write_bytes(changed(path.read_bytes(), rng))
        rates(store.each())
        for name in store.datasets():
            renderings(Leaderboard.from_store(store, name, REGISTRY))
        sides.read(str(store.root), REGISTRY)

    before = {path: unsealed(path) for path in paths}

    def restored(rng):
        for path, content in before.items():
            path.write_bytes(content)
        attempt(rng)

    ends = fuzz("manifests", restored)
    assert ends["read"] and (ends["refused"] or COUNT < 20)


def test_a_stores_verification_reports_whatever_its_manifests_say(store):
    paths = sorted(store.root.rglob(MANIFEST))[:1]
    content = unsealed(paths[0])

    def attempt(rng):
        paths[0].write_bytes(changed(content, rng))
        report = verify(store, REGISTRY)
        assert all(len(f.where.splitlines()) <= 1 for f in report.findings if f.wrong)

    assert fuzz("verify", attempt)["read"] == COUNT


def test_a_leaderboards_file_renders_or_is_refused_in_one_line(store, tmp_path):
    content = board.write(Leaderboard.from_store(store, "small", REGISTRY)).encode()
    path = tmp_path / "small.json"

    def attempt(rng):
        path.write_bytes(changed(content, rng))
        renderings(board.read(path))
        sides.read(str(path), REGISTRY)

    ends = fuzz("leaderboards", attempt)
    assert ends["read"] and ends["refused"]


def test_a_leaderboards_figures_are_drawn_or_refused_in_one_line(store, tmp_path):
    content = board.write(Leaderboard.from_store(store, "small", REGISTRY)).encode()
    path = tmp_path / "small.json"

    def attempt(rng):
        path.write_bytes(changed(content, rng))
        made = board.read(path)
        for kind in figures.KINDS:
            with suppress(figures.Undrawable):
                figures.encode(figures.draw(kind, made), "svg")

    ends = fuzz("figures", attempt, COUNT // 4)  # each takes a second
    assert ends["refused"] and (ends["read"] or COUNT < 100)


def test_a_leaderboards_csv_is_a_side_or_refused_in_one_line(store, tmp_path):
    csv = REGISTRY.find("reporter", "csv")()
    content = csv.render(Leaderboard.from_store(store, "small", REGISTRY)).encode()
    path = tmp_path / "small.csv"

    def attempt(rng):
        path.write_bytes(damaged(content, content, rng))
        sides.read(str(path), REGISTRY)

    assert fuzz("csv", attempt)["read"]


def test_predictions_are_arrays_of_numbers_and_text_or_refused_in_one_line(store):
    (manifest, *_) = store.manifests()
    path = store.folder(manifest["job"], manifest["key"]) / PREDICTIONS
    content = path.read_bytes()

    def attempt(rng):
        path.write_bytes(damaged(content, content, rng))
        found = path.read_bytes()
        sound = {**manifest, "predictions_sha256": hashlib.sha256(found).hexdigest()}
        for array in store.predictions(sound).values():
            assert array.dtype.kind in "fiuO" and array.nbytes <= 8 * len(found)
        assert arrays.content(path) == found

    ends = fuzz("predictions", attempt)
    assert ends["read"] and ends["refused"]
