"""GCNet as its equations stand, with the decisions of plugins/mmbench_methods/gcnet.py.

Letters: B samples, T frames or nodes, D features, R relations, e embedding size, g = e / 2, h = 2e + g.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import Adam
from tests.reference.encoder import dense
from tests.reference.recurrent import run

WINDOW = 2
"""Nodes on either side that a node hears."""


def recurrent(width_in: int, width: int, dropout: float) -> nn.LSTM:
    """Two layers in both directions."""
    return nn.LSTM(width_in, width, 2, batch_first=True, bidirectional=True, dropout=dropout)


def neighbours(valid: Tensor, *, by_time: bool) -> list[Tensor]:
    """For each relation 1 where node i hears node j, (B, T, T): past, now and future, or all in one."""
    steps = torch.arange(valid.shape[1])
    away = steps[None, :] - steps[:, None]  # of j from i
    there = valid[:, :, None] & valid[:, None, :]
    near = [(away < 0) & (away >= -WINDOW), away == 0, (away > 0) & (away <= WINDOW)]
    if not by_time:
        near = [near[0] | near[1] | near[2]]
    return [(relation & there).float() for relation in near]


class GraphNetwork(nn.Module):
    """RGCN, GraphConv, a recurrent network, attention among nodes, a projection."""

    def __init__(self, width: int, graph: int, dropout: float, *, by_time: bool) -> None:
        super().__init__()
        hidden = width + graph
        self.by_time = by_time
        self.root = dense(width, graph)  # W_0
        self.relations = nn.ModuleList(
            nn.Linear(width, graph, bias=False) for _ in range(3 if by_time else 1)
        )
        self.own = dense(graph, graph)  # W_1
        self.others = nn.Linear(graph, graph, bias=False)  # W_2
        self.recurrent = recurrent(hidden, hidden, dropout)
        self.match = dense(2 * hidden, 2 * hidden)
        self.project = dense(2 * hidden, hidden, relu=True)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, 2e) to (B, T, h), 0 where not valid."""
        there = valid[..., None]
        edges = neighbours(valid, by_time=self.by_time)
        # RGCN: W_0 x_i + sum_r mean of W_r x_j over j in N_i^r
        y = self.root(x)
        for weight, edge in zip(self.relations, edges, strict=True):
            count = edge.sum(-1, keepdim=True).clamp(min=1)
            y = y + (edge @ weight(x)) / count
        y = y * there
        # GraphConv: W_1 y_i + W_2 sum of y_j over j in N_i
        y = (self.own(y) + self.others(sum(edges) @ y)) * there
        states = run(self.recurrent, torch.cat([x, y], -1), valid)  # (B, T, 2h)
        scores = torch.tanh(self.match(states) @ states.transpose(1, 2))  # (B, T, T)
        weights = scores.masked_fill(~valid[:, None, :], -1e30).softmax(-1)
        return F.relu(self.project(weights @ states)) * there


class GCNet(nn.Module):
    """A recurrent network, the graph networks of time and of speakers, two heads."""

    size: Tensor

    def __init__(self, spec: DataSpec, *, width: int = 40, dropout: float = 0.5) -> None:
        super().__init__()
        self.widths = spec.widths
        features, hidden = sum(spec.widths.values()), 2 * width + width // 2
        self.register_buffer("size", torch.ones(features))
        self.input_dropout = nn.ModuleDict(
            {m: nn.Dropout(spec.schedule.input_dropout.get(m, 0.0)) for m in spec.widths}
        )
        self.recurrent = recurrent(features, width, dropout)
        self.by_time = GraphNetwork(2 * width, width // 2, dropout, by_time=True)
        self.by_speaker = GraphNetwork(2 * width, width // 2, dropout, by_time=False)
        self.dropout = nn.Dropout(spec.schedule.output_dropout)
        self.head = dense(hidden, spec.task.n_out)
        self.reconstruct = dense(hidden, features)

    def scaled(self, batch: Batch) -> dict[str, Tensor]:
        """Each feature over its root mean square in training, which is `size`."""
        sizes = torch.split(self.size, list(self.widths.values()))
        return {m: batch.features[m] / s for m, s in zip(self.widths, sizes, strict=True)}

    def nodes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The nodes (B, T, h), and which are there (B, T)."""
        valid = torch.stack(list(batch.valid.values())).any(0)
        frames = self.scaled(batch)
        x = torch.cat([drop(frames[m]) for m, drop in self.input_dropout.items()], -1)
        states = run(self.recurrent, x, valid)  # (B, T, 2e)
        return self.by_time(states, valid) + self.by_speaker(states, valid), valid

    def forward(self, batch: Batch) -> Tensor:
        """(B, n_out), from the last node."""
        return self.read(*self.nodes(batch))

    def read(self, nodes: Tensor, valid: Tensor) -> Tensor:
        steps = torch.arange(1, valid.shape[1] + 1)
        last = (steps * valid).argmax(1)
        return self.head(self.dropout(nodes[torch.arange(len(nodes)), last]))


def loss(model: GCNet, nodes: Tensor, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """L_task + L_rec, of what is missing alone."""
    assert batch.complete is not None
    truth = model.scaled(batch.complete)
    made = torch.split(model.reconstruct(nodes), list(model.widths.values()), -1)
    error = torch.zeros(())
    for m, x in zip(model.widths, made, strict=True):
        missing = batch.complete.valid[m] & ~batch.observed[m]  # (B, T)
        error = error + (((x - truth[m]) ** 2).mean(-1) * missing).sum()
    there = torch.stack(list(batch.complete.valid.values())).any(0)
    return {
        "task": F.cross_entropy(logits.reshape(-1, 2), batch.truth.reshape(-1)),
        "reconstruction": error / there.sum(),
    }


class Trainer:
    """Updates of the whole model on incomplete batches with their complete form."""

    def __init__(self, spec: DataSpec) -> None:
        self.model = GCNet(spec)
        schedule = spec.schedule
        self.adam = Adam(self.model, learning_rate=schedule.learning_rate, clip=schedule.clip)

    def step(self, batch: Batch) -> None:
        """One."""
        nodes, valid = self.model.nodes(batch)
        self.adam.step(loss(self.model, nodes, self.model.read(nodes, valid), batch))
