"""DMD computes what its plain form does: tests/reference/dmd.py."""

import torch

from mmbench.seeds import Alone
from mmbench.training import _Update
from mmbench_methods.dmd import DMD
from tests import test_reference
from tests.reference import dmd
from tests.test_reference import (
    STILL,
    Trajectory,
    assert_close,
    assert_step,
    assert_terms,
    batches,
    fill,
    random,
    spec_of,
    unsettle,
)

split = test_reference.split
UNMOVED = [
    f"{graph}_graph.{layer}.bias"
    for graph in ("homogeneous", "heterogeneous")
    for layer in ("logit", "representation", "edge")
]
"""What they add to every edge a softmax takes away again."""


def two(split) -> tuple[DMD, dmd.DMD]:
    """From the same parameters, without dropout."""
    torch.manual_seed(0)
    spec = spec_of(split, STILL)
    theirs = dmd.DMD(spec, depth=2)
    unsettle(theirs)
    ours = DMD(spec, depth=2)
    fill(ours, theirs)
    return ours, theirs


def test_losses_and_gradients_are_the_references(split):
    ours, theirs = two(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    for pair in batches(split):
        batch = pair.complete
        mine, view = ours.view(batch), theirs(batch)
        assert_close(mine.logits, view.logits, "logits")
        assert_step(
            ours,
            step,
            step.loss(mine, batch, random()),
            theirs,
            dmd.loss(theirs, view, batch),
            unmoved=UNMOVED,
        )


def test_predictions_from_incomplete_samples_are_the_references(split):
    ours, theirs = two(split)
    for batch in batches(split):
        assert_close(ours.eval()(batch), theirs(batch).logits, "logits")


def test_two_steps_are_the_references(split):
    ours, theirs = two(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    update = _Update(step, Alone([ours], []))
    trajectory = Trajectory(ours, theirs)
    adam = trajectory.adam(theirs)
    for pair in batches(split):
        batch = pair.complete
        terms = step.loss(ours.view(batch), batch, random())
        update.take(sum(terms.values(), torch.zeros(())), last=True, clip=STILL.clip)
        their_terms = dmd.loss(theirs, theirs(batch), batch)
        adam.step(their_terms)
        assert_terms(terms, their_terms)
    trajectory.check(ours, unmoved=UNMOVED)
