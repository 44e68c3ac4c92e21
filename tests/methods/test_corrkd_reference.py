"""plugins/mmbench_methods/corrkd computes what tests/reference/corrkd.py does."""

from dataclasses import replace

import pytest
import torch

from mmbench.batching import Batch, Split
from mmbench.seeds import Alone
from mmbench.training import _Update
from mmbench_methods.corrkd import CorrKD
from tests.reference import corrkd
from tests.test_reference import (
    DEPTH,
    STILL,
    Trajectory,
    assert_close,
    assert_step,
    batches,
    fill,
    generator,
    padded_samples,
    random,
    spec_of,
    unsettle,
)

MARGIN = 14.0
"""So far that samples repel each other."""


@pytest.fixture(scope="module")
def split() -> Split:
    return padded_samples()


def pair(split: Split) -> tuple[CorrKD, corrkd.Trainer]:
    """From the same parameters, as they are in the student's stage, without dropout."""
    torch.manual_seed(0)
    spec = spec_of(split, STILL)
    theirs = corrkd.Trainer(spec, depth=DEPTH, margin=MARGIN)
    unsettle(theirs.model)
    ours = CorrKD(spec, depth=DEPTH, margin=MARGIN)
    fill(ours, theirs.model)
    ours.train()
    ours.teacher.eval()
    theirs.rng = generator()
    return ours, theirs


def given(ours: CorrKD, batch: Batch) -> Batch:
    """With what the frozen teacher makes of it, as the loop gives it."""
    with torch.no_grad():
        return replace(batch, given=ours.teacher(batch.complete))


def test_the_teachers_loss_and_gradients_are_the_references(split):
    ours, theirs = pair(split)
    (step,) = ours.stages()[0].steps
    batch = next(batches(split)).complete
    mine, view = ours.teacher(batch), theirs.model.teacher(batch)
    for name in ("joint", "logits", "responses"):
        assert_close(getattr(mine, name), getattr(view, name), name)
    terms = step.loss(mine, batch, random())
    assert_step(ours, step, terms, theirs.model, corrkd.task_loss(view, batch.truth))


def test_the_students_losses_and_gradients_are_the_references(split):
    ours, theirs = pair(split)
    (step,) = ours.stages()[1].steps
    batch = given(ours, next(batches(split)))
    with torch.no_grad():
        teacher = theirs.model.teacher(batch.complete)
    mine, student = ours.student(batch), theirs.model.student(batch)
    assert_close(ours(batch), student.logits, "logits")
    for name in ("joint", "logits", "responses"):
        assert_close(getattr(mine, name), getattr(student, name), name)
    apart = (student.joint[:, None] - teacher.joint).norm(dim=-1)
    assert (apart < MARGIN).float().mean() > 0.5  # else nothing repels
    expected = corrkd.student_loss(theirs.model, teacher, student, batch, generator())
    assert_step(ours, step, step.loss(mine, batch, random()), theirs.model, expected)


def test_two_steps_of_the_student_are_the_references(split):
    ours, theirs = pair(split)
    (step,) = ours.stages()[1].steps
    update, rng = _Update(step, Alone([ours], [])), random()
    trajectory = Trajectory(ours, theirs.model)
    trajectory.watch(theirs.adam)
    for incomplete in batches(split):
        batch = given(ours, incomplete)
        update.take(
            sum(step.loss(ours.student(batch), batch, rng).values(), torch.zeros(())),
            last=True,
            clip=STILL.clip,
        )
        theirs.step(incomplete)
    trajectory.check(ours.student, ours.statistics)
