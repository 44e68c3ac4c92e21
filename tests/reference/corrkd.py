"""CorrKD as its equations stand, with the decisions of plugins/mmbench_methods/corrkd, on yes-or-no labels.

Letters: B samples, M modalities, d embedding size, L labels, K = L + 1 categories: a sample's is its
first label that holds, or the last if none does.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import Adam
from tests.reference.encoder import Encoders, attended, dense, two_layers

Terms = dict[str, Tensor]


class View(NamedTuple):
    """What a network makes of a batch."""

    joint: Tensor
    """H (B, Md)."""
    logits: Tensor
    """(B, 2L)."""
    responses: Tensor
    """Logits of the categories (B, K)."""


class Network(nn.Module):
    """Encoders, the mean over time, a head for the task and one for the categories."""

    def __init__(self, spec: DataSpec, width: int, depth: int) -> None:
        super().__init__()
        full = len(spec.modalities) * width
        self.encoders = Encoders(spec, width, depth)
        self.dropout = nn.Dropout(spec.schedule.output_dropout)
        self.head = dense(full, spec.task.n_out)
        self.response_head = dense(full, len(spec.task.labels) + 1)

    def forward(self, batch: Batch) -> View:
        """H = [mean over t of E_1(t); ...; of E_M(t)], the frames t that are attended to."""
        means = []
        for m, encoder in zip(batch.features, self.encoders, strict=True):
            seen = attended(batch.valid[m])  # (B, T)
            states = encoder.states(batch.features[m], seen)  # (B, T, d)
            means.append((states * seen[..., None]).sum(1) / seen.sum(1, keepdim=True))
        joint = torch.cat(means, -1)
        kept = self.dropout(joint)
        return View(joint, self.head(kept), self.response_head(kept))


class CorrKD(nn.Module):
    """Teacher, student, and a statistics network for each part of the responses."""

    def __init__(
        self, spec: DataSpec, *, width: int = 40, depth: int = 4, margin: float = 1.2
    ) -> None:
        super().__init__()
        self.margin = margin
        self.teacher = Network(spec, width, depth)
        self.student = Network(spec, width, depth)
        others = len(spec.task.labels)
        self.statistics = nn.ModuleList([two_layers(2, width, 1), two_layers(2 * others, width, 1)])


def categories(targets: Tensor) -> Tensor:
    """(B,) of targets (B, L)."""
    category = torch.full((len(targets),), targets.shape[1])
    for label in reversed(range(targets.shape[1])):
        category[targets[:, label].bool()] = label
    return category


def task_loss(view: View, targets: Tensor) -> Terms:
    """L_task, the cross-entropy of each label's two logits, and that of the categories."""
    return {
        "task": F.cross_entropy(view.logits.reshape(-1, 2), targets.reshape(-1)),
        "category": F.cross_entropy(view.responses, categories(targets)),
    }


def sample_contrast(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """L_SCD: the mean over i of D_ii^2, and over i != j of max(0, margin - D_ij)^2.

    D_ij = ||H^s_i - H^t_j||.
    """
    size = len(student)
    distance = (student[:, None] - teacher).norm(dim=-1)  # D (B, B)
    same = torch.eye(size, dtype=torch.bool)
    apart = F.relu(margin - distance[~same]) ** 2
    return (distance[same] ** 2).mean() + apart.mean()


def prototype_distance(student: Tensor, teacher: Tensor, category: Tensor) -> Tensor:
    """L_CPD: the mean over samples i and the batch's categories k of |M^s_ik - M^t_ik|.

    M_ik = cos(H_i, c_k), c_k the mean of H over the samples of category k.
    """
    differences = []
    for k in category.unique():
        of_student, of_teacher = (
            F.cosine_similarity(joint, joint[category == k].mean(0, keepdim=True))  # M_k (B,)
            for joint in (student, teacher)
        )
        differences.append((of_student - of_teacher).abs())
    return torch.stack(differences).mean()


def decouple(responses: Tensor, category: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of the true category (B, 1) and of the others (B, K-1)."""
    probability = responses.softmax(-1)
    true = F.one_hot(category, responses.shape[1]).bool()
    return probability[true][:, None], probability[~true].view(len(responses), -1)


def mutual_information(
    statistics: nn.ModuleList,
    teacher: tuple[Tensor, Tensor],
    student: tuple[Tensor, Tensor],
    rng: torch.Generator,
) -> Tensor:
    """L_RCD = sum over both parts of E_joint[sp(-T(x, y))] + E_marginals[sp(T(x, y))], sp = softplus.

    The marginals pair a teacher's row with the student's row a random number of places further.
    """
    shift = int(torch.randint(1, len(teacher[0]), (), generator=rng))
    loss = torch.zeros(())
    for score, x, y in zip(statistics, teacher, student, strict=True):
        joint = score(torch.cat([x, y], -1))
        marginals = score(torch.cat([x, y.roll(-shift, 0)], -1))
        loss = loss + F.softplus(-joint).mean() + F.softplus(marginals).mean()
    return loss


def student_loss(
    model: CorrKD, teacher: View, student: View, batch: Batch, rng: torch.Generator
) -> Terms:
    """L_task + L_SCD + L_CPD + L_RCD."""
    category = categories(batch.truth)
    return {
        **task_loss(student, batch.truth),
        "scd": sample_contrast(student.joint, teacher.joint, model.margin),
        "cpd": prototype_distance(student.joint, teacher.joint, category),
        "rcd": mutual_information(
            model.statistics,
            decouple(teacher.responses, category),
            decouple(student.responses, category),
            rng,
        ),
    }


class Trainer:
    """The student's updates; its batches are incomplete and bring their complete form."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        schedule = spec.schedule
        self.model = CorrKD(spec, **settings)
        self.model.teacher.eval()
        self.adam = Adam(
            self.model.student,
            self.model.statistics,
            learning_rate=schedule.learning_rate,
            clip=schedule.clip,
        )
        self.rng = torch.Generator()

    def step(self, batch: Batch) -> None:
        """One update."""
        assert batch.complete is not None
        with torch.no_grad():
            teacher = self.model.teacher(batch.complete)
        student = self.model.student(batch)
        self.adam.step(student_loss(self.model, teacher, student, batch, self.rng))
