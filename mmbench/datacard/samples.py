"""What the samples of a data set are: their targets, their groups, and which of them are the same. N samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmbench.data import SPLITS, Data
from mmbench.tasks import MultiClass, Regression, Task


@dataclass(frozen=True)
class LabelFacts:
    """One label: whole scores, no and yes, or classes."""

    bins: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    means: Mapping[str, float]
    constant: tuple[str, ...]
    """Splits in which every target is the same."""
    drift: float
    """The largest total variation distance between the shares of two splits, in [0, 1]."""
    drifted: tuple[str, str]
    """Those splits."""


@dataclass(frozen=True)
class Repeat:
    """Samples whose features and valid frames are the same bits."""

    samples: tuple[tuple[str, str], ...]
    """Their (split, id)."""
    modalities: int
    """How many modalities they have."""
    contradict: bool
    """Whether their targets differ."""

    @property
    def across(self) -> bool:
        """Whether they stand in more than one split."""
        return len({split for split, _ in self.samples}) > 1


@dataclass(frozen=True)
class Groups:
    """Videos or speakers, as far as ids tell."""

    told: int
    """Samples whose id tells it."""
    count: int
    shared: Mapping[str, tuple[str, ...]]
    """By group: the splits in which it stands, where there are several."""


def repeats(data: Data, digests: Mapping[str, Sequence[bytes]]) -> tuple[Repeat, ...]:
    """Every set, from the digests of the samples. Samples that have no valid frame at all are in none."""
    there = {s: present(data, s) for s in SPLITS}
    places: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for split in SPLITS:
        for row, digest in enumerate(digests[split]):
            if there[split][row]:
                places[digest].append((split, row))
    return tuple(
        Repeat(
            tuple((split, data.splits[split].ids[row]) for split, row in same),
            int(there[same[0][0]][same[0][1]]),
            len({data.splits[split].targets[row].tobytes() for split, row in same}) > 1,
        )
        for same in places.values()
        if len(same) > 1
    )


def present(data: Data, split: str) -> np.ndarray:
    """How many modalities each sample of a split has, int (N,)."""
    return np.sum([v.any(1) for v in data.splits[split].valid.values()], 0)


def labels(data: Data) -> dict[str, LabelFacts]:
    """Every column of the targets."""
    return {
        label: _label(data.task, {s: data.splits[s].targets[:, column] for s in SPLITS})
        for column, label in enumerate(data.task.labels)
    }


def _label(task: Task, targets: Mapping[str, np.ndarray]) -> LabelFacts:
    """Targets (N,) by split."""
    low, names = 0, ["no", "yes"]
    if isinstance(task, Regression):
        low, high = round(task.low), round(task.high)
        names = [str(score) for score in range(low, high + 1)]
    elif isinstance(task, MultiClass):
        names = list(task.classes)
    whole = {s: np.rint(y).astype(np.int64) - low for s, y in targets.items()}
    counts = {
        s: np.bincount(y.clip(0, len(names) - 1), minlength=len(names)) for s, y in whole.items()
    }
    shares = {s: n / n.sum() for s, n in counts.items()}
    apart = {
        (a, b): float(np.abs(shares[a] - shares[b]).sum() / 2) for a, b in combinations(SPLITS, 2)
    }
    drifted = max(apart, key=apart.__getitem__)
    return LabelFacts(
        bins=tuple(names),
        counts={s: tuple(n.tolist()) for s, n in counts.items()},
        means={s: float(y.mean(dtype=np.float64)) for s, y in targets.items()},
        constant=tuple(s for s, y in targets.items() if (y == y[0]).all()),
        drift=apart[drifted],
        drifted=drifted,
    )


def groups(data: Data, group_of: Callable[[str], str | None]) -> Groups:
    """Which group stands where. If all ids give one group, it is a prefix that they share, and no group."""
    places: dict[str, list[str]] = defaultdict(list)
    for split in SPLITS:
        for sample_id in data.splits[split].ids:
            if (group := group_of(sample_id)) is not None:
                places[group].append(split)
    if len(places) < 2:
        return Groups(0, 0, {})
    return Groups(
        told=sum(map(len, places.values())),
        count=len(places),
        shared={
            group: tuple(s for s in SPLITS if s in splits)
            for group, splits in sorted(places.items())
            if len(set(splits)) > 1
        },
    )
