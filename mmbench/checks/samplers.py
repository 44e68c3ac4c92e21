"""Checks of samplers, on the masks of made-up samples."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from mmbench.checks.core import check
from mmbench.checks.failures import NotApplicable, fail
from mmbench.checks.masks import hidden_only, same, shaped, valid_frames
from mmbench.checks.randomness import seeded, untouched
from mmbench.missingness import MissingnessSampler
from mmbench.registry import Registry
from mmbench.streams import stream


class Sampler:
    """A sampler, and what it draws of made-up samples."""

    def __init__(self, cls: type[MissingnessSampler], registry: Registry) -> None:
        self.cls = cls

    def drawn(
        self, how: str, made: MissingnessSampler | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Three draws, or a sweep, from the start of one stream."""
        rng, sampler = stream("checks", "sampler"), made or self.cls()
        if how == "sweep":
            return list(sampler.sweep(valid_frames(), rng))
        return [sampler.draw(valid_frames(), rng) for _ in range(3)]

    def both(self) -> list[tuple[str, dict[str, np.ndarray]]]:
        """Every mask of both, and which one it is of."""
        return [(how, masks) for how in ("draw", "sweep") for masks in self.drawn(how)]


@check("sampler", "masks have the data's shapes", Sampler)
def sampler_shaped(subject: Sampler) -> None:
    """A batch takes them as they come, and selection needs a sweep that is not empty."""
    for how, masks in subject.both():
        shaped(masks, valid_frames(), how)
    if not subject.drawn("sweep"):
        fail(
            "sweep yields nothing",
            expected="at least one set of masks, by which the best epoch is selected",
            mend="Yield what stands for the masks that draw may give.",
        )


@check("sampler", "padding is never revealed", Sampler)
def sampler_padding(subject: Sampler) -> None:
    """Padding is not missing and not observed."""
    for how, masks in subject.both():
        hidden_only(masks, valid_frames(), how)


@check("sampler", "the generator that it is given decides everything", Sampler)
def sampler_pure(subject: Sampler) -> None:
    """The same generator gives the same masks, or the same seed does not give the same numbers."""
    for how in ("draw", "sweep"):
        with seeded(1):
            sampler = subject.cls()
            first, again = subject.drawn(how, sampler), subject.drawn(how, sampler)
        with seeded(2):
            anew = subject.drawn(how)
        for other in (again, anew):
            if len(other) != len(first) or not all(map(same, first, other)):
                fail(
                    f"{how} gives other masks from the same generator",
                    expected="masks that depend on valid and rng alone",
                    mend="Draw from rng, and keep nothing from one call to the next.",
                )


@check("sampler", "no global random state is touched", Sampler)
def sampler_globals(subject: Sampler) -> None:
    """Who seeds or draws from a global generator changes everybody's numbers in the same process."""
    with untouched("drawing masks"):
        subject.both()


@check("sampler", "each modality has masks of its own", Sampler)
def sampler_independent(subject: Sampler) -> None:
    """Frames that vanish in all modalities at once are another, harder question."""
    valid, different, partial = valid_frames(), False, False
    for masks in subject.drawn("draw"):
        for one, other in combinations(valid, 2):
            some = [masks[m].any(1) for m in (one, other)]
            less = [masks[m].sum(1) < valid[m].sum(1) for m in (one, other)]
            rows = np.all([*some, *less, valid[one].sum(1) == valid[other].sum(1)], 0)
            partial |= bool(rows.any())
            different |= not np.array_equal(masks[one][rows], masks[other][rows])
    if not partial:
        raise NotApplicable("it hides no part of two modalities at once")
    if not different:
        fail(
            "wherever two modalities lack frames, they lack the same ones",
            expected="masks that are drawn for each modality by itself",
            mend="Draw anew from rng for each modality.",
        )
