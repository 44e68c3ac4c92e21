"""plugins/mmbench_methods/corrkd: each equation against a plain statement, and the facts it must keep."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import mmbench
from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec, Schedule
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench.training import predict, train
from mmbench_methods.corrkd import CorrKD, losses
from mmbench_missing.msm import MSM

SENTIMENT = Regression(-3, 3)
EMOTIONS = MultiBinary(("happy", "sad", "angry", "neutral"))
TASKS = [SENTIMENT, EMOTIONS, MultiClass(("x", "y", "z"))]
MOSI = {"l": ModalitySpec(50, 300), "a": ModalitySpec(50, 74), "v": ModalitySpec(50, 35)}


def small(make_data, task=SENTIMENT, modalities="lav", **settings) -> tuple[CorrKD, Split]:
    data = make_data(task, modalities)
    schedule = Schedule(heads=2, batch_size=8, epochs=1)
    spec = DataSpec(data.name, data.modalities(), task, schedule)
    return CorrKD(spec, width=8, depth=1, **settings), Split(data.splits["train"])


def incomplete(method: CorrKD, split: Split, rows: int = 6) -> Batch:
    """A batch of the student's stage, with what the teacher makes of its complete form."""
    masks = {m: v[:rows].copy() for m, v in split.samples.valid.items()}
    masks["a"][:] = False  # one modality is missing, and some frames of another
    masks["l"][:, ::2] = False
    batch = split.training_batch(np.arange(rows), masks, paired=True, epoch=1)
    method.teacher.eval()
    with torch.no_grad():
        return replace(batch, given=method.teacher(batch.complete))


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_network_has_the_declared_size():
    method = CorrKD(DataSpec("x", MOSI, SENTIMENT, Schedule(heads=10)))
    responses = 7 * 121
    assert size(method.student) == size(method.teacher) == 286_080 + 121 + responses  # 287 k
    assert size(*method.deployed()) == 286_080 + 121
    assert size(method.statistics) == 161 + 561


# -- The joint representation ------------------------------------------------------------------


def test_joint_is_the_mean_over_the_frames_that_are_not_padding(make_data):
    method, split = small(make_data)
    method.eval()
    batch = incomplete(method, split)
    joint = method.represent(batch)
    for i in range(len(batch)):
        expected = []
        for m, sequence in method.student.front.sequences(batch).items():
            steps = [t for t in range(6) if batch.valid[m][i, t]]
            steps = steps or [0]  # nothing is seen of it: one empty frame
            expected.append(sum(sequence[i, t] for t in steps) / len(steps))
        torch.testing.assert_close(joint[i], torch.cat(expected))
    assert len(set(batch.valid["l"].sum(1).tolist())) > 1  # lengths differ, or nothing is shown


# -- Categories --------------------------------------------------------------------------------


def test_scores_fall_into_the_nearest_whole_one():
    scores = torch.tensor([[-3.0], [-2.5], [-0.4], [0.0], [0.5], [0.6], [1.5], [2.8], [3.0]])
    category = losses.categorise(SENTIMENT, scores, 7)
    expected = np.rint(np.clip(scores[:, 0].numpy(), -3, 3)) + 3
    assert category.tolist() == expected.tolist()


def test_scores_of_any_range_have_even_levels():
    scores = torch.linspace(0, 1, 11)[:, None]
    assert losses.categorise(Regression(0, 1), scores, 3).tolist() == [0] * 3 + [1] * 5 + [2] * 3
    odd = losses.categorise(Regression(0.25, 1.75), torch.linspace(0.25, 1.75, 50)[:, None], 4)
    assert sorted(set(odd.tolist())) == [0, 1, 2, 3]


def test_labels_fall_into_the_first_that_holds_or_into_none():
    targets = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
    assert losses.categorise(EMOTIONS, targets, 7).tolist() == [1, 2, 4, 0]
    assert losses.category_count(EMOTIONS, 7) == 5


def test_classes_are_categories():
    assert losses.categorise(TASKS[2], torch.tensor([[2], [0]]), 7).tolist() == [2, 0]
    assert losses.category_count(TASKS[2], 7) == 3


# -- SCD ---------------------------------------------------------------------------------------


def test_scd_is_the_printed_sum():
    student, teacher, eta = torch.randn(5, 3), torch.randn(5, 3), 2.0
    positive = negative = 0.0
    for i in range(5):
        for j in range(5):
            distance = math.dist(student[i].tolist(), teacher[j].tolist())
            if i == j:
                positive += distance**2
            else:
                negative += max(0.0, eta - distance) ** 2
    assert negative > 0
    mean = losses.sample_contrast(student, teacher, eta)
    assert mean.item() == pytest.approx(positive / 5 + negative / 20, rel=1e-4)
    total = losses.sample_contrast(student, teacher, eta, "sum")
    assert total.item() == pytest.approx(positive + negative, rel=1e-4)


def test_scd_is_0_where_samples_agree_and_others_are_further_than_the_margin():
    joint = 10 * torch.eye(4)
    assert losses.sample_contrast(joint, joint, 1.2) == 0


def test_scd_falls_as_a_negative_within_the_margin_moves_away():
    teacher = torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    values = [
        losses.sample_contrast(teacher, torch.tensor([[0.0, 0.0], [x, 0.0]]), 1.2)
        - ((x - 0.5) ** 2) / 2  # without the positive of that sample
        for x in (0.5, 0.7, 0.9)
    ]
    assert values[0] > values[1] > values[2]


def test_scd_has_a_gradient_where_all_samples_coincide_and_for_one():
    for count in (4, 1):
        student = torch.zeros(count, 3, requires_grad=True)
        loss = losses.sample_contrast(student, torch.zeros(count, 3), 1.2)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.isfinite() and gradient.isfinite().all()


def test_scd_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: losses.sample_contrast(s, teacher, 1.5), student)


# -- CPD ---------------------------------------------------------------------------------------


def members_of(category: list[int], count: int) -> torch.Tensor:
    return nn.functional.one_hot(torch.tensor(category), count).float()


def test_cpd_is_the_printed_mean_over_the_categories_of_the_batch():
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    category = [0, 2, 0, 3, 2]  # 1 is missing

    def cosine(joint, i, k):
        rows = [joint[n] for n in range(5) if category[n] == k]
        prototype = sum(rows) / len(rows)
        return (joint[i] @ prototype / joint[i].norm() / prototype.norm()).item()

    expected = np.mean(
        [abs(cosine(student, i, k) - cosine(teacher, i, k)) for i in range(5) for k in (0, 2, 3)]
    )
    loss = losses.prototype_distance(student, teacher, members_of(category, 4))
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_cpd_is_0_iff_similarities_agree():
    student, members = torch.randn(6, 4), members_of([0, 1, 1, 2, 0, 2], 3)
    rotation = torch.linalg.qr(torch.randn(4, 4))[0]
    for alike in (student, 3 * student, student @ rotation):
        assert losses.prototype_distance(student, alike, members).item() < 1e-6
    assert losses.prototype_distance(student, torch.randn(6, 4), members) > 1e-2


def test_cpd_does_not_change_as_the_teacher_turns_or_grows():
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    members = members_of([0, 1, 1, 2, 0, 2], 3)
    rotation = torch.linalg.qr(torch.randn(4, 4))[0]
    torch.testing.assert_close(
        losses.prototype_distance(student, 5 * teacher @ rotation, members),
        losses.prototype_distance(student, teacher, members),
        rtol=1e-4,
        atol=1e-5,
    )


def test_cpd_gradient_passes_through_the_students_prototypes():
    torch.manual_seed(0)
    student = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 3, dtype=torch.float64)
    members = members_of([0, 1, 1, 3, 0], 4).double()
    assert torch.autograd.gradcheck(
        lambda s: losses.prototype_distance(s, teacher, members), student
    )


# -- RCD ---------------------------------------------------------------------------------------


def test_responses_are_parted_at_the_true_category():
    responses = torch.randn(3, 4)
    probability = responses.softmax(-1)
    true, others = losses.decouple(responses, torch.tensor([0, 2, 3]))
    for i, (y, rest) in enumerate([(0, [1, 2, 3]), (2, [0, 1, 3]), (3, [0, 1, 2])]):
        assert true[i].item() == probability[i, y].item()
        assert torch.equal(others[i], probability[i, rest])


def test_rcd_of_a_network_that_knows_nothing(make_data):
    method, split = small(make_data)
    for parameter in method.statistics.parameters():
        nn.init.zeros_(parameter)
    batch = incomplete(method, split)
    terms = method.student_loss(method.student(batch), batch, mmbench.Random())
    assert terms["rcd"].item() == pytest.approx(2 * 2 * math.log(2), abs=1e-4)  # 2.7726


def test_rcd_has_a_network_for_each_part_of_both_responses(make_data):
    method, split = small(make_data)
    batch = incomplete(method, split)
    category = losses.categorise(SENTIMENT, batch.truth, 7)
    student = method.student(batch)
    terms = method.student_loss(student, batch, mmbench.Random([torch.Generator().manual_seed(0)]))
    rng = torch.Generator().manual_seed(0)
    shift = int(torch.randint(1, 6, (), generator=rng))
    expected = 0.0
    for part, net in enumerate(method.statistics):
        mine = losses.decouple(student.responses, category)[part]
        theirs = losses.decouple(batch.given.responses, category)[part]
        for i in range(6):
            joint = net(torch.cat([theirs[i], mine[i]])).item()
            apart = net(torch.cat([theirs[i], mine[(i + shift) % 6]])).item()
            expected += (math.log(1 + math.exp(-joint)) + math.log(1 + math.exp(apart))) / 6
    assert terms["rcd"].item() == pytest.approx(expected, rel=1e-4)


# -- The method --------------------------------------------------------------------------------


def test_total_loss_is_the_sum_of_the_papers_terms(make_data):
    for task, own in ((SENTIMENT, {"category"}), (EMOTIONS, {"category"}), (TASKS[2], set())):
        method, split = small(make_data, task)
        batch = incomplete(method, split)
        terms = method.student_loss(method.student(batch), batch, mmbench.Random())
        assert set(terms) == {"task", "scd", "cpd", "rcd"} | own
        taught = method.task_loss(method.teacher(batch.complete), batch, mmbench.Random())
        assert set(taught) == {"task"} | own


@pytest.mark.parametrize("term", ["scd", "cpd", "rcd"])
def test_ablations_remove_their_term(make_data, term):
    method, split = small(make_data, **{term: False})
    batch = incomplete(method, split)
    terms = method.student_loss(method.student(batch), batch, mmbench.Random())
    assert set(terms) == {"task", "category", "scd", "cpd", "rcd"} - {term}


def test_teacher_is_the_same_network_and_sees_complete_data(make_data):
    method, split = small(make_data)
    method.eval()
    batch = incomplete(method, split)
    assert str(method.teacher) == str(method.student)
    torch.testing.assert_close(batch.given.joint, method.teacher(batch.complete).joint)
    assert not torch.allclose(batch.given.joint, method.teacher(batch).joint)
    assert method.stages()[0].data == "complete" and method.stages()[1].given is method.teacher


def test_teacher_stays_as_it_is_while_it_teaches(make_data, monkeypatch):
    method, split = small(make_data)
    data = make_data()
    first, second = method.stages()
    monkeypatch.setattr(method, "stages", lambda: [second])
    before = copy.deepcopy(method.teacher.state_dict())
    student = copy.deepcopy(method.student.state_dict())
    train(method, split, Split(data.splits["valid"]), MSM(), 0)
    assert all(torch.equal(before[k], v) for k, v in method.teacher.state_dict().items())
    assert not all(torch.equal(student[k], v) for k, v in method.student.state_dict().items())
    assert all(p.grad is None for p in method.teacher.parameters())
    for stage, moved in ((first, [method.teacher]), (second, [method.student, method.statistics])):
        assert list(stage.steps[0].updates) == moved


def test_a_prediction_does_not_touch_the_teacher(make_data):
    method, split = small(make_data)
    batch = split.batch(slice(None))
    method.eval()
    before = method(batch)
    kept = set(method.deployed())
    for module in (method.teacher, method.statistics, method.student.response_head):
        assert module not in kept
        for parameter in module.parameters():
            nn.init.constant_(parameter, math.nan)
    assert torch.equal(method(batch), before)
    assert torch.equal(before, method.student(batch).logits.nan_to_num(7.0))


def test_every_module_of_the_student_learns(make_data):
    method, split = small(make_data)
    batch = incomplete(method, split)
    terms = method.student_loss(method.student(batch), batch, mmbench.Random())
    torch.stack(list(terms.values())).sum().backward()
    for network in (method.student, method.statistics):
        for name, module in network.named_modules():
            own = list(module.parameters(recurse=False))
            assert not own or any(p.grad is not None and p.grad.any() for p in own), name


@pytest.mark.parametrize("term", ["scd", "cpd", "rcd"])
def test_each_distillation_loss_reaches_the_students_front_end(make_data, term):
    method, split = small(make_data)
    batch = incomplete(method, split)
    terms = method.student_loss(method.student(batch), batch, mmbench.Random())
    gradients = torch.autograd.grad(
        terms[term], list(method.student.front.parameters()), allow_unused=True
    )
    assert any(g is not None and g.any() for g in gradients)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("modalities", ["la", "lavx"])
def test_every_task_trains_with_any_number_of_modalities(make_data, task, modalities):
    method, split = small(make_data, task, modalities)
    data = make_data(task, modalities)
    logs = train(method, split, Split(data.splits["valid"]), MSM(), 0)
    assert [log.stage for log in logs] == ["teacher", "student"]
    assert all(math.isfinite(log.history[0]["valid"]) for log in logs)
    outputs = predict(method, Split(data.splits["test"]), [None])[0]
    assert outputs.shape == (10, task.n_out) and np.isfinite(outputs).all()
    assert method.represent(split.batch(slice(0, 3))).shape == (3, 8 * len(modalities))


def test_a_batch_of_one_has_finite_losses(make_data):
    method, split = small(make_data)
    batch = incomplete(method, split, rows=1)
    terms = method.student_loss(method.student(batch), batch, mmbench.Random())
    torch.stack(list(terms.values())).sum().backward()
    assert all(value.isfinite() for value in terms.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
