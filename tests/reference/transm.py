"""TransM as its equations stand, with the decisions of plugins/mmbench_methods/transm.

Letters: B samples, M modalities, T frames (of all modalities as many), D features, d embedding size, L
labels. The first modality is the pivot.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import adam
from tests.reference.attention import Decoder, Encoder
from tests.reference.encoder import dense, sinusoids

Terms = dict[str, Tensor]


class Cell(nn.Module):
    """Translates the pivot to another modality and back."""

    def __init__(
        self, pivot: int, other: int, width: int, depth: int, decoder_depth: int, **settings: Any
    ) -> None:
        super().__init__()
        self.encode_there = Encoder(width, depth=depth, **settings)
        self.decode_there = Decoder(width, depth=decoder_depth, **settings)
        self.encode_back = Encoder(width, depth=depth, **settings)
        self.decode_back = Decoder(width, depth=decoder_depth, **settings)
        self.speak_there = dense(width, other)
        self.speak_back = dense(width, pivot)


class View(NamedTuple):
    """What the losses need."""

    there: list[Tensor]
    """m^ (B, T, D) of each modality but the pivot."""
    back: list[Tensor]
    """t^ (B, T, D) of the pivot, from each cell."""
    seen: list[Tensor]
    """Bool (B, T), the frames that were attended to, by modality."""
    logits: Tensor
    """(B, 2L)."""


class TransM(nn.Module):
    """g_m = tanh(W BiGRU(x_m)); a cell for each modality but the pivot; one linear layer."""

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: int = 40,
        depth: int = 4,
        decoder_depth: int = 2,
        dropout: float = 0.3,
        weight: float = 10.0,
    ) -> None:
        super().__init__()
        self.names, self.weight, schedule = list(spec.modalities), weight, spec.schedule
        sizes = list(spec.widths.values())
        self.input_dropout = nn.ModuleList(
            nn.Dropout(schedule.input_dropout.get(m, 0.0)) for m in self.names
        )
        self.recurrent = nn.ModuleList(
            nn.GRU(size, width, batch_first=True, bidirectional=True) for size in sizes
        )
        self.dense = nn.ModuleList(dense(2 * width, width) for _ in sizes)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer(
            "positions", sinusoids(max(spec.lengths.values()), width), persistent=False
        )
        settings = {"heads": schedule.heads, "dropout": schedule.attention_dropout}
        self.cells = nn.ModuleList(
            Cell(sizes[0], size, width, depth, decoder_depth, **settings) for size in sizes[1:]
        )
        self.output_dropout = nn.Dropout(schedule.output_dropout)
        self.head = dense((3 * len(sizes) - 2) * width, spec.task.n_out)
        for m, size in enumerate(sizes):
            self.register_buffer(f"mean_{m}", torch.zeros(size))
            self.register_buffer(f"spread_{m}", torch.ones(size))

    def measure(self, batches: Sequence[Batch]) -> None:
        """The mean and deviation of each feature over the training split's valid frames."""
        for m, name in enumerate(self.names):
            frames = torch.cat([batch.features[name][batch.valid[name]] for batch in batches])
            spread = frames.double().std(0, correction=0)
            getattr(self, f"mean_{m}").copy_(frames.double().mean(0))
            getattr(self, f"spread_{m}").copy_(torch.where(spread > 1e-6, spread, 1.0))

    def unimodal(self, m: int, x: Tensor, seen: Tensor) -> Tensor:
        """g_m (B, T, d): the recurrent network runs over the frames that are `seen` (B, T)."""
        x = self.input_dropout[m](x)
        frames = pack_sequence([row[at] for row, at in zip(x, seen, strict=True)], False)
        made, length = pad_packed_sequence(self.recurrent[m](frames)[0], batch_first=True)
        states = torch.zeros(*seen.shape, made.shape[2])
        states[seen] = made[torch.arange(made.shape[1]) < length[:, None]]
        return self.dropout(torch.tanh(self.dense[m](self.dropout(states))))

    def forward(self, batch: Batch) -> View:
        """E_f = Enc(u), D_f = Dec(m, E_f), E_b = Enc(D_f + PE), D_b = Dec(u, E_b), with u = g_l + PE."""
        seen = attended(list(batch.valid.values()))
        g = [
            self.unimodal(m, x, at)
            for m, (x, at) in enumerate(zip(batch.features.values(), seen, strict=True))
        ]
        u, padding = g[0] + self.positions, ~seen[0]
        encoded, again, there, back = [], [], [], []
        for cell, g_m, at in zip(self.cells, g[1:], seen[1:], strict=True):
            e_f = cell.encode_there(u, padding)
            d_f = cell.decode_there(g_m + self.positions, ~at, e_f, padding)
            e_b = cell.encode_back(d_f + self.positions, ~at)
            d_b = cell.decode_back(u, padding, e_b, ~at)
            encoded.append(at_last(e_f, seen[0]))
            again.append(at_last(e_b, at))
            there.append(cell.speak_there(d_f))
            back.append(cell.speak_back(d_b))
        read = [at_last(x, at) for x, at in zip(g, seen, strict=True)]
        joint = self.output_dropout(torch.cat([*encoded, *again, *read], -1))
        return View(there, back, seen, self.head(joint))

    def wanted(self, batch: Batch) -> list[Tensor]:
        """The features (B, T, D) of each modality, standardised."""
        return [
            (x - getattr(self, f"mean_{m}")) / getattr(self, f"spread_{m}")
            for m, x in enumerate(batch.features.values())
        ]


def attended(valid: list[Tensor]) -> list[Tensor]:
    """The frames (B, T) to attend to: of an absent modality those of the others; the first if all are absent."""
    some = torch.stack(valid).any(0)
    some[~some.any(1), 0] = True
    return [torch.where(own.any(1, keepdim=True), own, some) for own in valid]


def at_last(x: Tensor, seen: Tensor) -> Tensor:
    """x (B, T, d) at the last frame that is seen."""
    frames = torch.arange(1, seen.shape[1] + 1)
    return x[torch.arange(len(x)), (frames * seen).argmax(1)]


def absolute_error(made: Tensor, wanted: Tensor, frames: Tensor) -> Tensor:
    """Mean over some frames (B, T) and features of (B, T, D); 0 without any."""
    return (made - wanted).abs()[frames].mean() if frames.any() else made.sum() * 0


def loss(model: TransM, view: View, batch: Batch) -> Terms:
    """CE + 10 sum over cells of MAE(m^, x_m) + MAE(t^, x_t), x of the complete sample."""
    complete = batch.complete
    assert complete is not None
    wanted, valid = model.wanted(complete), list(complete.valid.values())
    terms = {"task": F.cross_entropy(view.logits.reshape(-1, 2), batch.truth.reshape(-1))}
    for m, name in enumerate(model.names[1:], 1):
        there = absolute_error(view.there[m - 1], wanted[m], valid[m] & view.seen[m])
        back = absolute_error(view.back[m - 1], wanted[0], valid[0] & view.seen[0])
        terms[f"to {name}"] = model.weight * there
        terms[f"back from {name}"] = model.weight * back
    return terms


class Trainer:
    """Updates by one Adam."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        self.model = TransM(spec, **settings)
        self.adam = adam(spec, self.model)

    def step(self, batch: Batch) -> Terms:
        """One update on an incomplete batch with its complete form; returns the loss terms."""
        terms = loss(self.model, self.model(batch), batch)
        self.adam.step(terms)
        return terms
