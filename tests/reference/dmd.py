"""DMD as its equations stand, with the decisions of plugins/mmbench_methods/dmd.

Letters: B samples, M modalities, T frames after the convolution (of all modalities as many), d embedding
size, L labels. A list of tensors has one for each modality.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import adam
from tests.reference.attention import Crossmodal, Encoder
from tests.reference.encoder import dense, sinusoids

Terms = dict[str, Tensor]


class Residual(nn.Module):
    """x + W_2 drop(relu(W_1 x)), and a linear layer to the logits."""

    def __init__(self, width: int, hidden: int, spec: DataSpec) -> None:
        super().__init__()
        self.first = dense(width, hidden, relu=True)
        self.second = dense(hidden, width)
        self.out = dense(width, spec.task.n_out)
        self.dropout = nn.Dropout(spec.schedule.output_dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, k) to W_1 x, the sum and the logits."""
        inner = self.first(x)
        whole = x + self.second(self.dropout(F.relu(inner)))
        return inner, whole, self.out(whole)


class Graph(nn.Module):
    """w = softmax over pairs (to, from) of e / 8, e = W [z_from; z_to], z = [W logit; W repr]."""

    def __init__(self, n_out: int, width: int, size: int, favoured: list[tuple[int, int]]) -> None:
        super().__init__()
        self.logit = dense(n_out, size)
        self.representation = dense(width, size)
        self.edge = dense(4 * size, 1)
        self.favoured = favoured

    def prior(self, pairs: list[tuple[int, int]]) -> Tensor:
        """softmax of 1 / 0.25 for the favoured pairs and 0 for the others."""
        return torch.softmax(torch.tensor([float(p in self.favoured) for p in pairs]) / 0.25, 0)

    def forward(
        self, pairs: list[tuple[int, int]], logits: list[Tensor], made: list[Tensor]
    ) -> Tensor:
        """(pairs, B)."""
        z = [
            torch.cat([self.logit(y), self.representation(r)], -1)
            for y, r in zip(logits, made, strict=True)
        ]
        edges = [self.edge(torch.cat([z[source], z[to]], -1))[:, 0] for to, source in pairs]
        return torch.softmax(torch.stack(edges) / 8, 0)


class View(NamedTuple):
    """What the losses need."""

    embedded: list[Tensor]
    """x~_m (B, T, d)."""
    exclusive: list[Tensor]
    """s_m (B, T, d)."""
    shared: list[Tensor]
    """c_m (B, T, d)."""
    restored: list[Tensor]
    """x^_m (B, T, d)."""
    again: list[Tensor]
    """s^r_m (B, T, d)."""
    valid: list[Tensor]
    """Bool (B, T)."""
    aligned: list[Tensor]
    """c~_m (B, d)."""
    homogeneous: tuple[list[Tensor], list[Tensor]]
    """Representations and logits on vec(c_m)."""
    heterogeneous: tuple[list[Tensor], list[Tensor]]
    """On h_m."""
    logits_shared: Tensor
    """logit_c (B, 2L)."""
    logits: Tensor
    """(B, 2L)."""


class DMD(nn.Module):
    """Three modalities, ranked: the first, then the last, then the one between."""

    def __init__(self, spec: DataSpec, *, width: int = 40, depth: int = 4) -> None:
        super().__init__()
        schedule, sizes = spec.schedule, list(spec.widths.values())
        n, n_out = len(sizes), spec.task.n_out
        frames = max(spec.lengths.values()) - 2
        wide, flat = (n - 1) * width, frames * width
        self.pairs = [(to, source) for to in range(n) for source in range(n) if to != source]
        self.dropout = nn.ModuleList(
            nn.Dropout(schedule.input_dropout.get(m, 0.0)) for m in spec.modalities
        )
        self.convolution = nn.ModuleList(
            nn.Conv1d(size, width, kernel_size=3, bias=False) for size in sizes
        )
        self.exclusive = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in sizes)
        self.shared = nn.Linear(width, width, bias=False)
        self.decoder = nn.ModuleList(nn.Linear(2 * width, width, bias=False) for _ in sizes)
        for layer in (*self.exclusive, self.shared, *self.decoder):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        for name, size in (("positions", width), ("wide_positions", wide)):
            self.register_buffer(name, sinusoids(frames, size), persistent=False)

        settings: dict[str, Any] = {
            "heads": schedule.heads,
            "dropout": schedule.attention_dropout,
        }
        self.crossmodal = nn.ModuleList(
            Crossmodal(width, depth=depth, **settings) for _ in self.pairs
        )
        self.memory = nn.ModuleList(Encoder(wide, depth=max(depth, 3), **settings) for _ in sizes)
        self.homogeneous = nn.ModuleList(Encoder(width, depth=depth, **settings) for _ in sizes)
        self.exclusive_gate = nn.ModuleList(dense(wide, wide) for _ in sizes)
        self.shared_gate = dense(n * width, n * width)
        self.head = Residual(n * (wide + width), n * (wide + width), spec)

        self.align = nn.ModuleList(dense(flat, width) for _ in sizes)
        self.homogeneous_head = nn.ModuleList(Residual(flat, width, spec) for _ in sizes)
        self.heterogeneous_head = nn.ModuleList(Residual(wide, wide, spec) for _ in sizes)
        self.shared_head = Residual(n * width, n * width, spec)
        taught = [(1, 0), (2, 0)]
        self.homogeneous_graph = Graph(n_out, width, 64, taught)
        self.heterogeneous_graph = Graph(n_out, wide, 32, [*taught, (1, 2)])

    def forward(self, batch: Batch) -> View:
        """Decoupling, the Transformers on both parts, the gated prediction, and what only teaches."""
        embedded, valid = [], []
        for m, (x, own) in enumerate(
            zip(batch.features.values(), batch.valid.values(), strict=True)
        ):
            embedded.append(self.convolution[m](self.dropout[m](x).transpose(1, 2)).transpose(1, 2))
            valid.append(own[:, :-2] | own[:, 1:-1] | own[:, 2:])
        exclusive = [encode(x) for encode, x in zip(self.exclusive, embedded, strict=True)]
        shared = [self.shared(x) for x in embedded]
        restored = [
            decode(torch.cat(both, -1))
            for decode, *both in zip(self.decoder, exclusive, shared, strict=True)
        ]
        again = [encode(x) for encode, x in zip(self.exclusive, restored, strict=True)]

        padding = []
        for own in valid:
            mask = ~own
            mask[mask.all(1), 0] = False
            padding.append(mask)
        h = self.transform(exclusive, padding)
        common = [
            at_last(encode(c + self.positions, mask), mask)
            for encode, c, mask in zip(self.homogeneous, shared, padding, strict=True)
        ]
        joined = torch.cat(common, -1)  # (B, 3d)
        gated = [torch.sigmoid(gate(x)) for gate, x in zip(self.exclusive_gate, h, strict=True)]
        gated.append(torch.sigmoid(self.shared_gate(joined)))

        flat = [c.flatten(1) for c in shared]
        teaching = [head(x) for head, x in zip(self.homogeneous_head, flat, strict=True)]
        other = [head(x) for head, x in zip(self.heterogeneous_head, h, strict=True)]
        return View(
            embedded,
            exclusive,
            shared,
            restored,
            again,
            valid,
            [align(x) for align, x in zip(self.align, flat, strict=True)],
            ([inner for inner, _, _ in teaching], [logits for _, _, logits in teaching]),
            ([whole for _, whole, _ in other], [logits for _, _, logits in other]),
            self.shared_head(joined)[2],
            self.head(torch.cat(gated, -1))[2],
        )

    def transform(self, exclusive: list[Tensor], padding: list[Tensor]) -> list[Tensor]:
        """h_m (B, 2d): s_m asks the other two, and a Transformer reads what it found side by side."""
        placed = [s + self.positions for s in exclusive]
        found: list[list[Tensor]] = [[] for _ in exclusive]
        for transformer, (to, source) in zip(self.crossmodal, self.pairs, strict=True):
            found[to].append(transformer(placed[to], placed[source], padding[source]))
        return [
            at_last(encode(torch.cat(parts, -1) + self.wide_positions, mask), mask)
            for encode, parts, mask in zip(self.memory, found, padding, strict=True)
        ]


def at_last(x: Tensor, padding: Tensor) -> Tensor:
    """x (B, T, d) at the last frame that is no padding."""
    frames = torch.arange(1, padding.shape[1] + 1)
    return x[torch.arange(len(x)), (frames * ~padding).argmax(1)]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Over the last axis, |a|^2 + 1e-6 for |a|^2."""
    lengths = torch.sqrt((a**2).sum(-1) + 1e-6) * torch.sqrt((b**2).sum(-1) + 1e-6)
    return (a * b).sum(-1) / lengths


def task(logits: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each label's two logits."""
    return F.cross_entropy(logits.reshape(-1, 2), targets.reshape(-1))


def margin(aligned: list[Tensor], targets: Tensor) -> Tensor:
    """L_mar: mean over anchors, then positives p and negatives n, of max(0, 0.15 - cos(., p) + cos(., n)).

    Of one label are samples that agree in all of theirs.
    """
    vectors = torch.cat(aligned)
    labels = targets.repeat(len(aligned), 1)
    same = (labels[:, None] == labels).all(-1)
    alike = cosine(vectors[:, None], vectors)
    positive = same & ~torch.eye(len(vectors), dtype=torch.bool)
    hinge = F.relu(0.15 - alike[:, :, None] + alike[:, None, :])  # (anchors, positives, negatives)
    pairs = positive[:, :, None] & ~same[:, None, :]
    count = pairs.sum((1, 2))
    each = (hinge * pairs).sum((1, 2)) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)


def graph(
    unit: Graph, pairs: list[tuple[int, int]], made: list[Tensor], logits: list[Tensor]
) -> Tensor:
    """L_logit + L_reg; the teaching side is held."""
    weights, prior = unit(pairs, logits, made), unit.prior(pairs)
    total = torch.zeros(())
    for w, pi, (to, source) in zip(weights, prior, pairs, strict=True):
        gap = (logits[to] - logits[source].detach()).abs().mean(-1)
        total = total + ((w + pi) * gap).mean() + 10 * (w.mean() - pi) ** 2
    return total


def separation(
    unit: Graph, pairs: list[tuple[int, int]], made: list[Tensor], logits: list[Tensor]
) -> Tensor:
    """L_repr: sum over pairs of E[10 (w + pi) max(0, cos(r_to, r_from))]."""
    weights, prior = unit(pairs, logits, made), unit.prior(pairs)
    total = torch.zeros(())
    for w, pi, (to, source) in zip(weights, prior, pairs, strict=True):
        alike = F.relu(cosine(made[to], made[source].detach()))
        total = total + 10 * ((w + pi) * alike).mean()
    return total


def loss(model: DMD, view: View, batch: Batch) -> Terms:
    """Eight task losses + 0.05 graphs + 0.1 (L_rec + L_cyc) + 0.01 (L_mar + L_ort)."""
    y, pairs = batch.truth, model.pairs
    reconstruction = cycle = orthogonality = torch.zeros(())
    for m, own in enumerate(view.valid):
        x, s, c = view.embedded[m][own], view.exclusive[m][own], view.shared[m][own]
        reconstruction = reconstruction + F.mse_loss(view.restored[m][own], x)
        cycle = cycle + F.mse_loss(view.again[m][own], s)
        orthogonality = orthogonality + F.relu(cosine(s, c)).mean()
    homogeneous = graph(model.homogeneous_graph, pairs, *view.homogeneous)
    heterogeneous = graph(model.heterogeneous_graph, pairs, *view.heterogeneous)
    apart = separation(model.heterogeneous_graph, pairs, *view.heterogeneous)
    return {
        "task": task(view.logits, y),
        "shared": task(view.logits_shared, y),
        "homogeneous": torch.stack([task(x, y) for x in view.homogeneous[1]]).sum(),
        "heterogeneous": torch.stack([task(x, y) for x in view.heterogeneous[1]]).sum(),
        "homogeneous graph": 0.05 * homogeneous,
        "heterogeneous graph": 0.05 * (heterogeneous + apart),
        "reconstruction": 0.1 * reconstruction,
        "cycle": 0.1 * cycle,
        "margin": 0.01 * margin(view.aligned, y),
        "orthogonality": 0.01 * orthogonality,
    }


class Trainer:
    """Updates by one Adam."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        self.model = DMD(spec, **settings)
        self.adam = adam(spec, self.model)

    def step(self, batch: Batch) -> Terms:
        """One update on a complete batch; returns the loss terms."""
        terms = loss(self.model, self.model(batch), batch)
        self.adam.step(terms)
        return terms
