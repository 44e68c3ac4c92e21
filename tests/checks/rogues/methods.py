"""Methods with one thing wrong: each a linear model of mean frames, but for that."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
from torch import nn

import mmbench
from mmbench.batching import Split
from mmbench.checks.method import LEARNS, MADE
from mmbench.tasks import MultiClass
from tests.checks.rogues.table import rogue

REPEATED = "two trainings differ, whatever is hidden"


class Mean(mmbench.Method):
    """The honest one."""

    name = "mean"

    def __init__(self, spec):
        super().__init__(spec)
        self.head = nn.Linear(sum(spec.widths.values()), spec.task.n_out)

    def pool(self, batch):
        return torch.cat([x.mean(1) for x in batch.features.values()], -1)

    def forward(self, batch):
        return self.head(self.pool(batch))


def split_in_use():
    """Of whoever called `mmbench.training.predict`, if anybody did."""
    frame: Any = sys._getframe()
    while frame and not isinstance(frame.f_locals.get("split"), Split):
        frame = frame.f_back
    return frame and frame.f_locals["split"]


@rogue(MADE)
class NeedsAnArgument(Mean):
    """Has a hyper-parameter without a default."""

    def __init__(self, spec, *, width):
        super().__init__(spec)


@rogue("outputs are a row of n_out numbers for each sample")
class Squeezes(Mean):
    """Gives scores of shape (B,), which broadcast against targets (B, 1) to B x B pairs."""

    def forward(self, batch):
        return super().forward(batch).squeeze(-1)


@rogue(LEARNS)
class LossIsNoDict(Mean):
    """Returns a tensor where named terms are expected."""

    def loss(self, outputs, batch, rng):
        return self.spec.task.loss(outputs, batch.truth)


@rogue(
    "a score of two or three modalities is learnt, or refused with a reason",
    {
        f"{task} of two or three modalities is learnt, or refused with a reason": "its text has that name for every task"
        for task in ("a class", "a set of yes-or-no labels")
    },
)
class KnowsNames(Mean):
    """Reads the modality `l`, whatever modalities are called."""

    def pool(self, batch):
        return super().pool(batch) + batch.features["l"].mean((1, 2))[:, None]


@rogue("a set of yes-or-no labels of two or three modalities is learnt, or refused with a reason")
class OneLabel(Mean):
    """Learns the first of the yes-or-no labels by a loss of its own, and fails where they are two."""

    def loss(self, outputs, batch, rng):
        if batch.truth.shape[1] > 1:
            return {"task": nn.functional.cross_entropy(outputs, batch.truth)}
        return super().loss(outputs, batch, rng)


@rogue("a class of two or three modalities is learnt, or refused with a reason")
class RefusesWithoutReason(Mean):
    """Says of classes that it does not support them, and not why."""

    @classmethod
    def supports(cls, spec):
        return False if isinstance(spec.task, MultiClass) else None


@rogue("a data set whose modalities differ in length is learnt, or refused with a reason")
class NeedsAlignment(Mean):
    """Puts frames of all modalities side by side, however many there are of each."""

    def pool(self, batch):
        return torch.cat(list(batch.features.values()), -1).mean(1)


@rogue("hidden values never matter in a prediction")
class PeeksAtFrames(Mean):
    """Looks up the call stack for the test split, with all that is hidden."""

    def forward(self, batch):
        split = split_in_use()
        seen = next(iter(split.features.values())).mean() if split else 0
        return super().forward(batch) + seen


@rogue("labels never matter in a prediction")
class PeeksAtLabels(Mean):
    """Looks up the call stack for the test split and leans towards a label of it."""

    def forward(self, batch):
        split = split_in_use()
        return super().forward(batch) + (0.01 * split.targets[0].sum() if split else 0)


@rogue("training looks at hidden frames only if privileges say so")
class UndeclaredTeacher(Mean):
    """Trains on complete samples, and declares no privilege."""

    def stages(self):
        return [mmbench.Stage("all", "complete", [mmbench.Step(self.loss, [self])])]


@rogue("batch size never matters")
class BatchStatistics(Mean):
    """Subtracts the mean of the batch in testing, too."""

    def pool(self, batch):
        x = super().pool(batch)
        return x - x.mean(0)


@rogue("order never matters", {"batch size never matters": "alone, every sample is the first"})
class LooksAtNeighbours(Mean):
    """Adds to a sample those before it in the batch."""

    def pool(self, batch):
        return super().pool(batch).cumsum(0)


@rogue(
    "a prediction leaves nothing behind",
    {"batch size never matters": "a batch of one leaves something behind, too"},
)
class AdaptsInTesting(Mean):
    """Centres its outputs by those that it has given before."""

    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("centre", torch.zeros(spec.task.n_out))

    def forward(self, batch):
        outputs = super().forward(batch) - self.centre
        if not self.training:
            self.centre.copy_(0.9 * self.centre + outputs.mean(0))
        return outputs


@rogue("a batch is left as it was")
class WritesIntoTheBatch(Mean):
    """Scales the batch's own tensors."""

    def pool(self, batch):
        return torch.cat([x.mul_(2).mean(1) for x in batch.features.values()], -1)


@rogue(
    "any set of modalities gives finite predictions",
    {"input of which all is missing gives one finite answer": "it lacks every modality"},
)
class DividesByEachCount(Mean):
    """Means over the observed frames of each modality, of which there may be none; trained on complete ones."""

    privileges = ("complete training samples",)

    def pool(self, batch):
        pairs = zip(batch.features.values(), batch.observed.values(), strict=True)
        return torch.cat([x.sum(1) / seen.sum(1, keepdim=True) for x, seen in pairs], -1)

    def stages(self):
        return [mmbench.Stage("all", "complete", [mmbench.Step(self.loss, [self])])]


@rogue("input of which all is missing gives one finite answer")
class DividesByTheCount(Mean):
    """Divides by the number of all frames that are observed."""

    def pool(self, batch):
        total = sum(seen.sum(1, keepdim=True) for seen in batch.observed.values())
        return super().pool(batch) / total


@rogue(
    "the same seed gives the same numbers",
    {"training looks at hidden frames only if privileges say so": REPEATED},
)
class ReadsTheClock(Mean):
    """Draws the noise of its loss from a generator that the time seeds."""

    def loss(self, outputs, batch, rng):
        own = torch.Generator().manual_seed(time.time_ns() % 2**60)
        return super().loss(outputs + torch.randn(outputs.shape, generator=own), batch, rng)


@rogue(
    "the same seed gives the same numbers",
    {"training looks at hidden frames only if privileges say so": REPEATED},
)
class IgnoresTheDropoutStream(Mean):
    """Drops out by a generator of its class, which goes on from one job to the next."""

    generator = torch.Generator().manual_seed(0)

    def pool(self, batch):
        x = super().pool(batch)
        return x * (torch.rand(x.shape, generator=self.generator) > 0.5) if self.training else x


@rogue("no global random state is touched")
class SeedsTorch(Mean):
    """Calls torch.manual_seed in its forward."""

    def forward(self, batch):
        torch.manual_seed(0)
        return super().forward(batch)


@rogue("no global random state is touched")
class DrawsFromNumpy(Mean):
    """Starts with a bias that numpy's global generator draws."""

    def __init__(self, spec):
        super().__init__(spec)
        nn.init.constant_(self.head.bias, np.random.normal())  # noqa: NPY002


@rogue("its state makes a fresh one the same")
class KeepsItsMeanElsewhere(Mean):
    """Measures the mean target before training, in a buffer that is not part of the state."""

    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("mean", torch.zeros(()), persistent=False)

    def forward(self, batch):
        return super().forward(batch) + self.mean

    def stages(self):
        step = mmbench.Step(self.loss, [self])
        return [mmbench.Stage("all", "incomplete", [step], prepare=self.measure)]

    def measure(self, batches):
        self.mean.copy_(torch.cat([batch.truth for batch in batches]).float().mean())


@rogue("what is not deployed never matters in a prediction")
class HidesItsParameters(Mean):
    """Says that a prediction needs no parameter."""

    def deployed(self):
        return []


@rogue("a representation is a finite row for each sample")
class RepresentsFrames(Mean):
    """Gives a representation of each frame, not of each sample."""

    def represent(self, batch):
        return next(iter(batch.features.values()))


@rogue("seeds trained as one equal seeds trained alone")
class PullsToItsStart(Mean):
    """Pulls its bias to a side that it keeps as a Python number: of seeds trained as one, the first one's."""

    def __init__(self, spec):
        super().__init__(spec)
        self.sign = float(self.head.weight[0, 2].detach().sign())

    def loss(self, outputs, batch, rng):
        pull = 1000 * self.sign * self.head.bias.sum()
        return {**super().loss(outputs, batch, rng), "pull": pull}


@rogue("the loss falls on a small data set")
class Ascends(Mean):
    """Has the sign of its loss wrong."""

    def loss(self, outputs, batch, rng):
        return {"task": -self.spec.task.loss(outputs, batch.truth)}


LOSSES = [0]
"""Of the one that counts them."""


@rogue("a training that was interrupted ends in the same numbers")
class CountsInAGlobal(Mean):
    """Weighs its loss by how many there have been, which only its module knows."""

    def __init__(self, spec):
        super().__init__(spec)
        LOSSES[0] = 0

    def loss(self, outputs, batch, rng):
        LOSSES[0] += 1
        return {"task": self.spec.task.loss(outputs, batch.truth) * LOSSES[0]}
