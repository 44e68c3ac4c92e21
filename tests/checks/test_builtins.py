"""Every built-in plugin keeps the contract of its kind: the kit's first user."""

from dataclasses import replace

import pytest

import mmbench.checks
from mmbench.data import Dataset
from mmbench.registry import KINDS, discover

REGISTRY = discover()
LARGE = 5000
"""Samples: of a twin with more, a twentieth has to do."""


def manageable(cls):
    recipe = getattr(cls, "recipe", None)
    if recipe is None or sum(map(sum, recipe.counts.values())) <= LARGE:
        return cls
    counts = {split: tuple(max(1, n // 20) for n in own) for split, own in recipe.counts.items()}
    return type(cls.__name__, (cls,), {"recipe": replace(recipe, counts=counts)})


BUILT_IN = [
    manageable(found.cls)
    for kind in KINDS
    for found in REGISTRY.classes[kind].values()
    if found.source.distribution.startswith("mmbench ")
    and not (issubclass(found.cls, Dataset) and found.cls.from_card)
]


@mmbench.checks.parametrize(*BUILT_IN)
def test_a_built_in_plugin_keeps_its_contract(check):
    check()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_checks_and_a_built_in_that_is_put_to_them(kind):
    assert [k for k, _, _ in mmbench.checks.reference() if k == kind]
    assert [cls for cls in BUILT_IN if mmbench.checks.kind_of(cls) == kind]
