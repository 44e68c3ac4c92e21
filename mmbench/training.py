"""The one training loop: stages of alternating steps, selection on the validation split."""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mmbench.batching import Batch, Split, in_order
from mmbench.methods import Method, Stage, Step, Terms
from mmbench.missingness import MissingnessSampler
from mmbench.streams import seed_of, stream, torch_stream

EVALUATION_BATCH = 512


class Diverged(Exception):
    """A loss that is not finite: the job has failed, and says where."""


@dataclass
class StageLog:
    """What one stage did."""

    stage: str
    best_epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    """For each epoch the mean of each loss term and the validation loss."""


def train(
    method: Method,
    train_split: Split,
    valid_split: Split,
    sampler: MissingnessSampler,
    seed: int,
    report: Callable[[float, str], None] = lambda share, doing: None,
) -> list[StageLog]:
    """Trains in place, stage after stage, each ending at the epoch of the lowest validation loss.

    Every random number comes from a stream named after the seed and its use; the global generator of
    torch (dropout) is left as it was found.
    """
    stages = list(method.stages())
    epochs = [method.spec.schedule.epochs if s.epochs is None else s.epochs for s in stages]
    done, total = 0, max(sum(epochs), 1)
    logs = []
    devices = [train_split.device] if train_split.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        for stage, n_epochs in zip(stages, epochs, strict=True):
            torch.manual_seed(seed_of(seed, stage.name, "dropout"))
            loop = _StageLoop(method, stage, train_split, valid_split, sampler, seed)
            started = time.perf_counter()
            for epoch in range(1, n_epochs + 1):
                loop.epoch(epoch)
                done += 1
                report(done / total, f"{stage.name} {epoch}/{n_epochs}")
            loop.log.seconds = time.perf_counter() - started
            logs.append(loop.finish())
    return logs


class _StageLoop:
    """One stage of one method: an epoch at a time, so that it can be watched and stopped."""

    def __init__(
        self,
        method: Method,
        stage: Stage,
        train_split: Split,
        valid_split: Split,
        sampler: MissingnessSampler,
        seed: int,
    ) -> None:
        self.method, self.stage, self.sampler = method, stage, sampler
        self.train_split, self.valid_split = train_split, valid_split
        self.log = StageLog(stage.name)
        self.order = stream(seed, stage.name, "order")
        self.missing = stream(seed, stage.name, "missing")
        self.rng = torch_stream(seed, stage.name, "loss", device=str(train_split.device))
        self.best = math.inf
        self.best_state: dict[str, Any] | None = None
        method.eval()
        if stage.prepare is not None:
            with torch.no_grad():
                stage.prepare(self._complete_batches())
        self.given = None if stage.given is None else self._give(stage.given)
        self.updates = [_Update(step, method) for step in stage.steps]
        self.sweep = self._sweep()

    def epoch(self, number: int) -> None:
        """One pass over the training split, then validation."""
        schedule = self.method.spec.schedule
        forward = self.stage.forward or self.method.forward
        # What a stage does not update is held constant: no dropout, no gradient.
        self.method.eval()
        for update in self.updates:
            update.train()
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.rng.device))
        order = self.order.permutation(len(self.train_split))
        for at in in_order(len(order), schedule.batch_size):
            rows = order[at]
            masks = None
            if self.stage.data != "complete":
                valid = {m: v[rows] for m, v in self.train_split.samples.valid.items()}
                masks = self.sampler.draw(valid, self.missing)
            batch = self.train_split.training_batch(
                rows, masks, paired=self.stage.data == "paired", epoch=number
            )
            if self.given is not None:
                batch = replace(batch, given=tree_map(partial(_rows, at=rows), self.given))
            outputs = forward(batch)
            for update in self.updates:
                terms = update.take(
                    outputs, batch, self.rng, last=update is self.updates[-1], clip=schedule.clip
                )
                for name, value in terms.items():
                    if not value.isfinite():
                        where = f"{self.stage.name}, epoch {number}, sample {at.start}"
                        raise Diverged(f"{where}: loss term {name} is {float(value.detach())}")
                    sums[name] += value.detach() * (len(rows) / len(order))
        entry = {"epoch": number, "loss": {name: float(value) for name, value in sums.items()}}
        entry["valid"] = loss = self._validate()
        if not math.isfinite(loss):
            raise Diverged(f"{self.stage.name}, epoch {number}: the validation loss is {loss}")
        self.log.history.append(entry)
        if loss < self.best:
            self.best, self.log.best_epoch = loss, number
            self.best_state = copy.deepcopy(self.method.state_dict())
        for update in self.updates:
            update.validated(loss)

    def finish(self) -> StageLog:
        """Back to the best epoch."""
        if self.best_state is not None:
            self.method.load_state_dict(self.best_state)
        self.method.eval()
        return self.log

    def _sweep(self) -> list[dict[str, np.ndarray] | None]:
        """The masks of validation: the same for every seed, method and epoch."""
        if self.stage.data == "complete":
            return [None]
        rng = stream(self.sampler.id, "selection")
        return list(self.sampler.sweep(self.valid_split.samples.valid, rng))

    def _validate(self) -> float:
        """The task loss, mean over the sweep and the validation split."""
        predict = self.stage.predict or self.method.forward
        self.method.eval()
        loss, count = 0.0, 0
        with torch.no_grad():
            for masks in self.sweep:
                for at in in_order(len(self.valid_split), EVALUATION_BATCH):
                    cut = None if masks is None else {m: k[at] for m, k in masks.items()}
                    batch = self.valid_split.batch(at, cut)
                    targets = self.valid_split.targets[at]
                    loss += float(self.method.spec.task.loss(predict(batch), targets)) * len(
                        targets
                    )
                    count += len(targets)
        return loss / count

    def _give(self, given: Callable[[Batch], Any]) -> Any:
        """What a stage computes once: each tensor with a row (N, ...) for each training sample."""
        with torch.no_grad():
            parts = [given(batch) for batch in self._complete_batches()]
        return tree_map(lambda *rows: torch.cat(rows), *parts)

    def _complete_batches(self) -> Iterator[Any]:
        for at in in_order(len(self.train_split), EVALUATION_BATCH):
            yield self.train_split.training_batch(np.arange(at.start, at.stop), None)


class _Update:
    """A step with its parameters and its optimiser."""

    def __init__(self, step: Step, method: Method) -> None:
        self.step = step
        self.parameters = [p for module in step.updates for p in module.parameters()]
        rate = step.learning_rate or method.spec.schedule.learning_rate
        self.optimiser = torch.optim.Adam(self.parameters, lr=rate, fused=True)
        self.plateau = step.plateau and torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=step.plateau.factor, patience=step.plateau.patience
        )

    def train(self) -> None:
        for module in self.step.updates:
            module.train()

    def take(
        self, outputs: Any, batch: Any, rng: torch.Generator, *, last: bool, clip: float
    ) -> dict[str, Tensor]:
        """One update; returns the loss terms."""
        terms = self.step.loss(outputs, batch, rng)
        gradients = torch.autograd.grad(
            _total(terms), self.parameters, retain_graph=not last, allow_unused=True
        )
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # fused Adam takes both for laid out alike, which autograd.grad does not promise
            parameter.grad = None if gradient is None else gradient.contiguous()
        nn.utils.clip_grad_norm_(self.parameters, clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.step.after is not None:
            with torch.no_grad():
                self.step.after(outputs, batch)
        return dict(terms)

    def validated(self, loss: float) -> None:
        if self.plateau:
            self.plateau.step(loss)


def _rows(values: Tensor, at: np.ndarray) -> Tensor:
    return values[torch.from_numpy(at).to(values.device)]


def _total(terms: Terms) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def predict(method: Method, split: Split, masks: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Outputs float32 (N, n_out) of a trained method for a whole split."""
    method.eval()
    with torch.no_grad():
        parts = [
            method(split.batch(at, None if masks is None else {m: k[at] for m, k in masks.items()}))
            for at in in_order(len(split), EVALUATION_BATCH)
        ]
    return torch.cat(parts).detach().float().cpu().numpy()  # a view of a parameter keeps its grad
