"""Sequences of several modalities laid end to end, without their padding.

Half of a batch of utterances is padding, so only valid frames become *tokens*; a modality that is absent
is one empty frame. Tokens of a modality stand together, so that a layer is one batched product with a
matrix for each modality, and those of a sequence stand in order of time.

Letters: M modalities, T the longest of their lengths T[m]; R runs, seeds that are trained side by side
and share nothing but the layout (1 as a rule), B samples of each; G = M R groups, those that have
parameters of their own, a modality's runs together; N = G n places for tokens, n for each group, S = G B
sequences; O observed frames. The largest group fills its places; what stands in places that are left over
is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmbench.nn.basic import attended

BUCKETS = 3
"""Parts, by length, of a run's sequences, each of which attention pads to its longest."""


class Bucket(NamedTuple):
    """Sequences of like length."""

    sequences: Tensor
    """(s,) which, a run's together."""
    tokens: Tensor
    """(s, t) their tokens; N, which is none, at padding."""
    runs: tuple[tuple[int, int], ...]
    """For each run, how many sequences it has here, and the length of their longest."""


@dataclass(frozen=True)
class Pack:
    """Where everything is."""

    runs: int
    """R."""
    samples: int
    """B."""
    groups: int
    """G."""
    time: Tensor
    """(N,) the position of each token in its sequence as it was padded."""
    frames: tuple[list[int], ...]
    """By modality, how many observed frames each run has."""
    observed: tuple[Tensor, ...]
    """By modality, rows of the features as (R B T[m], D[m]) that are observed: O in all."""
    sources: Tensor
    """(3, N) the observed frame, or O, before, at and after each token."""
    targets: Tensor
    """(3, O) the token, or N, after, at and before each observed frame: `sources` the other way round."""
    last: Tensor
    """(S,) the last token of each sequence."""
    length: Tensor
    """(S,) how many it has."""
    buckets: tuple[Bucket, ...]

    def grid(self, length: int, modality: int) -> Tensor:
        """(R, B, length) the token of each frame of one modality; N at padding."""
        each = self.runs * self.samples
        own = slice(modality * each, (modality + 1) * each)
        last, count = self.last[own], self.length[own]  # (R B,)
        steps = torch.arange(length, device=last.device)
        inside = steps < count[:, None]  # (R B, length), counted from 0
        token = ((last - count + 1)[:, None] + steps)[inside]
        grid = last.new_full((each, length), len(self.time))
        grid[inside.nonzero()[:, 0], self.time[token]] = token
        return grid.view(self.runs, -1, length)


def pack(valid: Sequence[Tensor], observed: Sequence[Tensor]) -> Pack:
    """Lays a batch out, given by modality what is valid and what of it is observed, bool (R, B, T[m]).

    Tokens are what is `attended` to: of a modality that is absent the first frame.
    """
    modalities, (runs, samples, _) = len(valid), valid[0].shape
    lengths = [mask.shape[2] for mask in valid]
    longest, device = max(lengths), valid[0].device
    used = torch.zeros(modalities, runs, samples, longest, dtype=torch.bool, device=device)
    seen = torch.zeros_like(used)
    for m, length in enumerate(lengths):
        used[m, :, :, :length] = valid[m]
        seen[m, :, :, :length] = observed[m]
    used = attended(used)

    flat = used.flatten().nonzero().squeeze(1)  # (N,)
    frame = seen.flatten().nonzero().squeeze(1)  # (O,)
    count = used.sum(3).view(modalities * runs, samples)  # (G, B)
    sizes = torch.stack([count.sum(1), seen.sum((2, 3)).flatten()])  # (2, G)
    frames = sizes[1].view(modalities, runs).tolist()
    most = int(sizes[0].max())
    group = torch.arange(modalities * runs, device=device)[:, None]
    # A token's place is its number in its group, after the places of the groups before.
    start = count.cumsum(1) - count + group * most  # (G, B)
    sample = flat.div(longest, rounding_mode="floor")
    before = (used.view(-1, longest).cumsum(1) - 1).flatten()[flat]  # in its own sequence
    place = start.flatten()[sample] + before  # of each token
    n = len(count) * most
    length_of, last = count.flatten(), (start + count - 1).flatten()
    time = torch.zeros(n, dtype=torch.int64, device=device)
    time[place] = flat % longest

    rows = []
    per_modality = runs * samples * longest
    by_modality = torch.split(frame, [sum(own) for own in frames])
    for m, length in enumerate(lengths):
        own = by_modality[m] - m * per_modality
        row = own.div(longest, rounding_mode="floor")
        rows.append(own - row * (longest - length))
    sources, targets = _neighbours(flat, place, n, frame, longest, used.numel())
    return Pack(
        runs=runs,
        samples=samples,
        groups=len(count),
        time=time,
        frames=tuple(frames),
        observed=tuple(rows),
        sources=sources,
        targets=targets,
        last=last,
        length=length_of,
        buckets=_buckets(length_of, last, len(count), runs, n),
    )


def _neighbours(
    flat: Tensor, place: Tensor, n: int, frame: Tensor, longest: int, frames: int
) -> tuple[Tensor, Tensor]:
    """`sources` and `targets`: tokens and observed frames are `flat` and `frame` among all frames."""
    o, device = len(frame), flat.device
    # Both lists as tables with a margin of one frame on either side of a sequence.
    table = torch.empty(2, frames // longest * (longest + 2), dtype=torch.int64, device=device)
    table[0] = o
    table[1] = n
    at_token = flat + 2 * flat.div(longest, rounding_mode="floor") + 1
    at_frame = frame + 2 * frame.div(longest, rounding_mode="floor") + 1
    table[0, at_frame] = torch.arange(o, device=device)
    table[1, at_token] = place
    around = torch.tensor([[-1], [0], [1]], device=device)
    sources = torch.full((3, n), o, device=device)
    sources[:, place] = table[0, at_token + around]
    return sources, table[1, at_frame - around]


def _buckets(length: Tensor, last: Tensor, groups: int, runs: int, n: int) -> tuple[Bucket, ...]:
    """Each run's sequences by length, in parts of about as many; equal parts of all runs together."""
    places = torch.arange(len(length), device=length.device).view(groups // runs, runs, -1)
    parts = []  # by run
    for run in range(runs):
        own = places[:, run].flatten()
        parts.append(own[length[own].argsort(stable=True)].tensor_split(BUCKETS))
    found = []
    for together in zip(*parts, strict=True):
        if not (chosen := torch.cat(together)).numel():
            continue  # fewer sequences than parts
        longest = [int(length[part[-1]]) if len(part) else 0 for part in together]
        steps = torch.arange(max(longest), device=length.device)
        tokens = (last - length + 1)[chosen][:, None] + steps  # (s, t)
        inside = steps < length[chosen][:, None]
        sizes = tuple((len(part), most) for part, most in zip(together, longest, strict=True))
        found.append(Bucket(chosen, torch.where(inside, tokens, n), sizes))
    return tuple(found)
