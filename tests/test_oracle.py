"""mmbench/oracle.py: the ceiling of data whose generator is known."""

import dataclasses
import itertools

import numpy as np
import pytest

from mmbench.batching import Split
from mmbench.data import DataSpec
from mmbench.metrics import floor, score
from mmbench.oracle import ceilings
from mmbench.registry import discover
from mmbench.work import metrics_for
from mmbench_datasets.tiny import Tiny
from mmbench_methods.oracle import Oracle


@pytest.fixture(scope="module")
def registry():
    return discover()


def large():
    """As the tiny twin, with a test split that makes chance small."""
    few, many = (1, 2, 2, 1, 2, 2, 1), (750, 2000, 1500, 750, 1750, 2500, 750)
    counts = {"train": few, "valid": few, "test": many}
    return type("Large", (Tiny,), {"recipe": dataclasses.replace(Tiny.recipe, counts=counts)})()


def test_the_ceiling_is_what_the_oracle_scores_within_a_point(registry):
    twin = large()
    data, oracle = twin.make(), twin.oracle()
    spec = DataSpec(data.name, data.modalities(), data.task)
    metrics = [m for m in metrics_for(registry, spec) if m.name == "f1"]
    for name in ("inter", "intra"):
        protocol = registry.find("protocol", name)()
        found = ceilings(oracle, data, protocol, metrics)
        test = data.splits["test"]
        lowest = floor(data.task, metrics, test.targets)["f1"]["sentiment"]
        for condition in protocol.conditions(["l", "a", "v"]):
            masks = protocol.masks(
                condition, test.valid, ids=test.ids, dataset=data.name, split="test", mask_seed=0
            )
            outputs = oracle.outputs(oracle.posterior(test.features, masks))
            reached = score(data.task, metrics, test.targets, data.task.decide(outputs))
            ceiling = found[condition.name]["f1"]["sentiment"]
            assert abs(reached["f1"]["sentiment"] - ceiling) < 0.015, condition.name
            assert ceiling > lowest - 0.01
    assert found["1.0"]["f1"]["sentiment"] == pytest.approx(lowest, abs=0.01)


def test_more_that_is_observed_is_never_worse(registry):
    twin = large()
    data = twin.make()
    spec = DataSpec(data.name, data.modalities(), data.task)
    metrics = [m for m in metrics_for(registry, spec) if m.name == "f1"]
    found = ceilings(twin.oracle(), data, registry.find("protocol", "intra")(), metrics)
    curve = [found[name]["f1"]["sentiment"] for name in sorted(found, key=float)]
    assert all(b < a + 0.005 for a, b in itertools.pairwise(curve))
    assert curve[0] > curve[-1] + 0.2


def test_the_method_says_what_the_data_set_knows():
    twin = Tiny()
    data = twin.make()
    spec = DataSpec(data.name, data.modalities(), data.task)
    assert Oracle.supports(spec) is None
    method, test = Oracle(spec), Split(data.splits["test"])
    masks = {m: v & (np.arange(8) % 3 > 0) for m, v in data.splits["test"].valid.items()}
    oracle = twin.oracle()
    expected = oracle.outputs(oracle.posterior(data.splits["test"].features, masks))
    np.testing.assert_allclose(method(test.batch(slice(None), masks)), expected, rtol=1e-5)
    assert not list(method.parameters()) and not method.stages()


def test_real_data_has_no_oracle(make_data):
    data = make_data()
    spec = DataSpec("mosi", data.modalities(), data.task)
    assert "synthetic" in (Oracle.supports(spec) or "")
