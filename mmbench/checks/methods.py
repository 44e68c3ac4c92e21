"""Checks of methods: built, trained and asked by the engine itself, on small made-up data.

"Bit-identical" means that; elsewhere numbers may differ by rounding in float32, for which `CLOSE` stands.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from mmbench import datafile
from mmbench.batching import Batch, Split
from mmbench.checkpoints import Checkpoint
from mmbench.checks import made_up
from mmbench.checks.core import check, told
from mmbench.checks.failures import NotApplicable, fail
from mmbench.checks.made_up import CLASSES, LABELS, SCORE, SameEveryTime, Setting, setting
from mmbench.checks.randomness import seeded, untouched
from mmbench.data import Schedule
from mmbench.jobs import Progress
from mmbench.methods import Method
from mmbench.missingness import MissingnessSampler, joined, subsets
from mmbench.numbers import fixed
from mmbench.registry import Registry
from mmbench.seeds import NotStackable
from mmbench.settings import hyperparameters
from mmbench.streams import seed_of
from mmbench.tasks import Task
from mmbench.training import Diverged, Report, predict, train_side_by_side

CLOSE = 1e-4
"""Largest difference of two outputs that are the same but for rounding: absolute, and of the larger one."""
SEEDS = (0, 1)


class Subject:
    """A class of method on data that it supports; trained once for all checks, each of which gets a copy."""

    def __init__(self, cls: type[Method], registry: Registry) -> None:
        self.cls, self.registry = cls, registry

    @cached_property
    def setting(self) -> Setting:
        """The first that it supports: made-up data, else a small data set."""
        every = [setting(task, kind) for task in (SCORE, LABELS, CLASSES) for kind in KINDS]
        for found in (*every, self.small(made_up.SCHEDULE, 24)):
            if not self.refusal(found):
                return found
        raise NotApplicable(f"it supports no data here: {self.refusal(every[0])}")

    @cached_property
    def _trained(self) -> Method | Exception:
        try:
            (method,) = self.train(self.setting)
        except Exception as error:
            return error
        return method

    def trained(self) -> Method:
        """A trained method of the caller's own; NotApplicable if it does not train, which a check says."""
        if isinstance(self._trained, Exception):
            raise NotApplicable(f"it has to train first: see {LEARNS!r}")
        return copy.deepcopy(self._trained)

    def refusal(self, where: Setting) -> Any:
        """Why it does not support some data, as `supports` says it."""
        return self.cls.supports(where.spec)

    def small(self, schedule: Schedule | None, count: int) -> Setting:
        """The first samples of a data set for first tries, with its own schedule or another one."""
        every = [found.cls for found in self.registry.classes["dataset"].values()]
        cls = next((each for each in every if each.first_try), None)
        if cls is None:
            raise NotApplicable("no data set for first tries is installed")
        data = datafile.obtain(cls())
        splits = {name: samples.take(count) for name, samples in data.splits.items()}
        return made_up.setting_of(replace(data, splits=splits), schedule or cls.schedule)

    def made(self, where: Setting, seed: int = 0) -> Method:
        """A method as a job makes it."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed_of(seed, "init"))
            return self.cls(where.spec)

    def train(
        self,
        where: Setting,
        seeds: Sequence[int] = (0,),
        sampler: MissingnessSampler | None = None,
        methods: Sequence[Method] | None = None,
        interruption: tuple[Report, Checkpoint] | None = None,
    ) -> list[Method]:
        """A method from each seed, trained side by side; Diverged where a loss is not finite."""
        methods = methods or [self.made(where, seed) for seed in seeds]
        sampler = sampler or self.registry.find("sampler", self.cls.sampler)(
            **methods[0].sampler_settings
        )
        train, valid = where.split("train"), where.split("valid")
        report, memory = interruption or (lambda progress: None, None)
        results = train_side_by_side(
            methods, train, valid, sampler, seeds, report=report, memory=memory
        )
        for result in results:
            if isinstance(result, Diverged):
                raise result
        return list(methods)

    def masks(self) -> list[dict[str, np.ndarray]]:
        """Of the test split: each set of modalities, some frames of each, and nothing at all."""
        valid = self.setting.test.valid
        sets = [{m: v & (m in subset) for m, v in valid.items()} for subset in subsets(list(valid))]
        return [*sets, made_up.some_hidden(valid), made_up.nothing(valid)]


KINDS = ("three", "two")
MADE = "it is made from a data set's shapes, and every hyper-parameter has a default"
REPEATS = "the same seed gives the same numbers"
LEARNS = "it trains and then predicts finite numbers"


def differs(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, in units of what rounding may do; of what is not finite in both, none."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b) / (CLOSE * np.maximum(1, np.maximum(np.abs(a), np.abs(b))))
    neither = ~np.isfinite(a) & ~np.isfinite(b)
    return float(np.where(neither, 0, np.nan_to_num(gap, nan=np.inf)).max(initial=0))


def identical(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same to the last bit."""
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def ask(method: Method, batch: Batch) -> np.ndarray:
    """Outputs (B, n_out) of a trained method."""
    method.eval()
    with torch.no_grad():
        return method(batch).detach().float().numpy()


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


@check("method", "hidden values never matter in a prediction", Subject)
def hidden(subject: Subject) -> None:
    """Every hidden value is NaN, and predictions stay bit-identical: else a score says nothing of missingness."""
    where = subject.setting
    for masks in subject.masks():
        clean = predict(subject.trained(), where.split("test"), [masks])
        other = Split(made_up.poisoned(where.test, masks))
        if not identical(predict(subject.trained(), other, [masks]), clean):
            fail(
                "predictions change with what stands in hidden frames",
                expected="bit-identical predictions, whatever is hidden",
                mend="Read nothing but the batch: its features are zero where batch.observed is False.",
            )


@check("method", "labels never matter in a prediction", Subject)
def unlabelled(subject: Subject) -> None:
    """Targets of the test split are exchanged, and predictions stay bit-identical: else they are leaked."""
    where = subject.setting
    masks = subject.masks()
    clean = predict(subject.trained(), where.split("test"), masks)
    other = replace(made_up.copied(where.test), targets=np.roll(where.test.targets, 1, 0))
    if not identical(predict(subject.trained(), Split(other), masks), clean):
        fail(
            "predictions change with the labels of the test split",
            expected="bit-identical predictions, whatever the labels are",
            mend="Read nothing but the batch, whose targets are None in testing.",
        )


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
    if not _same_state(method, clean):
        fail(
            "what it learns changes with frames that are hidden in training, and it declares no privileges",
            expected='data="incomplete", or a word in `privileges`',
            mend='Declare e.g. privileges = ("complete training samples",).',
        )


def _same_state(one: Method, other: Method) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(n == k and identical(a.numpy(), b.numpy()) for (n, a), (k, b) in pairs)


@check("method", "batch size never matters", Subject)
def batch_size(subject: Subject) -> None:
    """A sample asked alone gets what it gets among others, but for rounding in float32."""
    test, masks = subject.setting.split("test"), made_up.some_hidden(subject.setting.test.valid)
    rows = np.arange(len(test))
    together = ask(subject.trained(), test.batch(rows, masks))
    method = subject.trained()
    alone = [ask(method, test.batch(rows[i : i + 1], _rows(masks, [i]))) for i in rows]
    if (gap := differs(together, np.concatenate(alone))) > 1:
        fail(
            f"a sample predicted alone differs from the same one in a batch by {fixed(gap, 0)} times rounding",
            expected=f"the same within {CLOSE:g}",
            mend="Let no sample see another: e.g. no batch statistics outside of training.",
        )


@check("method", "order never matters", Subject)
def order(subject: Subject) -> None:
    """The test split in another order gives the same predictions, but for rounding in float32."""
    test, masks = subject.setting.split("test"), made_up.some_hidden(subject.setting.test.valid)
    rows = np.arange(len(test))[::-1].copy()
    straight = ask(subject.trained(), test.batch(np.sort(rows), masks))
    turned = ask(subject.trained(), test.batch(rows, _rows(masks, rows)))[::-1]
    if (gap := differs(straight, turned)) > 1:
        fail(
            f"predictions change by {fixed(gap, 0)} times rounding with the order of the samples",
            expected=f"the same within {CLOSE:g}",
            mend="Let a sample's place in the batch decide nothing.",
        )


def _rows(masks: Mapping[str, np.ndarray], rows: Any) -> dict[str, np.ndarray]:
    return {m: mask[rows] for m, mask in masks.items()}


@check("method", "a prediction leaves nothing behind", Subject)
def stateless(subject: Subject) -> None:
    """The second prediction of a split is the first one's bits, and no buffer moved: nothing learns from tests."""
    method, test, masks = subject.trained(), subject.setting.split("test"), subject.masks()
    before = copy.deepcopy(method)
    first, second = (predict(method, test, masks) for _ in range(2))
    same = identical(first, second)
    if not same or not _same_state(method, before):
        what = "a buffer or parameter" if same else "the next prediction"
        fail(
            f"predicting changes {what}",
            expected="that predictions only read",
            mend="Update memories and statistics in a step's `after`; in testing self.training is False.",
        )


@check("method", "a batch is left as it was", Subject)
def unchanged(subject: Subject) -> None:
    """Steps and conditions share a batch's tensors: who writes into them changes what others see."""
    test = subject.setting.split("test")
    batch = test.batch(np.arange(len(test)), made_up.some_hidden(subject.setting.test.valid))
    kept = copy.deepcopy(batch)
    ask(subject.trained(), batch)
    for field in ("features", "observed", "valid"):
        for m, x in getattr(batch, field).items():
            if m not in getattr(kept, field) or not torch.equal(x, getattr(kept, field)[m]):
                fail(
                    f"forward writes into batch.{field}[{m!r}]",
                    expected="a batch that is only read",
                    mend="Write into a copy, e.g. x.clone(); functions that end in _ work in place.",
                )


@check("method", "any set of modalities gives finite predictions", Subject)
def each_missing(subject: Subject) -> None:
    """Every single missing modality, and every other set: one NaN fails the whole job."""
    where = subject.setting
    for subset in subsets(list(where.spec.modalities)):
        masks = {m: v & (m in subset) for m, v in where.test.valid.items()}
        some = np.any([mask.any(1) for mask in masks.values()], 0)
        outputs = predict(subject.trained(), where.split("test"), [masks])[0][some]
        if not np.isfinite(outputs).all():
            fail(
                f"predicts NaN or infinity where only {joined(subset)} is there",
                expected="finite numbers",
                mend="An absent modality has no valid frame: count at least one where you divide.",
            )


@check("method", "input of which all is missing gives one finite answer", Subject)
def all_missing(subject: Subject) -> None:
    """At p = 1 nothing is there to tell samples apart: whatever differs, was peeked at or is random."""
    where = subject.setting
    masks = made_up.nothing(where.test.valid)
    outputs = predict(subject.trained(), where.split("test"), [masks])[0]
    if not np.isfinite(outputs).all():
        fail(
            "predicts NaN or infinity for samples of which nothing is there",
            expected="finite numbers",
            mend="Count at least one frame where you divide, and let a softmax of nothing be zero.",
        )
    if (gap := differs(outputs, np.broadcast_to(outputs[:1], outputs.shape))) > 1:
        fail(
            f"samples of which nothing is there get answers that differ by {fixed(gap, 0)} times rounding",
            expected="one answer for all",
            mend="Let nothing but observed frames decide: no place in the batch, no random number.",
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
    if not identical(found, expected) or not _same_state(method, whole):
        with seeded():
            (again,) = subject.train(where)
        if not _same_state(again, whole):
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


@check("method", "what is not deployed never matters in a prediction", Subject)
def deployed(subject: Subject) -> None:
    """Tables count the parameters of deployed(): all others are NaN, and predictions stay bit-identical."""
    method, test, masks = subject.trained(), subject.setting.split("test"), subject.masks()
    clean = predict(subject.trained(), test, masks)
    kept = {parameter for module in method.deployed() for parameter in module.parameters()}
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter not in kept and parameter.is_floating_point():
                parameter.fill_(torch.nan)
    if not identical(predict(method, test, masks), clean):
        fail(
            "predictions read parameters that deployed() leaves out",
            expected="that deployed() gives every module which a prediction needs",
            mend="Add the missing modules to what deployed() returns.",
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
