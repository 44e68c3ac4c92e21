"""The repository's models compute what a plain reference does: tests/reference, from the equations."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec, Schedule
from mmbench.methods import Method, Step
from mmbench.randomness import Random
from mmbench.seeds import Alone
from mmbench.training import _Update
from mmbench_datasets.iemocap import SCHEDULE, TASK, IEMOCAPTwin
from mmbench_methods.hrlf import HRLF
from mmbench_methods.late_fusion import LateFusion
from mmbench_missing.msm import MSM
from tests.reference import hrlf, late_fusion
from tests.reference.adam import Adam

CLOSE = 1e-5
"""In float32, relative to the largest entry of a tensor."""
WIDTH = 40
DEPTH = 2
STILL = replace(SCHEDULE, attention_dropout=0.0, output_dropout=0.0, input_dropout={})


def copy_into(ours: Method, values: Mapping[str, Tensor]) -> None:
    """Writes the reference's tensors, by their names there, to where the repository has them.

    The one place that knows how the repository lays its parameters out.
    """
    state, modalities = ours.state_dict(), list(ours.spec.modalities)
    for name, value in values.items():
        for theirs, mine in NAMES.get(ours.name, ENCODERS).items():
            name = re.sub(theirs, mine, name)
        name, _, group = name.partition("#")
        for number, modality in enumerate(modalities):
            name = name.replace(f"<{number}>", modality)
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            value = value.unflatten(0, (3, -1))
            value = value[:, columns(ours, value.shape[1])].flatten(0, 1)
        elif name.endswith("out_proj.weight"):
            value = value[:, columns(ours, len(value))]
        for theirs, mine in LAYOUT.items():
            name = re.sub(theirs, mine, name)
        own = state[name][int(group)] if group else state[name]
        if value.dim() == 3:  # a convolution's (d, D, 3) to (3, d, D), or to (d, 3 D)
            value = value.permute(2, 0, 1) if own.dim() == 3 else value.mT.flatten(1)
        own.copy_(value)


def columns(ours: Method, width: int) -> Tensor:
    """From a head's columns side by side to a column's heads side by side."""
    return torch.arange(width).view(ours.spec.schedule.heads, -1).t().flatten()


ENCODERS = {
    r"encoders\.(\d+)\.convolution\.weight": r"front.embedding.taps.\1#0",
    r"encoders\.(\d+)\.convolution\.bias": r"front.embedding.bias#\1",
    r"encoders\.(\d+)\.(.*)": r"front.encoder.\2#\1",
}
NAMES = {
    "corrkd": {**ENCODERS, r"(teacher|student)\.(head|response_head)\.": r"\1.\2.0."},
    "hrlf": {
        **ENCODERS,
        r"(sentiment|specific)\.(\d+)\.0\.(.*)": r"factorise.\1.widen.\3#\2",
        r"(sentiment|specific)\.(\d+)\.2\.(.*)": r"factorise.\1.narrow.\3#\2",
        r"decoder\.": "factorise.decoder.",
        r"(discriminators\..*\.)bias$": r"\1layer.bias",
        r"parametrizations\.weight\.original$": "layer.weight",
        r"parametrizations\.weight\.0\._u$": "left",
        r"parametrizations\.weight\.0\._v$": "right",
        r"(teacher|student)\.head\.": r"\1.head.0.",
    },
    "transm": {
        r"recurrent\.(\d+)\.(.*)_reverse": r"network.recurrent.<\1>.backwards.0.\2",
        r"^recurrent\.(\d+)\.": r"network.recurrent.<\1>.forwards.0.",
        r"^dense\.(\d+)": r"network.dense.<\1>",
        r"cells\.0\.speak_there": "speak_there.<1>",
        r"cells\.1\.speak_there": "speak_there.<2>",
        r"cells\.(\d+)\.(speak_back.*)": r"\2#\1",
        r"cells\.(\d+)\.(.*)": r"network.\2#\1",
        r"(mean|spread)_(\d+)": r"scales.<\2>.\1",
    },
    "dmd": {
        r"^convolution\.(\d+)": r"decoupling.convolution.<\1>",
        r"^exclusive\.(\d+)\.(.*)": r"decoupling.exclusive.\2#\1",
        r"^shared\.": "decoupling.shared.",
        r"^(crossmodal|memory|homogeneous|exclusive_gate)\.(\d+)\.(.*)": r"fusion.\1.\3#\2",
        r"^shared_gate": "fusion.shared_gate",
        r"^head\.(.*)": r"fusion.head.\1#0",
        r"^shared_head\.(.*)": r"shared_head.\1#0",
        r"^(decoder|align|homogeneous_head|heterogeneous_head)\.(\d+)\.(.*)": r"\1.\3#\2",
    },
}
"""By method: names in the reference, and ours; `#2` is the third of a group, `<2>` the third modality."""
LAYOUT = {
    r"\.in_proj_": ".query_key_value.",
    r"\.out_proj\.": ".project.",
    r"feed\.0\.": "feed.layers.widen.",
    r"feed\.2\.": "feed.layers.narrow.",
    r"(attention|itself|memory|feed)_norm": r"\1.norm",
    r"norm\.weight$": "norm.gain",
    r"norm\.bias$": "norm.shift",
}
"""Names in the reference's Transformers, and in ours."""


Copy = Callable[[Method, Mapping[str, Tensor]], None]
"""`copy_into`, or what does so for a method with other modules."""


def laid_out(
    ours: Method, values: Mapping[str, Tensor], copy_into: Copy = copy_into
) -> dict[str, Tensor]:
    """The reference's tensors as the repository's parameters by name, zero where there is none."""
    blank = copy.deepcopy(ours)
    with torch.no_grad():
        for parameter in blank.parameters():
            parameter.zero_()
        copy_into(blank, values)
    return dict(blank.named_parameters())


# -- What both are given -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def split() -> Split:
    return padded_samples()


def padded_samples() -> Split:
    """A few samples with the twin's padding in front, and two that are padded behind."""
    samples = IEMOCAPTwin().split("valid").take(24)
    for m, valid in samples.valid.items():
        valid[:2] = valid[:2, ::-1].copy()
        samples.features[m][:2] = samples.features[m][:2, ::-1].copy()
    assert (~samples.valid["l"]).any(1).sum() > 12
    return Split(samples)


def batches(split: Split) -> Iterator[Batch]:
    """Two of twelve samples as msm@1 leaves them, nothing of the first; with their complete form."""
    rng = np.random.default_rng(0)
    for rows in (np.arange(12), np.arange(12, 24)):
        masks = MSM().draw({m: v[rows] for m, v in split.samples.valid.items()}, rng)
        for observed in masks.values():
            observed[0] = False
        batch = split.training_batch(rows, masks, paired=True, epoch=1)
        hidden = torch.cat([batch.valid[m] & ~seen for m, seen in batch.observed.items()], 1)
        assert hidden.any() and (~batch.available[1:]).any()
        yield batch


def spec_of(split: Split, schedule: Schedule) -> DataSpec:
    shapes = {m: ModalitySpec(*x.shape[1:]) for m, x in split.features.items()}
    return DataSpec("iemocap-twin", shapes, TASK, schedule)


def unsettle(model: nn.Module) -> None:
    """Moves every parameter: a norm's scale of 1 or a bias of 0 would hide a mistake."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)


def fill(ours: Method, theirs: nn.Module, copy_into: Copy = copy_into) -> None:
    """Gives ours all the parameters of theirs."""
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.fill_(torch.nan)
        copy_into(ours, theirs.state_dict())
    assert all(parameter.isfinite().all() for parameter in ours.parameters())


def two_hrlfs(split: Split) -> tuple[HRLF, hrlf.HRLF]:
    """From the same parameters, as they are in the student's stage, without dropout."""
    torch.manual_seed(0)
    spec = spec_of(split, STILL)
    theirs = hrlf.HRLF(spec, width=WIDTH, depth=DEPTH)
    theirs.start_student()
    unsettle(theirs)  # the student, too, is no longer the teacher
    for discriminator in theirs.discriminators:
        for _ in range(
            300
        ):  # the norms are found, so that it matters little how often they are sought
            discriminator(torch.zeros(1, discriminator[0].in_features))
    ours = HRLF(spec, width=WIDTH, depth=DEPTH)
    fill(ours, theirs)
    ours.train()
    ours.teacher.eval()
    return ours, theirs


def two_late_fusions(
    split: Split, schedule: Schedule = STILL
) -> tuple[LateFusion, late_fusion.LateFusion]:
    torch.manual_seed(0)
    spec = spec_of(split, schedule)
    theirs = late_fusion.LateFusion(spec, width=WIDTH, depth=DEPTH)
    unsettle(theirs)
    ours = LateFusion(spec, width=WIDTH, depth=DEPTH)
    fill(ours, theirs)
    return ours, theirs


def given(ours: HRLF, batch: Batch) -> Batch:
    """With what the frozen teacher makes of it, as the loop gives it."""
    with torch.no_grad():
        return replace(batch, given=ours.teach(batch.complete))


def random() -> Random:
    return Random([generator()])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


# -- How they are compared ---------------------------------------------------------------------


def assert_close(ours: Tensor, theirs: Tensor, what: str) -> None:
    largest = theirs.abs().max().item()
    torch.testing.assert_close(
        ours, theirs, rtol=0, atol=CLOSE * largest, msg=lambda text: f"{what}: {text}"
    )


def assert_terms(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert_close(ours[name].detach(), value.detach(), name)


def assert_step(
    ours: Method,
    step: Step,
    terms: Mapping[str, Tensor],
    theirs: nn.Module,
    their_terms: Mapping[str, Tensor],
    copy_into: Copy = copy_into,
    unmoved: Sequence[str] = (),
) -> None:
    """Every loss term, and the gradient of every parameter that the step updates.

    On those `unmoved` no loss depends: their gradient is rounding, on either side.
    """
    assert_terms(terms, their_terms)
    parameters = [p for module in step.updates for p in module.parameters()]
    found = dict(zip(parameters, gradients(terms, parameters), strict=True))
    names, leaves = zip(*theirs.named_parameters(), strict=True)
    given = dict(zip(names, gradients(their_terms, leaves), strict=True))
    expected = laid_out(ours, given, copy_into)
    compared = 0
    largest = max(gradient.abs().max() for gradient in found.values())
    for name, parameter in ours.named_parameters():
        if name in unmoved:
            assert max(g.abs().max() for g in (found[parameter], expected[name])) < 1e-7 * largest
            compared += 1
        elif parameter in found:
            assert_close(found[parameter], expected[name], f"gradient of {name}")
            assert expected[name].any(), f"{name} does not learn"
            compared += 1
    assert compared == len(parameters) > 0


def gradients(terms: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    total = torch.stack(list(terms.values())).sum()
    return torch.autograd.grad(
        total, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )


class Trajectory:
    """Parameters after some steps.

    Adam divides a gradient by its size. Where gradients agree to `CLOSE` of a tensor's largest, an entry
    that is r times smaller may move differently by r `CLOSE` of the learning rate: what is nearly 0, as
    the gradient of a key's bias, goes where the rounding error points.
    """

    def __init__(self, ours: Method, theirs: nn.Module, copy_into: Copy = copy_into) -> None:
        self.ours, self.theirs, self.copy_into = ours, theirs, copy_into
        self.doubt = {name: torch.zeros_like(p) for name, p in theirs.named_parameters()}

    def adam(self, *modules: nn.Module) -> Adam:
        """The reference's on modules of its own."""
        return self.watch(Adam(*modules, learning_rate=STILL.learning_rate, clip=STILL.clip))

    def watch(self, adam: Adam) -> Adam:
        """Keeps an eye on each step's gradients."""
        names = {p: name for name, p in self.theirs.named_parameters()}

        decay = adam.optimiser.param_groups[0]["weight_decay"]

        def look(*_: object) -> None:
            for parameter in adam.parameters:
                assert parameter.grad is not None
                size = (parameter.grad + decay * parameter).abs()
                share = (CLOSE * size.max() / size.clamp_min(1e-30)).clamp(max=2)
                self.doubt[names[parameter]] += STILL.learning_rate * share

        adam.optimiser.register_step_pre_hook(look)
        return adam

    def check(self, *moved: nn.Module, unmoved: Sequence[str] = ()) -> None:
        """That modules of ours are what the reference's are, but for what is `unmoved` by any loss."""
        theirs = dict(self.theirs.named_parameters())
        expected, doubt = (
            laid_out(self.ours, values, self.copy_into) for values in (theirs, self.doubt)
        )
        parameters = {p for module in moved for p in module.parameters()}
        assert parameters <= set(self.ours.parameters())
        certain = []
        for name, parameter in self.ours.named_parameters():
            if parameter in parameters and name not in unmoved:
                off = (parameter - expected[name]).abs()
                assert (off <= CLOSE + doubt[name]).all(), f"{name}: off by up to {off.max():g}"
                certain.append((doubt[name] < 0.05 * STILL.learning_rate).flatten())
        assert torch.cat(certain).float().mean() > 0.8  # or nothing would have been compared


# -- HRLF --------------------------------------------------------------------------------------


def test_the_teachers_loss_and_gradients_are_the_references(split):
    ours, theirs = two_hrlfs(split)
    (step,) = ours.stages()[0].steps
    batch = next(batches(split)).complete
    mine, view = ours.teacher(batch), theirs.teacher(batch)
    assert_close(mine.logits, view.logits, "logits")
    for scale, their_scale in zip(mine.scales, view.scales, strict=True):
        assert_close(scale, their_scale, "scale")
    assert_step(
        ours,
        step,
        step.loss(mine, batch, random()),
        theirs,
        hrlf.teacher_loss(theirs, view, batch),
    )


def test_the_students_losses_and_gradients_are_the_references(split):
    ours, theirs = two_hrlfs(split)
    tell_apart, learn = ours.stages()[1].steps
    batch = given(ours, next(batches(split)))
    with torch.no_grad():
        teacher = theirs.teacher(batch.complete)
    mine, student = ours.student(batch), theirs.student(batch)
    assert_close(batch.given.logits, teacher.logits, "the teacher's logits")
    assert_close(mine.logits, student.logits, "logits")
    assert_step(
        ours,
        tell_apart,
        tell_apart.loss(mine, batch, random()),
        theirs,
        hrlf.discriminator_loss(theirs, teacher, student),
    )
    assert_step(
        ours,
        learn,
        learn.loss(mine, batch, random()),
        theirs,
        hrlf.student_loss(theirs, teacher, student, batch, generator()),
    )


def test_two_steps_of_the_teacher_are_the_references(split):
    ours, theirs = two_hrlfs(split)
    (step,) = ours.stages()[0].steps
    update = _Update(step, Alone([ours], []))
    ours.teacher.train()
    trajectory = Trajectory(ours, theirs)
    adam = trajectory.adam(theirs.teacher)
    for pair in batches(split):
        batch = pair.complete
        terms = step.loss(ours.teacher(batch), batch, random())
        update.take(sum(terms.values(), torch.zeros(())), last=True, clip=STILL.clip)
        assert_terms(terms, hrlf.teacher_step(theirs, adam, batch))
    trajectory.check(ours.teacher)


def test_two_steps_of_the_student_are_the_references(split):
    ours, theirs = two_hrlfs(split)
    updates = [_Update(step, Alone([ours], [])) for step in ours.stages()[1].steps]
    trajectory = Trajectory(ours, theirs)
    discriminate = trajectory.adam(theirs.discriminators)
    learn = trajectory.adam(theirs.student, theirs.statistics)
    for pair in batches(split):
        batch = given(ours, pair)
        mine = ours.student(batch)
        terms: dict[str, Tensor] = {}
        for update in updates:
            found = update.step.loss(mine, batch, random())
            update.take(
                sum(found.values(), torch.zeros(())), last=update is updates[-1], clip=STILL.clip
            )
            terms |= found
        assert_terms(terms, hrlf.student_step(theirs, discriminate, learn, batch, generator()))
    trajectory.check(ours.student, ours.statistics, ours.discriminators)


# -- Late fusion -------------------------------------------------------------------------------


def test_late_fusion_is_the_references(split):
    ours, theirs = two_late_fusions(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    batch = next(batches(split))
    mine, logits = ours(batch), theirs(batch)
    assert_close(mine, logits, "logits")
    terms = late_fusion.loss(logits, batch)
    assert_step(ours, step, step.loss(mine, batch, random()), theirs, terms)


def test_two_steps_of_late_fusion_are_the_references(split):
    ours, theirs = two_late_fusions(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    update = _Update(step, Alone([ours], []))
    trajectory = Trajectory(ours, theirs)
    adam = trajectory.adam(theirs)
    for batch in batches(split):
        terms = step.loss(ours(batch), batch, random())
        update.take(sum(terms.values(), torch.zeros(())), last=True, clip=STILL.clip)
        assert_terms(terms, late_fusion.train_step(theirs, adam, batch))
    trajectory.check(ours)


# -- Dropout -----------------------------------------------------------------------------------

COPIES = 500


def repeated(batch: Batch, rows: slice) -> Batch:
    """Each of the rows `COPIES` times in one batch."""
    features, observed, valid = (
        {m: x[rows].repeat_interleave(COPIES, 0) for m, x in parts.items()}
        for parts in (batch.features, batch.observed, batch.valid)
    )
    return Batch(features, observed, valid)


@pytest.mark.parametrize("where", ["encoders", "output"])
def test_dropout_has_the_references_mean_and_variance(split, where):
    off = (
        {"output_dropout": 0.0}
        if where == "encoders"
        else {"attention_dropout": 0.0, "input_dropout": {}}
    )
    pair = two_late_fusions(split, replace(SCHEDULE, **off))
    batch = repeated(next(batches(split)), slice(1, 5))
    means, variances = [], []
    for model in pair:
        model.train()
        with torch.no_grad():
            out = model.represent(batch) if where == "encoders" else model(batch)
        out = out.double().unflatten(0, (-1, COPIES))  # (rows, copies, features)
        means.append(out.mean(1))
        variances.append(out.var(1))
    ours, theirs = variances
    random = theirs > 0  # not the vector of an absent modality
    assert torch.equal(random, ours > 0) and random.float().mean() > 0.3
    z = (means[0] - means[1])[random] / ((ours + theirs)[random] / COPIES).sqrt()
    assert z.abs().max() < 5
    assert z.square().mean() < 2.5  # 1 but for chance
    assert (ours / theirs)[random].log().mean().abs() < 0.12  # 0.02 of it from p in 256ths
