"""plugins/mmbench_methods/gcnet.py: each equation against a plain statement."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import mmbench
from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec, Schedule
from mmbench.nn import Steps
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench.training import train
from mmbench_methods.gcnet import GCNet, GraphNetwork, window
from mmbench_missing.msm import MSM

SENTIMENT = Regression(-3, 3)
TASKS = [SENTIMENT, MultiBinary(("w", "x", "y", "z")), MultiClass(("x", "y", "z"))]
SCHEDULE = Schedule(batch_size=8, epochs=1, output_dropout=0.0)
LEARNING = Schedule(batch_size=8, epochs=20, output_dropout=0.0, learning_rate=1e-2)
MOSI = {"l": ModalitySpec(50, 300), "a": ModalitySpec(50, 74), "v": ModalitySpec(50, 35)}
VALID = torch.tensor(
    [[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0, 0], [1] * 8, [0] * 8], dtype=torch.bool
)


def small(
    make_data, task=SENTIMENT, modalities="lav", schedule=SCHEDULE, **settings
) -> tuple[GCNet, Split]:
    torch.manual_seed(0)
    data = make_data(task, modalities)
    spec = DataSpec(data.name, data.modalities(), task, schedule)
    return GCNet(spec, **{"width": 4, "dropout": 0.0, **settings}), Split(data.splits["train"])


def incomplete(split: Split, rows: int = 6) -> Batch:
    masks = {m: v[:rows].copy() for m, v in split.samples.valid.items()}
    masks["l"][:, ::2] = False
    masks["a"][: rows // 2] = False
    return split.training_batch(np.arange(rows), masks, paired=True, epoch=1)


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()})


# -- Graph -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("past", "future"), [(2, 2), (1, 3), (0, 0), (-1, 1), (2, -1)])
def test_window_has_every_edge_of_past_now_and_future(past, future):
    edges = window(6, past, future)
    assert edges.shape == (3, 6, 6)
    for i in range(6):
        for j in range(6):
            near = j - i <= (future if future >= 0 else 9) and i - j <= (past if past >= 0 else 9)
            expected = [near and j < i, j == i, near and j > i]
            assert edges[:, i, j].tolist() == expected


def graph(past: int = 2, future: int = 2, relations: int = 3) -> GraphNetwork:
    torch.manual_seed(0)
    edges = window(8, past, future)
    return GraphNetwork(edges if relations == 3 else edges.sum(0, keepdim=True), 4, 2, 0.0)


def on_frames(network, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """What a network of packed nodes makes of frames (B, T, D), 0 at padding."""
    steps = Steps.of(valid)
    made: torch.Tensor = steps.padded(network(steps.packed(x), steps))
    return made


@pytest.mark.parametrize("relations", [1, 3])
def test_messages_are_the_printed_sums(relations):
    net, x = graph(2, 1, relations), torch.randn(4, 8, 4)
    weight, bias = net.relational.weight.split(4, 1), net.relational.bias
    own, other = net.neighbours.weight.split(2, 1)
    out = on_frames(net.messages, x, VALID)
    for b in range(4):
        nodes = [int(i) for i in VALID[b].nonzero()]
        hidden = {}
        for i in nodes:
            near = [j for j in nodes if -2 <= j - i <= 1]
            kinds = [[j for j in near if j < i], [i], [j for j in near if j > i]]
            value = weight[0] @ x[b, i] + bias
            for w, kind in zip(weight[1:], kinds if relations == 3 else [near], strict=True):
                if kind:
                    value = value + w @ torch.stack([x[b, j] for j in kind]).mean(0)
            hidden[i] = value
        for i in range(8):
            if i in nodes:
                near = [j for j in nodes if -2 <= j - i <= 1]
                value = own @ hidden[i] + net.neighbours.bias
                value = value + other @ torch.stack([hidden[j] for j in near]).sum(0)
                torch.testing.assert_close(out[b, i], value)
            else:
                assert (out[b, i] == 0).all()


@pytest.mark.parametrize("relations", [1, 3])
def test_messages_reach_two_windows_and_no_further(relations):
    net = graph(1, 2, relations)
    x = torch.randn(1, 8, 4, requires_grad=True)
    out = on_frames(net.messages, x, VALID[2:3])
    for i in range(8):
        (gradient,) = torch.autograd.grad(out[0, i].sum(), x, retain_graph=True)
        reached = [j for j in range(8) if gradient[0, j].any()]
        assert reached == [j for j in range(8) if -2 <= j - i <= 4]


@pytest.mark.parametrize("relations", [1, 3])
def test_padded_nodes_never_influence_real_ones(relations):
    net, x = graph(relations=relations), torch.randn(4, 8, 4)
    other = x.where(VALID[..., None], 9.0)
    assert torch.equal(*(on_frames(net.messages, frames, VALID) for frames in (other, x)))
    assert torch.equal(*(on_frames(net, frames, VALID) for frames in (other, x)))


def test_side_of_padding_does_not_matter():
    net, x = graph(), torch.randn(1, 3, 4)
    outs = []
    for start in (0, 5):
        valid = torch.zeros(1, 8, dtype=torch.bool)
        valid[:, start : start + 3] = True
        padded = torch.zeros(1, 8, 4)
        padded[valid] = x[0]
        outs.append(on_frames(net, padded, valid)[valid])
    torch.testing.assert_close(*outs)


def test_relations_are_three_in_time_and_one_of_speakers(make_data):
    method, _ = small(make_data)
    temporal, speaker = method.graphs
    assert len(temporal.edges) == 3 and len(speaker.edges) == 1
    assert torch.equal(temporal.edges.sum(0), speaker.edges[0])
    # a weight of its own for each relation, and one for the node itself
    assert temporal.relational.in_features == 4 * 8 and speaker.relational.in_features == 2 * 8


def test_graph_network_is_messages_recurrence_matching_and_projection():
    net, x = graph(), torch.randn(4, 8, 4)
    nn.init.normal_(net.match.weight, std=3.0)  # so that scores reach their bounds
    out = on_frames(net, x, VALID)
    joined = torch.cat([x, on_frames(net.messages, x, VALID)], -1)
    states = net.recurrent(joined, VALID)
    for b in range(4):
        s = states[b, VALID[b]]
        expected = torch.zeros(len(s), 6)
        for i in range(len(s)):
            scores = torch.stack([torch.tanh(net.match(s[i]) @ s[j]) for j in range(len(s))])
            mixed = (scores.softmax(0)[:, None] * s).sum(0)
            expected[i] = net.project(mixed).relu()
        torch.testing.assert_close(out[b, VALID[b]], expected)
        assert (out[b, ~VALID[b]] == 0).all()


# -- Losses ------------------------------------------------------------------------------------


def test_reconstruction_is_the_printed_sum_over_what_is_missing(make_data):
    method, split = small(make_data)
    method.scale.measure([split.training_batch(np.arange(24), None)])
    batch = incomplete(split)
    view = method.view(batch)
    terms = method.loss(view, batch, mmbench.Random())
    truth = method.scale(batch.complete.features)
    made = method.reconstruct(view.nodes)
    total, utterances = 0.0, 0
    for b in range(6):
        for t in range(6):
            utterances += int(batch.complete.valid["l"][b, t])
            start = 0
            for m, width in method.spec.widths.items():
                if batch.complete.valid[m][b, t] and not batch.observed[m][b, t]:
                    x = made[b, t, start : start + width]
                    total += ((x - truth[m][b, t]) ** 2).sum().item() / width
                start += width
    assert set(terms) == {"task", "reconstruction"}
    assert terms["reconstruction"].item() == pytest.approx(total / utterances, rel=1e-5)
    assert terms["task"].item() == pytest.approx(
        (view.output - batch.truth).square().mean().item(), rel=1e-5
    )
    half, _ = small(make_data, reconstruction=0.5)
    half.load_state_dict(method.state_dict())
    again = half.loss(half.view(batch), batch, mmbench.Random())
    torch.testing.assert_close(2 * again["reconstruction"], terms["reconstruction"])


def test_complete_input_has_nothing_to_reconstruct(make_data):
    method, split = small(make_data)
    batch = split.training_batch(np.arange(6), None, paired=True)
    assert method.loss(method.view(batch), batch, mmbench.Random())["reconstruction"] == 0


def test_observed_entries_are_not_reconstructed(make_data):
    method, split = small(make_data)
    batch = incomplete(split)
    assert batch.complete is not None
    view = method.view(batch)
    before = method.loss(view, batch, mmbench.Random())["reconstruction"]
    for seen, same in ((True, True), (False, False)):
        changed = {
            m: x + (batch.complete.valid[m] & (batch.observed[m] == seen))[..., None]
            for m, x in batch.complete.features.items()
        }
        other = replace(batch, complete=replace(batch.complete, features=changed))
        after = method.loss(view, other, mmbench.Random())["reconstruction"]
        assert bool(after == before) is same


def test_every_parameter_learns(make_data):
    method, split = small(make_data)
    batch = incomplete(split)
    torch.stack(
        list(method.loss(method.view(batch), batch, mmbench.Random()).values())
    ).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())


# -- Prediction --------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_readout_is_of_the_valid_nodes(make_data, readout):
    method, split = small(make_data, readout=readout)
    batch = incomplete(split)
    view = method.view(batch)
    assert torch.equal(method.represent(batch), view.joint) and view.joint.shape == (6, 10)
    torch.testing.assert_close(view.output, method.head(view.joint))
    for b in range(6):
        nodes = view.nodes[b, batch.valid["l"][b]]
        torch.testing.assert_close(view.joint[b], nodes[-1] if readout == "last" else nodes.mean(0))


def test_a_node_is_there_if_any_modality_is(make_data):
    method, split = small(make_data)
    masks = {m: v & (m == "v") for m, v in split.samples.valid.items()}
    nodes = method.view(split.batch(slice(None), masks)).nodes
    assert torch.equal(nodes.any(-1), split.valid["v"])


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_everything_missing_gives_one_finite_answer(make_data, readout):
    method, split = small(make_data, readout=readout)
    method.eval()
    nothing = {m: np.zeros_like(v) for m, v in split.samples.valid.items()}
    logits = method(split.batch(slice(None), nothing))
    assert logits.isfinite().all() and torch.equal(logits, method.head.bias.expand_as(logits))
    batch = split.training_batch(np.arange(6), {m: v[:6] for m, v in nothing.items()}, paired=True)
    terms = method.loss(method.view(batch), batch, mmbench.Random())
    gradients = torch.autograd.grad(
        sum(terms.values()), list(method.parameters()), allow_unused=True
    )
    assert all(g is None or g.isfinite().all() for g in gradients)


# -- The method --------------------------------------------------------------------------------


def test_size():
    method = GCNet(DataSpec("x", MOSI, SENTIMENT))
    assert size(method) == 1_163_050  # 1.16 M
    assert size(*method.deployed()) == 1_163_050 - size(method.reconstruct)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("modalities", ["la", "lav", "lavx"])
def test_every_task_trains_with_any_number_of_modalities(make_data, task, modalities):
    method, split = small(make_data, task, modalities, dropout=0.5)
    valid = Split(make_data(task, modalities).splits["valid"])
    (log,) = train(method, split, valid, MSM(), 0)
    entry = log.history[0]
    assert np.isfinite(entry["valid"]) and entry["loss"]["reconstruction"] > 0
    assert method(split.batch(slice(0, 3))).shape == (3, task.n_out)
    assert (method.scale.size != 1).all()


def test_it_learns(make_data):
    method, split = small(make_data, schedule=LEARNING, width=8)
    valid = Split(make_data().splits["valid"])
    history = [e["loss"]["task"] for e in train(method, split, valid, MSM(), 0)[0].history]
    assert np.mean(history[-5:]) < 0.75 * history[0]


def test_frames_that_are_not_words_are_refused_with_a_reason():
    spec = DataSpec("x", {"l": ModalitySpec(4, 4), "a": ModalitySpec(9, 4)}, SENTIMENT)
    assert "not l 4, a 9" in (GCNet.supports(spec) or "")
    assert GCNet.supports(DataSpec("x", MOSI, SENTIMENT)) is None
