"""Each rogue is caught by the check that is meant for it, and each check has a rogue to catch."""

import pytest

import mmbench.checks
from tests.checks.gallery import failed
from tests.checks.rogues import GALLERY, datasets, methods, metrics, missingness, others

HONEST = [
    *(methods.Mean, missingness.Steps, missingness.Half, datasets.Small, metrics.Error),
    *(metrics.F1, others.Here, others.Lines, others.Nothing),
]


@pytest.mark.parametrize("rogue", GALLERY, ids=lambda rogue: rogue.cls.__name__)
def test_a_rogue_is_caught_by_the_check_that_is_meant_for_it(rogue):
    found = failed(rogue)
    assert set(found) == {rogue.caught_by, *rogue.also}
    for result in found.values():
        assert result.reason and result.mend.endswith(".")
        assert str(result.error).startswith(f"{result.check.kind} '{rogue.cls.name}': ")


@mmbench.checks.parametrize(*HONEST)
def test_what_the_rogues_were_made_from_is_honest(check):
    check()


def test_every_check_has_a_rogue():
    caught = {(mmbench.checks.kind_of(rogue.cls), rogue.caught_by) for rogue in GALLERY}
    assert caught == {(kind, name) for kind, name, _ in mmbench.checks.reference()}
