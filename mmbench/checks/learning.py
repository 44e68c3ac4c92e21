"""Checks of how a method is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mmbench.checkpoints import Checkpoint
from mmbench.checks import made_up
from mmbench.checks.core import check, told
from mmbench.checks.failures import NotApplicable, fail
from mmbench.checks.made_up import SameEveryTime, Setting
from mmbench.checks.method import CLOSE, REPEATS, SEEDS, Subject, differs, identical, same_state
from mmbench.checks.randomness import seeded, untouched
from mmbench.jobs import Progress
from mmbench.methods import Method
from mmbench.numbers import fixed
from mmbench.seeds import NotStackable
from mmbench.training import predict


@check("method", "training looks at hidden frames only if privileges say so", Subject)
def privileged(subject: Subject) -> None:
    """Methods that see complete samples in training are compared with others that do not; a table says which."""
    if subject.cls.privileges:
        raise NotApplicable(f"its privileges say: {', '.join(subject.cls.privileges)}")
    where = subject.setting
    subject.trained()
    splits = {
        name: made_up.poisoned(samples, made_up.some_hidden(samples.valid), 2.0)
        for name, samples in where.data.splits.items()
    }
    # padding stays zero, as in any data set
    for name, samples in splits.items():
        for m, x in samples.features.items():
            x[~where.data.splits[name].valid[m]] = 0
    other = replace(where, data=replace(where.data, splits=splits))
    with seeded():
        (clean,) = subject.train(where, sampler=SameEveryTime())
    with seeded():
        (method,) = subject.train(other, sampler=SameEveryTime())
    if not same_state(method, clean):
        fail(
            "what it learns changes with frames that are hidden in training, and it declares no privileges",
            expected='data="incomplete", or a word in `privileges`',
            mend='Declare e.g. privileges = ("complete training samples",).',
        )


@check("method", REPEATS, Subject)
def deterministic(subject: Subject) -> None:
    """Two trainings from one seed are bit-identical, or nobody can make a number again."""
    where, masks = subject.setting, subject.masks()
    subject.trained()
    outputs = []
    for _ in range(2):
        with seeded():
            (method,) = subject.train(where)
        outputs.append(predict(method, where.split("test"), masks))
    if not identical(*outputs):
        fail(
            "two trainings from the same seed differ",
            expected="bit-identical predictions",
            mend="Draw from the rng that a loss is given; no clock, no set order, no generator of the class.",
        )


@check("method", "a training that was interrupted ends in the same numbers", Subject)
def goes_on(subject: Subject) -> None:
    """Made anew after every epoch, it goes on from a checkpoint of parameters and buffers, bit by bit."""
    where, masks = subject.setting, subject.masks()
    subject.trained()
    with seeded():
        (whole,) = subject.train(where)
    with seeded(), TemporaryDirectory() as folder:
        method, refused = _in_pieces(subject, Path(folder, "checkpoint"))
    if refused:
        raise NotApplicable(
            f"it is trained anew after an interruption: {refused}; get_extra_state and set_extra_state of "
            "torch, of one tensor, would tell it"
        )
    found, expected = (predict(m, where.split("test"), masks) for m in (method, whole))
    if not identical(found, expected) or not same_state(method, whole):
        with seeded():
            (again,) = subject.train(where)
        if not same_state(again, whole):
            raise NotApplicable(f"two trainings have to be the same first: see {REPEATS!r}")
        fail(
            "training that is interrupted after each epoch, and goes on, ends in other numbers",
            expected="bit-identical parameters and predictions",
            mend="Keep what changes in training in parameters or buffers, not in globals of the module.",
        )


def _in_pieces(subject: Subject, path: Path) -> tuple[Method, str | None]:
    """A method whose training was interrupted after each epoch; why there are no checkpoints, if so."""

    def stop(progress: Progress) -> None:
        if progress.epochs:
            raise _Interrupted

    while True:
        checkpoint = Checkpoint(path, {}, every=0.0)
        try:
            (method,) = subject.train(subject.setting, interruption=(stop, checkpoint))
            return method, checkpoint.refused
        except _Interrupted:
            if checkpoint.refused:
                return subject.trained(), checkpoint.refused


class _Interrupted(Exception):
    """In the place of a crash."""


@check("method", "no global random state is touched", Subject)
def globals_alone(subject: Subject) -> None:
    """Who seeds or draws from a global generator changes everybody's numbers in the same process."""
    subject.trained()
    with untouched("making, training or asking it"):
        (method,) = subject.train(subject.setting)
        predict(method, subject.setting.split("test"), [None])


@check("method", "seeds trained as one equal seeds trained alone", Subject)
def stacked(subject: Subject) -> None:
    """No seed may notice who is trained beside it, or a table depends on how many seeds shared a process."""
    where, masks = subject.setting, subject.masks()
    subject.trained()
    try:
        with seeded():
            together = subject.train(where, SEEDS)
    except Exception as error:  # as a job does: what fails for all together may not fail for each
        reason = error if isinstance(error, NotStackable) else told(error, subject.cls)
        raise NotApplicable(f"it is trained seed by seed: {reason}") from None
    with seeded():
        alone = [subject.train(where, [seed])[0] for seed in SEEDS]
    for seed, one, other in zip(SEEDS, together, alone, strict=True):
        found, expected = (predict(m, where.split("test"), masks) for m in (one, other))
        if (gap := differs(found, expected)) > 10:
            fail(
                f"seed {seed} trained beside another differs by {fixed(gap, 0)} times rounding from itself alone",
                expected=f"the same within {10 * CLOSE:g}",
                mend="Keep what differs between seeds in parameters and buffers, not in Python attributes.",
            )


@check("method", "the loss falls on a small data set", Subject)
def falls(subject: Subject) -> None:
    """The task's loss on training samples is lower after a few epochs than before, or nothing is learnt."""
    where = subject.small(None, 64)
    where = replace(
        where, spec=replace(where.spec, schedule=replace(where.spec.schedule, epochs=5))
    )
    if reason := subject.refusal(where):
        raise NotApplicable(str(reason))
    subject.trained()
    method = subject.made(where)
    if not method.stages():
        raise NotApplicable("it has nothing to learn")
    before = _loss(method, where)
    subject.train(where, methods=[method])
    after = _loss(method, where)
    if not after < before:
        fail(
            f"the task's loss is {fixed(before, 3)} before training and {fixed(after, 3)} after it",
            expected="that it falls",
            mend="Look at the sign of the loss, and at which modules each step updates.",
        )


def _loss(method: Method, where: Setting) -> float:
    split = where.split("train")
    outputs = torch.from_numpy(predict(method, split, [None])[0])
    return float(where.spec.task.loss(outputs, split.targets))
