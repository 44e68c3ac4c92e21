"""plugins/mmbench_methods/self_mm: labels that the model makes, against plain statements of the equations."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mmbench
from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec, Schedule
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench.training import predict, train
from mmbench_methods.self_mm import SelfMM, View, labels
from mmbench_missing.msm import MSM

SENTIMENT = Regression(-3, 3)
EMOTIONS = MultiBinary(("happy", "sad", "angry", "neutral"))
CLASSES = MultiClass(("x", "y", "z"))
TASKS = [SENTIMENT, EMOTIONS, CLASSES]
PAPER = {"l": ModalitySpec(50, 300), "a": ModalitySpec(50, 74), "v": ModalitySpec(50, 35)}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def small(make_data, task=SENTIMENT, *, modalities="lav", epochs=1, schedule=None, **settings):
    """The method on small data, and the splits it trains and is validated on."""
    data = make_data(task, modalities)
    schedule = schedule or Schedule(batch_size=8, epochs=epochs)
    n_train = len(data.splits["train"])
    spec = DataSpec(data.name, data.modalities(), task, schedule, n_train)
    return SelfMM(spec, width=16, **settings), *(Split(data.splits[n]) for n in ("train", "valid"))


def whole(split: Split, epoch: int = 1) -> Batch:
    return split.training_batch(np.arange(len(split)), None, epoch=epoch)


# -- Signed labels -----------------------------------------------------------------------------


def test_signed_labels_of_each_task():
    scores = torch.tensor([[-3.0], [0.0], [2.0]])
    assert torch.equal(labels.signed(SENTIMENT, scores), scores)
    assert labels.signed(Regression(0, 10), torch.tensor([[5.0], [10.0]])).tolist() == [[0], [5]]
    assert labels.signed(EMOTIONS, torch.tensor([[0, 1, 1, 0]])).tolist() == [[-1, 1, 1, -1]]
    assert labels.signed(CLASSES, torch.tensor([[2], [0]])).tolist() == [[-1, -1, 1], [1, -1, -1]]
    assert [labels.largest(t) for t in (*TASKS, Regression(0, 10))] == [3, 1, 1, 5]
    assert [labels.width(t) for t in TASKS] == [1, 4, 3]


# -- Centres, alpha, the new label -------------------------------------------------------------


def plain_centres(features, own):
    """Means of the rows with positive and with negative labels, of one column of labels."""
    positive = [f for f, y in zip(features, own, strict=True) if y > 0]
    negative = [f for f, y in zip(features, own, strict=True) if y < 0]
    return [sum(rows) / len(rows) for rows in (positive, negative)]


def plain_alpha(row, positive, negative):
    d_p, d_n = (math.dist(row.tolist(), centre.tolist()) for centre in (positive, negative))
    return (d_n - d_p) / (d_p + 1e-8)


def plain_label(y_m, alpha_s, alpha_m, limit):
    new = 0.5 * alpha_s / alpha_m * y_m + 0.5 * (y_m + alpha_s - alpha_m)
    return min(max(new, -limit), limit)


def test_centres_are_means_over_each_sign():
    features, own = torch.randn(9, 4), torch.randn(9, 2)
    own[3] = 0.0  # counts for neither
    positive, negative, both = labels.centres(features, own)
    for column in range(2):
        expected = plain_centres(features, own[:, column])
        torch.testing.assert_close(positive[column], expected[0])
        torch.testing.assert_close(negative[column], expected[1])
    assert both.tolist() == [True, True]


def test_a_centre_without_samples_is_told_and_finite():
    own = torch.stack([torch.ones(5), -torch.ones(5), torch.zeros(5), torch.arange(5) - 2.0], 1)
    positive, negative, both = labels.centres(torch.randn(5, 4), own)
    assert both.tolist() == [False, False, False, True]
    assert positive.isfinite().all() and negative.isfinite().all()


def test_alpha_is_the_printed_ratio_of_distances():
    features, positive, negative = torch.randn(40, 4), torch.randn(2, 4), torch.randn(2, 4)
    alpha = labels.leaning(features, positive, negative)
    for row in range(40):
        for column in range(2):
            expected = plain_alpha(features[row], positive[column], negative[column])
            assert alpha[row, column].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_alpha_grows_towards_the_positive_centre():
    positive, negative = torch.ones(1, 4), -torch.ones(1, 4)
    way = torch.linspace(-0.9, 0.9, 9)[:, None].expand(9, 4)
    alpha = labels.leaning(way, positive, negative)[:, 0]
    assert (alpha.diff() > 0).all() and alpha[4] == 0


def test_the_new_label_is_the_printed_one():
    y, own, fused = torch.randn(50, 1), torch.randn(50, 1), torch.randn(50, 1)
    new = labels.shifted(y, own, fused, 3.0)
    for row in range(50):
        expected = plain_label(y[row].item(), own[row].item(), fused[row].item(), 3.0)
        assert new[row].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_modality_that_leans_as_the_fusion_keeps_the_label():
    y, alpha = torch.randn(50, 1), torch.linspace(-2, 2, 50)[:, None]  # none of them 0
    torch.testing.assert_close(labels.shifted(y, alpha, alpha, 3.0), y.clamp(-3, 3))


def test_the_new_label_is_bounded_and_finite_at_an_alpha_of_zero():
    y = torch.tensor([[0.0], [1.0], [-2.0]])
    for fused in (0.0, -1e-8, 1e-8, 1e-30):
        for own in (0.0, -5.0, 1e6):
            new = labels.shifted(y, torch.full_like(y, own), torch.full_like(y, fused), 3.0)
            assert (new.abs() <= 3).all()  # False for NaN


def test_momentum_starts_with_a_third_and_converges():
    one, zero = torch.ones(()), torch.zeros(())
    assert labels.momentum(one, zero, 2).item() == pytest.approx(1 / 3)
    assert labels.momentum(zero, one, 2).item() == pytest.approx(2 / 3)
    label = torch.tensor(-3.0)
    for epoch in range(2, 60):
        assert labels.momentum(one, one, epoch).item() == pytest.approx(1)  # weights add up to 1
        label = labels.momentum(label, one, epoch)
    assert label.item() == pytest.approx(1, abs=0.01)


# -- The memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_memory_follows_the_plain_algorithm(task):
    """Three epochs of batches: centres, then labels, then features, each sample by itself."""
    n, wide, columns = 12, (5, 3, 4), labels.width(task)
    truth = torch.randn(n, columns).sign() * labels.largest(task)
    memory = labels.Memory(task, n, wide)
    memory.begin(torch.arange(n), truth)
    held = [torch.zeros(n, d) for d in wide]
    own = [truth.clone() for _ in wide]
    for epoch in (1, 2, 3):
        for index in torch.randperm(n).split(5):
            made = [torch.randn(len(index), d) for d in wide]
            memory.update(made, index, epoch)
            if epoch > 1:
                middle = [
                    [plain_centres(f, y[:, c]) for c in range(columns)]
                    for f, y in zip(held, own, strict=True)
                ]
                for at, row in enumerate(index.tolist()):
                    for c in range(columns):
                        alphas = [
                            plain_alpha(f[at], *m[c]) for f, m in zip(made, middle, strict=True)
                        ]
                        for s in (1, 2):
                            y_m = truth[row, c].item()
                            new = plain_label(y_m, alphas[s], alphas[0], labels.largest(task))
                            old = own[s][row, c].item()
                            own[s][row, c] = (epoch - 1) / (epoch + 1) * old + 2 / (epoch + 1) * new
            for f, rows in zip(held, made, strict=True):
                f[index] = rows
        torch.testing.assert_close(memory.labels, torch.stack(own), rtol=1e-3, atol=1e-4)
    for place, f in enumerate(held):
        torch.testing.assert_close(memory.features(place), f)
    assert not torch.equal(memory.labels[1], truth)
    assert torch.equal(memory.labels[0], truth)


@pytest.mark.parametrize("sign", [-1.0, 0.0, 1.0])
def test_labels_stay_where_there_is_no_centre(sign):
    truth = torch.full((6, 1), sign)
    memory = labels.Memory(SENTIMENT, 6, (3, 2))
    memory.begin(torch.arange(6), truth)
    for epoch in (1, 2, 3):
        memory.update([torch.randn(6, 3), torch.randn(6, 2)], torch.arange(6), epoch)
    assert torch.equal(memory.labels, truth.expand(2, 6, 1))


@pytest.mark.parametrize("task", TASKS)
def test_labels_stay_bounded_while_training(make_data, task):
    method, train_split, valid_split = small(make_data, task, epochs=4)
    train(method, train_split, valid_split, MSM(), seed=0)
    truth = labels.signed(task, train_split.targets)
    assert torch.equal(method.memory.labels[0], truth)
    assert not torch.equal(method.memory.labels[1:], truth.expand_as(method.memory.labels[1:]))
    assert (method.memory.labels.abs() <= labels.largest(task)).all()


@pytest.mark.parametrize("task", TASKS)
def test_unimodal_losses_start_in_the_third_epoch(make_data, task):
    method, train_split, valid_split = small(make_data, task, epochs=4)
    (log,) = train(method, train_split, valid_split, MSM(), seed=0)
    for entry in log.history:
        losses = [entry["loss"][f"unimodal_{name}"] for name in "lav"]
        if entry["epoch"] < 3:
            assert losses == [0, 0, 0]
        else:
            assert min(losses) > 0
        assert entry["loss"]["task"] > 0


def test_predicting_writes_nothing(make_data):
    method, train_split, valid_split = small(make_data, epochs=3)
    train(method, train_split, valid_split, MSM(), seed=0)
    before = {name: value.clone() for name, value in method.memory.named_buffers()}
    assert len(before) == 1 + 4 and all(value.any() for value in before.values())
    predict(method, valid_split, [None])
    method.represent(valid_split.batch(slice(None)))
    for name, value in method.memory.named_buffers():
        assert torch.equal(value, before[name]), name


def test_a_batch_without_index_is_not_remembered(make_data):
    method, train_split, _ = small(make_data)
    batch = replace(whole(train_split), index=None)
    with pytest.raises(ValueError, match="only training samples"):
        method.remember(method.view(batch), batch)


# -- The loss ----------------------------------------------------------------------------------


def with_moved_labels(method: SelfMM, split: Split) -> tuple[View, Batch]:
    """A batch of eval mode, whose modalities have labels of their own."""
    method.eval()
    method.begin([whole(split)])
    rows = method.memory.labels[1:]
    rows.copy_((rows + torch.randn_like(rows)).clamp(-1, 1))
    batch = split.training_batch(np.array([4, 1, 7]), None, epoch=3)
    return method.view(batch), batch


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_loss_is_the_weighted_sum(make_data, task, absolute):
    method, split, _ = small(make_data, task, absolute=absolute)
    view, batch = with_moved_labels(method, split)
    terms = method.loss(view, batch, mmbench.Random())
    assert list(terms) == ["task", "unimodal_l", "unimodal_a", "unimodal_v"]
    truth = labels.signed(task, batch.truth)
    for place, name in enumerate("lav"):
        expected = []
        for at, row in enumerate((4, 1, 7)):
            for c in range(labels.width(task)):
                score = view.unimodal[place][at, c].item()
                own = method.memory.labels[1 + place, row, c].item()
                if task == SENTIMENT:
                    off = abs(score - own) if absolute else (score - own) ** 2
                else:
                    p, yes = 1 / (1 + math.exp(-score)), (1 + own) / 2
                    off = -yes * math.log(p) - (1 - yes) * math.log(1 - p)
                expected.append(math.tanh(abs(own - truth[at, c].item())) * off)
        assert terms[f"unimodal_{name}"].item() == pytest.approx(np.mean(expected), rel=1e-4)
    if task == SENTIMENT and absolute:
        torch.testing.assert_close(terms["task"], F.l1_loss(view.outputs, batch.truth))
    else:
        torch.testing.assert_close(terms["task"], task.loss(view.outputs, batch.truth))


def test_every_module_learns_from_the_loss_and_the_labels_do_not(make_data):
    method, split, _ = small(make_data)
    view, batch = with_moved_labels(method, split)
    assert not method.memory.labels.requires_grad
    terms = method.loss(view, batch, mmbench.Random())
    torch.stack(list(terms.values())).sum().backward()
    for name, module in method.named_modules():
        own = list(module.parameters(recurse=False))
        assert not own or any(p.grad is not None and p.grad.any() for p in own), name


@pytest.mark.parametrize(
    ("term", "reached"),
    [
        ("task", {"encoders.l", "encoders.a", "encoders.v", "fusion"}),
        ("unimodal_a", {"encoders.a", "branches.1"}),
    ],
)
def test_what_a_term_of_the_loss_reaches(make_data, term, reached):
    method, split, _ = small(make_data)
    view, batch = with_moved_labels(method, split)
    loss = method.loss(view, batch, mmbench.Random())[term]
    gradients = torch.autograd.grad(loss, list(method.parameters()), allow_unused=True)
    moved = [
        name
        for (name, _), g in zip(method.named_parameters(), gradients, strict=True)
        if g is not None and g.any()
    ]
    assert all(any(name.startswith(part) for part in reached) for name in moved)
    assert all(any(name.startswith(part) for name in moved) for part in reached)


# -- The method --------------------------------------------------------------------------------


def test_size_is_the_declared_one():
    method = SelfMM(DataSpec("x", PAPER, SENTIMENT))
    assert size(method) == 182_340  # 0.18 M
    assert size(*method.deployed()) == 171_249
    assert size(method.encoders["l"]) == 97_856  # LSTM 4h(i + h) + 8h, and 64 to 64
    assert size(method.fusion) == 31_105
    assert size(method.branches) == 8_385 + 561 + 2_145


def test_it_trains_on_complete_data(make_data):
    method, _, _ = small(make_data)
    (stage,) = method.stages()
    assert stage.data == "complete"


@pytest.mark.parametrize("modalities", ["la", "lav", "lavx"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_and_number_of_modalities_trains(make_data, task, modalities):
    method, train_split, valid_split = small(make_data, task, modalities=modalities)
    (log,) = train(method, train_split, valid_split, MSM(), seed=0)
    assert math.isfinite(log.history[0]["valid"])
    batch = valid_split.batch(slice(None))
    assert method(batch).shape == (12, task.n_out)
    assert method.represent(batch).shape == (12, 16)


def test_an_encoder_reads_the_valid_frames_of_its_own_modality(make_data):
    method, split, _ = small(make_data)
    method.eval()
    split.valid["v"][0, -2:] = False  # padding at both ends, and not where the others have it
    masks = {m: v.numpy().copy() for m, v in split.valid.items()}
    masks["a"][:] = False
    masks["l"][:, -1] = False  # a hidden frame is read as zeros
    batch = split.batch(slice(None), masks)
    encoded = method.encoders(batch)
    for place, (name, encoder) in enumerate(method.encoders.items()):
        cell = encoder.lstm.forwards[0]
        for row in range(len(batch)):
            frames = batch.features[name][row][batch.valid[name][row]]
            state = cell(frames[None])[0][0, -1] if len(frames) else torch.zeros(cell.hidden_size)
            torch.testing.assert_close(encoded[place][row], encoder.narrow(state))


def test_dropout_is_where_the_schedule_says(make_data):
    for schedule, places in (
        (Schedule(output_dropout=0.0, input_dropout={"a": 0.5}), "a"),
        (Schedule(output_dropout=0.5), "lav"),
        (Schedule(output_dropout=0.0), ""),
    ):
        method, split, _ = small(make_data, schedule=schedule)
        batch = split.batch(slice(None))
        once, again = (method.train(mode).encoders(batch) for mode in (True, False))
        changed = [not torch.equal(*pair) for pair in zip(once, again, strict=True)]
        assert changed == [name in places for name in "lav"]
        for branch in (method.fusion, *method.branches):
            x = torch.randn(8, branch.project.in_features)
            once, again = (branch.train(mode)(x)[0] for mode in (True, False))
            assert torch.equal(once, again) is (schedule.output_dropout == 0)


def test_a_prediction_needs_only_what_is_deployed(make_data):
    method, split, _ = small(make_data)
    method.eval()
    batch = split.batch(slice(None))
    before = method(batch)
    torch.testing.assert_close(method.view(batch).outputs, before)
    del method.branches, method.memory
    assert torch.equal(method(batch), before)


def test_one_modality_is_refused_with_a_reason():
    spec = DataSpec("x", {"l": ModalitySpec(4, 4)}, SENTIMENT)
    assert "at least two" in (SelfMM.supports(spec) or "")
    assert SelfMM.supports(DataSpec("x", PAPER, SENTIMENT)) is None
