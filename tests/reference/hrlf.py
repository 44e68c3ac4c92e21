"""HRLF as its equations stand, with the decisions of plugins/mmbench_methods/hrlf.

Letters: B samples, M modalities, d embedding size, k = d/2, scales i = 1, 2, 3, L labels. A list of
tensors has one for each modality or scale.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import Adam, adam
from tests.reference.encoder import Encoders, dense, two_layers

Terms = dict[str, Tensor]


class View(NamedTuple):
    """What a network makes of a batch."""

    z: list[Tensor]
    """Z_m (B, d)."""
    scales: list[Tensor]
    """E_1 = [H; H~] (B, 2Md), E_2 = [I_1; I_3] (B, 4d), E_3 = I_2 (B, d)."""
    logits: Tensor
    """(B, 2L)."""


class Network(nn.Module):
    """Encoders, E^S, E^M and D_r of FRF, the chain 3d-2d-d-2d-3d, a linear head."""

    def __init__(self, spec: DataSpec, width: int, depth: int) -> None:
        super().__init__()
        n, half = len(spec.modalities), width // 2
        self.encoders = Encoders(spec, width, depth)
        self.sentiment = nn.ModuleList(two_layers(width, width, half) for _ in range(n))  # E^S
        self.specific = nn.ModuleList(two_layers(width, width, half) for _ in range(n))  # E^M
        self.decoder = two_layers(width, width, width)  # D_r
        self.layers = nn.ModuleList(
            [
                dense(n * width, 2 * width, relu=True),
                dense(2 * width, width, relu=True),
                dense(width, 2 * width, relu=True),
                dense(2 * width, n * width),
            ]
        )
        self.dropout = nn.Dropout(spec.schedule.output_dropout)
        self.head = dense(n * width, spec.task.n_out)

    def factorise(self, z: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Q_m = E^S_m(Z_m) and U_m = E^M_m(Z_m), each (B, k)."""
        q = [encode(z_m) for encode, z_m in zip(self.sentiment, z, strict=True)]
        u = [encode(z_m) for encode, z_m in zip(self.specific, z, strict=True)]
        return q, u

    def forward(self, batch: Batch) -> View:
        """C_m = [Q_m; U_m], H = [C_1; ...; C_M], then the chain and the head."""
        z = self.encoders(batch)
        q, u = self.factorise(z)
        h = torch.cat([torch.cat(pair, -1) for pair in zip(q, u, strict=True)], -1)  # (B, Md)
        i_1 = F.relu(self.layers[0](h))
        i_2 = F.relu(self.layers[1](i_1))
        i_3 = F.relu(self.layers[2](i_2))
        joint = self.layers[3](i_3)  # H~ (B, Md)
        scales = [torch.cat([h, joint], -1), torch.cat([i_1, i_3], -1), i_2]
        return View(z, scales, self.head(self.dropout(joint)))


class HRLF(nn.Module):
    """Teacher, student and, for each scale, a statistics network T_i and a discriminator D_i."""

    def __init__(self, spec: DataSpec, *, width: int = 40, depth: int = 4) -> None:
        super().__init__()
        full = len(spec.modalities) * width
        hidden, wide = (full, 2 * width, width), (2 * full, 4 * width, width)
        self.teacher = Network(spec, width, depth)
        self.student = Network(spec, width, depth)
        self.statistics = nn.ModuleList(
            two_layers(2 * w, h, 1) for w, h in zip(wide, hidden, strict=True)
        )
        self.discriminators = nn.ModuleList(
            nn.Sequential(
                spectral_norm(dense(w, h, relu=True)), nn.ReLU(), spectral_norm(dense(h, 1))
            )
            for w, h in zip(wide, hidden, strict=True)
        )

    def start_student(self) -> None:
        """The student starts as a copy of the teacher, which is held from now on."""
        self.student.load_state_dict(self.teacher.state_dict())
        self.train()
        self.teacher.eval()


def norm(x: Tensor) -> Tensor:
    """E||x||_2 of x (B, k) over the batch; 1e-12 keeps its gradient finite at 0."""
    return torch.sqrt((x**2).sum(-1) + 1e-12).mean()


def task(logits: Tensor, targets: Tensor) -> Tensor:
    """L_task: the cross-entropy of each label's two logits."""
    return F.cross_entropy(logits.reshape(-1, 2), targets.reshape(-1))


def factorisation(network: Network, view: View) -> Terms:
    """L_FRF = L_trans + L_recon: all pairs of modalities a and b, with Z and the target Q given.

    L_trans = 1/M sum_a E||Zbar_aa - Z_a|| + 1/(M^2 - M) sum_{a != b} E||Zbar_ab - Z_b||,
    L_recon = 1/M^2 sum_{a, b} E||Qbar_ab - Q_b||, Zbar_ab = D_r(Q_a, U_b), Qbar_ab = E^S_b(Zbar_ab).
    """
    z = [z_m.detach() for z_m in view.z]
    q, u = network.factorise(z)
    n = len(z)
    same = cross = reconstruction = torch.zeros(())
    for a in range(n):
        for b in range(n):
            made = network.decoder(torch.cat([q[a], u[b]], -1))
            if a == b:
                same = same + norm(made - z[b])
            else:
                cross = cross + norm(made - z[b])
            reconstruction = reconstruction + norm(network.sentiment[b](made) - q[b].detach())
    return {
        "translation": same / n + cross / (n * n - n),
        "reconstruction": reconstruction / n**2,
    }


def mutual_information(model: HRLF, teacher: View, student: View, rng: torch.Generator) -> Tensor:
    """L_HMI = sum_i E_joint[sp(-T_i(x, y))] + E_marginals[sp(T_i(x, y))], sp = softplus.

    The marginals pair a teacher's row with the student's row a random number of places further.
    """
    shift = int(torch.randint(1, len(teacher.logits), (), generator=rng))
    loss = torch.zeros(())
    for score, x, y in zip(model.statistics, teacher.scales, student.scales, strict=True):
        joint = score(torch.cat([x, y], -1))
        marginals = score(torch.cat([x, y.roll(-shift, 0)], -1))
        loss = loss + F.softplus(-joint).mean() + F.softplus(marginals).mean()
    return loss


def adversarial(model: HRLF, teacher: View, student: list[Tensor]) -> Tensor:
    """L_HAL = sum_i E[log(1 - D_i(E^s_i)) + log D_i(E^t_i)], D_i the sigmoid of a logit."""
    loss = torch.zeros(())
    for logit, real, made in zip(model.discriminators, teacher.scales, student, strict=True):
        # in one call: spectral norm's power iteration goes on by a round at every use
        fooled, known = logit(torch.cat([made, real])).chunk(2)
        loss = loss + F.logsigmoid(-fooled).mean() + F.logsigmoid(known).mean()
    return loss


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """L_KL = KL(teacher || student) over each label's two logits."""
    t, s = (logits.reshape(-1, 2).log_softmax(-1) for logits in (teacher, student))
    return (t.exp() * (t - s)).sum(-1).mean()


def teacher_loss(model: HRLF, view: View, batch: Batch) -> Terms:
    """L_task + L_FRF."""
    return {"task": task(view.logits, batch.truth), **factorisation(model.teacher, view)}


def student_loss(
    model: HRLF, teacher: View, student: View, batch: Batch, rng: torch.Generator
) -> Terms:
    """L_task + L_FRF + L_HMI + L_HAL + L_KL."""
    return {
        "task": task(student.logits, batch.truth),
        **factorisation(model.student, student),
        "hmi": mutual_information(model, teacher, student, rng),
        "hal": adversarial(model, teacher, student.scales),
        "kl": divergence(teacher.logits, student.logits),
    }


def discriminator_loss(model: HRLF, teacher: View, student: View) -> Terms:
    """-L_HAL, with the student held."""
    fixed = [scale.detach() for scale in student.scales]
    return {"discriminators": -adversarial(model, teacher, fixed)}


def teacher_step(model: HRLF, adam: Adam, batch: Batch) -> Terms:
    """One update of the teacher on a complete batch; returns the loss terms."""
    terms = teacher_loss(model, model.teacher(batch), batch)
    adam.step(terms)
    return terms


def student_step(
    model: HRLF, discriminate: Adam, learn: Adam, batch: Batch, rng: torch.Generator
) -> Terms:
    """One update of the discriminators, then one of the student with the statistics networks.

    The batch is incomplete and brings its complete form.
    """
    assert batch.complete is not None
    with torch.no_grad():
        teacher = model.teacher(batch.complete)
    student = model.student(batch)
    apart = discriminator_loss(model, teacher, student)
    discriminate.step(apart)
    terms = student_loss(model, teacher, student, batch, rng)
    learn.step(terms)
    return {**apart, **terms}


class TeacherTrainer:
    """Updates of the teacher."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        self.model = HRLF(spec, **settings)
        self.adam = adam(spec, self.model.teacher)

    def step(self, batch: Batch) -> Terms:
        """One, on a complete batch; returns the loss terms."""
        return teacher_step(self.model, self.adam, batch)


class StudentTrainer:
    """Updates of the student and of what it is measured by."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        self.model = HRLF(spec, **settings)
        self.model.start_student()
        self.discriminate = adam(spec, self.model.discriminators)
        self.learn = adam(spec, self.model.student, self.model.statistics)
        self.rng = torch.Generator()

    def step(self, batch: Batch) -> Terms:
        """One, on an incomplete batch with its complete form; returns the loss terms."""
        return student_step(self.model, self.discriminate, self.learn, batch, self.rng)
