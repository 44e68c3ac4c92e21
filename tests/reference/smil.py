"""SMIL as its equations stand, with the decisions of plugins/mmbench_methods/smil: the bilevel update.

Letters: B samples, M modalities, d embedding size, h width of the hidden layer, K clusters.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import Adam
from tests.reference.encoder import Encoders, dense, two_layers

INNER_RATE = 1e-3
CONSISTENCY = 0.01


class Classifier(nn.Module):
    """theta: a hidden layer and outputs."""

    def __init__(self, width_in: int, hidden: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.hidden = dense(width_in, hidden, relu=True)
        self.dropout = nn.Dropout(dropout)
        self.output = dense(hidden, n_out)

    def forward(
        self, features: Tensor, noises: nn.ModuleList | None, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """features (B, M d) to the concatenation, the hidden layer and the logits.

        The first two are perturbed by phi_r, if given: h + softplus(r), r = f(the layer before) + noise
        from `rng`, or without noise.
        """
        joint = features
        if noises is not None:
            joint = joint + F.softplus(noisy(noises[0](features), rng))
        hidden = F.relu(self.hidden(joint))
        if noises is not None:
            hidden = hidden + F.softplus(noisy(noises[1](joint), rng))
        return joint, hidden, self.output(self.dropout(hidden))


def noisy(r: Tensor, rng: torch.Generator | None) -> Tensor:
    """With unit noise from `rng`, if there is one."""
    return r if rng is None else r + torch.randn(r.shape, generator=rng)


class SMIL(nn.Module):
    """Encoders, phi_c with the priors (M, K, d), phi_r and theta."""

    priors: Tensor

    def __init__(
        self, spec: DataSpec, priors: Tensor, *, width: int = 40, depth: int = 2, hidden: int = 64
    ) -> None:
        super().__init__()
        n = len(spec.modalities)
        self.register_buffer("priors", priors)
        self.encoders = Encoders(spec, width, depth)
        self.weigh = nn.ModuleList(
            two_layers((n - 1) * (width + 1), hidden, priors.shape[1]) for _ in range(n)
        )
        self.perturb = nn.ModuleList([dense(n * width, n * width), dense(n * width, hidden)])
        self.classify = Classifier(n * width, hidden, spec.task.n_out, spec.schedule.output_dropout)

    def whole(self, batch: Batch) -> Tensor:
        """Features (B, M d); a missing one is sum_k w_k m_k, w the normalised softplus of phi_c."""
        z, seen = self.encoders(batch), batch.available.float()
        known = [torch.cat([z_m * s, s], -1) for z_m, s in zip(z, seen.split(1, 1), strict=True)]
        parts = []
        for m, net in enumerate(self.weigh):
            others = torch.cat(known[:m] + known[m + 1 :], -1)
            w = F.softplus(net(others)) + 1e-8
            made = (w / w.sum(-1, keepdim=True)) @ self.priors[m]
            parts.append(torch.where(batch.available[:, m, None], z[m], made))
        return torch.cat(parts, -1)

    def forward(self, batch: Batch) -> Tensor:
        """(B, n_out), the perturbation at its mean."""
        logits: Tensor = self.classify(self.whole(batch), self.perturb)[2]
        return logits


def part(batch: Batch, rows: slice) -> Batch:
    """What a network reads of some samples."""
    features, observed, valid = (
        {m: x[rows] for m, x in field.items()}
        for field in (batch.features, batch.observed, batch.valid)
    )
    return Batch(features, observed, valid)


def task(logits: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each label's two logits."""
    return F.cross_entropy(logits.reshape(-1, 2), targets.reshape(-1))


def loss(model: SMIL, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
    """l_in on the first half D^m, and l_out on the second half D^f after theta* = theta - alpha grad l_in.

    l_out = L_task(p_n) + 0.01 (|h1_c - h1_n|^2 + |h2_c - h2_n|^2), n of the incomplete samples and c of
    the same complete.
    """
    assert batch.complete is not None
    half = len(batch) // 2
    features, clean = model.whole(batch), model.whole(part(batch.complete, slice(half, None)))
    _, _, logits = model.classify(features[:half], model.perturb, rng)
    inner = task(logits, batch.truth[:half])
    theta = dict(model.classify.named_parameters())
    gradients = torch.autograd.grad(inner, list(theta.values()), create_graph=True)
    stepped: Mapping[str, Tensor] = {
        name: value - INNER_RATE * gradient
        for (name, value), gradient in zip(theta.items(), gradients, strict=True)
    }
    joint, hidden, logits = functional_call(
        model.classify, stepped, (features[half:], model.perturb)
    )
    joint_c, hidden_c, _ = functional_call(model.classify, stepped, (clean, None))
    return {
        "inner": inner,
        "outer": task(logits, batch.truth[half:]),
        "joint": CONSISTENCY * F.mse_loss(joint, joint_c),
        "hidden": CONSISTENCY * F.mse_loss(hidden, hidden_c),
    }


class Trainer:
    """Updates of the meta stage."""

    def __init__(self, spec: DataSpec) -> None:
        self.model = SMIL(spec, torch.randn(len(spec.modalities), 10, 40))
        schedule = spec.schedule
        self.adam = Adam(self.model, learning_rate=schedule.learning_rate, clip=schedule.clip)
        self.rng = torch.Generator()

    def step(self, batch: Batch) -> None:
        """One."""
        self.adam.step(loss(self.model, batch, self.rng))
