"""Protocols and samplers with one thing wrong."""

from __future__ import annotations

import json

import numpy as np

import mmbench
from mmbench.missingness import hashed_priority, hide
from tests.checks.rogues.table import rogue


class Steps(mmbench.MissingnessProtocol):
    """The honest one: a quarter and a half of the frames of every modality."""

    name, version, summary = "steps", 1, "two rates"
    average, average_formula = "Avg.", "mean"

    def conditions(self, modalities):
        return tuple(
            mmbench.Condition(str(p), f"p={p}", tuple(modalities), rate=p) for p in (0.25, 0.5)
        )

    def keys(self, condition, m, ids, dataset, split, mask_seed):
        return [json.dumps([dataset, split, i, m, mask_seed]) for i in ids]

    def mask(self, frames, keys, condition):
        return hide(frames, hashed_priority(frames, keys), condition.rate)

    def masks(self, condition, valid, *, ids, dataset, split, mask_seed):
        return {
            m: self.mask(frames, self.keys(condition, m, ids, dataset, split, mask_seed), condition)
            for m, frames in valid.items()
        }

    def summarise(self, scores, conditions):
        return float(np.mean([scores[c.name] for c in conditions]))


@rogue("conditions have names of their own, for two and three modalities")
class NamesNothing(Steps):
    """Calls every condition the same."""

    def conditions(self, modalities):
        return tuple(
            mmbench.Condition("some", "some", tuple(modalities), rate=p) for p in (0.25, 0.5)
        )


@rogue("masks have the data's shapes")
class MasksAreNumbers(Steps):
    """Gives zeros and ones, not False and True."""

    def mask(self, frames, keys, condition):
        return super().mask(frames, keys, condition).astype(int)


@rogue("padding is never revealed")
class RevealsPadding(Steps):
    """Says that the first frame is observed wherever it is padding."""

    def mask(self, frames, keys, condition):
        mask = super().mask(frames, keys, condition)
        mask[:, 0] |= ~frames[:, 0]
        return mask


@rogue("masks are a pure function of names and numbers")
class ReadsGlobalState(Steps):
    """Puts what numpy's global generator is at into the key."""

    def keys(self, *parts):
        at = int(np.random.get_state(legacy=True)[1][0])  # noqa: NPY002
        return [f"{at} {key}" for key in super().keys(*parts)]


@rogue("other samples never matter")
class HidesByRow(Steps):
    """Draws by the row of a sample, not by its id."""

    def keys(self, condition, m, ids, *names):
        return super().keys(condition, m, range(len(ids)), *names)


@rogue("no global random state is touched")
class SeedsNumpy(Steps):
    """Seeds numpy's global generator before it draws from another one."""

    def mask(self, frames, keys, condition):
        np.random.seed(0)  # noqa: NPY002
        return super().mask(frames, keys, condition)


@rogue("exactly the rate's share is hidden")
class RoundsDown(Steps):
    """Hides one frame too few wherever the share is more than a half above."""

    def mask(self, frames, keys, condition):
        n = frames.sum(1, keepdims=True)
        rate = np.floor(condition.rate * n) / np.maximum(n, 1)
        return hide(frames, hashed_priority(frames, keys), rate)


@rogue("a rate of 0 hides nothing")
class AlwaysHidesOne(Steps):
    """Hides a frame even at a rate of 0."""

    def mask(self, frames, keys, condition):
        mask = super().mask(frames, keys, condition)
        return mask if condition.rate else mask & (frames.cumsum(1) != 1)


@rogue("a higher rate hides the same frames and more")
class DrawsEachRateAnew(Steps):
    """Puts the rate into the key."""

    def keys(self, condition, *names):
        return [f"{condition.rate} {key}" for key in super().keys(condition, *names)]


@rogue("each modality has masks of its own")
class HidesAllAtOnce(Steps):
    """Leaves the modality out of the key."""

    def keys(self, condition, m, *names):
        return super().keys(condition, "", *names)


@rogue("each mask seed, split and data set draws anew")
class OneMaskForAllSeeds(Steps):
    """Says that it has three mask seeds, and draws the same for each."""

    mask_seeds = 3

    def keys(self, condition, m, ids, dataset, split, mask_seed):
        return super().keys(condition, m, ids, dataset, split, 0)


@rogue("the summary is linear in the scores")
class TakesTheWorst(Steps):
    """Has the lowest score as its summary."""

    def summarise(self, scores, conditions):
        return min(scores.values())


class Half(mmbench.MissingnessSampler):
    """The honest one: half of the frames, at random."""

    name, version, summary = "half", 1, "half of the frames"

    def draw(self, valid, rng):
        return {m: hide(frames, rng.random(frames.shape), 0.5) for m, frames in valid.items()}

    def sweep(self, valid, rng):
        yield self.draw(valid, rng)


@rogue("masks have the data's shapes")
class SweepsNothing(Half):
    """Has no masks for selection."""

    def sweep(self, valid, rng):
        return iter(())


@rogue("padding is never revealed")
class SamplesPadding(Half):
    """Says that all padding is observed."""

    def draw(self, valid, rng):
        return {m: mask | ~valid[m] for m, mask in super().draw(valid, rng).items()}


@rogue("the generator that it is given decides everything")
class BringsItsOwnGenerator(Half):
    """Draws from a generator that nobody seeded."""

    def draw(self, valid, rng):
        return super().draw(valid, np.random.default_rng())


@rogue("no global random state is touched")
class SamplesAndSeeds(Half):
    """Seeds numpy's global generator."""

    def draw(self, valid, rng):
        np.random.seed(1)  # noqa: NPY002
        return super().draw(valid, rng)


@rogue("each modality has masks of its own")
class SamplesAllAtOnce(Half):
    """Draws one priority for all modalities."""

    def draw(self, valid, rng):
        priority = rng.random(next(iter(valid.values())).shape)
        return {m: hide(frames, priority, 0.5) for m, frames in valid.items()}
