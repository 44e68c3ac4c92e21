"""plugins/mmbench_methods/dmd: each equation against a plain statement, and what the paper says of its parts."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mmbench
from mmbench.batching import Split
from mmbench.data import DataSpec, ModalitySpec, Samples, Schedule
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench_methods.dmd import DMD, losses
from mmbench_methods.dmd.network import Verdict, pairs

EMOTIONS = MultiBinary(("happy", "sad", "angry", "neutral"))
SENTIMENT = Regression(-3, 3)
TASKS = [SENTIMENT, EMOTIONS, MultiClass(("x", "y", "z"))]
PAPER = {"l": ModalitySpec(50, 300), "a": ModalitySpec(50, 74), "v": ModalitySpec(50, 35)}
NO_RNG = mmbench.Random()


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def small(make_data, task=SENTIMENT, modalities="lav", **settings) -> tuple[DMD, Split]:
    data = make_data(task, modalities)
    schedule = Schedule(heads=2, batch_size=8, epochs=1)
    spec = DataSpec(data.name, data.modalities(), task, schedule)
    torch.manual_seed(0)
    return DMD(spec, **{"width": 4, "depth": 1, **settings}), Split(data.splits["train"])


def complete(split: Split, rows: int = 6):
    return split.training_batch(np.arange(rows), None, epoch=1)


# -- Parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "total", "deployed"), [(4, 2_781_562, 1_994_921), (2, 2_193_082, 1_406_441)]
)
def test_network_has_the_declared_size(depth, total, deployed):
    method = DMD(DataSpec("x", PAPER, SENTIMENT, Schedule(heads=10)), depth=depth)
    assert size(method) == total
    assert size(*method.deployed()) == deployed
    # the estimate counts one more projection of T d = 48 x 40 to d for each modality
    estimate = {4: 3.0e6, 2: 2.42e6}[depth]
    assert total + 3 * (48 * 40 + 1) * 40 == pytest.approx(estimate, rel=0.01)


# -- Decoupling -----------------------------------------------------------------------------------


def test_convolution_is_a_conv1d_without_padding_or_bias(make_data):
    method, split = small(make_data)
    batch = complete(split)
    parts = method.eval().decoupling(batch)
    for number, (m, layer) in enumerate(method.decoupling.convolution.items()):
        x = batch.features[m]
        theirs = nn.Conv1d(x.shape[-1], 4, 3, bias=False)
        theirs.weight.data = layer.weight.data.unflatten(1, (3, -1)).transpose(1, 2)
        expected = theirs(x.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(parts.embedded[number], expected)
        for sample in range(6):
            for t in range(4):
                reads = batch.valid[m][sample, t : t + 3].any()
                assert parts.valid[number, sample, t] == reads
                assert reads or not parts.embedded[number, sample, t].any()


def test_one_encoder_finds_what_is_shared_and_each_modality_has_its_own(make_data):
    method, split = small(make_data)
    parts = method.decoupling(complete(split))
    for number in range(3):
        x = parts.embedded[number]
        torch.testing.assert_close(parts.shared[number], x @ method.decoupling.shared.weight.T)
        own = method.decoupling.exclusive.weight[number]
        torch.testing.assert_close(parts.exclusive[number], x @ own.T)
    assert isinstance(method.decoupling.shared, nn.Linear)  # one module for all modalities


def test_reconstruction_and_cycle_vanish_when_the_decoder_inverts(make_data):
    method, split = small(make_data)
    batch = complete(split)
    before = method.loss(method.view(batch), batch, NO_RNG)
    with torch.no_grad():
        method.decoupling.exclusive.weight.copy_(torch.eye(4).expand(3, 4, 4))
        method.decoder.weight.copy_(torch.eye(4, 8).expand(3, 4, 8))
    after = method.loss(method.view(batch), batch, NO_RNG)
    for term in ("reconstruction", "cycle"):
        assert before[term] > 1e-3 > 1e-10 > after[term]


def test_squared_errors_and_orthogonality_are_means_over_valid_frames():
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    valid = torch.rand(2, 3, 4) < 0.6
    squared = cosine = 0.0
    for m in range(2):
        frames = [(a[m, i, t], b[m, i, t]) for i in range(3) for t in range(4) if valid[m, i, t]]
        squared += sum(F.mse_loss(x, y).item() for x, y in frames) / len(frames)
        cosine += sum(max(0, F.cosine_similarity(x, y, 0).item()) for x, y in frames) / len(frames)
    assert losses.squared(a, b, valid).item() == pytest.approx(squared, rel=1e-5)
    assert losses.orthogonality(a, b, valid).item() == pytest.approx(cosine, rel=1e-4)


def test_orthogonal_and_opposite_parts_cost_nothing_and_aligned_ones_do():
    x = torch.randn(2, 3, 4, 2)
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    turned = torch.stack([-x[..., 1], x[..., 0]], -1)
    assert losses.orthogonality(x, turned, valid).item() == pytest.approx(0, abs=1e-6)
    assert losses.orthogonality(x, -3 * x, valid) == 0
    assert losses.orthogonality(x, 3 * x, valid).item() == pytest.approx(2, rel=1e-3)


# -- Margin ---------------------------------------------------------------------------------------


def plain_margin(aligned: torch.Tensor, labels: torch.Tensor) -> float:
    """For each anchor the mean over its pairs, one after another."""
    vectors, y = aligned.flatten(0, 1), labels.repeat(len(aligned))
    total = anchors = 0.0
    for i in range(len(vectors)):
        positives = [j for j in range(len(y)) if j != i and y[j] == y[i]]
        negatives = [j for j in range(len(y)) if y[j] != y[i]]
        if not positives or not negatives:
            continue
        cos = F.cosine_similarity(vectors[i], vectors, 1)
        terms = [
            max(0.0, (0.15 * (y[i] - y[n]).abs() - cos[p] + cos[n]).item())
            for p in positives
            for n in negatives
        ]
        total += sum(terms) / len(terms)
        anchors += 1
    return total / max(anchors, 1)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_margin_is_the_mean_over_positives_and_negatives(modalities):
    for seed in range(5):
        torch.manual_seed(seed)
        aligned = torch.randn(modalities, 7, 3)
        y = torch.randint(-2, 3, (7,)).float()
        made = losses.margin(aligned, losses.distance(SENTIMENT, y[:, None]))
        assert made.item() == pytest.approx(plain_margin(aligned, y), rel=1e-3, abs=1e-5)


def test_margin_has_the_gradient_of_its_value():
    torch.manual_seed(0)
    aligned = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    distance = losses.distance(SENTIMENT, torch.tensor([[1.0], [1.0], [-2.0], [0.5]])).double()
    assert torch.autograd.gradcheck(lambda x: losses.margin(x, distance), aligned)


def test_margin_is_zero_where_labels_are_apart_or_there_is_nothing_to_compare():
    towards = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    y = torch.tensor([[2.0], [2.0], [-2.0]])
    distance = losses.distance(SENTIMENT, y)
    assert losses.margin(towards.expand(3, 3, 2), distance) == 0  # cos -1, margin 0.6
    assert losses.margin(towards[[0, 2, 1]].expand(3, 3, 2), distance) > 0.5  # the wrong way
    assert losses.margin(torch.randn(3, 3, 2), torch.zeros(3, 3)) == 0  # one label: no negatives
    assert losses.margin(torch.randn(1, 3, 2), 1 - torch.eye(3)) == 0  # no positives


def test_distance_of_scores_is_their_difference_and_of_classes_whether_they_differ():
    scores = torch.tensor([[1.0], [-0.5]])
    assert losses.distance(SENTIMENT, scores).tolist() == [[0, 1.5], [1.5, 0]]
    rows = torch.tensor([[0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
    assert losses.distance(EMOTIONS, rows).tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    classes = torch.tensor([[2], [0], [2]])
    assert losses.distance(TASKS[2], classes).tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


# -- Graphs ---------------------------------------------------------------------------------------


def verdict(batch: int = 5, n_out: int = 2, width: int = 3) -> Verdict:
    return Verdict(torch.randn(3, batch, n_out), torch.randn(3, batch, width))


def test_edges_are_a_softmax_over_pairs_of_teacher_and_learner():
    node = verdict()
    graph = losses.Graph(2, 3, 4, losses.prior([0, 2, 1], only_first=True))
    weights = graph(node)
    assert weights.shape == (6, 5) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(5))
    for sample in range(5):
        z = [
            torch.cat([graph.logit(x[sample]), graph.representation(r[sample])])
            for x, r in zip(*node, strict=True)
        ]
        edges = [graph.edge(torch.cat([z[source], z[to]])).item() / 8 for to, source in pairs(3)]
        torch.testing.assert_close(weights[:, sample], torch.tensor(edges).softmax(0))


def test_priors_are_the_papers():
    """There modalities are ordered text, vision, audio, which is also from strong to weak."""
    for only_first, favoured in ((True, [0, 0, 1, 0, 1, 0]), (False, [0, 0, 1, 0, 1, 1])):
        expected = (torch.tensor(favoured) / 0.25).softmax(0)
        torch.testing.assert_close(losses.prior([0, 1, 2], only_first=only_first), expected)


def test_ranking_is_the_papers_for_text_audio_vision_and_can_be_set(make_data):
    for settings, favoured in (
        ({}, {("a", "l"), ("v", "l"), ("a", "v")}),
        ({"ranking": "v l a"}, {("l", "v"), ("a", "v"), ("a", "l")}),
    ):
        method, _ = small(make_data, **settings)
        prior = method.heterogeneous_graph.prior
        names = [("lav"[to], "lav"[source]) for to, source in pairs(3)]
        assert {n for n, p in zip(names, prior, strict=True) if p > 0.1} == favoured
    with pytest.raises(mmbench.UsageError, match="expected each of l a v once"):
        small(make_data, ranking="l a")


def test_graph_losses_are_the_printed_sums():
    node = verdict()
    weights, prior = torch.rand(6, 5), torch.rand(6)
    logit = apart = regular = 0.0
    for p, (to, source) in enumerate(pairs(3)):
        for b in range(5):
            w = (weights[p, b] + prior[p]).item() / 5
            logit += w * (node.logits[to, b] - node.logits[source, b]).abs().mean().item()
            cos = F.cosine_similarity(
                node.representations[to, b], node.representations[source, b], 0
            )
            apart += 10 * w * max(0.0, cos.item())
        regular += 10 * (weights[p].mean() - prior[p]).item() ** 2
    assert losses.distillation(weights, prior, node).item() == pytest.approx(logit, rel=1e-5)
    assert losses.separation(weights, prior, node).item() == pytest.approx(apart, rel=1e-3)
    assert losses.regulariser(weights, prior).item() == pytest.approx(regular, rel=1e-5)


@pytest.mark.parametrize("loss", [losses.distillation, losses.separation])
def test_the_teaching_side_is_held(loss):
    """Only the edge from 0 to 1 counts: 1 moves, 0 does not."""
    node = verdict()
    moved = node.logits if loss is losses.distillation else node.representations
    moved.requires_grad_()
    if loss is losses.separation:  # alike, so that there is something to push apart
        with torch.no_grad():
            moved[1] = moved[0] + 0.1 * moved[1]
    weights = torch.tensor([float(pair == (1, 0)) for pair in pairs(3)])[:, None].expand(6, 5)
    (gradient,) = torch.autograd.grad(loss(weights, torch.zeros(6), node), moved)
    assert gradient[1].any() and not gradient[0].any() and not gradient[2].any()


def test_learned_edges_send_their_gradient_to_the_graph():
    graph = losses.Graph(2, 3, 4, losses.prior([0, 1, 2], only_first=True))
    losses.graph(graph, verdict(), separate=True).backward()
    assert all(p.grad is not None and p.grad.any() for p in graph.edge.parameters() if p.dim() > 1)


# -- The method -----------------------------------------------------------------------------------


def test_total_loss_has_the_papers_terms_and_weights(make_data):
    method, split = small(make_data)
    batch = complete(split)
    view = method.eval().view(batch)
    terms = method.loss(view, batch, NO_RNG)
    parts, y = view.parts, batch.truth
    seven = [view.shared, *view.homogeneous.logits, *view.heterogeneous.logits]
    assert terms["task"].item() == pytest.approx(F.mse_loss(view.logits, y).item())
    others = terms["shared"] + terms["homogeneous"] + terms["heterogeneous"]
    assert others.item() == pytest.approx(sum(F.mse_loss(x, y).item() for x in seven), rel=1e-5)
    for kind in ("homogeneous", "heterogeneous"):
        unit, node = getattr(method, f"{kind}_graph"), getattr(view, kind)
        weights = unit(node)
        expected = losses.distillation(weights, unit.prior, node)
        expected = expected + losses.regulariser(weights, unit.prior)
        if kind == "heterogeneous":
            expected = expected + losses.separation(weights, unit.prior, node)
        assert terms[f"{kind} graph"].item() == pytest.approx(0.05 * expected.item(), rel=1e-5)
    for name, weight, value in (
        ("reconstruction", 0.1, losses.squared(view.restored, parts.embedded, parts.valid)),
        ("cycle", 0.1, losses.squared(view.again, parts.exclusive, parts.valid)),
        ("margin", 0.01, losses.margin(view.aligned, losses.distance(SENTIMENT, y))),
        ("orthogonality", 0.01, losses.orthogonality(parts.exclusive, parts.shared, parts.valid)),
    ):
        assert value > 0 and terms[name].item() == pytest.approx(weight * value.item(), rel=1e-5)
    assert len(terms) == 10


def test_cycle_encodes_what_was_decoded_from_both_parts(make_data):
    method, split = small(make_data)
    view = method.eval().view(complete(split))
    for m in range(3):
        both = torch.cat([view.parts.exclusive[m], view.parts.shared[m]], -1)
        restored = both @ method.decoder.weight[m].T
        torch.testing.assert_close(view.restored[m], restored)
        own = method.decoupling.exclusive.weight[m]
        torch.testing.assert_close(view.again[m], restored @ own.T)


def test_crossmodal_attention_reads_the_exclusive_parts_only(make_data):
    """Each h depends on its own modality's s and on every other one's, and on no c."""
    method, split = small(make_data)
    parts = method.eval().decoupling(complete(split))
    parts = parts._replace(
        exclusive=parts.exclusive.detach().requires_grad_(),
        shared=parts.shared.detach().requires_grad_(),
    )
    reading = method.fusion(parts)
    for m in range(3):
        by_part = torch.autograd.grad(
            reading.exclusive[m].square().sum(),
            [parts.exclusive, parts.shared],
            allow_unused=True,
            retain_graph=True,
        )
        assert by_part[0].flatten(1).any(1).all() and by_part[1] is None
    own = reading.shared.unflatten(1, (3, -1))  # (B, M, d)
    for m in range(3):
        (gradient,) = torch.autograd.grad(own[:, m].square().sum(), parts.shared, retain_graph=True)
        assert gradient.flatten(1).any(1).tolist() == [m == k for k in range(3)]


def test_padding_of_one_modality_is_not_attended_to(make_data):
    method, split = small(make_data)
    parts = method.eval().decoupling(complete(split))
    seen = torch.ones(3, 6, 4, dtype=torch.bool)
    seen[1, :, 0] = seen[2, :, 2:] = False
    noise = torch.randn(3, 6, 4, 4) * ~seen[..., None]
    before = method.fusion(parts._replace(seen=seen))
    after = method.fusion(
        parts._replace(seen=seen, exclusive=parts.exclusive + noise, shared=parts.shared + noise)
    )
    torch.testing.assert_close(after, before)


def test_heads_say_what_the_spec_says(make_data):
    method, split = small(make_data)
    view = method.eval().view(complete(split))
    flat = view.parts.shared.flatten(2)  # vec(c)
    head = method.homogeneous_head
    for m in range(3):
        inner = flat[m] @ head.first.weight[m].T + head.first.bias[m]
        whole = flat[m] + inner.relu() @ head.second.weight[m].T + head.second.bias[m]
        torch.testing.assert_close(view.homogeneous.representations[m], inner)
        logits = whole @ head.out.weight[m].T + head.out.bias[m]
        torch.testing.assert_close(view.homogeneous.logits[m], logits)
    assert view.heterogeneous.representations.shape == (3, 6, 8)  # as wide as h
    joint = method.represent(complete(split))
    assert joint.shape == (6, 36) and (joint > 0).all() and (joint < 1).all()  # 9d, gated


def test_prediction_needs_neither_decoder_nor_graphs(make_data):
    method, split = small(make_data)
    method.eval()
    batch = complete(split)
    before = method(batch)
    assert torch.equal(before, method.view(batch).logits)
    deployed = {id(p) for module in method.deployed() for p in module.parameters()}
    for name, module in list(method.named_children()):
        if name not in ("decoupling", "fusion"):
            assert not deployed & {id(p) for p in module.parameters()}
            delattr(method, name)
    assert torch.equal(method(batch), before)


def test_every_module_learns(make_data):
    method, split = small(make_data)
    batch = complete(split)
    terms = method.loss(method.view(batch), batch, NO_RNG)
    torch.stack(list(terms.values())).sum().backward()
    for name, module in method.named_modules():
        own = list(module.parameters(recurse=False))
        assert not own or any(p.grad is not None and p.grad.any() for p in own), name


def test_modalities_may_differ_in_length_and_pad_at_the_end():
    shapes = {"text": ModalitySpec(5, 4), "sound": ModalitySpec(9, 3)}
    spec = DataSpec("x", shapes, SENTIMENT, Schedule(heads=2))
    method = DMD(spec, width=4, depth=1).eval()
    rng = np.random.default_rng(0)
    valid = {
        m: np.arange(s.length) < rng.integers(1, s.length + 1, (6, 1)) for m, s in shapes.items()
    }
    features = {
        m: rng.standard_normal((6, s.length, s.width), dtype=np.float32) * valid[m][..., None]
        for m, s in shapes.items()
    }
    split = Split(Samples(tuple("abcdef"), features, valid, np.zeros((6, 1), np.float32)))
    logits = method(split.batch(slice(None)))
    assert logits.shape == (6, 1) and logits.isfinite().all()
    without = {m: v & (m == "sound") for m, v in valid.items()}
    assert not torch.allclose(method(split.batch(slice(None), without)), logits)


def test_what_it_cannot_do_has_a_reason():
    one = DataSpec("x", {"l": ModalitySpec(4, 4)}, SENTIMENT)
    short = DataSpec("x", {"l": ModalitySpec(4, 4), "a": ModalitySpec(2, 4)}, SENTIMENT)
    assert "at least two" in (DMD.supports(one) or "")
    assert "3 frames" in (DMD.supports(short) or "")
    assert DMD.supports(DataSpec("x", PAPER, SENTIMENT)) is None
