"""What the tests of the stated layout share."""

from collections.abc import Callable

import numpy as np
import pytest

from mmbench.data import SPLITS


@pytest.fixture
def layout() -> Callable[..., dict[str, np.ndarray]]:
    """Makes somebody's own data by key, padded on both sides; the second sample has no audio."""

    def make(n: int = 4, valid: bool = False) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        given: dict[str, np.ndarray] = {}
        for split in SPLITS:
            for m, width in (("a", 3), ("l", 4), ("x", 2)):
                x = rng.standard_normal((n, 6, width)) + 5
                x[:, :1] = x[:, 5:] = 0
                x[0, 3] = 0  # a pause
                if m == "a":
                    x[1] = 0
                given[f"{split}/features/{m}"] = x
                if valid:
                    given[f"{split}/valid/{m}"] = np.arange(6) < np.full((n, 1), 4)
            given[f"{split}/targets"] = rng.uniform(-3, 3, n)
            given[f"{split}/ids"] = np.array([f"{split}-é{i}" for i in range(n)])
        return given

    return make


SPOILT = [  # a key, what it holds instead (None: nothing) and what is told
    ("valid/features/a", None, r"valid/features/a: missing; there is train/features/a"),
    ("train/features/a", None, r"train/features/a: missing; there is valid/features/a"),
    ("test/targets", None, r"test/targets: missing; there is train/targets"),
    ("test/target", np.zeros(4), r"'test/target'.*did you mean 'test/targets'"),
    ("dev/targets", np.zeros(4), r"'dev/targets': no key of the layout"),
    ("train/features/b.c", np.zeros((4, 6, 2)), r"'train/features/b\.c': no key"),
    ("train/valid/y", np.ones((4, 6), bool), r"train/valid/y: there is no train/features/y"),
    ("train/valid/l", np.ones((4, 5), bool), r"train/valid/l: expected bool \(4, 6\)"),
    ("train/valid/l", np.ones((4, 6)), r"train/valid/l: expected bool .*float64"),
    ("test/features/a", np.zeros((4, 6, 2)), r"test/features/a: \(T, D\) is \(6, 2\), in train"),
    ("test/features/a", np.zeros((4, 6)), r"test/features/a: expected the shape \(N, T, D\)"),
    ("test/features/a", np.zeros((3, 6, 3)), r"test/features/a: 3 samples, but 4 labels"),
    ("valid/targets", np.full(4, 9.0), r"valid/targets: scores must lie in \[-3, 3\]"),
    ("valid/ids", np.array(["a"]), r"valid/ids: expected 4 ids"),
]


@pytest.fixture(params=SPOILT, ids=lambda case: f"{case[0]}: {case[2]}")
def spoilt(request, layout):
    """A layout with one mistake, and what is told about it."""
    key, value, told = request.param
    given = layout()
    given.pop(key, None)
    if value is not None:
        given[key] = value
    return given, told


@pytest.fixture
def read_whole(layout):
    """Asserts that a file with the layout is read as it is meant, whatever its format."""

    def check(read):
        given = layout()
        data, notices = read(given)
        assert {m: (x.length, x.width) for m, x in data.modalities().items()} == {
            "l": (6, 4),
            "a": (6, 3),
            "x": (6, 2),
        }
        assert list(data.modalities()) == ["l", "a", "x"] and not data.synthetic
        test = data.splits["test"]
        np.testing.assert_allclose(test.features["a"], given["test/features/a"], rtol=1e-6)
        np.testing.assert_allclose(test.targets[:, 0], given["test/targets"], rtol=1e-6)
        assert test.ids[2] == "test-é2"
        assert test.valid["l"][0].tolist() == [False, True, True, True, True, False]
        assert not test.valid["a"][1].any()
        assert [n.partition(": ")[2] for n in notices] == [
            "3 samples have no a, it is zero throughout"
        ]
        assert len(data.source["sha256"]) == 64

        data, notices = read(layout(valid=True))
        assert data.splits["train"].valid["x"].sum(1).tolist() == [4] * 4
        assert data.splits["train"].valid["a"][1].tolist() == [True] * 4 + [False] * 2
        assert any(
            "4 frames of l in train lie in what the file calls padding" in n for n in notices
        )

        given = {key: x for key, x in layout().items() if not key.endswith("ids")}
        assert read(given)[0].splits["valid"].ids[3] == "valid-3"

    return check
