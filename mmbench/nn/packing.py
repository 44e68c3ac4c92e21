"""Sequences of several modalities laid end to end, without their padding.

Half of a batch of utterances is padding, so only valid frames become *tokens*; a modality that is absent
is one empty frame. Tokens of a modality stand together, so that a layer is one batched product with a
matrix for each modality, and those of a sequence stand in order of time.

Letters: M modalities, T the longest of their lengths T[m]; R runs, seeds that are trained side by side
and share nothing but the layout (1 as a rule), B samples of each; G = M R groups, those that have
parameters of their own, a modality's runs together; N = G n places for tokens, n for each group, S = G B
sequences; O observed frames; of a bucket s sequences, r queries and t keys each. The largest group fills
its places; what stands in places that are left over is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmbench.nn.basic import attended
from mmbench.nn.kernels import lay_out

BUCKETS = 3
"""Parts, by length, of a run's sequences, each of which attention pads to its longest."""
FULL = 64
"""Sequences that make a part of their own on a CPU, where one more costs little and padding much."""


class Bucket(NamedTuple):
    """Sequences of like length."""

    sequences: Tensor
    """(s,) which, a run's together."""
    asking: Tensor
    """(s, r) the tokens that ask; their N, which is none, at padding."""
    tokens: Tensor
    """(s, t) the tokens that are asked; their N at padding."""
    runs: tuple[tuple[int, int, int], ...]
    """For each run, how many sequences it has here, and the most that ask and are asked in one."""

    def asked_once(self) -> Bucket:
        """The same where each sequence has one query, its own number among those of all."""
        runs = tuple((s, min(r, 1), t) for s, r, t in self.runs)
        return self._replace(asking=self.sequences[:, None], runs=runs)


@dataclass(frozen=True)
class Sequences:
    """Where each token is."""

    runs: int
    """R."""
    shape: tuple[int, int, int]
    """(G, B, T)."""
    time: Tensor
    """(N,) the position of each token in its sequence as it was padded."""
    last: Tensor
    """(S,) the last token of each sequence."""
    length: Tensor
    """(S,) how many it has."""

    @property
    def groups(self) -> int:
        """G."""
        return self.shape[0]

    @property
    def samples(self) -> int:
        """B."""
        return self.shape[1]

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """For attention of each sequence to itself."""
        return between(self, self)

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """All tokens in order, and which of the G B T frames each is."""
        before = self.length.cumsum(0)
        sequence = torch.arange(len(before), device=before.device)
        sequence = sequence.repeat_interleave(self.length)
        token = torch.arange(len(sequence), device=before.device)
        token = token + (self.last + 1 - before)[sequence]
        return token, sequence * self.shape[2] + self.time[token]

    @cached_property
    def frame(self) -> Tensor:
        """(N,) which of the G B T frames stands at each place; 0 where a place is left over."""
        token, frame = self.places
        return torch.zeros_like(self.time).index_copy(0, token, frame)

    def frames_of(self, group: int) -> tuple[Tensor, Tensor, Tensor]:
        """Which sample and frame stands at each of a group's places (n,), and whether any does."""
        groups, samples, longest = self.shape
        own = self.frame.view(groups, -1)[group]
        sample = own.div(longest, rounding_mode="floor") % samples
        count = self.length.view(groups, -1)[group].sum()
        return sample, own % longest, torch.arange(len(own), device=own.device) < count

    def take(self, padded: Tensor) -> Tensor:
        """Of (G, B, T, d) the tokens (N, d)."""
        return padded.flatten(0, 2).index_select(0, self.frame)

    def spread(self, tokens: Tensor) -> Tensor:
        """Tokens (N, d) as (G, B, T, d), zero at padding."""
        groups, samples, longest = self.shape
        token, frame = self.places
        blank = tokens.new_zeros(groups * samples * longest, tokens.shape[1])
        whole = blank.index_copy(0, frame, tokens.index_select(0, token))
        return whole.view(*self.shape, -1)


@dataclass(frozen=True)
class Pack(Sequences):
    """Where everything is, observed frames too."""

    frames: tuple[list[int], ...]
    """By modality, how many observed frames each run has."""
    observed: tuple[Tensor, ...]
    """By modality, rows of the features as (R B T[m], D[m]) that are observed: O in all."""
    sources: Tensor
    """(3, N) the observed frame, or O, before, at and after each token."""
    targets: Tensor
    """(3, O) the token, or N, after, at and before each observed frame: `sources` the other way round."""


def pack(valid: Sequence[Tensor], observed: Sequence[Tensor]) -> Pack:
    """Lays a batch out, given by modality what is valid and what of it is observed, bool (R, B, T[m]).

    Tokens are what is `attended` to: of a modality that is absent the first frame. Worked out by plain
    loops on the CPU, wherever the batch is: every number here depends on those before.
    """
    runs, samples = valid[0].shape[:2]
    device = valid[0].device
    lengths = [mask.shape[2] for mask in valid]
    padded = np.zeros((2, len(valid), runs, samples, max(lengths)), np.bool_)
    for m, length in enumerate(lengths):
        padded[0, m, ..., :length] = attended(valid[m]).cpu().numpy()
        padded[1, m, ..., :length] = observed[m].cpu().numpy()
    used, seen = padded.reshape(2, -1, *padded.shape[3:])  # (G, B, T)
    frames = seen.sum((1, 2))  # (G,)
    most = int(used.sum((1, 2)).max())  # n
    time, sources, targets, last = lay_out(used, seen, most, int(frames.sum()))
    length = used.sum(2).ravel()

    def there(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    rows = [mask.cpu().numpy().ravel().nonzero()[0] for mask in observed]
    return Pack(
        runs=runs,
        shape=(len(used), samples, max(lengths)),
        time=there(time),
        last=there(last),
        length=there(length),
        frames=tuple(own.tolist() for own in np.split(frames, len(valid))),
        observed=tuple(map(there, rows)),
        sources=there(sources),
        targets=there(targets),
    )


def lay(used: Tensor) -> Sequences:
    """Lays sequences out whose tokens are the `used` (G, B, T), at least one of each."""
    groups, samples, longest = used.shape
    mask = used.cpu().numpy()
    count = mask.sum(2)
    time, _, _, last = lay_out(mask, np.zeros_like(mask), int(count.sum(1).max()), 0)
    there = (torch.from_numpy(x).to(used.device) for x in (time, last, count.ravel()))
    return Sequences(1, (groups, samples, longest), *there)


def stack_padded(sequences: Sequence[Tensor]) -> Tensor:
    """Sequences (B, T_g, ...) as one (G, B, T, ...), zero or False behind those shorter than the longest."""
    longest = max(x.shape[1] for x in sequences)
    padded = []
    for x in sequences:
        blank = x.new_zeros(len(x), longest - x.shape[1], *x.shape[2:])
        padded.append(torch.cat([x, blank], 1))
    return torch.stack(padded)


def between(asking: Sequences, asked: Sequences) -> tuple[Bucket, ...]:
    """For attention of each sequence to its like in another layout, or in the same one.

    Each run's sequences go by the work they are, in parts of about as many; equal parts of all runs together.
    """
    device = asking.last.device
    ends = [(len(x.time), x.last.cpu().numpy(), x.length.cpu().numpy()) for x in (asking, asked)]
    work = ends[0][2] * ends[1][2]
    places = np.arange(len(work)).reshape(-1, asking.runs, asking.samples)
    count = max(BUCKETS, places[:, 0].size // FULL) if device.type == "cpu" else BUCKETS
    parts = []  # by run
    for run in range(asking.runs):
        own = places[:, run].ravel()
        parts.append(np.array_split(own[work[own].argsort(kind="stable")], count))
    found = []
    for together in zip(*parts, strict=True):
        if not len(chosen := np.concatenate(together)):
            continue  # fewer sequences than parts
        most = [[max(length[part], default=0) for part in together] for _, _, length in ends]
        tables = [_tokens(chosen, max(n), *end) for n, end in zip(most, ends, strict=True)]
        runs = tuple(
            (len(part), int(r), int(t)) for part, r, t in zip(together, *most, strict=True)
        )
        sequences, asks, told = (torch.from_numpy(x).to(device) for x in (chosen, *tables))
        found.append(Bucket(sequences, asks, told, runs))
    return tuple(found)


def _tokens(
    chosen: np.ndarray, most: int, n: int, last: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """(s, most) the tokens of some sequences; n at padding."""
    count, steps = length[chosen][:, None], np.arange(most)
    return np.where(steps < count, last[chosen][:, None] - count + 1 + steps, n)
