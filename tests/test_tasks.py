"""Tasks: what they accept, lose, decide and fall back to. Losses are restated in plain numpy."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmbench.errors import DataError
from mmbench.tasks import TASKS, MultiBinary, MultiClass, Regression, Task, task_from_dict

SCORE = Regression(-3, 3)
EMOTIONS = MultiBinary(("happy", "sad", "angry", "neutral"))
CLASSES = MultiClass(("low", "middle", "high"))
ALL = [SCORE, EMOTIONS, CLASSES]
each_task = pytest.mark.parametrize("task", ALL, ids=lambda task: task.kind)


def example(task: Task, count: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (N, n_out) and targets (N, L)."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(count, task.n_out)).astype(np.float32)
    if isinstance(task, Regression):
        return outputs, rng.uniform(-3, 3, (count, 1)).astype(np.float32)
    high = 2 if isinstance(task, MultiBinary) else task.n_out
    return outputs, rng.integers(0, high, (count, len(task.labels)))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def grouped(task: Task, outputs: np.ndarray) -> np.ndarray:
    """Logits (N, L, classes of a label)."""
    return outputs.astype(np.float64).reshape(len(outputs), len(task.labels), -1)


def plain_loss(task: Task, outputs: np.ndarray, targets: np.ndarray) -> float:
    if isinstance(task, Regression):
        return float(np.mean((outputs - targets) ** 2))
    log_p = log_softmax(grouped(task, outputs))
    return float(-np.take_along_axis(log_p, targets[..., None], -1).mean())


def plain_divergence(task: Task, teacher: np.ndarray, student: np.ndarray) -> float:
    if isinstance(task, Regression):
        return float(np.mean((teacher - student) ** 2) / 2)
    t, s = log_softmax(grouped(task, teacher)), log_softmax(grouped(task, student))
    return float((np.exp(t) * (t - s)).sum(-1).mean())


@each_task
def test_loss_and_divergence_are_what_numpy_says(task):
    outputs, targets = example(task)
    other, _ = example(task, seed=1)
    assert task.loss(torch.tensor(outputs), torch.tensor(targets)).item() == pytest.approx(
        plain_loss(task, outputs, targets), rel=1e-5
    )
    assert task.divergence(torch.tensor(other), torch.tensor(outputs)).item() == pytest.approx(
        plain_divergence(task, other, outputs), rel=1e-5
    )


@each_task
def test_divergence_is_zero_only_for_equal_outputs(task):
    outputs = torch.tensor(example(task)[0])
    assert task.divergence(outputs, outputs).item() == pytest.approx(0, abs=1e-7)
    other = outputs.clone()
    other[0, 0] += 1
    assert task.divergence(outputs, other).item() > 1e-3
    # a softmax over the one logit of a score would be blind to any difference
    if task.n_out == 1:
        assert (outputs.softmax(-1) == other.softmax(-1)).all()


def test_divergence_of_classes_ignores_what_softmax_ignores():
    outputs = torch.tensor(example(CLASSES)[0])
    assert CLASSES.divergence(outputs, outputs + 3).item() == pytest.approx(0, abs=1e-6)


def test_divergence_of_scores_pulls_by_student_minus_teacher():
    teacher = torch.tensor([[0.5], [-2.0], [1.0], [0.0]])
    student = torch.tensor([[0.0], [1.0], [1.0], [-3.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(SCORE.divergence(teacher, student), student)
    torch.testing.assert_close(gradient * len(teacher), (student - teacher).detach())


@each_task
def test_divergence_is_from_teacher_to_student(task):
    """KL(teacher || student): its gradient with respect to student logits is their difference."""
    teacher = torch.tensor(example(task)[0])
    student = torch.tensor(example(task, seed=1)[0], requires_grad=True)
    (gradient,) = torch.autograd.grad(task.divergence(teacher, student), student)
    t, s = grouped(task, teacher.numpy()), grouped(task, student.detach().numpy())
    if task is not SCORE:
        t, s = np.exp(log_softmax(t)), np.exp(log_softmax(s))
    expected = ((s - t) / (len(t) * len(task.labels))).reshape(len(t), -1)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-6)


def test_decide():
    assert SCORE.decide(np.array([[0.25], [-4]], np.float32)).tolist() == [[0.25], [-4.0]]
    pairs = MultiBinary(("a", "b"))
    assert pairs.decide(np.array([[0, 1, 1, 0], [2, 2, -1, 3]], np.float32)).tolist() == [
        [1, 0],
        [0, 1],
    ]
    assert CLASSES.decide(np.array([[0, 2, 1], [5, 5, 1]], np.float32)).tolist() == [[1], [0]]


@each_task
def test_no_samples_are_fine(task):
    outputs, targets = example(task, 0)
    assert task.check(targets).shape == task.decide(outputs).shape == (0, len(task.labels))


@each_task
def test_constants_have_the_form_of_decisions(task):
    outputs, targets = example(task)
    constants = list(task.constants(targets))
    assert all(constant.shape == task.decide(outputs)[0].shape for constant in constants)
    if task is SCORE:
        assert {-3.0, 0.0, 3.0, float(np.median(targets))} <= {float(c[0]) for c in constants}
        assert {-1, 1} <= {float(np.sign(c[0])) for c in constants if abs(c[0]) < 0.01}
    else:
        choices = 2 if task is EMOTIONS else 3
        assert [set(c.tolist()) for c in constants] == [{k} for k in range(choices)]


@each_task
def test_prior_is_the_best_of_constant_outputs(task):
    """Nudging it any way does not lower the loss (but for the smoothing, which many samples drown)."""
    _, targets = example(task, 4000)
    prior = task.prior(targets)
    assert prior.shape == (task.n_out,)

    def loss(outputs: np.ndarray) -> float:
        return plain_loss(task, np.broadcast_to(outputs, (len(targets), task.n_out)), targets)

    for nudge in np.eye(task.n_out) * 0.05:
        assert loss(prior) < min(loss(prior + nudge), loss(prior - nudge))


def test_prior_of_what_never_happens_is_finite():
    assert np.isfinite(EMOTIONS.prior(np.zeros((5, 4), np.int64))).all()
    assert np.isfinite(CLASSES.prior(np.zeros((5, 1), np.int64))).all()
    assert math.exp(CLASSES.prior(np.zeros((5, 1), np.int64))[0]) == pytest.approx(5.5 / 6.5)


@each_task
def test_a_task_survives_json(task):
    assert task_from_dict(json.loads(json.dumps(task.to_dict()))) == task
    assert TASKS[task.kind] is type(task)


def test_every_task_has_a_headline():
    assert [task.headline for task in ALL] == ["f1", "weighted_f1", "weighted_f1"]


@each_task
def test_check_returns_the_declared_form(task):
    _, targets = example(task)
    checked = task.check(targets.astype(np.float64))
    assert checked.dtype == (np.float32 if task is SCORE else np.int64)
    np.testing.assert_array_equal(checked, targets)
    if task is not EMOTIONS:
        np.testing.assert_array_equal(task.check(targets[:, 0]), targets)
        np.testing.assert_array_equal(task.check(targets[:, None]), targets)


@pytest.mark.parametrize(
    ("task", "targets", "says"),
    [
        (SCORE, np.zeros((4, 2)), "one score per sample, got 2"),
        (SCORE, np.array([0, np.nan, np.inf]), "2 scores are not finite"),
        (SCORE, np.array([0, 3.5]), r"\[-3, 3\], got \[0, 3.5\]"),
        (EMOTIONS, np.zeros((4, 3)), r"shape \(N, 4\), got shape \(4, 3\)"),
        (EMOTIONS, np.full((4, 4), 2), "zeros and ones"),
        (EMOTIONS, np.full((4, 4), np.nan), "zeros and ones"),
        (CLASSES, np.array([0, 3]), "0 ... 2"),
        (CLASSES, np.array([0.5]), "0 ... 2"),
        (CLASSES, np.zeros((4, 2)), "one class number"),
    ],
)
def test_check_refuses(task, targets, says):
    with pytest.raises(DataError, match=says):
        task.check(targets)


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=20))
def test_any_score_in_range_passes(scores):
    np.testing.assert_array_equal(SCORE.check(np.array(scores))[:, 0], np.array(scores, np.float32))
