"""mmbench/checkpoints.py: an interrupted training ends as if nothing had happened, or begins anew."""

import os
import time
from contextlib import suppress
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

import mmbench
from mmbench import checkpoints
from mmbench.batching import Split
from mmbench.checkpoints import Checkpoint
from mmbench.data import DataSpec, Schedule
from mmbench.jobs import Job
from mmbench.methods import Plateau, Stage, Step
from mmbench.registry import discover
from mmbench.streams import seed_of
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench.training import Diverged, predict, train_side_by_side
from mmbench_methods.hrlf import HRLF
from mmbench_methods.late_fusion import LateFusion

SCHEDULE = Schedule(
    heads=2,
    batch_size=8,
    epochs=3,
    attention_dropout=0.25,
    input_dropout={"l": 0.3},
    learning_rate=1e-2,
)
BUILT_IN = sorted(discover().classes["method"])


class Interrupted(Exception):
    """In place of SIGKILL: tests/fire.py sends real ones."""


@pytest.fixture(autouse=True)
def after_every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)


class Bench:
    """A class of method, data that it supports, and what training it left."""

    def __init__(self, make_data, cls, path, seeds=(0,)):
        self.cls, self.path, self.seeds = cls, path, seeds
        for task in (Regression(-3, 3), MultiBinary(("x", "y")), MultiClass(("p", "q", "r"))):
            data = make_data(task)
            modalities, count = data.modalities(), len(data.splits["train"])
            self.spec = DataSpec(data.name, modalities, task, SCHEDULE, count)
            if cls.supports(self.spec) is None:
                break
        else:
            pytest.skip("made-up data of no kind are for it")
        self.splits = {name: Split(samples) for name, samples in data.splits.items()}
        self.checkpoint = self.told = None

    def made(self) -> tuple[list, dict]:
        methods = []
        for seed in self.seeds:
            torch.manual_seed(seed_of(seed, "init"))
            methods.append(self.cls(self.spec))
        sampler = discover().find("sampler", self.cls.sampler)(**methods[0].sampler_settings)
        splits = {f"{name}_split": self.splits[name] for name in ("train", "valid")}
        return methods, {**splits, "methods": methods, "sampler": sampler, "seeds": self.seeds}

    def whole(self):
        methods, arguments = self.made()
        return self.left(methods, train_side_by_side(**arguments))

    def trained(self, report=lambda progress: None):
        methods, arguments = self.made()
        self.checkpoint = Checkpoint(self.path, {"keys": ["k"]})
        logs = train_side_by_side(**arguments, report=report, memory=self.checkpoint)
        return self.left(methods, logs)

    def in_pieces(self):
        """Interrupted after every epoch, and each time begun anew by a new method."""
        self.told, self.shares = [], []
        while True:

            def report(progress):
                if progress.epochs:
                    self.told.append(progress.doing)
                    self.shares.append(progress.share)
                    raise Interrupted

            try:
                return self.trained(report)
            except Interrupted:
                assert self.checkpoint.refused is None
                assert len(self.told) < 40

    def left(self, methods, logs):
        """What must be the same: weights, predictions, logs without times."""
        test = self.splits["test"]
        left: dict = {}
        for number, (method, own) in enumerate(zip(methods, logs, strict=True)):
            left[number, "outputs"] = predict(method, test, [None]).tobytes()
            for name, value in method.state_dict().items():
                left[number, name] = value.numpy().tobytes()
            told = (
                str(own)
                if isinstance(own, Diverged)
                else [
                    {k: v for k, v in asdict(log).items() if k not in ("seconds", "spent")}
                    for log in own
                ]
            )
            left[number, "logs"] = told
        return left


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_method_that_is_built_in_goes_on_bit_by_bit(make_data, tmp_path, name):
    bench = Bench(make_data, discover().find("method", name), tmp_path / "c.pt")
    whole = bench.whole()
    assert bench.trained() == whole
    bench.path.unlink(missing_ok=True)
    assert bench.in_pieces() == whole
    epochs = sum(log["steps"] > 0 for log in whole[0, "logs"])
    assert len(bench.told) >= 2 * epochs  # it was interrupted


class Small(mmbench.Method):
    """Draws from torch's own generator, in two stages, the second from the state of the first."""

    name = "small"

    def __init__(self, spec):
        super().__init__(spec)
        self.drop = nn.Dropout(0.5)
        self.first = nn.Linear(sum(spec.widths.values()), 4)
        self.head = nn.Linear(4, spec.task.n_out)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, batch):
        means = torch.cat([x.mean(1) for x in batch.features.values()], -1)
        return self.head(self.drop(self.first(means)))

    def prepare(self, batches):
        self.mean.copy_(torch.stack([self.first.weight.sum(1)]).mean(0))

    def drawn(self, outputs, batch, rng):
        return {"task": (self.spec.task.loss(outputs, batch.truth)) * rng.rand(1).mean()}

    def stages(self):
        # so slow that no epoch improves on the one before: the plateau halves the rate
        slow = Plateau(0.5, 0)
        step = Step(self.drawn, updates=[self], plateau=slow, learning_rate=1e-5)
        second = Step(self.drawn, updates=[self.head])
        return [
            Stage("one", data="incomplete", steps=[step]),
            Stage("two", data="paired", steps=[second], prepare=self.prepare, epochs=2),
        ]


def test_what_layers_draw_from_torch_itself_goes_on_too(make_data, tmp_path):
    bench = Bench(make_data, Small, tmp_path / "c.pt")
    assert bench.in_pieces() == bench.whole() and len(bench.told) == 5
    assert bench.shares == [n / 5 for n in range(1, 6)]


def test_parameters_lie_in_memory_as_past_stages_have_left_them(make_data, tmp_path):
    """How they lie decides how sums over them are rounded."""
    bench = Bench(make_data, Small, tmp_path / "c.pt")

    def stores(left=None):
        """Of each epoch, how many pieces of memory hold the parameters; interrupted in epoch `left`."""
        methods, arguments = bench.made()
        seen = []

        def report(progress):
            if progress.epochs:
                own = methods[0].parameters()
                seen.append(len({p.untyped_storage().data_ptr() for p in own}))
                if len(seen) == left:
                    raise Interrupted

        memory = Checkpoint(bench.path, {"keys": ["k"]})
        with suppress(Interrupted):
            train_side_by_side(**arguments, report=report, memory=memory)
        return seen

    whole = stores()
    assert whole == [1, 1, 1, 2, 2]  # the second stage lays out the head anew
    bench.path.unlink()
    assert stores(left=4) + stores() == whole


@pytest.mark.parametrize("cls", [LateFusion, HRLF])
def test_seeds_side_by_side_go_on_together(make_data, tmp_path, cls):
    bench = Bench(make_data, cls, tmp_path / "c.pt", seeds=(0, 1))
    assert bench.in_pieces() == bench.whole() and len(bench.told) >= 3


class Diverging(LateFusion):
    """One seed of two fails in the second epoch."""

    name = "diverging"

    def __init__(self, spec, *, width=8):
        super().__init__(spec, width=width)
        self.register_buffer("odd", torch.tensor(1.0 if torch.rand(()) < 0.5 else 0.0))

    def loss(self, outputs, batch, rng):
        bad = torch.where((self.odd > 0) & torch.tensor(batch.epoch > 1), torch.nan, 0.0)
        return {"task": self.spec.task.loss(outputs, batch.truth) + bad}


def test_a_seed_that_has_failed_stays_so(make_data, tmp_path):
    def odd(seed):
        torch.manual_seed(seed_of(seed, "init"))
        return float(Diverging(Bench(make_data, Small, tmp_path).spec).odd)

    seeds = [next(seed for seed in range(40) if odd(seed) == which) for which in (0.0, 1.0)]
    bench = Bench(make_data, Diverging, tmp_path / "c.pt", seeds=seeds)
    left = bench.in_pieces()
    assert left[1, "logs"] == "train, epoch 2, sample 0: loss term task is nan"
    assert left[0, "logs"] == bench.whole()[0, "logs"]


class Counting(Small):
    """Counts its losses in an attribute, which no state_dict() has."""

    name = "counting"

    def __init__(self, spec):
        super().__init__(spec)
        self.count = {"losses": 0}

    def drawn(self, outputs, batch, rng):
        self.count["losses"] += 1
        return {"task": super().drawn(outputs, batch, rng)["task"] * self.count["losses"]}


class Closing(Small):
    """The same in a closure."""

    name = "closing"

    def stages(self):
        count = [0]

        def loss(outputs, batch, rng):
            count[0] += 1
            return {"task": self.drawn(outputs, batch, rng)["task"] * count[0]}

        return [Stage("one", data="incomplete", steps=[Step(loss, updates=[self])])]


class Between(Small):
    """Leaves in its first stage what its second one reads."""

    name = "between"

    def prepare(self, batches):
        self.scale = float(self.head.bias.detach().sum())

    def stages(self):
        first, second = super().stages()
        loss = replace(second.steps[0], loss=self.scaled)
        return [
            replace(first, prepare=self.prepare),
            replace(second, prepare=None, steps=[loss]),
        ]

    def scaled(self, outputs, batch, rng):
        return {"task": self.drawn(outputs, batch, rng)["task"] * self.scale}


class Preparing(Between):
    """The same, but the stage that reads it makes it, from what the one before has learnt."""

    name = "preparing"

    def stages(self):
        first, second = super().stages()
        return [replace(first, prepare=None), replace(second, prepare=self.prepare)]


def test_what_prepare_leaves_is_made_again_from_what_it_was_made_from(make_data, tmp_path):
    bench = Bench(make_data, Preparing, tmp_path / "c.pt")
    assert bench.in_pieces() == bench.whole() and len(bench.told) == 5


class Drawing(Preparing):
    """What it prepares it draws from torch's own generator."""

    name = "drawing"

    def prepare(self, batches):
        self.scale = float(torch.rand(()))


def test_what_prepare_draws_it_draws_again(make_data, tmp_path):
    bench = Bench(make_data, Drawing, tmp_path / "c.pt")
    assert bench.in_pieces() == bench.whole() and len(bench.told) == 5


class Hiding(Small):
    """Trains nothing that state_dict() has: a module in a list is not one of its own."""

    name = "hiding"

    def __init__(self, spec):
        super().__init__(spec)
        self.hidden = [nn.Linear(2, 2)]

    def drawn(self, outputs, batch, rng):
        with torch.no_grad():
            self.hidden[0].weight += 0.1
        return {"task": super().drawn(outputs, batch, rng)["task"] * self.hidden[0].weight.mean()}


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (Counting, "Counting.count changed during the stage one, and is in no state_dict()"),
        (Closing, "the stages of Closing changed during the stage one, and is in no state_dict()"),
        (Between, "Between.scale changed before the stage two, and is in no state_dict()"),
        (Hiding, "Hiding.hidden changed during the stage one, and is in no state_dict()"),
    ],
)
def test_what_is_kept_out_of_sight_has_training_begin_anew(make_data, tmp_path, cls, reason):
    bench = Bench(make_data, cls, tmp_path / "c.pt")
    whole = bench.whole()

    def stop(progress):
        if progress.doing == "two 1/2" or (cls is Closing and progress.doing == "one 2/3"):
            raise Interrupted

    with pytest.raises(Interrupted):
        bench.trained(stop)
    assert bench.checkpoint.refused == reason
    assert bench.trained() == whole


class Telling(Counting):
    """Says what it counts."""

    name = "telling"

    def get_extra_state(self):
        return torch.tensor(self.count["losses"])

    def set_extra_state(self, state):
        self.count["losses"] = int(state)


def test_a_method_that_says_what_it_holds_goes_on(make_data, tmp_path):
    bench = Bench(make_data, Telling, tmp_path / "c.pt")
    assert bench.in_pieces() == bench.whole() and len(bench.told) == 5


def interrupted(make_data, path, cls=Small):
    bench = Bench(make_data, cls, path)
    with pytest.raises(Interrupted):
        bench.trained(lambda progress: (_ for _ in ()).throw(Interrupted))
    assert path.is_file()
    return bench


@pytest.mark.parametrize("damage", ["cut", "altered", "empty", "stranger"])
def test_a_damaged_checkpoint_is_told_and_training_begins_anew(make_data, tmp_path, capsys, damage):
    bench = interrupted(make_data, tmp_path / "c.pt")
    content = bench.path.read_bytes()
    half = len(content) // 2
    bench.path.write_bytes(
        {
            "cut": content[:half],
            "altered": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
            "empty": b"",
            "stranger": b"hello" * 100,
        }[damage]
    )
    told = []
    _, arguments = bench.made()
    checkpoint = Checkpoint(bench.path, {"keys": ["k"]})
    train_side_by_side(
        **arguments,
        report=lambda p: told.append(p.doing),
        memory=checkpoint,
    )
    assert told[0] == "one 1/3"
    said = capsys.readouterr().err
    assert f"warning: {bench.path} is ignored: it is damaged. Training begins anew." in said


def test_a_checkpoint_of_another_job_is_never_used(make_data, tmp_path, capsys):
    bench = interrupted(make_data, tmp_path / "c.pt")
    other = Checkpoint(bench.path, {"keys": ["other"]})
    assert other.read(torch.device("cpu")) is None
    assert "is ignored: it is of other jobs, or of other versions" in capsys.readouterr().err
    job = Job("alpha", "small", 3, ("inter@1",), "data", "code", SCHEDULE)
    here, there = (Checkpoint.of([job], {"torch": v}) for v in ("1", "2"))
    assert here.path == there.path and here.identity != there.identity
    assert Checkpoint.of([replace(job, seed=4)], {}).path != here.path


def test_a_method_that_is_made_differently_each_time_begins_anew(make_data, tmp_path, capsys):
    class Odd(Small):
        def __init__(self, spec):
            super().__init__(spec)
            self.made = time.perf_counter_ns()

    bench = interrupted(make_data, tmp_path / "c.pt", Odd)
    bench.trained()
    assert "a method made anew is not what it was" in capsys.readouterr().err


def test_a_full_disk_ends_checkpoints_and_not_the_training(make_data, tmp_path, capsys):
    (tmp_path / "file").touch()
    bench = Bench(make_data, Small, tmp_path / "file" / "c.pt")
    assert bench.trained() == bench.whole()
    said = capsys.readouterr().err
    assert (
        said.count("Training goes on without checkpoints") == 1 and str(tmp_path / "file") in said
    )


def test_short_jobs_leave_none(make_data, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 60.0)
    bench = Bench(make_data, Small, tmp_path / "c.pt")
    bench.trained()
    assert not bench.path.exists()
    bench.checkpoint.last -= 60
    assert bench.checkpoint.due


def test_it_is_forgotten_once_the_last_result_is_stored(cache):
    jobs = [Job("a", "small", seed, ("inter@1",), "d", "c", SCHEDULE) for seed in range(3)]
    pair, single = Checkpoint.of(jobs[:2], {}), Checkpoint.of(jobs[2:], {})
    for checkpoint in (pair, single):
        checkpoint.write({})
    checkpoints.forget(jobs[0])
    assert pair.path.exists() and single.path.exists()
    checkpoints.forget(jobs[1])
    assert not pair.path.exists() and single.path.exists()
    os.utime(single.path, (0, 0))
    pair.write({})  # sweeps what nobody came back for
    assert not single.path.exists()
    pair.path.unlink()


def test_what_is_logged_is_what_was_logged(make_data, tmp_path):
    """Numbers of numpy become plain ones on the way, and nothing else does."""
    bench = Bench(make_data, Small, tmp_path / "c.pt")
    histories = [log["history"] for log in bench.in_pieces()[0, "logs"]]
    np.testing.assert_equal(histories, [log["history"] for log in bench.whole()[0, "logs"]])
