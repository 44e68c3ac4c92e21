"""TransM computes what its plain form does: tests/reference/transm.py."""

import torch

from mmbench.seeds import Alone
from mmbench.training import _Update
from mmbench_methods.transm import TransM
from tests import test_reference
from tests.reference import transm
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


def two(split) -> tuple[TransM, transm.TransM]:
    """From the same parameters, without dropout; features are standardised by the same scales."""
    torch.manual_seed(0)
    spec = spec_of(split, STILL)
    theirs = transm.TransM(spec, depth=2, decoder_depth=2, dropout=0.0)
    unsettle(theirs)
    theirs.measure([batch.complete for batch in batches(split) if batch.complete])
    ours = TransM(spec, depth=2, decoder_depth=2, dropout=0.0)
    fill(ours, theirs)
    return ours, theirs


def test_scales_are_the_references(split):
    ours, theirs = two(split)
    for scale in ours.scales.values():
        scale.mean.zero_()
    ours.measure([batch.complete for batch in batches(split) if batch.complete])
    for m, scale in enumerate(ours.scales.values()):
        assert_close(scale.mean, getattr(theirs, f"mean_{m}"), "mean")
        assert_close(scale.spread, getattr(theirs, f"spread_{m}"), "spread")


def test_losses_and_gradients_are_the_references(split):
    ours, theirs = two(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    for batch in batches(split):
        mine, view = ours.view(batch), theirs(batch)
        assert_close(mine.logits, view.logits, "logits")
        for cell in range(2):
            for made, laid, other in (
                (mine.there, mine.others, view.there),
                (mine.back, mine.pivot, view.back),
            ):
                sample, time, real = laid.frames_of(cell)
                expected = other[cell][sample[real], time[real]]
                assert_close(made[cell][real], expected, "a translation")
        assert_step(
            ours, step, step.loss(mine, batch, random()), theirs, transm.loss(theirs, view, batch)
        )
        assert_close(ours.eval()(batch), view.logits, "predictions")
        ours.train()


def test_two_steps_are_the_references(split):
    ours, theirs = two(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    update = _Update(step, Alone([ours], []))
    trajectory = Trajectory(ours, theirs)
    adam = trajectory.adam(theirs)
    for batch in batches(split):
        terms = step.loss(ours.view(batch), batch, random())
        update.take(sum(terms.values(), torch.zeros(())), last=True, clip=STILL.clip)
        their_terms = transm.loss(theirs, theirs(batch), batch)
        adam.step(their_terms)
        assert_terms(terms, their_terms)
    trajectory.check(ours)
