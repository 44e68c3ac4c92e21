"""MulT: crossmodal attention from every modality to every other, without alignment.

Y.-H. H. Tsai, S. Bai, P. P. Liang, J. Z. Kolter, L.-P. Morency, R. Salakhutdinov: Multimodal Transformer for
Unaligned Multimodal Language Sequences, ACL 2019, https://arxiv.org/abs/1906.00295. Written from the
equations of its section 3.

Letters: B samples, M modalities, T frames of a target, S frames of a source, D features, d width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import mmbench
from mmbench.nn import attended, last_valid, positional_encoding

mmbench_interface = 1  # the version of mmbench's hooks that this is written for


class Layer(nn.Module):
    """Attention to a source, or to itself, and two linear layers: each after a norm, and added."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm, self.norm_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inner = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, source: Tensor | None, seen: Tensor) -> Tensor:
        """x (B, T, d); source (B, S, d), or None for x itself; seen (B, S)."""
        asks = self.norm(x)
        told = asks if source is None else self.norm(source)
        found, _ = self.attention(asks, told, told, key_padding_mask=~seen, need_weights=False)
        x = x + found
        return x + self.inner(self.norm_inner(x))


class Transformer(nn.Module):
    """Some layers, all of which attend to the same source, and a norm."""

    def __init__(self, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, source: Tensor | None, seen: Tensor) -> Tensor:
        """x (B, T, d) to the same; source (B, S, d), or None for x itself; seen (B, S)."""
        for layer in self.layers:
            x = layer(x, source, seen)
        return self.norm(x)


class MulT(mmbench.Method):
    """Each modality asks each other one, then itself; the last frames together predict."""

    name = "mult"
    summary = "crossmodal Transformers between all pairs of modalities"
    paper = (
        "Tsai et al., Multimodal Transformer for Unaligned Multimodal Language Sequences, "
        "ACL 2019, https://arxiv.org/abs/1906.00295"
    )
    deviations = (
        "The loss is the task's, and the schedule is the data set's, as for every method.",
        "The convolutions keep the length of a sequence, by padding with zeros.",
        "No causal mask: the paper's equations have none, its code has one.",
        "Nothing attends to hidden frames or padding; of a modality without any frame there is one "
        "frame of zeros to attend to.",
        "What is read is the last valid frame, which is the last one in data padded at the front.",
    )

    def __init__(self, spec: mmbench.DataSpec, *, width: int = 40, depth: int = 4) -> None:
        super().__init__(spec)
        schedule, names = spec.schedule, list(spec.modalities)
        self.scale = math.sqrt(width)
        self.inputs = nn.ModuleDict(
            {m: nn.Dropout(schedule.input_dropout.get(m, 0.0)) for m in names}
        )
        self.convolve = nn.ModuleDict(
            {m: nn.Conv1d(d, width, 3, padding=1, bias=False) for m, d in spec.widths.items()}
        )
        longest = max(spec.lengths.values())
        self.register_buffer("places", positional_encoding(longest, width), persistent=False)
        shape = (schedule.heads, schedule.attention_dropout)
        self.cross = nn.ModuleDict(
            {
                f"{s} to {t}": Transformer(width, depth, *shape)
                for t in names
                for s in names
                if s != t
            }
        )
        # a modality that has no other to ask goes on by itself
        joined = width * max(len(names) - 1, 1)
        self.own = nn.ModuleDict({m: Transformer(joined, max(depth, 3), *shape) for m in names})
        whole = joined * len(names)
        self.residual = nn.Sequential(
            nn.Linear(whole, whole),
            nn.ReLU(),
            nn.Dropout(schedule.output_dropout),
            nn.Linear(whole, whole),
        )
        self.head = nn.Linear(whole, spec.task.n_out)

    def stages(self) -> list[mmbench.Stage]:
        """One stage on complete samples: MulT does not know of missing ones."""
        return [mmbench.Stage("train", "complete", [mmbench.Step(self.loss, [self])])]

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """The last frames of all modalities, (B, M (M-1) d)."""
        seen = {m: attended(observed) for m, observed in batch.observed.items()}  # (B, T[m])
        frames = {m: self._embed(m, x) for m, x in batch.features.items()}  # (B, T[m], d)
        ends = []
        for target, x in frames.items():
            asked = [
                self.cross[f"{source} to {target}"](x, frames[source], seen[source])
                for source in frames
                if source != target
            ]
            joined = torch.cat(asked or [x], -1)  # (B, T, (M-1) d)
            joined = self.own[target](joined, None, seen[target])
            rows = torch.arange(len(joined), device=joined.device)
            ends.append(joined[rows, last_valid(seen[target])])
        return torch.cat(ends, -1)

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """Outputs (B, n_out)."""
        joint = self.represent(batch)
        return self.head(joint + self.residual(joint))

    def _embed(self, name: str, x: Tensor) -> Tensor:
        """Frames (B, T, D) to (B, T, d), with their places."""
        convolved = self.convolve[name](self.inputs[name](x).transpose(1, 2)).transpose(1, 2)
        return self.scale * convolved + self.places[: x.shape[1]]


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """Tells mmbench of it."""
    return MulT
