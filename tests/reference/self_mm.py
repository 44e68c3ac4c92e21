"""Self-MM as its equations stand, with the decisions of plugins/mmbench_methods/self_mm, on yes-or-no labels.

Letters: B samples of a batch, N of the training split, M modalities s, L labels; u is the fusion m or one
of the modalities, d its width. A list of tensors has one for the fusion, then one for each modality.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import Adam
from tests.reference.encoder import dense
from tests.reference.packed import last_state

SIZES = ((64, 64), (32, 16), (64, 32))
"""Of text, audio, vision: the LSTM's state and the encoding."""
FUSION = 128
WEIGHT_DECAY = 3e-3
LIMIT = 1.0
"""H: labels are -1 or +1."""
EPSILON = 1e-8


class View(NamedTuple):
    """What the network makes of a batch."""

    features: list[Tensor]
    """F_u (B, d)."""
    outputs: Tensor
    """(B, 2L) of the fusion."""
    unimodal: list[Tensor]
    """(B, L) of each modality: the logit of each label."""


class Encoder(nn.Module):
    """The LSTM's last state, made narrower."""

    def __init__(
        self, width_in: int, hidden: int, width: int, input_dropout: float, dropout: float
    ) -> None:
        super().__init__()
        self.input_dropout = nn.Dropout(input_dropout)
        self.lstm = nn.LSTM(width_in, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.narrow = dense(hidden, width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D) to (B, width)."""
        return self.narrow(self.dropout(last_state(self.lstm, self.input_dropout(x), valid)))


class Branch(nn.Module):
    """F = ReLU(W_1 x) and the prediction W_3 ReLU(W_2 F)."""

    def __init__(self, width_in: int, width: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = dense(width_in, width, relu=True)
        self.hidden = dense(width, width, relu=True)
        self.head = dense(width, n_out)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width_in) to F (B, width) and (B, n_out)."""
        features = F.relu(self.project(self.dropout(x)))
        return features, self.head(F.relu(self.hidden(features)))


class SelfMM(nn.Module):
    """Encoders, a branch for the fusion, one for each modality, and what is remembered."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        schedule, n_labels = spec.schedule, len(spec.task.labels)
        out, widths = schedule.output_dropout, [width for _, width in SIZES]
        self.encoders = nn.ModuleList(
            Encoder(spec.widths[m], *sizes, schedule.input_dropout.get(m, 0.0), out)
            for m, sizes in zip(spec.modalities, SIZES, strict=True)
        )
        self.fusion = Branch(sum(widths), FUSION, spec.task.n_out, out)
        self.branches = nn.ModuleList(Branch(wide, wide, n_labels, out) for wide in widths)
        self.features = [torch.zeros(spec.n_train, wide) for wide in (FUSION, *widths)]
        self.labels = [torch.zeros(spec.n_train, n_labels) for _ in self.features]

    def begin(self, index: Tensor | None, targets: Tensor) -> None:
        """y_u = y, which is -1 or +1, for each u."""
        for own in self.labels:
            own[index] = 2.0 * targets - 1

    def forward(self, batch: Batch) -> View:
        """Everything that the loss and the labels need."""
        encoded = [
            encoder(batch.features[m], batch.valid[m])
            for m, encoder in zip(batch.features, self.encoders, strict=True)
        ]
        fused, outputs = self.fusion(torch.cat(encoded, -1))
        single = [branch(x) for branch, x in zip(self.branches, encoded, strict=True)]
        return View([fused, *(f for f, _ in single)], outputs, [logit for _, logit in single])


def loss(model: SelfMM, view: View, batch: Batch) -> dict[str, Tensor]:
    """L_m + sum_s E[w_s L_s]: cross-entropies, L_s of the probability (1 + y_s) / 2; w_s = tanh|y_s - y_m|."""
    terms = {"task": F.cross_entropy(view.outputs.reshape(-1, 2), batch.truth.reshape(-1))}
    truth, *own = (labels[batch.index] for labels in model.labels)
    for m, logit, y in zip(batch.features, view.unimodal, own, strict=True):
        weight = (y - truth).abs().tanh()
        off = F.binary_cross_entropy_with_logits(logit, (1 + y) / 2, reduction="none")
        terms[f"unimodal_{m}"] = (weight * off).mean()
    return terms


def alpha(features: Tensor, remembered: Tensor, labels: Tensor) -> Tensor | None:
    """(D^n - D^p) / (D^p + eps) of features (B, d), for one label; None without both centres.

    D^p and D^n are distances to the mean of what is remembered (N, d) of positive and of negative labels (N,).
    """
    positive, negative = remembered[labels > 0], remembered[labels < 0]
    if not len(positive) or not len(negative):
        return None
    to_positive = (features - positive.mean(0)).norm(dim=-1)
    to_negative = (features - negative.mean(0)).norm(dim=-1)
    return (to_negative - to_positive) / (to_positive + EPSILON)


@torch.no_grad()
def remember(model: SelfMM, view: View, batch: Batch) -> None:
    """In epoch n from the second on, y_s <- (n-1)/(n+1) y_s + 2/(n+1) y_s^new; then F_u is remembered.

    y_s^new = (alpha_s / alpha_m y_m + y_m + alpha_s - alpha_m) / 2, cut to [-H, H].
    """
    index, n = batch.index, batch.epoch
    assert index is not None
    if n > 1:
        moved = [labels.clone() for labels in model.labels]
        for label in range(model.labels[0].shape[1]):
            fused, *own = (
                alpha(features, remembered, labels[:, label])
                for features, remembered, labels in zip(
                    view.features, model.features, model.labels, strict=True
                )
            )
            for s, alpha_s in enumerate(own, start=1):
                if fused is None or alpha_s is None:
                    continue
                y, old = model.labels[0][index, label], model.labels[s][index, label]
                ratio = alpha_s / (fused + torch.where(fused < 0, -EPSILON, EPSILON))
                new = ((ratio * y + y + alpha_s - fused) / 2).clamp(-LIMIT, LIMIT)
                moved[s][index, label] = (n - 1) / (n + 1) * old + 2 / (n + 1) * new
        model.labels = moved
    for remembered, features in zip(model.features, view.features, strict=True):
        remembered[index] = features


class Trainer:
    """Updates on complete batches; in the first epoch each modality's labels are still the sample's."""

    def __init__(self, spec: DataSpec) -> None:
        schedule = spec.schedule
        self.model = SelfMM(spec)
        self.adam = Adam(
            self.model,
            learning_rate=schedule.learning_rate,
            clip=schedule.clip,
            weight_decay=WEIGHT_DECAY,
        )

    def step(self, batch: Batch) -> None:
        """One update, after which labels move."""
        if batch.epoch == 1:
            self.model.begin(batch.index, batch.truth)
        view = self.model(batch)
        self.adam.step(loss(self.model, view, batch))
        remember(self.model, view, batch)
