"""Sequences of several modalities laid end to end, without their padding.

Half of a batch of utterances is padding, and a modality that is absent has nothing that would tell one
sample from another. So only valid frames become *tokens*, and all samples that lack a modality share one
sequence of it. Tokens of a modality stand together, so that its products are one slice of a matrix, and
those of a sequence stand in order of time. Letters: B samples, M modalities, T the longest of their
lengths T[m], S sequences, N tokens, O observed frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmbench.batching import Batch

BUCKETS = 3
"""Groups of sequences of like length that attention treats together, each padded to its longest."""


class Bucket(NamedTuple):
    """Sequences of like length."""

    sequences: Tensor
    """(s,) which."""
    tokens: Tensor
    """(s, t) their tokens; N, which is none, at padding."""


@dataclass(frozen=True)
class Pack:
    """Where everything is."""

    time: Tensor
    """(N,) the position of each token in its sequence as it was padded."""
    tokens: tuple[int, ...]
    """(M + 1) bounds: modality m has the tokens from [m] to [m + 1]."""
    sequences: tuple[int, ...]
    """(M + 1) bounds of its sequences."""
    observed: tuple[Tensor, ...]
    """By modality, rows of the features as (B T[m], D[m]) that are observed: O in all."""
    sources: Tensor
    """(3, N) the observed frame, or O, before, at and after each token."""
    targets: Tensor
    """(3, O) the token, or N, after, at and before each observed frame: `sources` the other way round."""
    last: Tensor
    """(S,) the last token of each sequence."""
    where: Tensor
    """(B, M) the sequence of each sample's modality."""
    buckets: tuple[Bucket, ...]

    def dense(self, length: int, column: int) -> Tensor:
        """(B, length) the token of each frame of one modality; N at padding."""
        n = len(self.time)
        sequence = self.where[:, column]  # (B,)
        first = torch.cat([self.last.new_zeros(1), self.last[:-1] + 1])[sequence]
        count = self.last[sequence] - first + 1
        grid = self.last.new_full((len(sequence), length), n)
        steps = torch.arange(length, device=grid.device)
        inside = steps < count[:, None]  # (B, length)
        token = (first[:, None] + steps)[inside]
        row = inside.nonzero()[:, 0]
        grid[row, self.time[token]] = token
        return grid


def pack(batch: Batch) -> Pack:
    """Lays a batch out. Reads masks alone, never features."""
    shapes = [valid.shape for valid in batch.valid.values()]
    n_samples, longest, n_modalities = shapes[0][0], max(shape[1] for shape in shapes), len(shapes)
    device = batch.device
    # One row more than samples: the sequence of a modality that is absent, of which all frames count.
    valid = torch.zeros(n_modalities, n_samples + 1, longest, dtype=torch.bool, device=device)
    observed = torch.zeros_like(valid)
    for m, (name, shape) in enumerate(zip(batch.valid, shapes, strict=True)):
        valid[m, :-1, : shape[1]] = batch.valid[name]
        observed[m, :-1, : shape[1]] = batch.observed[name]
        valid[m, -1, : shape[1]] = True
    present = valid.any(2)  # (M, B + 1)
    needed = ~present[:, :-1].all(1)  # (M,) whether somebody lacks it
    valid[:, -1] &= needed[:, None]
    present[:, -1] = needed

    flat = valid.flatten().nonzero().squeeze(1)  # (N,)
    seen = observed.flatten().nonzero().squeeze(1)  # (O,)
    n, o = len(flat), len(seen)
    time = flat % longest
    length = valid.sum(2)  # (M, B + 1)
    length_of = length.flatten()[present.flatten()]  # (S,)
    last = length_of.cumsum(0) - 1  # (S,)
    number = present.flatten().cumsum(0).view(n_modalities, -1) - 1  # (M, B + 1)
    where = torch.where(present, number, number[:, -1:])[:, :-1].t()  # (B, M)

    # The same two lists as tables with a margin of one frame on either side, to find neighbours in.
    rows = n_modalities * (n_samples + 1)
    by_frame = torch.full((2, rows, longest + 2), 0, device=device)
    by_frame[0].fill_(o)
    by_frame[1].fill_(n)
    tables = by_frame.view(2, -1)
    at_token = flat + 2 * torch.div(flat, longest, rounding_mode="floor") + 1
    at_frame = seen + 2 * torch.div(seen, longest, rounding_mode="floor") + 1
    tables[0, at_frame] = torch.arange(o, device=device)
    tables[1, at_token] = torch.arange(n, device=device)
    around = torch.tensor([[-1], [0], [1]], device=device)

    bounds = torch.stack([length.sum(1), present.sum(1), observed.sum((1, 2))]).cumsum(1).tolist()
    token_bounds, sequence_bounds, frame_bounds = ((0, *b) for b in bounds)
    frames = []
    for m, shape in enumerate(shapes):
        own = seen[frame_bounds[m] : frame_bounds[m + 1]] - m * (n_samples + 1) * longest
        if shape[1] != longest:
            row = torch.div(own, longest, rounding_mode="floor")
            own = own - row * (longest - shape[1])
        frames.append(own)
    return Pack(
        time=time,
        tokens=token_bounds,
        sequences=sequence_bounds,
        observed=tuple(frames),
        sources=tables[0, at_token + around],
        targets=tables[1, at_frame - around],
        last=last,
        where=where,
        buckets=_buckets(length_of, last, n),
    )


def _buckets(length: Tensor, last: Tensor, n: int) -> tuple[Bucket, ...]:
    """Sequences (S,) by length, in groups of about as many."""
    found = []
    for chunk in length.argsort(stable=True).chunk(BUCKETS):
        steps = torch.arange(int(length[chunk[-1]]), device=length.device)
        tokens = (last - length + 1)[chunk][:, None] + steps  # (s, t)
        inside = steps < length[chunk][:, None]
        found.append(Bucket(chunk, torch.where(inside, tokens, n)))
    return tuple(found)
