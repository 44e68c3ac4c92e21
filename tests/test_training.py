"""mmbench/training.py: the loop against plain arithmetic, and the forms that hard methods need."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mmbench
from mmbench.batching import Split
from mmbench.data import DataSpec, Schedule
from mmbench.methods import Plateau
from mmbench.seeds import Alone
from mmbench.tasks import Regression
from mmbench.training import Diverged, _Update, predict, train
from mmbench_missing.msm import MSM

TASK = Regression(-3, 3)


class Linear(mmbench.Method):
    """A linear model of the mean language frame."""

    name = "linear"

    def __init__(self, spec: DataSpec, dropout: float = 0.0) -> None:
        super().__init__(spec)
        self.map = nn.Linear(spec.widths["l"], spec.task.n_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: mmbench.Batch) -> torch.Tensor:
        return self.map(self.dropout(batch.features["l"].mean(1)))


def fit(make_data, cls=Linear, *, seed=0, report=lambda progress: None, schedule=None, **settings):
    data = make_data(TASK)
    chosen = schedule or Schedule(heads=2, batch_size=8, epochs=3, learning_rate=1e-2)
    spec = DataSpec(data.name, data.modalities(), TASK, chosen, len(data.splits["train"]))
    torch.manual_seed(0)
    method = cls(spec, **settings)
    splits = Split(data.splits["train"]), Split(data.splits["valid"])
    logs = train(method, *splits, MSM(), seed, report)
    return method, logs, splits


class Complete(Linear):
    """The same on complete data."""

    def stages(self):
        return [mmbench.Stage("only", "complete", [mmbench.Step(self.loss, [self])])]


def test_the_loop_is_adam_over_shuffled_batches(make_data):
    """Two epochs against plain numpy: gradients by hand, Adam as in its paper, clipping, best epoch."""
    schedule = Schedule(batch_size=8, epochs=2, learning_rate=1e-2, clip=0.5)
    method, logs, (training, validation) = fit(make_data, Complete, schedule=schedule)
    torch.manual_seed(0)
    start = Complete(method.spec)
    w = start.map.weight.detach().numpy().astype(float)[0]
    b = float(start.map.bias.item())
    theta = np.append(w, b)
    x = np.c_[training.samples.features["l"].mean(1), np.ones(len(training))]
    y = training.samples.targets[:, 0]
    xv = np.c_[validation.samples.features["l"].mean(1), np.ones(len(validation))]
    yv = validation.samples.targets[:, 0]
    from mmbench.streams import stream

    order, m, v, t = stream(0, "only", "order"), 0.0, 0.0, 0
    kept = []
    for _ in range(2):
        rows = order.permutation(len(y))
        for i in range(0, len(y), 8):
            at = rows[i : i + 8]
            g = 2 * x[at].T @ (x[at] @ theta - y[at]) / len(at)
            g *= min(1.0, 0.5 / (np.linalg.norm(g) + 1e-6))
            t += 1
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g * g
            theta = theta - 1e-2 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        kept.append((np.mean((xv @ theta - yv) ** 2), theta))
    best = min(kept, key=lambda pair: pair[0])
    np.testing.assert_allclose(method.map.weight.detach().numpy()[0], best[1][:-1], atol=1e-5)
    assert logs[0].history[-1]["valid"] == pytest.approx(kept[-1][0], rel=1e-4)


def test_a_gradient_laid_out_otherwise_moves_the_right_entries(make_data):
    class Transposed(Linear):
        def __init__(self, spec):
            super().__init__(spec)
            self.pair = nn.Parameter(torch.zeros(1, 2, 3))

        def loss(self, outputs, batch, rng):
            x, y = torch.tensor([[[1.0, 2.0, -1.0]]]), torch.tensor([[[1.0, -1.0]]])
            made = torch.bmm(x, self.pair.transpose(1, 2))
            return {"pull": (y * made).sum()}  # the gradient is y^T x, and comes as x^T y

    method, _, _ = fit(make_data, Transposed, schedule=Schedule(heads=2, batch_size=24, epochs=1))
    expected = torch.tensor([[-1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    assert torch.equal(method.pair[0].sign(), expected)


def test_same_seed_same_numbers_and_another_seed_others(make_data):
    first, _, _ = fit(make_data, seed=3, dropout=0.5)
    again, _, _ = fit(make_data, seed=3, dropout=0.5)
    other, _, _ = fit(make_data, seed=4, dropout=0.5)
    assert torch.equal(first.map.weight, again.map.weight)
    assert not torch.equal(first.map.weight, other.map.weight)


def test_the_global_generator_is_left_as_found(make_data):
    data = make_data(TASK)
    spec = DataSpec(data.name, data.modalities(), TASK, Schedule(epochs=1))
    method = Linear(spec, dropout=0.5)
    before = torch.random.get_rng_state()
    train(method, Split(data.splits["train"]), Split(data.splits["valid"]), MSM(), 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_epoch_that_validated_best_is_kept(make_data):
    method, logs, (_, validation) = fit(
        make_data,
        Complete,
        schedule=Schedule(batch_size=8, epochs=6, learning_rate=3.0, clip=100.0),
    )
    losses = [entry["valid"] for entry in logs[0].history]
    assert logs[0].best_epoch == 1 + int(np.argmin(losses))
    assert losses[-1] > min(losses)  # with such a rate the last epoch is not the best
    now = np.mean((predict(method, validation, [None])[0] - validation.samples.targets) ** 2)
    assert now == pytest.approx(min(losses), rel=1e-5)


def test_what_a_stage_does_not_update_is_held(make_data):
    class TwoParts(Linear):
        def __init__(self, spec):
            super().__init__(spec)
            self.fixed = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))
            self.modes: list[tuple[bool, bool]] = []

        def forward(self, batch):
            self.modes.append((self.map.training, self.fixed.training))
            return super().forward(batch) + self.fixed(torch.ones(len(batch), 1))

        def stages(self):
            return [mmbench.Stage("map", "complete", [mmbench.Step(self.loss, [self.map])])]

    method, _, _ = fit(make_data, TwoParts)
    torch.manual_seed(0)
    fresh = TwoParts(method.spec)
    assert torch.equal(method.fixed[0].weight, fresh.fixed[0].weight)
    assert not torch.equal(method.map.weight, fresh.map.weight)
    assert set(method.modes) == {(True, False), (False, False)}  # training, then validation


def test_alternating_steps_share_one_forward(make_data):
    """An adversary: each step moves its own part only, and the forward runs once per batch."""

    class Adversary(Linear):
        def __init__(self, spec):
            super().__init__(spec)
            self.critic = nn.Linear(1, 1)
            self.calls = 0

        def stages(self):
            return [
                mmbench.Stage(
                    "both",
                    "paired",
                    [
                        mmbench.Step(self.tell, [self.critic]),
                        mmbench.Step(self.fool, [self.map]),
                    ],
                    forward=self.pair,
                )
            ]

        def pair(self, batch):
            self.calls += 1
            assert batch.complete is not None
            return self(batch.complete), self(batch)

        def tell(self, outputs, batch, rng):
            real, made = outputs
            return {"critic": (self.critic(made.detach()) - self.critic(real.detach())).mean()}

        def fool(self, outputs, batch, rng):
            return {
                "task": self.spec.task.loss(outputs[1], batch.truth),
                "fool": -self.critic(outputs[1]).mean(),
            }

    method, logs, _ = fit(make_data, Adversary)
    assert method.calls == 3 * 3  # 24 samples in batches of 8, 3 epochs
    assert set(logs[0].history[0]["loss"]) == {"critic", "task", "fool"}


def test_a_memory_over_the_training_split(make_data):
    """As in Self-MM: what a step leaves behind after its update, by the row of each sample."""

    class Memory(Linear):
        def __init__(self, spec):
            super().__init__(spec)
            self.register_buffer("memory", torch.zeros(spec.n_train))
            self.epochs: set[int] = set()

        def stages(self):
            step = mmbench.Step(self.loss, [self], after=self.remember)
            return [mmbench.Stage("only", "incomplete", [step])]

        def remember(self, outputs, batch):
            assert not torch.is_grad_enabled()
            self.memory[batch.index] += 1
            self.epochs.add(batch.epoch)

    method, logs, _ = fit(make_data, Memory)
    assert (method.memory == logs[0].best_epoch).all()  # a buffer goes back to the best epoch, too
    assert method.epochs == {1, 2, 3}


def test_a_bilevel_step(make_data):
    """As in SMIL: an inner gradient step with a graph, inside one loss."""

    class Bilevel(Linear):
        def __init__(self, spec):
            super().__init__(spec)
            self.rate = nn.Parameter(torch.tensor(0.1))

        def stages(self):
            step = mmbench.Step(self.outer, [self])
            return [mmbench.Stage("only", "paired", [step], forward=lambda batch: None)]

        def outer(self, outputs, batch, rng):
            names, weights = zip(*self.map.named_parameters(), strict=True)
            inner = self.spec.task.loss(self.map(batch.features["l"].mean(1)), batch.truth)
            gradients = torch.autograd.grad(inner, weights, create_graph=True)
            moved = {
                n: w - self.rate * g for n, w, g in zip(names, weights, gradients, strict=True)
            }
            x = batch.complete.features["l"].mean(1)
            outputs = torch.func.functional_call(self.map, moved, (x,))
            return {"inner": inner, "outer": self.spec.task.loss(outputs, batch.truth)}

    method, _, _ = fit(make_data, Bilevel)
    assert method.rate.item() != pytest.approx(0.1)


def test_what_is_given_is_computed_once_and_comes_with_its_samples(make_data):
    class Given(Linear):
        calls = 0

        def stages(self):
            step = mmbench.Step(self.loss, [self])
            return [mmbench.Stage("only", "incomplete", [step], given=self.give)]

        def give(self, batch):
            Given.calls += len(batch)
            return {"mean": (batch.features["l"].mean(1), batch.index)}

        def loss(self, outputs, batch, rng):
            mean, index = batch.given["mean"]
            assert torch.equal(index, batch.index) and not mean.requires_grad
            expected = training.samples.features["l"][batch.index].mean(1)
            np.testing.assert_allclose(
                mean.numpy(), expected, atol=1e-6
            )  # complete, whatever is hidden
            return super().loss(outputs, batch, rng)

    training = Split(make_data(TASK).splits["train"])
    fit(make_data, Given)
    assert Given.calls == len(training)  # not once an epoch


def test_prepare_sees_the_complete_training_split_once(make_data):
    class Prepared(Linear):
        def stages(self):
            step = mmbench.Step(self.loss, [self])
            return [mmbench.Stage("only", "incomplete", [step], prepare=self.look)]

        def look(self, batches):
            self.seen = torch.cat([batch.features["l"] for batch in batches])

    method, _, (training, _) = fit(make_data, Prepared)
    np.testing.assert_array_equal(method.seen.numpy(), training.samples.features["l"])


def test_plateau_lowers_the_rate(make_data):
    class Stuck(Linear):
        def stages(self):
            step = mmbench.Step(
                lambda outputs, batch, rng: {"none": outputs.sum() * 0},
                [self],
                plateau=Plateau(factor=0.5, patience=0),
            )
            return [mmbench.Stage("only", "complete", [step])]

    from mmbench.training import StageLoop

    data = make_data(TASK)
    spec = DataSpec(data.name, data.modalities(), TASK, Schedule(learning_rate=0.8))
    method = Stuck(spec)
    splits = Split(data.splits["train"]), Split(data.splits["valid"])
    loop = StageLoop([method], [method.stages()[0]], *splits, MSM(), [0])
    for epoch in (1, 2, 3):
        loop.epoch(epoch)
    assert loop.updates[0].optimiser.param_groups[0]["lr"] == pytest.approx(0.2)


def test_weight_decay_is_that_of_torchs_adam(make_data):
    def moved(decay: float) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        data = make_data(TASK)
        method = Linear(DataSpec(data.name, data.modalities(), TASK, Schedule(learning_rate=0.1)))
        step = mmbench.Step(method.loss, [method], weight_decay=decay)
        parameters = list(method.parameters())
        plain = [p.detach().clone().requires_grad_() for p in parameters]
        optimiser = torch.optim.Adam(plain, lr=0.1, weight_decay=decay)
        for p in plain:
            p.grad = torch.full_like(p, 1e-3)
        optimiser.step()
        terms = {"constant": torch.stack([p.sum() for p in parameters]).sum() * 1e-3}
        _Update(step, Alone([method], [])).take(
            sum(terms.values(), torch.zeros(())), last=True, clip=1.0
        )
        ours, theirs = (
            torch.cat([p.detach().flatten() for p in own]) for own in (parameters, plain)
        )
        return ours, theirs

    ours, theirs = moved(0.3)
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, moved(0.0)[0])


def test_a_loss_that_is_not_finite_is_named(make_data):
    class Broken(Linear):
        def loss(self, outputs, batch, rng):
            return {"task": super().loss(outputs, batch, rng)["task"], "bad": outputs.sum() / 0.0}

    with pytest.raises(Diverged, match="train, epoch 1, sample 0: loss term bad is"):
        fit(make_data, Broken)


def test_progress_ends_at_one(make_data):
    seen = []
    fit(make_data, report=seen.append)
    assert (seen[0].share, seen[0].doing) == (pytest.approx(1 / 3), "train 1/3")
    assert seen[-1].share == 1.0


def test_progress_tells_what_the_log_keeps_of_an_epoch(make_data):
    seen = []
    _, (log,), _ = fit(make_data, report=seen.append)
    told = [progress.epochs[0] for progress in seen]
    assert [vars(epoch) for epoch in told] == [
        {
            "stage": "train",
            "number": kept["epoch"],
            "loss": kept["loss"],
            "valid": kept["valid"],
            "seconds": epoch.seconds,
        }
        for epoch, kept in zip(told, log.history, strict=True)
    ]
    assert sum(epoch.seconds for epoch in told) == pytest.approx(log.seconds)


def test_the_loss_falls(make_data):
    _, logs, _ = fit(
        make_data, Complete, schedule=Schedule(batch_size=8, epochs=30, learning_rate=3e-2)
    )
    first, last = logs[0].history[0]["loss"]["task"], logs[0].history[-1]["loss"]["task"]
    assert last < 0.7 * first and math.isfinite(last)
