"""mmbench/representations.py: what is kept of a method that has `represent`, and why not of others."""

import numpy as np
import pytest
import torch

import mmbench
from mmbench.batching import Split
from mmbench.data import DataSpec, Schedule
from mmbench.representations import Unrepresented, condition, groups, masks, represent
from mmbench.tasks import MultiBinary, MultiClass, Regression


class Seen(mmbench.Method):
    """Represents a sample by how many frames of each modality it sees, and the sum of their features."""

    name = "seen"

    def represent(self, batch):
        counts = [valid.sum(1) for valid in batch.observed.values()]
        sums = [x.sum((1, 2)) for x in batch.features.values()]
        return torch.stack([*counts, *sums], 1)


class Silent(mmbench.Method):
    name = "silent"


class Wrong(mmbench.Method):
    name = "wrong"
    gives = staticmethod(lambda n: torch.zeros(n, 2, 3))

    def represent(self, batch):
        return self.gives(len(next(iter(batch.features.values()))))


@pytest.fixture
def made(make_data):
    def make(cls, task=None):
        data = make_data(task)
        spec = DataSpec(data.name, data.modalities(), data.task, Schedule(), 24)
        return cls(spec), Split(data.splits["test"], torch.device("cpu"))

    return make


def test_half_of_the_first_modality_is_seen_and_nothing_else(made):
    method, test = made(Seen)
    values = represent(method, test)["values"]
    valid = test.samples.valid["l"].sum(1)
    hidden = valid - values[:, 0]
    assert np.abs(hidden - valid / 2).max() <= 0.5 and hidden.sum() > 0
    assert not values[:, [1, 2, 4, 5]].any() and values[:, 3].any()
    assert values.dtype == np.float32 and condition(method) == "{l}, p=0.5"


def test_the_masks_are_the_same_for_every_method(made):
    first, second = (masks(*made(cls)) for cls in (Seen, Silent))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[m], second[m]) for m in first)


def test_rows_are_the_samples_of_the_split_however_many_there_are(made, monkeypatch):
    from mmbench import training

    method, test = made(Seen)
    whole = represent(method, test)["values"]
    stacked = training.stacked
    monkeypatch.setattr("mmbench.representations.stacked", lambda s, m: stacked(s, m, 3))
    np.testing.assert_array_equal(represent(method, test)["values"], whole)


def test_a_method_without_is_told_what_to_define(made):
    with pytest.raises(Unrepresented, match=r"does not define represent\(batch\) -> \(B, k\)"):
        represent(*made(Silent))


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (lambda n: torch.zeros(n, 2, 3), r"gave \(10, 2, 3\), expected \(10, k\)"),
        (lambda n: torch.zeros(n - 1, 2), r"gave \(9, 2\), expected \(10, k\)"),
        (lambda n: torch.full((n, 2), torch.nan), "NaN or infinity"),
    ],
)
def test_another_shape_and_what_is_not_finite_are_refused(made, monkeypatch, gives, message):
    monkeypatch.setattr(Wrong, "gives", staticmethod(gives))
    with pytest.raises(Unrepresented, match=message):
        represent(*made(Wrong))


def test_groups_are_signs_sole_labels_or_classes():
    assert groups(Regression(-3, 3), np.array([[-1.0], [0.0], [2.0]])).tolist() == [
        "below 0",
        "",
        "above 0",
    ]
    several = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    assert groups(MultiBinary(("happy", "sad")), several).tolist() == ["happy", "sad", "", ""]
    assert groups(MultiClass(("bad", "fair")), np.array([[1], [0]])).tolist() == ["fair", "bad"]
