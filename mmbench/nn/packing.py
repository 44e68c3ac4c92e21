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
from mmbench.nn.kernels import lay_out, neighbours

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
    frame: Tensor
    """(N,) which of the G B T frames stands at each place; 0 where a place is left over."""
    flat: Tensor
    """(tokens,) which of the G B T frames are tokens."""
    place: Tensor
    """(tokens,) where each of them stands."""
    last: Tensor
    """(S,) the last token of each sequence."""
    length: Tensor
    """(S,) how many it has."""

    @property
    def samples(self) -> int:
        """B."""
        return self.shape[1]

    @property
    def groups(self) -> int:
        """G."""
        return self.shape[0]

    @cached_property
    def time(self) -> Tensor:
        """(N,) the position of each token in its sequence as it was padded."""
        return self.frame % self.shape[2]

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """For attention of each sequence to itself."""
        return between(self, self)

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
        blank = tokens.new_zeros(groups * samples * longest, tokens.shape[1])
        whole = blank.index_copy(0, self.flat, tokens.index_select(0, self.place))
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

    Tokens are what is `attended` to: of a modality that is absent the first frame.
    """
    runs, device = len(valid[0]), valid[0].device
    used = attended(stack_padded(valid, 2)).flatten(0, 1)  # (G, B, T)
    seen = stack_padded(observed, 2).flatten(0, 1)
    laid = lay(used, runs)
    frames = seen.sum((1, 2)).view(-1, runs).tolist()  # (M, R)
    most, total = len(laid.frame) // laid.groups, sum(map(sum, frames))
    sources, targets = neighbours(used.cpu().numpy(), seen.cpu().numpy(), most, total)
    return Pack(
        **vars(laid),
        frames=tuple(frames),
        observed=tuple(mask.flatten().nonzero().squeeze(1) for mask in observed),
        sources=torch.from_numpy(sources).to(device),
        targets=torch.from_numpy(targets).to(device),
    )


def stack_padded(sequences: Sequence[Tensor], axis: int = 1) -> Tensor:
    """Sequences that differ in their length along an axis as one (M, ...), zero or False behind the shorter."""
    longest = max(x.shape[axis] for x in sequences)
    padded = []
    for x in sequences:
        shape = list(x.shape)
        shape[axis] = longest - x.shape[axis]
        padded.append(torch.cat([x, x.new_zeros(shape)], axis))
    return torch.stack(padded)


def lay(used: Tensor, runs: int = 1) -> Sequences:
    """Lays sequences out whose tokens are the `used` (G, B, T), some of each; groups are a modality's runs together.

    Worked out on the CPU, wherever the batch is: each number depends on those before.
    """
    groups, samples, longest = used.shape
    count = used.sum(2)  # (G, B)
    most = int(count.sum(1).max())
    found = lay_out(used.cpu().numpy(), most)
    frame, flat, place, last = (torch.from_numpy(array).to(used.device) for array in found)
    shape = (groups, samples, longest)
    return Sequences(runs, shape, frame, flat, place, last, count.flatten())


def between(asking: Sequences, asked: Sequences) -> tuple[Bucket, ...]:
    """For attention of each sequence to its like in another layout, or in the same one.

    Each run's sequences go by the work they are, in parts of about as many; equal parts of all runs together.
    """
    device = asking.last.device
    ends = [
        _End(len(x.frame), x.last.cpu().numpy(), x.length.cpu().numpy()) for x in (asking, asked)
    ]
    work = ends[0].length * ends[1].length
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
        asks, told = ([end.longest(part) for part in together] for end in ends)
        runs = tuple(zip(map(len, together), asks, told, strict=True))
        arrays = chosen, ends[0].tokens(chosen, max(asks)), ends[1].tokens(chosen, max(told))
        sequences, queries, keys = (torch.from_numpy(array).to(device) for array in arrays)
        found.append(Bucket(sequences, queries, keys, runs))
    return tuple(found)


class _End(NamedTuple):
    """One side of attention: N, and of each sequence its last token and how many it has."""

    n: int
    last: np.ndarray
    length: np.ndarray

    def longest(self, chosen: np.ndarray) -> int:
        return int(self.length[chosen].max()) if len(chosen) else 0

    def tokens(self, chosen: np.ndarray, most: int) -> np.ndarray:
        """(s, most) the tokens of some sequences; N at padding."""
        last, length = self.last[chosen, None], self.length[chosen, None]
        steps = np.arange(most)
        return np.where(steps < length, last - length + 1 + steps, self.n)
