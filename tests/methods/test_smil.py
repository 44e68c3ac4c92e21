"""plugins/mmbench_methods/smil: reconstruction, perturbation and the bilevel update, each by itself."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec, Schedule
from mmbench.randomness import Random
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench.training import predict, train
from mmbench_methods.smil import SMIL, Encoded
from mmbench_methods.smil.network import Reconstruction, Regularisation, cluster, untouched
from mmbench_missing.msm import MSM

SENTIMENT = Regression(-3, 3)
TASKS = [SENTIMENT, MultiBinary(("w", "x", "y", "z")), MultiClass(("x", "y", "z"))]
MOSI = {"l": ModalitySpec(50, 300), "a": ModalitySpec(50, 74), "v": ModalitySpec(50, 35)}


def small(make_data, task=SENTIMENT, modalities="lav", **settings) -> tuple[SMIL, Split]:
    data = make_data(task, modalities)
    schedule = Schedule(heads=2, batch_size=8, epochs=1, output_dropout=0.0, attention_dropout=0.0)
    spec = DataSpec(data.name, data.modalities(), task, schedule)
    method = SMIL(spec, width=8, depth=1, hidden=6, clusters=4, **settings)
    nn.init.normal_(method.reconstruct.priors)
    return method, Split(data.splits["train"])


def incomplete(split: Split, rows: int = 6) -> Batch:
    masks = {m: v[:rows].copy() for m, v in split.samples.valid.items()}
    masks["a"][::2] = False  # one modality is missing in some, and some frames of another
    masks["l"][:, ::2] = False
    return split.training_batch(np.arange(rows), masks, paired=True, epoch=1)


def rng(seed: int = 0) -> Random:
    return Random([torch.Generator().manual_seed(seed)])


def test_method_has_the_declared_size():
    method = SMIL(DataSpec("x", MOSI, SENTIMENT, Schedule(heads=10)))
    count = sum(p.numel() for module in method.deployed() for p in module.parameters())
    encoders, noise, head = 167_760, 120 * 121 + 64 * 121, 64 * 121 + 65
    weights = 3 * (64 * (2 * 41 + 1) + 10 * 65)
    assert count == encoders + noise + head + weights == 215_719
    assert abs(count / 220_000 - 1) < 0.05


# -- Priors ------------------------------------------------------------------------------------


def test_clusters_are_where_the_points_are():
    torch.manual_seed(0)
    planted = 20 * torch.randn(5, 3)
    found = cluster(torch.cat([p + 0.01 * torch.randn(30, 3) for p in planted]), 5)
    nearest = torch.cdist(planted.double(), found).amin(1)
    assert (nearest < 0.02).all() and found.dtype == torch.float64


def test_each_centre_is_the_mean_of_the_points_nearest_to_it():
    torch.manual_seed(0)
    points = torch.randn(200, 3)
    centres = cluster(points, 6)
    members: dict[int, list[torch.Tensor]] = {}
    for point in points.double():
        distances = [math.dist(point.tolist(), c.tolist()) for c in centres]
        members.setdefault(int(np.argmin(distances)), []).append(point)
    assert len(members) == 6
    for k, mine in members.items():
        torch.testing.assert_close(centres[k], sum(mine) / len(mine))


def test_clusters_are_always_alike_and_leave_the_global_stream_alone():
    points = torch.randn(40, 3)
    before = torch.random.get_rng_state()
    assert torch.equal(cluster(points, 5), cluster(points, 5))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_fewer_points_than_clusters_are_no_trouble():
    points = torch.tensor([[0.0, 1.0], [2.0, 3.0], [2.0, 3.0]])
    centres = cluster(points, 5)
    assert centres.shape == (5, 2) and torch.cdist(centres, points.double()).amin(1).max() == 0


def test_priors_are_centres_of_the_complete_features_of_samples_that_have_the_modality(make_data):
    method, split = small(make_data)
    method.eval()
    nn.init.zeros_(method.reconstruct.priors)
    masks = {m: v.copy() for m, v in split.samples.valid.items()}
    masks["a"][:20] = False  # four samples have it, of four features each
    batch = split.batch(slice(None), masks)
    with torch.no_grad():
        method.find_priors([batch])
        features = method.front(batch)
    priors = method.reconstruct.priors
    torch.testing.assert_close(priors[1].sort(0)[0], features[20:, 1].sort(0)[0])
    torch.testing.assert_close(priors[0], cluster(features[:, 0], 4).float())
    assert method.stages()[1].prepare == method.find_priors


def test_priors_are_found_once_and_do_not_move_in_training(make_data, monkeypatch):
    method, split = small(make_data)
    valid = Split(make_data().splits["valid"])
    train(method, split, valid, MSM(), 0)
    before = method.reconstruct.priors.clone()
    encoder = copy.deepcopy(method.front.state_dict())
    again = replace(method.stages()[1], prepare=None)
    monkeypatch.setattr(method, "stages", lambda: [again])
    train(method, split, valid, MSM(), 1)
    assert torch.equal(method.reconstruct.priors, before)
    assert not all(torch.equal(encoder[k], v) for k, v in method.front.state_dict().items())


# -- Reconstruction ----------------------------------------------------------------------------


def test_a_reconstruction_lies_in_the_hull_of_the_priors():
    reconstruct = Reconstruction(3, 4, 5, 6)
    nn.init.normal_(reconstruct.priors)
    features = torch.randn(7, 3, 4)
    available = torch.rand(7, 3) < 0.5
    for scale in (1.0, 1e4):  # large enough for softplus to underflow
        weights = reconstruct.weights(scale * features, available)
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(7, 3))
        made = reconstruct(scale * features, available)
        for i in range(7):
            for m in range(3):
                mix = sum(weights[i, m, k] * reconstruct.priors[m, k] for k in range(6))
                expected = scale * features[i, m] if available[i, m] else mix
                torch.testing.assert_close(made[i, m], expected, rtol=1e-4, atol=1e-5)


def test_where_all_weights_underflow_they_are_even():
    reconstruct = Reconstruction(2, 4, 5, 6)
    for net in reconstruct.weigh:
        nn.init.constant_(net[-1].bias, -1e4)
    weights = reconstruct.weights(torch.randn(3, 2, 4), torch.zeros(3, 2, dtype=torch.bool))
    torch.testing.assert_close(weights, torch.full((3, 2, 6), 1 / 6))


def test_weights_are_normalised_softplus_of_the_others_features_and_availability():
    reconstruct = Reconstruction(3, 2, 5, 4)
    features, available = torch.randn(1, 3, 2), torch.tensor([[True, False, False]])
    known = torch.tensor([*features[0, 0].tolist(), 1.0, 0.0, 0.0, 0.0])  # of l, then of v
    raw = F.softplus(reconstruct.weigh[1](known))
    torch.testing.assert_close(
        reconstruct.weights(features, available)[0, 1], raw / raw.sum(), rtol=1e-5, atol=1e-6
    )


def test_what_is_missing_does_not_weigh_in():
    reconstruct = Reconstruction(3, 4, 5, 6)
    nn.init.normal_(reconstruct.priors)
    features, available = torch.randn(5, 3, 4), torch.tensor([[True, False, False]]).expand(5, 3)
    other = features.clone()
    other[:, 1:] = torch.randn(5, 2, 4)
    assert torch.equal(reconstruct(features, available), reconstruct(other, available))


def test_priors_matter_only_where_something_is_missing(make_data):
    method, split = small(make_data)
    method.eval()
    batch = incomplete(split)
    missing = ~batch.available.all(1)
    assert 0 < missing.sum() < len(batch)
    before = method(batch)
    nn.init.normal_(method.reconstruct.priors, std=5.0)
    after = method(batch)
    assert torch.equal(before[~missing], after[~missing])
    assert (before[missing] != after[missing]).all()


# -- Perturbation ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["add", "multiply"])
def test_perturbation_is_softplus_of_the_layer_before_plus_unit_noise(how):
    perturb = Regularisation([3, 2], how)
    before, values = torch.randn(4, 3), torch.randn(4, 2)
    noise = rng(5).randn(4, 2)
    r = before @ perturb.layers[1].weight.T + perturb.layers[1].bias
    for expected, made in (
        (F.softplus(r), perturb(1, before, values)),
        (F.softplus(r + noise), perturb(1, before, values, rng(5))),
    ):
        torch.testing.assert_close(made, values + expected if how == "add" else values * expected)


def test_training_draws_and_a_prediction_does_not(make_data):
    method, split = small(make_data)
    method.train()  # there is no dropout here
    batch = incomplete(split)
    encoded = method.encode(batch)
    inner = [method.meta_loss(encoded, batch, rng(seed))["inner"].item() for seed in (0, 0, 1)]
    assert inner[0] == inner[1] != inner[2]
    assert torch.equal(method(batch), method(batch))


def test_concatenation_and_hidden_layer_are_perturbed(make_data):
    method, _ = small(make_data)
    features = torch.randn(4, 24)
    plain, perturbed = (method.classify(features, how) for how in (untouched, method.perturb))
    assert torch.equal(plain.joint, features)
    assert (perturbed.joint > plain.joint).all()
    hidden = method.classify.hidden(perturbed.joint).relu()
    assert (perturbed.hidden > hidden).all()
    torch.testing.assert_close(perturbed.hidden, method.perturb(1, perturbed.joint, hidden))


# -- The bilevel update ------------------------------------------------------------------------


def meta(make_data, **settings):
    """A method in float64, features of a batch as leaves, and the batch."""
    method, split = small(make_data, **settings)
    method.double().eval()
    batch = incomplete(split)
    generator = torch.Generator().manual_seed(9)
    features = torch.randn(6, 3, 8, dtype=torch.float64, generator=generator)
    complete = torch.randn(3, 24, dtype=torch.float64, generator=generator)
    return method, Encoded(features, complete), batch


def test_meta_losses_are_those_of_a_step_done_by_hand(make_data):
    method, encoded, batch = meta(make_data, inner_rate=0.3, consistency=0.5)
    terms = method.meta_loss(encoded, batch, rng())
    features = method.reconstruct(encoded.features, batch.available).flatten(1)
    noise = rng()

    def noisy(layer, before, values):
        return method.perturb(layer, before, values, noise)

    inner = (method.classify(features[:3], noisy).logits - batch.truth[:3]).square().mean()
    inner.backward(inputs=list(method.classify.parameters()), retain_graph=True)
    stepped = copy.deepcopy(method.classify)
    with torch.no_grad():
        for parameter, old in zip(stepped.parameters(), method.classify.parameters(), strict=True):
            parameter -= 0.3 * old.grad
            assert old.grad.any()  # theta* is not theta
    lacking = stepped(features[3:], method.perturb)
    clean = stepped(encoded.complete, untouched)
    expected = {
        "inner": inner,
        "outer": (lacking.logits - batch.truth[3:]).square().mean(),
        "joint": 0.5 * (lacking.joint - clean.joint).square().mean(),
        "hidden": 0.5 * (lacking.hidden - clean.hidden).square().mean(),
    }
    assert list(terms) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


@pytest.mark.parametrize("second_order", [True, False])
def test_the_outer_gradient_passes_through_the_inner_step(make_data, second_order):
    """Along any direction as finite differences say; without the second order it is not."""
    method, encoded, batch = meta(make_data, inner_rate=0.1, second_order=second_order)

    def outer() -> torch.Tensor:
        return method.meta_loss(encoded, batch, rng())["outer"]

    for name, module in (
        ("phi_c", method.reconstruct.weigh[1]),
        ("phi_r", method.perturb.layers[0]),
        ("theta", method.classify.hidden),
    ):
        parameter = module[-1].weight if name == "phi_c" else module.weight
        (gradient,) = torch.autograd.grad(outer(), parameter)
        start, direction = parameter.data.clone(), torch.randn(parameter.shape, dtype=torch.float64)
        values = []
        for step in (1e-5, -1e-5):
            parameter.data = start + step * direction
            values.append(outer().item())
        parameter.data = start
        exact = (values[0] - values[1]) / 2e-5
        agrees = (gradient * direction).sum().item() == pytest.approx(exact, rel=1e-4)
        assert agrees is second_order, name


def test_psi_of_the_inner_samples_reaches_the_outer_loss_by_theta_alone(make_data):
    """The features of D^m enter the outer loss through theta* only."""
    for second_order in (True, False):
        method, encoded, batch = meta(make_data, second_order=second_order)
        features = encoded.features.requires_grad_()
        terms = method.meta_loss(encoded._replace(features=features), batch, rng())
        (gradient,) = torch.autograd.grad(terms["outer"], features)
        assert gradient[3:].any()
        assert bool(gradient[:3].any()) is second_order


def test_outer_samples_do_not_enter_the_inner_loss(make_data):
    method, encoded, batch = meta(make_data)
    features = encoded.features.requires_grad_()
    terms = method.meta_loss(encoded._replace(features=features), batch, rng())
    (gradient,) = torch.autograd.grad(terms["inner"], features)
    assert gradient[:3].any() and not gradient[3:].any()


def test_clean_features_are_those_of_the_second_half_complete(make_data):
    method, split = small(make_data)
    method.eval()
    batch = incomplete(split)
    encoded = method.encode(batch)
    torch.testing.assert_close(encoded.complete, method.front(batch.complete)[3:].flatten(1))
    torch.testing.assert_close(encoded.features, method.front(batch))


# -- The method --------------------------------------------------------------------------------


def test_every_module_learns(make_data):
    method, split = small(make_data)
    batch = incomplete(split)
    terms = method.meta_loss(method.encode(batch), batch, rng())
    (step,) = method.stages()[1].steps
    torch.stack(list(terms.values())).sum().backward()
    assert {id(p) for m in step.updates for p in m.parameters()} == set(
        map(id, method.parameters())
    )
    for name, module in method.named_modules():
        own = list(module.parameters(recurse=False))
        if "weigh.0" in name or "weigh.2" in name:
            continue  # l and v are there in every sample
        assert not own or any(p.grad is not None and p.grad.any() for p in own), name


def test_pretraining_is_plain_and_complete(make_data):
    method, split = small(make_data)
    stage = method.stages()[0]
    assert stage.data == "complete"
    batch = split.batch(slice(None))
    expected = method.classify(method.front(batch).flatten(1), untouched).logits
    assert stage.predict == stage.forward == method.plain
    torch.testing.assert_close(method.plain(batch), expected)
    updated = {id(p) for m in stage.steps[0].updates for p in m.parameters()}
    psi = [*method.reconstruct.parameters(), *method.perturb.parameters()]
    assert not updated & {id(p) for p in psi}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("modalities", ["la", "lavx"])
def test_every_task_trains_with_any_number_of_modalities(make_data, task, modalities):
    method, split = small(make_data, task, modalities)
    data = make_data(task, modalities)
    logs = train(method, split, Split(data.splits["valid"]), MSM(), 0)
    assert [log.stage for log in logs] == ["pretrain", "meta"]
    assert set(logs[1].history[0]["loss"]) == {"inner", "outer", "joint", "hidden"}
    assert all(math.isfinite(log.history[0]["valid"]) for log in logs)
    outputs = predict(method, Split(data.splits["test"]), [None])[0]
    assert outputs.shape == (10, task.n_out) and np.isfinite(outputs).all()
    assert method.represent(split.batch(slice(0, 3))).shape == (3, 8 * len(modalities))


def test_a_batch_of_one_is_both_halves(make_data):
    method, split = small(make_data)
    batch = incomplete(split, rows=1)
    terms = method.meta_loss(method.encode(batch), batch, rng())
    assert all(value.isfinite() for value in terms.values())


def test_one_modality_is_refused_with_a_reason():
    spec = DataSpec("x", {"l": ModalitySpec(4, 4)}, SENTIMENT)
    assert "at least two" in (SMIL.supports(spec) or "")
    assert SMIL.supports(DataSpec("x", MOSI, SENTIMENT)) is None
