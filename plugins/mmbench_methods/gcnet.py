"""GCNet, on the words of an utterance: two graph networks that complete what is missing.

*GCNet: Graph Completion Network for Incomplete Multimodal Learning in Conversation*, Zheng Lian, Lan Chen,
Licai Sun, Bin Liu, Jianhua Tao; IEEE TPAMI 2023, https://arxiv.org/abs/2203.02177.

The paper's nodes are the utterances of a conversation; here they are the words of an utterance. A
recurrent network reads the nodes, two graph networks pass messages between near ones, by time and by
speaker, and from their sum the label is told and the missing features are reconstructed. Letters: B
samples, T frames or nodes, D features, R relations, e = `width`, g = e / 2, h = 2e + g.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

import mmbench
from mmbench.nn import Dropout, Recurrent, Steps, affine, bmm, linear, read_last
from mmbench_methods._scale import Scale


class View(NamedTuple):
    """What the network makes of a batch."""

    joint: Tensor
    """The node that is read, (B, h)."""
    output: Tensor
    """(B, n_out)."""
    nodes: Tensor
    """(B, T, h)."""


class GCNet(mmbench.Method):
    """Temporal and speaker graph, each with a recurrent network after it, summed."""

    name = "gcnet"
    summary = "word graph: two graph networks read the words, and reconstruct what is missing"
    paper = (
        "Lian et al., GCNet: Graph Completion Network for Incomplete Multimodal Learning in Conversation, "
        "IEEE TPAMI 2023, https://arxiv.org/abs/2203.02177"
    )
    privileges = ("complete targets of what is missing, to reconstruct",)
    deviations = (
        "Equations and sizes are those of the authors' released code, read for this benchmark; the paper's text "
        "was not.",
        "Word graph: nodes are the words of one utterance, not the utterances of a conversation, since samples "
        "must not see each other. So frames go missing as nodes do, and modalities must have one frame per word.",
        "One speaker, as the code has it for MOSI and MOSEI: the speaker graph has one relation. IEMOCAP's "
        "two speakers never share an utterance.",
        "An utterance's label is told from its last node alone (switch `readout`): the paper's nodes each have one.",
        "A node is there if any modality is; which features of it are missing is not told apart from zeros.",
        "L_rec sums over missing frames of each modality the mean squared error of its features, and divides by the "
        "number of nodes, as the code does by utterances.",
        "Every feature is divided by its root mean square in training, so that L_rec is in the same units for "
        "every modality and does not drown the task's loss; the paper's features come from networks.",
        "Modalities and frames go missing by msm@1, in training and in validation; the paper has one fixed rate.",
        "The attention among nodes, which the code makes optional, is on; with it the size is 1.16 M parameters.",
        "The relational layer is without the code's basis decomposition: with three relations and one there "
        "is nothing to save.",
        "Dropout between layers is the paper's 0.5; the data set's dropout of input and output is applied as well. "
        "No weight decay. The code's second pass that reads the reconstruction is off, as by its default.",
    )

    def __init__(
        self,
        spec: mmbench.DataSpec,
        *,
        width: int = 40,
        past: int = 2,
        future: int = 2,
        dropout: float = 0.5,
        reconstruction: float = 1.0,
        readout: Literal["last", "mean"] = "last",
    ) -> None:
        super().__init__(spec)
        self.reconstruction, self.readout = reconstruction, readout
        schedule, features = spec.schedule, sum(spec.widths.values())
        inner, hidden = 2 * width, 2 * width + width // 2
        self.scale = Scale(spec)
        self.input_dropout = nn.ModuleDict(
            {m: Dropout(schedule.input_dropout.get(m, 0.0)) for m in spec.widths}
        )
        self.recurrent = Recurrent(features, width, directions=2, depth=2, dropout=dropout)
        near = window(next(iter(spec.lengths.values())), past, future)  # (3, T, T)
        self.graphs = nn.ModuleList(
            GraphNetwork(edges, inner, width // 2, dropout)
            for edges in (
                near,
                near.sum(0, keepdim=True),
            )  # by time; by speaker, of whom there is one
        )
        self.dropout = Dropout(schedule.output_dropout)
        self.head = linear(hidden, spec.task.n_out)
        self.reconstruct = linear(hidden, features)

    @classmethod
    def supports(cls, spec: mmbench.DataSpec) -> str | None:
        """A node has a frame of every modality."""
        if len(set(spec.lengths.values())) > 1:
            shown = ", ".join(f"{m} {length}" for m, length in spec.lengths.items())
            return f"its nodes are words and need one frame of each modality per word, not {shown}"
        return None

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """(B, n_out)."""
        return self.view(batch).output

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """The node that is read, (B, h)."""
        return self.view(batch).joint

    def stages(self) -> list[mmbench.Stage]:
        """One, on incomplete data that is complete to L_rec."""
        return [
            mmbench.Stage(
                "train",
                data="paired",
                prepare=self.scale.measure,
                forward=self.view,
                steps=[mmbench.Step(self.loss, updates=[self])],
            )
        ]

    def deployed(self) -> list[nn.Module]:
        """All but the reconstruction."""
        return [self.recurrent, self.graphs, self.head]

    def view(self, batch: mmbench.Batch) -> View:
        """The nodes and what is told from them."""
        valid = torch.stack(list(batch.valid.values())).any(0)  # (B, T)
        steps = Steps.of(valid)
        frames = {m: steps.packed(x) for m, x in batch.features.items()}  # of N valid nodes
        x = torch.cat([drop(frames[m]) for m, drop in self.input_dropout.items()], -1)
        states = self.recurrent.packed(x / self.scale.size, steps)  # (N, 2e)
        by_time, by_speaker = (graph(states, steps) for graph in self.graphs)
        nodes = steps.padded(by_time + by_speaker)
        if self.readout == "last":
            joint = read_last(nodes, valid)
        else:
            joint = nodes.sum(1) / valid.sum(1, keepdim=True).clamp(min=1)
        return View(joint, self.head(self.dropout(joint)), nodes)

    def loss(self, view: View, batch: mmbench.Batch, rng: mmbench.Random) -> dict[str, Tensor]:
        """L_task + L_rec."""
        assert batch.complete is not None
        there = batch.complete.valid
        missing = torch.stack([there[m] & ~batch.observed[m] for m in there], -1)  # (B, T, M)
        # Only nodes that lack anything, N of them.
        lacking = missing.any(-1).flatten().nonzero().squeeze(1)
        nodes = view.nodes.flatten(0, 1).index_select(0, lacking)
        made = affine(nodes, self.reconstruct.weight, self.reconstruct.bias)
        frames = [
            x.flatten(0, 1).index_select(0, lacking) for x in batch.complete.features.values()
        ]
        truth = torch.cat(frames, -1)
        # A missing frame's features are its modality's mean together.
        widths = torch.tensor(list(self.spec.widths.values()), device=batch.device)
        share = (missing.flatten(0, 1)[lacking] / widths).repeat_interleave(widths, 1)  # (N, D)
        error = ((made - truth / self.scale.size).square() * share).sum()
        count = torch.stack(list(there.values())).any(0).sum().clamp(min=1)
        return {
            "task": self.spec.task.loss(view.output, batch.truth),
            "reconstruction": self.reconstruction * error / count,
        }


class GraphNetwork(nn.Module):
    """A relational layer, a graph convolution, a recurrent network, and attention among nodes."""

    edges: Tensor

    def __init__(self, edges: Tensor, width: int, graph: int, dropout: float) -> None:
        """`edges` (R, T, T): 1 where a node, a row, hears another one in a relation."""
        super().__init__()
        self.register_buffer("edges", edges, persistent=False)
        hidden = width + graph
        self.relational = linear((1 + len(edges)) * width, graph)  # W_0 and each relation's W_r
        self.neighbours = linear(2 * graph, graph)
        self.recurrent = Recurrent(hidden, hidden, directions=2, depth=2, dropout=dropout)
        self.match = linear(2 * hidden, 2 * hidden)
        self.project = linear(2 * hidden, hidden, relu=True)

    def messages(self, x: Tensor, steps: Steps) -> Tensor:
        """Two hops of messages among valid nodes: x (N, 2e) to (N, g).

        RGCN: W_0 x_i + sum_r mean_{j in N_i^r} W_r x_j, then GraphConv: W_1 x_i + W_2 sum_{j in N_i} x_j.
        """
        relations, graph = len(self.edges), len(self.relational.bias)
        counts = self.edges @ steps.valid.t().to(x.dtype)  # (R, T, B)
        own, told = _of_each(self.relational.weight, 1 + relations, x).tensor_split([graph], 1)
        y = own + self.relational.bias + heard(told, self.edges, steps, 1 / counts.clamp(min=1))
        own, told = _of_each(self.neighbours.weight, 2, y).chunk(2, 1)
        near = self.edges.sum(0, keepdim=True)
        return own + self.neighbours.bias + heard(told, near, steps, torch.ones_like(counts[:1]))

    def forward(self, x: Tensor, steps: Steps) -> Tensor:
        """Valid nodes x (N, 2e) to (N, h)."""
        states = self.recurrent.packed(
            torch.cat([x, self.messages(x, steps)], -1), steps
        )  # (N, 2h)
        asking = steps.padded(affine(states, self.match.weight, self.match.bias))  # (B, T, 2h)
        told = steps.padded(states)
        scores = bmm(asking, told.transpose(1, 2)).tanh()  # (B, T, T)
        lowest = torch.finfo(scores.dtype).min  # not -inf: a row without a valid node has states 0
        weights = scores.masked_fill(~steps.valid[:, None], lowest).softmax(-1)
        mixed = steps.packed(bmm(weights, told))
        return affine(mixed, self.project.weight, self.project.bias).relu()


def heard(x: Tensor, edges: Tensor, steps: Steps, shares: Tensor) -> Tensor:
    """What each node hears, times its shares (R, T, B): x (N, R d), some for each relation, to (N, d)."""
    told = steps.padded(x).view(*steps.valid.shape, len(edges), -1)  # (B, T, R, d)
    sums = edges @ told.permute(2, 1, 0, 3).flatten(2)  # (R, T, B d), every sample in one product
    means = sums.view(*shares.shape, -1) * shares[..., None]
    return steps.packed(means.sum(0).transpose(0, 1))


def _of_each(weight: Tensor, count: int, x: Tensor) -> Tensor:
    """x (N, i) times each of some matrices that stand side by side, weight (o, count i): (N, count o)."""
    return affine(x, torch.cat(weight.chunk(count, 1)), None)


def window(length: int, past: int, future: int) -> Tensor:
    """Edges (3, T, T) to what is past, now and future, at most so many nodes away; -1 for any."""
    steps = torch.arange(length)
    away = steps - steps[:, None]  # (T, T), of the column's node from the row's
    before = (away < 0) & (away >= (-past if past >= 0 else -length))
    after = (away > 0) & (away <= (future if future >= 0 else length))
    return torch.stack([before, away == 0, after]).float()


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """GCNet."""
    return GCNet
