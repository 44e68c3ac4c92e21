"""Checks of protocols, on the masks of made-up samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from mmbench.checks.core import check
from mmbench.checks.failures import NotApplicable, fail
from mmbench.checks.masks import COUNT, IDS, LENGTH, NAMES, hidden_only, same, shaped, valid_frames
from mmbench.checks.randomness import seeded, untouched
from mmbench.errors import DataError
from mmbench.missingness import Condition, Masks, MissingnessProtocol, n_hidden
from mmbench.registry import Registry
from mmbench.streams import stream


class Protocol:
    """A protocol with its masks of made-up samples."""

    def __init__(self, cls: type[MissingnessProtocol], registry: Registry) -> None:
        self.cls = cls

    @cached_property
    def made(self) -> MissingnessProtocol:
        """One that is made without arguments, as jobs make it."""
        return self.cls()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The first modalities that it has conditions for."""
        for names in NAMES:
            try:
                self.made.conditions(names)
            except DataError:
                continue
            return names
        raise NotApplicable("it has conditions for neither two modalities nor three")

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Its columns."""
        return self.made.conditions(self.names)

    @property
    def valid(self) -> dict[str, np.ndarray]:
        """The valid frames of the made-up samples, in arrays of the caller's own."""
        return valid_frames(self.names)

    def masks(
        self,
        condition: Condition,
        rows: Any = slice(None),
        made: MissingnessProtocol | None = None,
        seed: int = 0,
        split: str = "test",
        dataset: str = "made-up",
    ) -> dict[str, np.ndarray]:
        """What is observed of some samples."""
        valid = {m: v[rows] for m, v in self.valid.items()}
        ids = tuple(np.array(IDS)[rows])
        return (made or self.made).masks(
            condition, valid, ids=ids, dataset=dataset, split=split, mask_seed=seed
        )


@check("protocol", "conditions have names of their own, for two and three modalities", Protocol)
def conditions_named(subject: Protocol) -> None:
    """Results are filed by a condition's name; DataError refuses modalities that it cannot hide."""
    for names in NAMES:
        try:
            conditions = subject.made.conditions(names)
        except DataError:
            continue
        told = [c.name for c in conditions], [c.title for c in conditions]
        if not conditions or any(len(set(each)) != len(each) for each in told):
            fail(
                f"conditions for {', '.join(names)} are called {', '.join(told[0]) or 'nothing'}",
                expected="at least one, each with a name and a title of its own",
                mend="Put what tells them apart into name and title.",
            )
        for c in conditions:
            if not set(c.observed) <= set(names) or not 0 <= c.rate <= 1:
                fail(
                    f"condition {c.name!r} observes {', '.join(c.observed)} at rate {c.rate}",
                    expected=f"some of {', '.join(names)}, and a rate in [0, 1]",
                    mend="Take the modalities from the argument of conditions().",
                )


@check("protocol", "masks have the data's shapes", Protocol)
def protocol_shaped(subject: Protocol) -> None:
    """A batch takes them as they come."""
    for condition in subject.conditions:
        shaped(subject.masks(condition), subject.valid, condition.name)


@check("protocol", "padding is never revealed", Protocol)
def protocol_padding(subject: Protocol) -> None:
    """Padding is not missing and not observed: counted as either, rates mean nothing."""
    for condition in subject.conditions:
        hidden_only(subject.masks(condition), subject.valid, condition.name)


@check("protocol", "masks are a pure function of names and numbers", Protocol)
def pure(subject: Protocol) -> None:
    """Asked twice, by a new object and beside other random numbers, masks are equal: on any machine, at any time."""
    for condition in subject.conditions:
        with seeded(1):
            first = subject.masks(condition)
        with seeded(2):
            again = subject.masks(condition)
            anew = subject.masks(condition, made=subject.cls())
        if not (same(first, again) and same(first, anew)):
            fail(
                f"{condition.name}: masks change from call to call",
                expected="equal masks whenever the same is asked",
                mend="Draw by hashed_priority(valid, keys) or stream(name, ...), from keys that name the sample.",
            )


@check("protocol", "other samples never matter", Protocol)
def each_alone(subject: Protocol) -> None:
    """A sample keeps its masks in another order and in a smaller split: it is hidden by its id."""
    for condition in subject.conditions:
        whole = subject.masks(condition)
        for rows in (np.arange(COUNT)[::-1], np.arange(5, COUNT, 3)):
            if not same(subject.masks(condition, rows), {m: x[rows] for m, x in whole.items()}):
                fail(
                    f"{condition.name}: a sample's masks change with the samples around it",
                    expected="masks by the sample's id alone",
                    mend="Give each sample a stream or a key of its own: its id, not its row.",
                )


@check("protocol", "no global random state is touched", Protocol)
def protocol_globals(subject: Protocol) -> None:
    """Who seeds or draws from a global generator changes everybody's numbers in the same process."""
    with untouched("making masks"):
        for condition in subject.conditions:
            subject.masks(condition)


@check("protocol", "exactly the rate's share is hidden", Protocol)
def exact(subject: Protocol) -> None:
    """Of n valid frames round(rate n), a half to the even number, and all of a modality that is not there."""
    for condition in subject.conditions:
        masks = subject.masks(condition)
        for m, frames in subject.valid.items():
            n_valid = frames.sum(1)
            rate = condition.rate if m in condition.observed else 1.0
            found, expected = n_valid - (masks[m] & frames).sum(1), n_hidden(rate, n_valid)
            if (wrong := found != expected).any():
                row = int(wrong.argmax())
                fail(
                    f"{condition.name}: {found[row]} of {n_valid[row]} frames of {m} are hidden",
                    expected=f"{expected[row]}, the nearest to {rate:g} times {n_valid[row]}",
                    mend="Use mmbench.missingness.hide(valid, priority, rate), which counts.",
                )


@check("protocol", "a rate of 0 hides nothing", Protocol)
def zero(subject: Protocol) -> None:
    """The left end of a curve is the complete data."""
    for condition in subject.conditions:
        at_zero = replace(condition, rate=0.0)
        masks = subject.masks(at_zero)
        for m in condition.observed:
            if (subject.valid[m] & ~masks[m]).any():
                fail(
                    f"{condition.name} with a rate of 0 hides frames of {m}",
                    expected="that all valid frames are observed",
                    mend="Read the rate from condition.rate, and hide round(rate n) frames.",
                )


@check("protocol", "a higher rate hides the same frames and more", Protocol)
def nested(subject: Protocol) -> None:
    """A curve over nested masks is as smooth as the method is; over fresh ones it wobbles by chance."""
    pairs = [
        (low, high)
        for a, b in combinations(subject.conditions, 2)
        if a.observed == b.observed and a.rate != b.rate
        for low, high in [sorted((a, b), key=lambda c: c.rate)]
    ]
    if not pairs:
        raise NotApplicable("no two conditions differ in their rate alone")
    for low, high in pairs:
        few, many = subject.masks(low), subject.masks(high)
        for m in few:
            if (many[m] & ~few[m]).any():
                fail(
                    f"frames of {m} that {low.name} hides are seen again at {high.name}",
                    expected="that what is hidden stays hidden at a higher rate",
                    mend="Keep rate and condition out of the keys, and hide the lowest priorities first.",
                )


def _partial(subject: Protocol) -> list[Condition]:
    found = [c for c in subject.conditions if 0 < c.rate < 1 and len(c.observed) > 1]
    if not found:
        raise NotApplicable("no condition hides a part of several modalities")
    return found


@check("protocol", "each modality has masks of its own", Protocol)
def independent(subject: Protocol) -> None:
    """Frames that vanish in all modalities at once are another, harder question."""
    for condition in _partial(subject):
        masks = subject.masks(condition)
        for one, other in combinations(condition.observed, 2):
            rows = np.arange(LENGTH + 1, COUNT - 1)  # whole in every modality
            if np.array_equal(masks[one][rows], masks[other][rows]):
                fail(
                    f"{condition.name}: {one} and {other} have the same frames hidden in every sample",
                    expected="masks that are drawn for each modality by itself",
                    mend="Put the modality's name into the key or the stream.",
                )


@check("protocol", "each mask seed, split and data set draws anew", Protocol)
def seeds_differ(subject: Protocol) -> None:
    """Averages over mask seeds are of different masks, and samples of one name in two places, too."""
    condition = _partial(subject)[0]
    base = subject.masks(condition)
    others: dict[str, Masks] = {
        "split": subject.masks(condition, split="valid"),
        "data set": subject.masks(condition, dataset="another"),
    }
    if subject.made.mask_seeds > 1:
        others["mask seed"] = subject.masks(condition, seed=1)
    for what, masks in others.items():
        if same(base, masks):
            fail(
                f"{condition.name}: masks are the same for another {what}",
                expected="masks that differ",
                mend=f"Put the {what} into the key or the stream.",
            )


@check("protocol", "the summary is linear in the scores", Protocol)
def linear(subject: Protocol) -> None:
    """Differences of summaries are tested as summaries of differences; a metric in % is a share times 100."""
    conditions = subject.conditions
    rng = stream("checks", "summary")
    one, other = (dict(zip((c.name for c in conditions), x, strict=True)) for x in rng.random((2, len(conditions))))  # fmt: skip
    mixed: Mapping[str, float] = {name: 3 * one[name] - other[name] for name in one}
    summaries = [float(subject.made.summarise(s, conditions)) for s in (one, other, mixed)]
    if not np.isclose(summaries[2], 3 * summaries[0] - summaries[1], rtol=1e-9, atol=1e-9):
        fail(
            f"the summary of 3 a - b is {summaries[2]:.6g}, of a {summaries[0]:.6g}, of b {summaries[1]:.6g}",
            expected="3 times that of a, less that of b",
            mend="Let it be a weighted sum of the scores: no largest, no median, no product.",
        )
