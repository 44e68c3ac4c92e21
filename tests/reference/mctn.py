"""MCTN as its equations stand, with the decisions of plugins/mmbench_methods/mctn: a chain for each source.

Letters: B samples, T frames, D features, h width of every state.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batching import Batch
from mmbench.data import DataSpec
from tests.reference.adam import Adam
from tests.reference.encoder import dense
from tests.reference.recurrent import run

WEIGHT = 0.1
"""Of each translation."""
PENALTY = 0.01


class Made(NamedTuple):
    """What a source gives."""

    output: Tensor
    """(B, n_out)."""
    there: Tensor
    """T1^ (B, T, D)."""
    back: Tensor
    """S^."""
    second: Tensor
    """T2^."""


class Encoder(nn.Module):
    """E: both directions of an LSTM, summed."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width_in, width, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D) to (B, T, h)."""
        forward, backward = run(self.lstm, x, valid).chunk(2, -1)
        return forward + backward


class Decoder(nn.Module):
    """G: at each step attention over the encoder's states, then an LSTM's step on what was read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.score = nn.Linear(2 * width, 1, bias=False)
        self.cell = nn.LSTMCell(width, width)

    def forward(self, states: Tensor, valid: Tensor, length: int) -> Tensor:
        """states e (B, T, h) to h_1 ... h_length: score_i = w [e_i; c_t-1], read = softmax_i e_i."""
        h = c = states.new_zeros(len(states), self.width)
        made = []
        for _ in range(length):
            late = c[:, None].expand(-1, states.shape[1], -1)
            scores = self.score(torch.cat([states, late], -1)).squeeze(-1)  # (B, T)
            weights = scores.masked_fill(~valid, -1e30).softmax(1)
            h, c = self.cell((weights[..., None] * states).sum(1), (h, c))
            made.append(h)
        return torch.stack(made, 1)


class Regressor(nn.Module):
    """An LSTM over the top encoder's states, attention over its own, a linear layer."""

    def __init__(self, width: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.score = nn.Linear(width, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.head = dense(width, n_out)

    def forward(self, states: Tensor, valid: Tensor) -> Tensor:
        """(B, n_out) of sum_t a_t h_t with a = softmax_t(tanh(w h_t))."""
        h = run(self.lstm, states, valid)
        scores = torch.tanh(self.score(h)).squeeze(-1).masked_fill(~valid, -1e30)
        return self.head(self.dropout((scores.softmax(1)[..., None] * h).sum(1)))


class Chain(nn.Module):
    """From one source: a cycle with the first target, and a translation of the joint states."""

    def __init__(self, spec: DataSpec, source: str, targets: list[str], common: int, width: int):
        super().__init__()
        self.source, (self.first, self.second) = source, targets
        self.lengths = spec.lengths
        self.input_dropout = nn.Dropout(spec.schedule.input_dropout.get(source, 0.0))
        self.encoder, self.top = Encoder(common, width), Encoder(width, width)
        self.decoder, self.top_decoder = Decoder(width), Decoder(width)
        self.write = dense(width, spec.widths[self.second])
        self.regressor = Regressor(width, spec.task.n_out, spec.schedule.output_dropout)


class MCTN(nn.Module):
    """A chain for each source; layers into and out of the common width, shared by them."""

    size: Tensor

    def __init__(self, spec: DataSpec, *, width: int = 32, common: int = 40) -> None:
        super().__init__()
        names = list(spec.widths)
        self.widths = spec.widths
        self.register_buffer("size", torch.ones(sum(spec.widths.values())))
        self.enter = nn.ModuleDict({m: dense(d, common) for m, d in spec.widths.items()})
        self.leave = nn.ModuleDict({m: dense(width, d) for m, d in spec.widths.items()})
        self.chains = nn.ModuleList()
        for source in names:
            order = reversed(names) if source == names[0] else names
            targets = [m for m in order if m != source]
            self.chains.append(Chain(spec, source, targets, common, width))

    def scaled(self, batch: Batch) -> dict[str, Tensor]:
        """Each feature over its root mean square in training, which is `size`."""
        sizes = torch.split(self.size, list(self.widths.values()))
        return {m: batch.features[m] / s for m, s in zip(self.widths, sizes, strict=True)}

    def translate(self, chain: Chain, batch: Batch) -> Made:
        """E1, E2 and the regressor; G1 to the first target and, by the same pair, back; G2."""
        x = chain.input_dropout(self.scaled(batch)[chain.source])
        valid, started = batch.valid[chain.source], counted(batch.valid[chain.first])
        e = chain.encoder(self.enter[chain.source](x), valid)
        there = self.leave[chain.first](chain.decoder(e, valid, chain.lengths[chain.first]))
        again = chain.encoder(self.enter[chain.first](there), started)
        returned = chain.decoder(again, started, chain.lengths[chain.source])
        top = chain.top(e, valid)
        second = chain.write(chain.top_decoder(top, valid, chain.lengths[chain.second]))
        return Made(chain.regressor(top, valid), there, self.leave[chain.source](returned), second)

    def forward(self, batch: Batch) -> Tensor:
        """The mean output (B, n_out) of the sources that are there, or of all."""
        outputs = torch.stack([self.translate(chain, batch).output for chain in self.chains])
        seen = torch.stack([batch.observed[chain.source].any(1) for chain in self.chains])
        seen = torch.where(seen.any(0), seen, True)[..., None]  # (S, B, 1)
        return (outputs * seen).sum(0) / seen.sum(0)


def counted(valid: Tensor) -> Tensor:
    """As many frames as are valid in each row (B, T), at its start."""
    return torch.arange(valid.shape[1]) < valid.sum(1, keepdim=True)


def error(made: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """The mean squared error; the k-th frame made stands for the k-th valid frame."""
    frames = made[counted(valid)]
    if not len(frames):
        return made.sum() * 0
    return F.mse_loss(frames, truth[valid])


def loss(model: MCTN, batch: Batch) -> dict[str, Tensor]:
    """L_task + 0.1 (L_t + L_c + L_t2) + 0.01 |W|^2 with the head's W; mean over the sources."""
    x, valid = model.scaled(batch), batch.valid
    terms: dict[str, list[Tensor]] = {}
    for chain in model.chains:
        made = model.translate(chain, batch)
        returns = valid[chain.source] & valid[chain.first].any(1, keepdim=True)
        own = {
            "task": F.cross_entropy(made.output.reshape(-1, 2), batch.truth.reshape(-1)),
            "translation": WEIGHT * error(made.there, x[chain.first], valid[chain.first]),
            "cycle": WEIGHT * error(made.back, x[chain.source], returns),
            "second": WEIGHT * error(made.second, x[chain.second], valid[chain.second]),
            "penalty": PENALTY * (chain.regressor.head.weight**2).sum(),
        }
        for name, value in own.items():
            terms.setdefault(name, []).append(value)
    return {name: torch.stack(values).mean() for name, values in terms.items()}


class Trainer:
    """Updates of the whole model on complete batches."""

    def __init__(self, spec: DataSpec) -> None:
        self.model = MCTN(spec)
        schedule = spec.schedule
        self.adam = Adam(self.model, learning_rate=schedule.learning_rate, clip=schedule.clip)

    def step(self, batch: Batch) -> None:
        """One."""
        self.adam.step(loss(self.model, batch))
