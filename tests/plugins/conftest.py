"""A leaderboard with all that a reporter may meet."""

import copy
from dataclasses import replace

import pytest

from mmbench.leaderboard import AVERAGE, Leaderboard
from mmbench.significance import TEST_COLUMNS
from mmbench.tidy import tidy

HOSTILE = '<script>alert("1")</script>{{ 7 * 7 }} & \\input{x} 100%_$#^~[*]'


def with_rates(manifest, rates=(0.2, 0.6, 1.0)):
    """The same result, tested under a second protocol, of rates: each scores 0.1 less than the one before."""
    made = copy.deepcopy(manifest)
    names = [str(rate) for rate in rates]
    made["protocols"]["intra"] = {
        **made["protocols"]["inter"],
        "id": "intra@1",
        "average": "AUC",
        "average_formula": "area",
        "conditions": [
            {"name": n, "title": f"p={n}", "observed": ["l", "a"], "rate": r, "complete": False}
            for n, r in zip(names, rates, strict=True)
        ],
        "effective_rate": {n: {"l": r, "a": r} for n, r in zip(names, rates, strict=True)},
    }
    first = [row for row in made["scores"] if row["condition"] == "l"]
    for n, name in enumerate(names):
        sign = {"f1": -1, "mae": 1}
        made["scores"] += [
            row
            | {
                "protocol": "intra",
                "condition": name,
                "value": row["value"] + 0.1 * n * sign[row["metric"]],
            }
            for row in first
        ]
    made["averages"] += [row | {"protocol": "intra"} for row in made["averages"]]
    return made


@pytest.fixture
def hostile():
    """A text that means something to a browser, a template, LaTeX and JavaScript."""
    return HOSTILE


@pytest.fixture
def rich_board(make_manifest):
    """Four methods, one of them the ceiling and one with a hostile name; two labels, seeds and protocols."""

    def result(method, seed, scores, **others):
        return with_rates(
            make_manifest(method, seed, scores, labels=("happy", "sad"), masks=2, **others)
        )

    ceiling = result("best-possible", 0, (0.9, 0.85, 0.95))
    ceiling["method"] |= {"competes": False, "privileges": ["the generator"]}
    plain = result("beta", 0, (0.5, 0.5, 0.7))
    plain["method"] |= {"privileges": [], "deviations": []}
    hostile = result(HOSTILE, 0, (0.3, 0.2, 0.1))
    hostile["method"] |= {"privileges": [HOSTILE], "deviations": [HOSTILE], "paper": HOSTILE}
    manifests = [
        *(result("alpha", seed, (0.6 + 0.1 * seed, 0.4, 0.8)) for seed in (0, 1)),
        plain,
        ceiling,
        hostile,
        make_manifest("gamma", reason=HOSTILE) | {"data": {"synthetic": True}},
    ]
    for manifest in manifests[:-1]:
        manifest["environment"] |= {"commit": "c" * 40, "dirty": False}
    board = Leaderboard.from_manifests("small", manifests)
    (section,) = board.sections
    cells = section.cells.copy()
    tested = (
        (cells["method"] == "alpha")
        & (cells["column"] == AVERAGE)
        & (cells["metric"] == "f1")
        & (cells["label"] == "happy")
        & (cells["protocol"] == "inter")
    )
    cells.loc[tested, "star"] = True
    test = ("inter", "happy", AVERAGE, "beta", "alpha", 2, -0.025, 0.01, 9.0, 0.01, 0.012)
    tests = tidy([test], TEST_COLUMNS)
    return replace(board, sections=[replace(section, cells=cells, tests=tests)])
