"""Checks of what a method is: how it is made, what it is for, what it gives."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from mmbench.checks.core import check, told
from mmbench.checks.failures import NotApplicable, fail
from mmbench.checks.made_up import CLASSES, LABELS, SCORE, setting
from mmbench.checks.method import KINDS, LEARNS, MADE, Subject, identical
from mmbench.settings import hyperparameters
from mmbench.tasks import Task
from mmbench.training import predict


@check("method", MADE, Subject)
def constructible(subject: Subject) -> None:
    """A method that cannot be made from a DataSpec alone cannot be one of "all"."""
    try:
        hyperparameters(subject.cls)
        subject.made(subject.setting)
    except NotApplicable:
        raise
    except Exception as error:
        fail(
            f"{subject.cls.__name__}(spec) raised {told(error, subject.cls)}",
            expected="a method from a DataSpec and nothing else",
            mend="Take (self, spec, *, name=default, ...), and read shapes from spec.",
        )


@check("method", "outputs are a row of n_out numbers for each sample", Subject)
def shaped(subject: Subject) -> None:
    """Other shapes broadcast silently: a loss over (B,) and (B, 1) is one over B x B pairs."""
    for task in (SCORE, LABELS, CLASSES):
        where = setting(task)
        if subject.refusal(where):
            continue
        try:
            method = subject.made(where)
            batch = where.split("test").batch(np.arange(5), None)
            outputs = method.eval()(batch)
        except Exception:
            raise NotApplicable(f"it has to predict first: see {LEARNS!r}") from None
        if not isinstance(outputs, torch.Tensor) or outputs.shape != (5, task.n_out):
            got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs)
            fail(
                f"forward gives {got} for 5 samples of {task.kind}",
                expected=f"(5, {task.n_out})",
                mend="Let the last layer be as wide as spec.task.n_out, and squeeze nothing.",
            )


@check("method", LEARNS, Subject)
def learns(subject: Subject) -> None:
    """What a job does: make it, train it on incomplete data, ask it. Most other facts build on this one."""
    if isinstance(subject._trained, NotApplicable):
        raise subject._trained
    try:
        subject.made(subject.setting)
    except Exception:
        raise NotApplicable(f"it has to be made first: see {MADE!r}") from None
    if isinstance(subject._trained, Exception):
        fail(
            f"training it raised {told(subject._trained, subject.cls)}",
            expected="a method that trains for two epochs on samples of a few frames",
            mend="Mend what it tells; --debug shows the traceback.",
        )
    outputs = predict(subject.trained(), subject.setting.split("test"), [None])[0]
    if not np.isfinite(outputs[subject.setting.whole]).all():
        fail(
            "predicts NaN or infinity for complete samples",
            expected="finite numbers",
            mend="Look for a division by a count, a logarithm or a root that may be of zero.",
        )


def _served(subject: Subject, task: Task, kinds: Sequence[str]) -> None:
    subject.trained()
    for kind in kinds:
        where = setting(task, kind)
        reason = subject.refusal(where)
        what = f"{task.kind} of {', '.join(where.spec.modalities)}"
        if reason is not None and not (isinstance(reason, str) and reason.strip()):
            fail(
                f"supports() gives {reason!r} for {what}",
                expected="None, or the reason why it cannot be used",
                mend='Return None, or a sentence like "needs at least two modalities".',
            )
        if reason or where is subject.setting:
            continue
        try:
            short = replace(where.spec, schedule=replace(where.spec.schedule, epochs=1))
            (method,) = subject.train(replace(where, spec=short))
            outputs = predict(method, where.split("test"), [None])[0]
        except Exception as error:
            fail(
                f"on {what} it raised {told(error, subject.cls)}",
                expected="that it learns, or that supports() says why not",
                mend="Read names and shapes of modalities and n_out from spec, or refuse with a reason.",
            )
        if (
            outputs.shape != (len(where.test), task.n_out)
            or not np.isfinite(outputs[where.whole]).all()
        ):
            fail(
                f"on {what} outputs are of shape {outputs.shape} or not finite",
                expected=f"finite numbers of shape {(len(where.test), task.n_out)}",
                mend="Read n_out from spec.task, or refuse with a reason.",
            )


_REFUSED = "is learnt, or refused with a reason"


@check("method", f"a score of two or three modalities {_REFUSED}", Subject)
def scores(subject: Subject) -> None:
    """A method that is silent on what it cannot do fails in the middle of a grid."""
    _served(subject, SCORE, KINDS)


@check("method", f"a set of yes-or-no labels of two or three modalities {_REFUSED}", Subject)
def labels(subject: Subject) -> None:
    """IEMOCAP's task. A method for scores alone has to say so."""
    _served(subject, LABELS, KINDS)


@check("method", f"a class of two or three modalities {_REFUSED}", Subject)
def classes(subject: Subject) -> None:
    """The third kind of task that data sets may have."""
    _served(subject, CLASSES, KINDS)


@check("method", f"a data set whose modalities differ in length {_REFUSED}", Subject)
def lengths(subject: Subject) -> None:
    """Data that are not aligned have sequences of their own length in each modality."""
    _served(subject, SCORE, ("uneven",))


@check("method", "its state makes a fresh one the same", Subject)
def round_trip(subject: Subject) -> None:
    """Selection goes back to the best epoch by state_dict(): what is not in it comes from the last one."""
    method, where, masks = subject.trained(), subject.setting, subject.masks()
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    fresh = subject.made(where, seed=7)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    test = where.split("test")
    if not identical(predict(fresh, test, masks), predict(method, test, masks)):
        fail(
            "a fresh method with the state of a trained one predicts something else",
            expected="bit-identical predictions",
            mend="Keep what is learnt in parameters or in buffers, made by register_buffer(name, ...).",
        )


@check("method", "a representation is a finite row for each sample", Subject)
def represented(subject: Subject) -> None:
    """Figures draw represent(batch), of samples of which little is there; without one there is no figure."""
    method, where = subject.trained(), subject.setting
    for masks in subject.masks():
        with torch.no_grad():
            found = method.eval().represent(
                where.split("test").batch(np.arange(len(where.test)), masks)
            )
        if found is None:
            raise NotApplicable("it does not define represent(batch)")
        if found.ndim != 2 or len(found) != len(where.test) or not found.isfinite().all():
            fail(
                f"represent(batch) gives {tuple(found.shape)} or numbers that are not finite",
                expected=f"finite numbers of shape ({len(where.test)}, k)",
                mend="Flatten what belongs to a sample, and count at least one frame where you divide.",
            )
