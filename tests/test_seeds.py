"""mmbench/seeds.py: seeds side by side are what each is alone."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import mmbench
from mmbench.batching import Split
from mmbench.data import DataSpec, Schedule
from mmbench.seeds import NotStackable
from mmbench.streams import seed_of
from mmbench.tasks import MultiBinary, Regression
from mmbench.training import Diverged, predict, train, train_side_by_side
from mmbench_methods.hrlf import HRLF
from mmbench_methods.late_fusion import LateFusion
from mmbench_missing.msm import MSM

SCHEDULE = Schedule(
    heads=2,
    batch_size=8,
    epochs=2,
    attention_dropout=0.25,
    input_dropout={"l": 0.3},
    learning_rate=1e-3,
)


def made(cls, spec, seed, **settings):
    torch.manual_seed(seed_of(seed, "init"))
    return cls(spec, **settings)


def both_ways(make_data, cls, task=None, seeds=(0, 1, 2), schedule=SCHEDULE, **settings):
    """Methods and logs of each seed alone, and of all side by side."""
    data = make_data(task)
    spec = DataSpec(data.name, data.modalities(), data.task, schedule, len(data.splits["train"]))
    splits = Split(data.splits["train"]), Split(data.splits["valid"])
    alone = [made(cls, spec, seed, **settings) for seed in seeds]
    logs = [train(m, *splits, MSM(), seed) for m, seed in zip(alone, seeds, strict=True)]
    together = [made(cls, spec, seed, **settings) for seed in seeds]
    results = train_side_by_side(together, *splits, MSM(), list(seeds))
    return alone, logs, together, results


def test_progress_tells_of_each_seed_its_own_epoch(make_data):
    data = make_data(Regression(-3, 3))
    spec = DataSpec(data.name, data.modalities(), data.task, SCHEDULE, len(data.splits["train"]))
    splits = Split(data.splits["train"]), Split(data.splits["valid"])
    methods, told = [made(LateFusion, spec, seed, width=8) for seed in (3, 5)], []
    logs = train_side_by_side(methods, *splits, MSM(), [3, 5], told.append)
    for number, seed in enumerate((3, 5)):
        kept = [(epoch["epoch"], epoch["valid"]) for epoch in logs[number][0].history]
        assert [(p.epochs[seed].number, p.epochs[seed].valid) for p in told] == kept
    assert told[0].epochs[3].valid != told[0].epochs[5].valid


@pytest.mark.parametrize("modalities", ["lav", "la"])
@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (LateFusion, {"width": 8}),
        (HRLF, {"width": 8, "depth": 2}),
        (HRLF, {"width": 8, "depth": 1, "frf": False, "spectral_norm": False}),
    ],
)
def test_no_seed_notices_who_is_trained_beside_it(make_data, cls, settings, modalities):
    """With dropout on, over both stages of HRLF: the same losses, and the same parameters."""

    task = MultiBinary(("x", "y"))
    alone, logs, together, results = both_ways(
        partial(make_data, modalities=modalities), cls, task, **settings
    )
    test = Split(make_data(task, modalities).splits["test"])
    for seed in range(3):
        for mine, theirs in zip(results[seed], logs[seed], strict=True):
            assert mine.best_epoch == theirs.best_epoch
            for entry, other in zip(mine.history, theirs.history, strict=True):
                assert entry["valid"] == pytest.approx(other["valid"], rel=1e-4, abs=1e-5)
                assert entry["loss"] == pytest.approx(other["loss"], rel=1e-3, abs=1e-4)
        # A key's bias has no gradient but rounding, by which Adam moves it as far as any: outputs, then.
        outputs, expected = (predict(m, test, [None]) for m in (together[seed], alone[seed]))
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)


def test_seeds_differ(make_data):
    _, _, together, results = both_ways(make_data, LateFusion, width=8)
    valid = {log[0].history[-1]["valid"] for log in results}
    assert len(valid) == 3
    assert not torch.equal(together[0].absent, together[1].absent)


class Remembers(mmbench.Method):
    """Counts in a buffer how often it met each sample; a loss of one seed may be made infinite."""

    name = "remembers"
    met: torch.Tensor
    bad: torch.Tensor

    def __init__(self, spec, bad=False, replaces=False, dropout=None):
        super().__init__(spec)
        self.weight = nn.Parameter(torch.randn(1))
        self.register_buffer("met", torch.zeros(spec.n_train))
        self.register_buffer("bad", torch.zeros(()))
        self.replaces, self.drop = replaces, dropout or nn.Identity()

    def forward(self, batch):
        return self.drop(self.weight.expand(len(batch), 1))

    def loss(self, outputs, batch, rng):
        noise = rng.randn(len(batch), 1)
        return {
            "task": (outputs - batch.truth).square().mean() + 0 * noise.mean(),
            "bad": self.bad / 1,
        }

    def stages(self):
        step = mmbench.Step(self.loss, [self], after=self.count)
        return [mmbench.Stage("only", "incomplete", [step])]

    def count(self, outputs, batch):
        if self.replaces:
            self.met = self.met + 1
        else:
            self.met[batch.index] += 1


def test_what_is_counted_after_an_update_is_each_seeds_own(make_data):
    _, _, together, _ = both_ways(make_data, Remembers, Regression(-3, 3))
    for method in together:
        assert (method.met == method.met[0]).all() and method.met[0] in (1, 2)  # of the best epoch


def test_a_seed_that_diverges_fails_alone(make_data):
    data = make_data(Regression(-3, 3))
    spec = DataSpec(data.name, data.modalities(), data.task, SCHEDULE, 24)
    splits = Split(data.splits["train"]), Split(data.splits["valid"])
    methods = [made(Remembers, spec, seed) for seed in range(3)]
    methods[1].bad.fill_(torch.inf)
    first, second, third = train_side_by_side(methods, *splits, MSM(), [0, 1, 2])
    assert isinstance(second, Diverged) and "epoch 1, sample 0: loss term bad is inf" in str(second)
    assert len(first[0].history) == len(third[0].history) == 2
    for method in methods:
        method.bad.fill_(torch.nan)
    results = train_side_by_side(methods, *splits, MSM(), [0, 1, 2])
    assert all(isinstance(result, Diverged) for result in results)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"replaces": True}, "replaces its buffer met; copy into it"),
        ({"dropout": nn.Dropout(0.5)}, "mmbench.nn.Dropout does not"),
    ],
)
def test_what_cannot_be_stacked_says_why(make_data, settings, why):
    with pytest.raises(NotStackable, match=why):
        both_ways(make_data, Remembers, Regression(-3, 3), **settings)


def test_a_method_that_asks_for_values_cannot_be_stacked(make_data):
    class Asks(Remembers):
        def forward(self, batch):
            return super().forward(batch) * float(self.weight.detach() > 0)

    with pytest.raises(NotStackable, match="cannot be run under vmap"):
        both_ways(make_data, Asks, Regression(-3, 3))
