"""mmbench/attributes.py: what a checkpoint would not hold is seen to change."""

import collections
import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn

from mmbench import attributes
from mmbench.data import DataSpec, Schedule
from mmbench.methods import Method
from mmbench.tasks import Regression
from mmbench_missing.msm import MSM


class Plain:
    def __init__(self):
        self.value, self.me = 0, self

    def act(self):
        """Nothing."""


def counting():
    count = 0

    def step():
        nonlocal count
        count += 1

    return step


HELD = {
    "number": (lambda: [0], lambda x: x.append(1)),
    "dict": (lambda: {"a": {"b": 1.0}}, lambda x: x["a"].update(b=2.0)),
    "set": (lambda: {"a", "b"}, lambda x: x.add("c")),
    "array": (lambda: np.zeros(3), lambda x: x.__setitem__(0, 1)),
    "array of objects": (lambda: np.array([None, "a"], object), lambda x: x.__setitem__(0, 1)),
    "tensor": (lambda: torch.zeros(3), lambda x: x.add_(1)),
    "module": (lambda: [nn.Linear(2, 2, bias=False)], lambda x: nn.init.ones_(x[0].weight)),
    "deque": (collections.deque, lambda x: x.append(1)),
    "numpy's generator": (lambda: np.random.default_rng(0), lambda x: x.random()),
    "torch's generator": (
        lambda: torch.Generator().manual_seed(0),
        lambda x: torch.rand(1, generator=x),
    ),
    "Python's generator": (lambda: random.Random(0), lambda x: x.random()),
    "counter": (itertools.count, next),
    "closure": (counting, lambda x: x()),
    "object in a circle": (Plain, lambda x: setattr(x, "value", 1)),
    "method of an object": (lambda: Plain().act, lambda x: setattr(x.__self__, "value", 1)),
}


def made(held=None):
    spec = DataSpec("small", {}, Regression(-3, 3), Schedule(), 3)
    torch.manual_seed(0)
    method = Method(spec)
    method.layer = nn.GRU(2, 2)
    method.register_buffer("constant", torch.zeros(2), persistent=False)
    method.layer.held = held
    return method


def look(method):
    return attributes.digests([method], [[]], MSM())


@pytest.mark.parametrize("what", HELD)
def test_what_is_held_is_seen_to_change_and_is_the_same_when_made_again(what):
    make, change = HELD[what]
    method = made(make())
    before = look(method)
    assert attributes.changed(before, look(method)) is None
    if what != "module":  # its weights are drawn
        assert attributes.changed(before, look(made(make()))) is None
    change(method.layer.held)
    assert attributes.changed(before, look(method)) == "Method.layer.held"


def test_what_a_checkpoint_holds_may_change_its_values():
    method = made()
    method.register_buffer("mean", torch.zeros(2))
    before = look(method)
    with torch.no_grad():
        for tensor in (*method.parameters(), method.mean, method.constant):
            tensor.add_(1)
    method.eval()
    assert attributes.changed(before, look(method)) is None


def test_flags_and_shapes_are_seen_to_change():
    method = made()
    before = look(method)
    method.layer.weight_ih_l0.requires_grad_(False)
    assert attributes.changed(before, look(method)) == "Method.layer.weight_ih_l0"
    method.layer.weight_ih_l0.requires_grad_(True)
    method.constant = torch.zeros(3)
    assert attributes.changed(before, look(method)) == "Method.constant"
    method.constant = torch.zeros(2)
    method.register_buffer("late", torch.zeros(2))
    assert attributes.changed(before, look(method)) == "Method.late"


def test_sets_have_no_order():
    names = [f"name {i}" for i in range(50)]
    assert look(made(set(names))) == look(made(set(reversed(names))))
