"""Data sets with one thing wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import mmbench
from mmbench.checks.made_up import SCORE, copied, setting
from tests.checks.rogues.table import rogue


class Small(mmbench.Dataset):
    """The honest one."""

    name, summary, task, synthetic = "small", "made up", SCORE, True

    def make(self):
        data = setting(SCORE).data
        splits = {name: self.spoil(name, copied(samples)) for name, samples in data.splits.items()}
        return replace(data, name=self.name, splits=splits)

    def spoil(self, split, samples):
        return samples


@rogue("it has the three splits, under its own name and task")
class PassesForReal(Small):
    """Says that its made-up data is real."""

    def make(self):
        return replace(super().make(), synthetic=False)


@rogue("ids are unique")
class RepeatsAnId(Small):
    """Calls two samples the same."""

    def spoil(self, split, samples):
        return replace(samples, ids=(samples.ids[1], *samples.ids[1:]))


@rogue("splits are disjoint")
class TestsWhatItTrainedOn(Small):
    """Has a test sample's video in training, too."""

    def spoil(self, split, samples):
        segment = {"train": "video_1", "valid": "other_1", "test": "video_2"}[split]
        return replace(samples, ids=(segment, *samples.ids[1:]))


@rogue("masks and features have the same shapes")
class MaskEndsEarly(Small):
    """Has a mask that is a frame shorter than the content."""

    def spoil(self, split, samples):
        return replace(samples, valid={m: v[:, 1:] for m, v in samples.valid.items()})


@rogue("padding is zero")
class SpeaksInPadding(Small):
    """Has values where the mask says padding."""

    def spoil(self, split, samples):
        for m, x in samples.features.items():
            x[~samples.valid[m]] = 1
        return samples


@rogue("features are finite")
class HasNaN(Small):
    """Has a NaN in the first valid frame of a sample."""

    def spoil(self, split, samples):
        samples.features["a"][0, -1, 0] = np.nan
        return samples


@rogue("targets fit the task")
class OffTheScale(Small):
    """Has a score of 4 on a scale up to 3."""

    def spoil(self, split, samples):
        samples.targets[0] = 4
        return samples


@rogue("its content is the same each time")
class NeverTheSame(Small):
    """Draws a feature anew by a generator that nobody seeded."""

    def spoil(self, split, samples):
        samples.features["l"][0, -1, 0] = np.random.default_rng().random()
        return samples


@rogue("no global random state is touched")
class MakesBySeeding(Small):
    """Seeds numpy's global generator."""

    def spoil(self, split, samples):
        np.random.seed(3)  # noqa: NPY002
        return samples


@rogue("its oracle sees no hidden values")
class KnowsTooMuch(Small):
    """Has an oracle that reads all frames."""

    def oracle(self):
        class Peeks(mmbench.Oracle):
            def posterior(self, features, observed):
                return features["l"].sum((1, 2))[:, None]

            def outputs(self, posterior):
                return posterior

            def draw(self, posterior, rng):
                return posterior

        return Peeks()
