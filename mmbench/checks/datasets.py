"""Checks of data sets: of what `make` gives or, for real data, of what was imported."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations

import numpy as np

from mmbench import datafile
from mmbench.checks.core import check
from mmbench.checks.failures import NotApplicable, fail
from mmbench.checks.randomness import refuse_touched, seeded, states
from mmbench.data import SPLITS, Data, Dataset, Samples
from mmbench.errors import DataError
from mmbench.registry import Registry


class Subject:
    """A data set and its content, made once."""

    def __init__(self, cls: type[Dataset], registry: Registry) -> None:
        self.dataset = cls()

    @cached_property
    def data(self) -> Data:
        """The content; NotApplicable if it has to be imported first."""
        with seeded(1):
            before = states()
            made = self.dataset.make()
            self.touched = [name for name, state in states().items() if state != before[name]]
        if made is not None:
            return made
        if not datafile.is_there(self.dataset):
            name = self.dataset.name
            raise NotApplicable(f"it has to be imported first: mmbench data import {name} FILE")
        return datafile.obtain(self.dataset)

    def splits(self) -> list[tuple[str, Samples]]:
        """The splits that are there."""
        return [(s, self.data.splits[s]) for s in SPLITS if s in self.data.splits]


@check("dataset", "it has the three splits, under its own name and task", Subject)
def whole(subject: Subject) -> None:
    """Results are filed by the name, and made-up data never passes as real."""
    data, dataset = subject.data, subject.dataset
    if missing := [s for s in SPLITS if s not in data.splits or not len(data.splits[s])]:
        fail(
            f"there are no samples in {', '.join(missing)}",
            expected=f"samples in each of {', '.join(SPLITS)}",
            mend="Give data.splits a Samples for each.",
        )
    told = {"name": data.name, "task": data.task, "synthetic": data.synthetic}
    for what, value in told.items():
        if value != getattr(dataset, what):
            fail(
                f"its data has {what} = {value!r}, and the class {getattr(dataset, what)!r}",
                expected="the same in both",
                mend=f"Build the data with {what}=self.{what}.",
            )


@check("dataset", "ids are unique", Subject)
def unique(subject: Subject) -> None:
    """Masks are drawn by a sample's id, and results told by it."""
    for split, samples in subject.splits():
        if twice := len(samples.ids) - len(set(samples.ids)):
            fail(
                f"{twice} of {len(samples.ids)} ids in {split} stand there again",
                expected="an id for each sample",
                mend="Number the segments of a video, e.g. video_3.",
            )


@check("dataset", "splits are disjoint", Subject)
def disjoint(subject: Subject) -> None:
    """A sample, video or speaker in two splits is learnt by heart and then tested."""
    for (one, a), (other, b) in combinations(subject.splits(), 2):
        shared = set(a.ids) & set(b.ids)
        group = subject.dataset.group_of
        groups = ({group(i) for i in a.ids} & {group(i) for i in b.ids}) - {None}
        if found := sorted(shared) or sorted(str(g) for g in groups):
            fail(
                f"{one} and {other} share {', '.join(found[:3])}{' ...' if found[3:] else ''}",
                expected="that no sample, video or speaker is in two splits",
                mend="Split by video or speaker; where ids say nothing of one, let group_of give None.",
            )


@check("dataset", "masks and features have the same shapes", Subject)
def fitting(subject: Subject) -> None:
    """Float32 (N, T, D) and bool (N, T), the same modalities in the same order, alike in every split."""
    shapes = subject.data.modalities()
    for split, samples in subject.splits():
        if not list(shapes) == list(samples.features) == list(samples.valid):
            fail(
                f"{split} has features of {', '.join(samples.features)} and masks of {', '.join(samples.valid)}",
                expected=f"both of {', '.join(shapes)}, as train",
                mend="Build both in the same order, from the same modalities.",
            )
        for m, shape in shapes.items():
            expected = (len(samples), shape.length, shape.width)
            x, valid = samples.features[m], samples.valid[m]
            if x.dtype != np.float32 or x.shape != expected:
                fail(
                    f"{split}: features of {m} are {x.dtype} {x.shape}",
                    expected=f"float32 {expected}",
                    mend="Pad to one length for all splits, and convert by .astype(np.float32).",
                )
            if valid.dtype != np.bool_ or valid.shape != expected[:2]:
                fail(
                    f"{split}: the mask of {m} is {valid.dtype} {valid.shape}",
                    expected=f"bool {expected[:2]}",
                    mend="Give a mask a value for each frame.",
                )


@check("dataset", "padding is zero", Subject)
def padded(subject: Subject) -> None:
    """What a mask calls padding is no content, or methods read what protocols never hide."""
    for split, samples in subject.splits():
        for m, x in samples.features.items():
            valid = samples.valid[m]
            if valid.shape == x.shape[:2] and (beyond := int((x.any(-1) & ~valid).sum())):
                fail(
                    f"{split}: {beyond} frames of {m} hold values and are not valid",
                    expected="zeros wherever the mask is False",
                    mend="Lengthen the mask to the content, or set what is behind it to zero.",
                )


@check("dataset", "features are finite", Subject)
def finite(subject: Subject) -> None:
    """One NaN makes a loss NaN, and the job fails for a reason that nobody sees."""
    for split, samples in subject.splits():
        for m, x in samples.features.items():
            if not np.isfinite([x.min(initial=0), x.max(initial=0)]).all():  # copies nothing
                fail(
                    f"{split}: features of {m} hold NaN or infinity",
                    expected="finite numbers",
                    mend="Mark such frames as not valid, and set them to zero.",
                )


@check("dataset", "targets fit the task", Subject)
def targets(subject: Subject) -> None:
    """Targets outside the task's range or classes make losses and metrics meaningless."""
    for split, samples in subject.splits():
        try:
            expected = subject.data.task.check(samples.targets)
        except DataError as error:
            fail(
                f"{split}: {error}",
                expected="targets as the task has them",
                mend="Mend the targets, or say another task: low and high, labels, classes.",
            )
        got = samples.targets
        if (got.dtype, got.shape) != (expected.dtype, expected.shape) or len(got) != len(samples):
            fail(
                f"{split}: targets are {got.dtype} {got.shape} of {len(samples)} samples",
                expected=f"{expected.dtype} {expected.shape}",
                mend="Return task.check(targets).",
            )


@check("dataset", "its content is the same each time", Subject)
def stable(subject: Subject) -> None:
    """Results are filed by the hash of the content: data that changes makes every one of them stale."""
    first = datafile.content_hash(subject.data)
    with seeded(2):
        again = subject.dataset.make()
    if again is not None and datafile.content_hash(again) != first:
        fail(
            "made twice, its content has two hashes",
            expected="the same bytes each time",
            mend="Draw from mmbench.streams.stream(name, version, ...), and read no clock.",
        )


@check("dataset", "no global random state is touched", Subject)
def globals_alone(subject: Subject) -> None:
    """Who seeds or draws from a global generator changes everybody's numbers in the same process."""
    if not subject.data.synthetic:
        raise NotApplicable("it is read, not made")
    refuse_touched("making it", subject.touched)


@check("dataset", "its oracle sees no hidden values", Subject)
def oracle(subject: Subject) -> None:
    """The ceiling of a table is what can be known from what is observed."""
    asked, samples = subject.dataset.oracle(), subject.data.splits["test"].take(16)
    if asked is None:
        raise NotApplicable("it has no oracle")
    masks = {m: v & (v.cumsum(1) % 2 == 1) for m, v in samples.valid.items()}
    poisoned = {m: np.where(masks[m][..., None], x, np.nan) for m, x in samples.features.items()}
    clean = asked.posterior(samples.features, masks)
    if not np.isfinite(clean).all() or not np.array_equal(
        clean,
        asked.posterior(poisoned, masks),
    ):
        fail(
            "its posterior is not finite, or changes with what stands in hidden frames",
            expected="one that depends on observed frames alone",
            mend="Read features only where the mask is True.",
        )
