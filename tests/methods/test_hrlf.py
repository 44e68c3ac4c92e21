"""plugins/mmbench_methods/hrlf: each equation against a plain statement, and the numbers of the paper."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec, Schedule
from mmbench.nn import mutual_information
from mmbench.randomness import Random
from mmbench.settings import hyperparameters, parse
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench_methods.hrlf import HRLF, WithoutFRF, WithoutHAL, WithoutHMI, losses
from mmbench_methods.hrlf.network import Factorisation, View

EMOTIONS = MultiBinary(("happy", "sad", "angry", "neutral"))
SENTIMENT = Regression(-3, 3)
PAPER = {"l": ModalitySpec(20, 300), "a": ModalitySpec(20, 74), "v": ModalitySpec(20, 35)}


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


# -- Parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "depth", "expected"),
    [
        (SENTIMENT, 4, 330_161),
        (EMOTIONS, 4, 331_008),
        (SENTIMENT, 3, 271_001),
        (SENTIMENT, 2, 211_841),
    ],
)
def test_network_has_the_declared_size(task, depth, expected):
    method = HRLF(DataSpec("x", PAPER, task, Schedule(heads=10)), depth=depth)
    assert size(method.student) == size(method.teacher) == expected
    assert size(*method.deployed()) == expected


def test_training_networks_have_the_declared_size():
    method = HRLF(DataSpec("x", PAPER, EMOTIONS, Schedule(heads=10)))
    assert size(method.statistics) == 86_883
    assert size(method.discriminators) == 43_683
    parts = method.student.factorise
    assert parts is not None
    assert size(parts.sentiment, parts.specific) == 14_760
    assert size(parts.decoder) == 3_280
    assert size(method.student.layers) == 25_920
    assert size(method.student.head) == 968


# -- Factorisation -----------------------------------------------------------------------------


def factorised(modalities: int = 3, batch: int = 4, width: int = 6) -> tuple[Factorisation, View]:
    factorise = Factorisation(modalities, width)
    z = torch.randn(batch, modalities, width)
    q, u = factorise(z)
    return factorise, View(z, q, u, z, (z, z, z), z)


@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_factorisation_losses_are_the_printed_sums(modalities):
    factorise, view = factorised(modalities)
    z, q, u = view.modality, view.sentiment, view.specific
    assert q is not None and u is not None
    n = modalities
    itself = cross = reconstruction = 0.0
    for sample in range(len(z)):
        for a in range(n):
            for b in range(n):
                made = factorise.decoder(torch.cat([q[sample, a], u[sample, b]]))  # Zbar_ab
                term = math.sqrt(((made - z[sample, b]) ** 2).sum().item()) / len(z)
                if a == b:
                    itself += term / n
                else:
                    cross += term / (n * n - n)
                # Qbar_ba = E^S_a(D_r(Q_b, U_a)), compared with Q_a
                back = factorise.decoder(torch.cat([q[sample, b], u[sample, a]]))
                encode = factorise.sentiment  # E^S_a: row a of its weights
                hidden = (encode.widen.weight[a] @ back + encode.widen.bias[a]).relu()
                again = encode.narrow.weight[a] @ hidden + encode.narrow.bias[a]
                reconstruction += (again - q[sample, a]).norm().item() / (n * n * len(z))
    translation, recon = losses.factorisation(factorise, view)
    assert translation.item() == pytest.approx(itself + cross, rel=1e-5)
    assert recon.item() == pytest.approx(reconstruction, rel=1e-5)


def test_self_translation_vanishes_when_the_decoder_inverts():
    factorise, view = factorised()
    assert view.sentiment is not None and view.specific is not None
    z = torch.cat([view.sentiment, view.specific], -1)  # Z = [Q; U] and D_r the identity
    factorise.decoder = nn.Sequential(nn.Identity())
    translation = losses.distance(factorise.translate(view.sentiment, view.specific), z[:, None])
    assert (translation.mean(0).diagonal() < 1e-5).all()


def test_the_norm_has_a_gradient_at_zero():
    x = torch.zeros(2, 3, requires_grad=True)
    losses.distance(x, torch.zeros(2, 3)).sum().backward()
    assert x.grad is not None and (x.grad == 0).all()


def test_stop_gradient_holds_the_targets():
    """Only the target side depends on a leaf here, so its gradient is there without the stop alone."""
    for stop in (False, True):
        factorise, view = factorised()
        target = view.modality.clone().requires_grad_()
        assert view.sentiment is not None and view.specific is not None
        held = view._replace(
            modality=target, sentiment=view.sentiment.detach(), specific=view.specific.detach()
        )
        translation, _ = losses.factorisation(factorise, held, stop_gradient=stop)
        (gradient,) = torch.autograd.grad(translation, target, allow_unused=True)
        assert (gradient is None) is stop


@pytest.mark.parametrize("stop", [False, True])
def test_stop_gradient_keeps_the_losses_from_the_front_end(stop, make_data):
    method, split = small(make_data, stop_gradient=stop)
    view = method.teacher(split.batch(slice(0, 6)))
    pair = losses.factorisation(method.teacher.factorise, view, stop_gradient=stop)
    gradients = torch.autograd.grad(sum(pair), list(method.teacher.parameters()), allow_unused=True)
    moved = {
        name.split(".")[0]
        for (name, _), gradient in zip(method.teacher.named_parameters(), gradients, strict=True)
        if gradient is not None and gradient.any()
    }
    assert moved == ({"factorise"} if stop else {"factorise", "front"})


def test_stop_gradient_changes_no_value():
    factorise, view = factorised()
    torch.testing.assert_close(
        losses.factorisation(factorise, view, stop_gradient=True),
        losses.factorisation(factorise, view, stop_gradient=False),
    )


# -- Mutual information ------------------------------------------------------------------------


def zero(width: int) -> nn.Module:
    """A network whose output is always 0."""
    layer = nn.Linear(width, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def scales(batch: int = 5) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(batch, width) for width in (6, 4, 2))


def test_hmi_of_a_network_that_knows_nothing():
    statistics = [zero(12), zero(8), zero(4)]
    value = mutual_information(statistics, scales(), scales(), Random())
    assert value.item() == pytest.approx(3 * 2 * math.log(2), abs=1e-4)  # 4.1589


def test_hmi_is_the_printed_bound_over_shifted_pairs():
    statistics = [nn.Linear(12, 1), nn.Linear(8, 1), nn.Linear(4, 1)]
    teacher, student = scales(), scales()
    value = mutual_information(
        statistics, teacher, student, Random([torch.Generator().manual_seed(0)])
    ).item()

    def sp(w: float) -> float:
        return math.log(1 + math.exp(w))

    def bound(shift: int) -> float:
        total = 0.0
        for net, x, y in zip(statistics, teacher, student, strict=True):
            n = len(x)
            score = [[net(torch.cat([x[i], y[j]])).item() for j in range(n)] for i in range(n)]
            joint = sum(-sp(-score[i][i]) for i in range(n)) / n
            marginal = sum(-sp(score[i][(i + shift) % n]) for i in range(n)) / n
            total -= joint + marginal
        return total

    assert any(value == pytest.approx(bound(shift), rel=1e-5) for shift in range(1, 5))
    assert value != pytest.approx(bound(0), rel=1e-5)  # a positive is never its own negative


def test_hmi_is_never_negative_and_skips_a_batch_of_one():
    statistics = [nn.Linear(12, 1), nn.Linear(8, 1), nn.Linear(4, 1)]
    for seed in range(5):
        torch.manual_seed(seed)
        assert mutual_information(statistics, scales(), scales(), Random()) >= 0
    assert mutual_information(statistics, scales(1), scales(1), Random()) == 0


# -- Adversary ---------------------------------------------------------------------------------


def test_hal_of_a_discriminator_that_cannot_tell():
    discriminators = [zero(6), zero(4), zero(2)]
    value = losses.adversarial(discriminators, scales(), scales())
    assert value.item() == pytest.approx(6 * math.log(0.5), abs=1e-4)  # -4.1589


def test_hal_is_the_printed_sum():
    discriminators = [nn.Linear(6, 1), nn.Linear(4, 1), nn.Linear(2, 1)]
    teacher, student = scales(), scales()
    expected = sum(
        (torch.log(1 - torch.sigmoid(d(s))) + torch.log(torch.sigmoid(d(t)))).mean()
        for d, t, s in zip(discriminators, teacher, student, strict=True)
    )
    torch.testing.assert_close(losses.adversarial(discriminators, teacher, student), expected)


def test_non_saturating_hal_pushes_the_student_the_same_way():
    discriminators = [nn.Linear(2, 1)]
    teacher = [torch.randn(5, 2)]
    directions = []
    for saturating in (True, False):
        student = torch.ones(5, 2, requires_grad=True)
        loss = losses.adversarial(discriminators, teacher, [student], saturating=saturating)
        (gradient,) = torch.autograd.grad(loss, student)
        directions.append(gradient.sign())
    assert torch.equal(*directions)


def test_non_saturating_hal_has_a_gradient_where_the_student_is_told_apart():
    confident = nn.Linear(1, 1)
    nn.init.constant_(confident.weight, 1.0)
    nn.init.constant_(confident.bias, -20.0)  # D(E^s) is about 2e-9
    sizes = []
    for saturating in (True, False):
        student = torch.zeros(3, 1, requires_grad=True)
        loss = losses.adversarial([confident], [student.detach()], [student], saturating=saturating)
        (gradient,) = torch.autograd.grad(loss, student)
        sizes.append(gradient.abs().sum().item())
    assert sizes[0] < 1e-6 < 0.9 < sizes[1]


def test_a_discriminator_is_no_steeper_than_1(make_data):
    for bounded in (False, True):
        method, _ = small(make_data, spectral_norm=bounded)
        steepest = 0.0
        for network in method.discriminators:
            layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
            width = layers[0].in_features
            for layer in layers:
                torch.nn.init.normal_(layer.weight)
            for _ in range(50):  # the power iteration follows the weights step by step
                network(torch.zeros(1, width))
            x = torch.randn(200, width, requires_grad=True)
            (gradient,) = torch.autograd.grad(network(x).sum(), x)
            steepest = max(steepest, gradient.norm(dim=1).max().item())
        assert (steepest <= 1.01) is bounded


# -- The method --------------------------------------------------------------------------------


def small(make_data, task=SENTIMENT, cls=HRLF, **settings) -> tuple[HRLF, Split]:
    data = make_data(task)
    schedule = Schedule(heads=2, batch_size=8, epochs=1)
    spec = DataSpec(data.name, data.modalities(), task, schedule)
    return cls(spec, width=8, depth=1, **settings), Split(data.splits["train"])


def incomplete(method: HRLF, split: Split, rows: int = 6) -> Batch:
    """A batch of the student's stage, with what the teacher makes of its complete form."""
    masks = {m: v[:rows].copy() for m, v in split.samples.valid.items()}
    masks["a"][:] = False  # one modality is missing, and some frames of another
    masks["l"][:, ::2] = False
    batch = split.training_batch(np.arange(rows), masks, paired=True, epoch=1)
    method.teacher.eval()
    with torch.no_grad():
        return replace(batch, given=method.teach(batch.complete))


def test_total_loss_is_the_sum_of_the_papers_terms(make_data):
    method, split = small(make_data)
    batch = incomplete(method, split)
    terms = method.student_loss(method.student(batch), batch, Random())
    assert set(terms) == {"task", "translation", "reconstruction", "hmi", "hal", "kl"}
    teacher = method.teacher_loss(method.teacher(batch.complete), batch, Random())
    assert set(teacher) == {"task", "translation", "reconstruction"}


def test_teacher_is_frozen_and_sees_complete_data(make_data):
    method, split = small(make_data)
    method.eval()  # as the loop does with what a stage does not update
    batch = incomplete(method, split)
    assert not batch.given.logits.requires_grad and not batch.given.scales[0].requires_grad
    torch.testing.assert_close(batch.given.logits, method.teacher(batch.complete).logits)
    assert not torch.allclose(method.teacher(batch.complete).logits, method.teacher(batch).logits)
    assert method.stages()[1].given == method.teach


def test_every_module_of_the_student_learns_and_the_teacher_does_not(make_data):
    method, split = small(make_data)
    batch = incomplete(method, split)
    terms = method.student_loss(method.student(batch), batch, Random())
    torch.stack(list(terms.values())).sum().backward()
    for name, module in method.student.named_modules():
        # The key's bias moves all scores of a row alike, which softmax does not see: ask each layer.
        own = list(module.parameters(recurse=False))
        assert not own or any(p.grad is not None and p.grad.any() for p in own), name
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.statistics.parameters())


def test_discriminators_step_leaves_the_student_and_the_reverse(make_data):
    method, split = small(make_data)
    batch = incomplete(method, split)
    view = method.student(batch)
    loss = method.discriminator_loss(view, batch, Random())["discriminators"]
    student = list(method.student.parameters())
    assert all(
        g is None for g in torch.autograd.grad(loss, student, allow_unused=True, retain_graph=True)
    )
    _, learn = method.stages()[1].steps
    updated = {id(p) for module in learn.updates for p in module.parameters()}
    assert not updated & {id(p) for p in method.discriminators.parameters()}
    assert not updated & {id(p) for p in method.teacher.parameters()}


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({"frf": False}, {"task", "hmi", "hal", "kl"}),
        ({"hmi": False}, {"task", "translation", "reconstruction", "hal", "kl"}),
        ({"hal": False}, {"task", "translation", "reconstruction", "hmi", "kl"}),
    ],
)
def test_ablations_remove_their_terms(make_data, settings, terms):
    method, split = small(make_data, **settings)
    batch = incomplete(method, split)
    assert set(method.student_loss(method.student(batch), batch, Random())) == terms
    assert len(method.stages()[1].steps) == (2 if settings.get("hal", True) else 1)


@pytest.mark.parametrize(
    ("cls", "name", "setting"),
    [
        (WithoutFRF, "hrlf-no-frf", "frf"),
        (WithoutHMI, "hrlf-no-hmi", "hmi"),
        (WithoutHAL, "hrlf-no-hal", "hal"),
    ],
)
def test_the_ablations_of_table_3_are_the_same_code_with_one_setting_changed(
    cls, name, setting, make_data
):
    assert (cls.name, cls.ablates) == (name, HRLF.name)
    plain = {n: p.default for n, p in hyperparameters(HRLF).items()}
    assert plain[setting] is True
    assert {n: p.default for n, p in hyperparameters(cls).items()} == plain | {setting: False}
    made = []
    for kind, changed in ((cls, {}), (HRLF, {setting: False})):
        torch.manual_seed(0)
        method, split = small(make_data, cls=kind, **changed)
        method.eval()
        made.append((method, method(split.batch(slice(0, 4)))))
    (ablation, first), (configured, second) = made
    assert torch.equal(first, second)
    assert [len(stage.steps) for stage in ablation.stages()] == [
        len(stage.steps) for stage in configured.stages()
    ]
    batch = incomplete(ablation, split)
    terms = [set(m.student_loss(m.student(batch), batch, Random())) for m, _ in made]
    assert terms[0] == terms[1] != {"task", "translation", "reconstruction", "hmi", "hal", "kl"}


def test_the_switches_of_what_the_text_leaves_open_are_settings():
    switches = {"head": "mlp", "saturating": False, "depth": 2, "stop_gradient": False}
    for name, value in switches.items():
        text = str(value).lower()
        for cls in (HRLF, WithoutHAL):
            assert parse([f"{cls.name}.{name}={text}"], {cls.name: cls})[cls.name] == {name: value}


def test_without_factorisation_widths_stay(make_data):
    method, split = small(make_data, frf=False)
    view = method.student(split.batch(slice(0, 3)))
    torch.testing.assert_close(view.scales[0][:, :24], view.modality.flatten(1))


def test_summed_scales_have_the_declared_widths(make_data):
    method, split = small(make_data, scales="sum")
    view = method.student(split.batch(slice(0, 3)))
    assert [scale.shape[1] for scale in view.scales] == [24, 16, 8]
    batch = incomplete(method, split)
    assert method.student_loss(method.student(batch), batch, Random())["hmi"].isfinite()


def test_student_may_start_from_the_teacher(make_data):
    for start, same in (("fresh", False), ("teacher", True)):
        method, _ = small(make_data, student_init=start)
        method.start_student(())
        first = [next(network.parameters()) for network in (method.teacher, method.student)]
        assert torch.equal(*first) is same


@pytest.mark.parametrize("task", [SENTIMENT, EMOTIONS, MultiClass(("x", "y", "z"))])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_every_task_and_head(make_data, task, head):
    method, split = small(make_data, task, head=head)
    batch = incomplete(method, split)
    assert method(batch).shape == (6, task.n_out)
    assert method.represent(batch).shape == (6, 24)
    terms = method.student_loss(method.student(batch), batch, Random())
    assert all(value.isfinite() for value in terms.values())


def test_one_modality_is_refused_with_a_reason():
    spec = DataSpec("x", {"l": ModalitySpec(4, 4)}, SENTIMENT)
    assert "at least two" in (HRLF.supports(spec) or "")
    assert HRLF.supports(DataSpec("x", PAPER, SENTIMENT)) is None
