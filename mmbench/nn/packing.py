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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmbench.nn.basic import attended
from mmbench.nn.kernels import lay_out

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
        samples=samples,
        groups=len(used),
        time=there(time),
        frames=tuple(own.tolist() for own in np.split(frames, len(valid))),
        observed=tuple(map(there, rows)),
        sources=there(sources),
        targets=there(targets),
        last=there(last),
        length=there(length),
        buckets=tuple(
            Bucket(there(chosen), there(tokens), sizes)
            for chosen, tokens, sizes in _buckets(length, last, len(used), runs, len(time))
        ),
    )


def _buckets(
    length: np.ndarray, last: np.ndarray, groups: int, runs: int, n: int
) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[tuple[int, int], ...]]]:
    """Each run's sequences by length, in parts of about as many; equal parts of all runs together."""
    places = np.arange(len(length)).reshape(groups // runs, runs, -1)
    parts = []  # by run
    for run in range(runs):
        own = places[:, run].ravel()
        parts.append(np.array_split(own[length[own].argsort(kind="stable")], BUCKETS))
    for together in zip(*parts, strict=True):
        if not len(chosen := np.concatenate(together)):
            continue  # fewer sequences than parts
        longest = [int(length[part[-1]]) if len(part) else 0 for part in together]
        count, steps = length[chosen][:, None], np.arange(max(longest))
        tokens = last[chosen][:, None] - count + 1 + steps  # (s, t)
        sizes = tuple((len(part), most) for part, most in zip(together, longest, strict=True))
        yield chosen, np.where(steps < count, tokens, n), sizes
