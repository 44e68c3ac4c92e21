"""The one training loop: stages of alternating steps, selection on the validation split.

Several seeds of a method may be trained side by side; mmbench/seeds.py runs them as one.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from mmbench.batching import Batch, Split, in_order
from mmbench.jobs import Epoch, Progress
from mmbench.methods import Method, Stage, Step
from mmbench.missingness import MissingnessSampler
from mmbench.randomness import Random, drawing_from
from mmbench.seeds import Alone, SideBySide
from mmbench.streams import seed_of, stream, torch_stream

EVALUATION_BATCH = 128

Report = Callable[[Progress], None]
"""Takes what there is to tell after every epoch."""


class Diverged(Exception):
    """A loss that is not finite: the job has failed, and says where."""


@dataclass
class StageLog:
    """What one stage did."""

    stage: str
    best_epoch: int = 0
    seconds: float = 0.0
    """Of all seeds that were trained side by side, shared among them."""
    steps: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """For each epoch the mean of each loss term and the validation loss."""
    spent: dict[str, float] = field(default_factory=dict)
    """The same seconds by what they went to: data, forward, backward, validation."""


Results = list[list[StageLog] | Diverged]
"""For each seed its logs, or why it failed."""


def train(
    method: Method,
    train_split: Split,
    valid_split: Split,
    sampler: MissingnessSampler,
    seed: int,
    report: Report = lambda progress: None,
) -> list[StageLog]:
    """Trains in place, stage after stage, each ending at the epoch of the lowest validation loss.

    Every random number comes from a stream named after the seed and its use; the global generator of
    torch is left as it was found. Raises Diverged where a loss is not finite.
    """
    (result,) = train_side_by_side([method], train_split, valid_split, sampler, [seed], report)
    if isinstance(result, Diverged):
        raise result
    return result


def train_side_by_side(
    methods: Sequence[Method],
    train_split: Split,
    valid_split: Split,
    sampler: MissingnessSampler,
    seeds: Sequence[int],
    report: Report = lambda progress: None,
    tick: Callable[[], None] = lambda: None,
    memory: Memory | None = None,
) -> Results:
    """Trains each method, all alike but for their parameters, from its seed; what became of each.

    No number depends on who is trained beside whom, nor on what `memory` knows of an interruption. `tick` is
    called after every update. Raises `seeds.NotStackable` if the method cannot be run for several seeds at
    once; nothing has then been changed.
    """
    memory = memory or Memory()
    plans = [list(method.stages()) for method in methods]
    schedule = methods[0].spec.schedule
    epochs = [schedule.epochs if s.epochs is None else s.epochs for s in plans[0]]
    done, total = 0, max(sum(epochs), 1)
    results: Results = [[] for _ in methods]
    devices = [train_split.device] if train_split.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed_of(*seeds, "dropout"))  # of layers that draw from torch themselves
        memory.begin(methods, plans, sampler, train_split.device)
        for number, n_epochs in enumerate(epochs):
            if memory.is_past(number):
                done += n_epochs
                continue
            stages = [plan[number] for plan in plans]
            name = stages[0].name
            memory.enter(number)
            loop = StageLoop(methods, stages, train_split, valid_split, sampler, seeds, tick)
            last, results = memory.resume(loop, results)
            done += last
            if last:
                report(Progress(done / total, f"going on after {name} {last}/{n_epochs}"))
            for epoch in range(last + 1, n_epochs + 1):
                if len(loop.failed) < len(seeds):
                    loop.epoch(epoch)
                done += 1
                memory.keep(loop, epoch, results)
                report(Progress(done / total, f"{name} {epoch}/{n_epochs}", loop.ended(seeds)))
            for i, log in enumerate(loop.finish()):
                if isinstance(found := results[i], list):
                    results[i] = loop.failed.get(i) or [*found, log]
            if all(isinstance(result, Diverged) for result in results):
                break
    return results


class Memory:
    """What outlives an interruption: nothing. mmbench/checkpoints.py has one that is a file.

    It is told how training goes on, in this order, and decides no number.
    """

    def begin(
        self,
        methods: Sequence[Method],
        plans: Sequence[Sequence[Stage]],
        sampler: MissingnessSampler,
        device: torch.device,
    ) -> None:
        """Methods are as they were made from their seeds."""

    def is_past(self, number: int) -> bool:
        """Whether a stage was finished before an interruption, and is left out."""
        return False

    def enter(self, number: int) -> None:
        """A stage begins: methods are as those before have left them."""

    def resume(self, loop: StageLoop, results: Results) -> tuple[int, Results]:
        """The loop of that stage is made: its last epoch before an interruption, else 0, and the results so far."""
        return 0, results

    def keep(self, loop: StageLoop, epoch: int, results: Results) -> None:
        """An epoch has ended."""


class StageLoop:
    """One stage of one method from some seeds: an epoch at a time, so that it can be watched and stopped."""

    def __init__(
        self,
        methods: Sequence[Method],
        stages: Sequence[Stage],
        train_split: Split,
        valid_split: Split,
        sampler: MissingnessSampler,
        seeds: Sequence[int],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.stage, self.sampler, self.tick = stages[0], sampler, tick
        self.schedule, self.task = methods[0].spec.schedule, methods[0].spec.task
        self.train_split, self.valid_split = train_split, valid_split
        name = self.stage.name
        self.log = StageLog(name)
        self.orders = [stream(seed, name, "order") for seed in seeds]
        self.missing = [stream(seed, name, "missing") for seed in seeds]
        self.dropout, self.rng = (
            Random([torch_stream(s, name, use, device=str(train_split.device)) for s in seeds])
            for use in ("dropout", "loss")
        )
        given = []
        for method, stage in zip(methods, stages, strict=True):
            method.eval()
            with torch.no_grad():
                if stage.prepare is not None:
                    stage.prepare(self._complete_batches())
                if stage.given is not None:
                    parts = [stage.given(batch) for batch in self._complete_batches()]
                    given.append(tree_map(lambda *rows: torch.cat(rows), *parts))
        self.given = tree_map(lambda *each: torch.stack(each), *given) if given else None
        kind = Alone if len(methods) == 1 else SideBySide
        self.seeds = kind(methods, [self.dropout, self.rng])
        self.updates = [_Update(step, self.seeds) for step in self.stage.steps]
        self.histories: list[list[dict[str, Any]]] = [[] for _ in methods]
        self.best = [math.inf] * len(methods)
        self.best_epoch = [0] * len(methods)
        self.best_state: dict[str, Tensor] | None = None
        self.failed: dict[int, Diverged] = {}
        self.seconds = 0.0
        self.sweep = self._sweep()

    def epoch(self, number: int) -> None:
        """One pass over the training split, then validation."""
        base = self.seeds.method
        forward = self.stage.forward or base.forward
        # What a stage does not update is held constant: no dropout, no gradient.
        base.eval()
        for update in self.updates:
            update.train()
        orders = np.stack([order.permutation(len(self.train_split)) for order in self.orders])
        sums: dict[tuple[str, ...], Tensor] = {}
        started = time.perf_counter()
        with self._spent("data"):
            drawn = self._draw()
        with drawing_from(self.dropout):
            for at in in_order(orders.shape[1], self.schedule.batch_size):
                rows = orders[:, at]  # (R, B)
                with self._spent("data"):
                    batch = self._batch(rows, number, drawn)
                with self._spent("forward"):
                    outputs = self.seeds.call(forward, batch)
                for update in self.updates:
                    with self._spent("forward"):
                        terms = self.seeds.call(
                            update.step.loss, outputs, batch, shared=(self.rng,)
                        )
                        names = tuple(terms)
                        values = torch.stack([v.reshape(-1) for v in terms.values()])  # (k, R)
                    with self._spent("backward"):
                        last = update is self.updates[-1]
                        update.take(values.sum(), last=last, clip=self.schedule.clip)
                        if update.step.after is not None:
                            with torch.no_grad():
                                self.seeds.call(update.step.after, outputs, batch)
                    values = values.detach()
                    place = f"{self.stage.name}, epoch {number}, sample {at.start}"
                    self._check(names, values, place)
                    if len(self.failed) == len(self.best):
                        return
                    part = values * (rows.shape[1] / orders.shape[1])
                    sums[names] = sums[names] + part if names in sums else part
                self.log.steps += 1
                self.tick()
        with self._spent("validation"), drawing_from(self.dropout):
            losses = self._validate()
        self._note(number, _by_term(sums), losses)
        self.seconds = time.perf_counter() - started
        self.log.seconds += self.seconds

    def ended(self, seeds: Sequence[int]) -> dict[int, Epoch]:
        """What each seed that has not failed did in the epoch that has just ended."""
        last = {i: own[-1] for i, own in enumerate(self.histories) if i not in self.failed}
        name, seconds = self.stage.name, self.seconds / len(seeds)
        return {
            seeds[i]: Epoch(name, told["epoch"], told["loss"], told["valid"], seconds)
            for i, told in last.items()
        }

    def finish(self) -> list[StageLog]:
        """Each seed back to its best epoch; their logs."""
        if self.best_state is not None:
            self.seeds.load(self.best_state)
        self.seeds.restore()
        n = len(self.best)
        shares = {name: seconds / n for name, seconds in self.log.spent.items()}
        return [
            replace(
                self.log,
                best_epoch=self.best_epoch[i],
                history=self.histories[i],
                seconds=self.log.seconds / n,
                spent=shares,
            )
            for i in range(n)
        ]

    def _draw(self) -> list[dict[str, np.ndarray]]:
        """What each seed sees of the training split in one epoch: all of them by one call each."""
        if self.stage.data == "complete":
            return []
        valid = self.train_split.samples.valid
        return [self.sampler.draw(valid, rng) for rng in self.missing]

    def _batch(
        self, rows: np.ndarray, number: int, drawn: Sequence[dict[str, np.ndarray]]
    ) -> Batch:
        """Training samples (R, B), as each seed meets them."""
        masks = None
        if drawn:
            masks = {
                m: np.stack([each[m][own] for each, own in zip(drawn, rows, strict=True)])
                for m in drawn[0]
            }
        batch = self.train_split.training_batch(
            rows, masks, paired=self.stage.data == "paired", epoch=number
        )
        if self.given is not None:
            at = torch.from_numpy(rows).to(self.train_split.device)
            run = torch.arange(len(rows), device=at.device)[:, None]
            batch = replace(batch, given=tree_map(lambda values: values[run, at], self.given))
        return self.seeds.laid(batch)

    def _check(self, names: Sequence[str], values: Tensor, where: str) -> None:
        """Notes which seeds have a term that is not finite: values (k, R)."""
        if bool(values.isfinite().all()):
            return
        for name, row in zip(names, values.tolist(), strict=True):
            for i, value in enumerate(row):
                if not math.isfinite(value):
                    self._fail(i, f"{where}: loss term {name} is {value}")

    def _fail(self, i: int, why: str) -> None:
        self.failed.setdefault(i, Diverged(why))

    def _note(self, number: int, sums: dict[str, list[float]], losses: list[float]) -> None:
        """Keeps each seed's history, and its state where it has never validated better."""
        better = []
        for i, loss in enumerate(losses):
            if not math.isfinite(loss):
                self._fail(i, f"{self.stage.name}, epoch {number}: the validation loss is {loss}")
            means = {name: values[i] for name, values in sums.items()}
            self.histories[i].append({"epoch": number, "loss": means, "valid": loss})
            if loss < self.best[i]:
                self.best[i], self.best_epoch[i] = loss, number
                better.append(i)
        if better:
            self.best_state = self.seeds.snapshot(better, self.best_state)
        for update in self.updates:
            update.validated(losses[0])

    def _sweep(self) -> list[dict[str, np.ndarray] | None]:
        """The masks of validation: the same for every seed, method and epoch."""
        if self.stage.data == "complete":
            return [None]
        rng = stream(self.sampler.id, "selection")
        return list(self.sampler.sweep(self.valid_split.samples.valid, rng))

    def _validate(self) -> list[float]:
        """Each seed's task loss, mean over the sweep and the validation split."""
        base = self.seeds.method
        predict = self.stage.predict or base.forward
        base.eval()
        sums, count = np.zeros(len(self.best)), 0
        with torch.no_grad():
            for batch, targets in stacked(self.valid_split, self.sweep):
                for i, outputs in enumerate(self.seeds.each(predict, batch)):
                    sums[i] += float(self.task.loss(outputs, targets)) * len(targets)
                count += len(targets)
        return list(sums / count)

    def _complete_batches(self) -> Iterator[Batch]:
        for at in in_order(len(self.train_split), EVALUATION_BATCH):
            yield self.train_split.training_batch(np.arange(at.start, at.stop), None)

    @contextmanager
    def _spent(self, on: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        spent = self.log.spent
        spent[on] = spent.get(on, 0.0) + time.perf_counter() - started


class _Update:
    """A step with its parameters and its optimiser.

    Each seed's parameters are one row of a matrix, so that clipping and Adam are one pass for them all.
    """

    def __init__(self, step: Step, seeds: Alone | SideBySide) -> None:
        self.step = step
        self.rows, self.leaves = seeds.flatten(step.updates)
        self.gradient = self.rows.grad = torch.zeros_like(self.rows)
        sizes = [leaf.numel() // len(self.rows) for leaf in self.leaves]
        # what a leaf's gradient is added to is a part of the rows'
        for leaf, part in zip(self.leaves, torch.split(self.gradient, sizes, 1), strict=True):
            leaf.grad = part.view(leaf.shape)
        rate = step.learning_rate or seeds.method.spec.schedule.learning_rate
        self.optimiser = torch.optim.Adam(
            [self.rows], lr=rate, weight_decay=step.weight_decay, fused=True
        )
        self.plateau = step.plateau and torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=step.plateau.factor, patience=step.plateau.patience
        )

    def train(self) -> None:
        for module in self.step.updates:
            module.train()

    def take(self, loss: Tensor, *, last: bool, clip: float) -> None:
        """One update by the gradient of all seeds' loss, clipped for each seed by itself."""
        self.gradient.zero_()
        with warnings.catch_warnings():  # that a leaf of several seeds lies in strips is no news
            warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout")
            torch.autograd.backward(loss, inputs=self.leaves, retain_graph=not last)
        norm = torch.linalg.vector_norm(self.gradient, dim=1, keepdim=True)
        self.gradient.mul_((clip / (norm + 1e-6)).clamp_(max=1.0))
        self.optimiser.step()

    def validated(self, loss: float) -> None:
        if self.plateau:
            self.plateau.step(loss)


def _by_term(sums: Mapping[tuple[str, ...], Tensor]) -> dict[str, list[float]]:
    """Each term's means, a number for each seed, from sums (k, R) of terms that came together."""
    means: dict[str, Tensor] = {}
    for names, values in sums.items():
        for name, row in zip(names, values, strict=True):
            means[name] = means[name] + row if name in means else row
    return {name: row.tolist() for name, row in means.items()}


def stacked(
    split: Split,
    masks: Sequence[dict[str, np.ndarray] | None],
    size: int = EVALUATION_BATCH,
) -> Iterator[tuple[Batch, Tensor]]:
    """The whole split once under each of some masks: a batch and its targets, each sample's masks together.

    So that conditions are mixed, and a batch has as many frames of one modality as of another.
    """
    k = len(masks)
    for at in in_order(len(split), max(1, size // k)):
        rows = np.arange(at.start, at.stop).repeat(k)
        cut = None
        if hiding := [mask for mask in masks if mask is not None]:  # all of them or none
            cut = {
                m: np.stack([mask[m][at] for mask in hiding], 1).reshape(len(rows), -1)
                for m in split.features
            }
        yield split.batch(rows, cut), split.targets[torch.from_numpy(rows).to(split.device)]


def predict(
    method: Method, split: Split, masks: Sequence[dict[str, np.ndarray] | None]
) -> np.ndarray:
    """Outputs float32 (len(masks), N, n_out) of a trained method for a whole split under each of some masks."""
    method.eval()
    with torch.no_grad():
        # a view of a parameter keeps its grad
        parts = [method(batch).detach().float().cpu() for batch, _ in stacked(split, masks)]
    whole = torch.cat(parts).view(len(split), len(masks), -1)
    return whole.transpose(0, 1).contiguous().numpy()
