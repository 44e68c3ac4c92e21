"""A method to check: built, trained and asked by the engine itself, on small made-up data.

"Bit-identical" means that; elsewhere numbers may differ by rounding in float32, for which `CLOSE` stands.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from mmbench import datafile
from mmbench.batching import Batch
from mmbench.checkpoints import Checkpoint
from mmbench.checks import made_up
from mmbench.checks.failures import NotApplicable
from mmbench.checks.made_up import CLASSES, LABELS, SCORE, Setting, setting
from mmbench.data import Schedule
from mmbench.methods import Method
from mmbench.missingness import MissingnessSampler, subsets
from mmbench.registry import Registry
from mmbench.streams import seed_of
from mmbench.training import Diverged, Report, train_side_by_side

CLOSE = 1e-4
"""Largest difference of two outputs that are the same but for rounding: absolute, and of the larger one."""


SEEDS = (0, 1)


class Subject:
    """A class of method on data that it supports; trained once for all checks, each of which gets a copy."""

    def __init__(self, cls: type[Method], registry: Registry) -> None:
        self.cls, self.registry = cls, registry

    @cached_property
    def setting(self) -> Setting:
        """The first that it supports: made-up data, else a small data set."""
        every = [setting(task, kind) for task in (SCORE, LABELS, CLASSES) for kind in KINDS]
        for found in (*every, self.small(made_up.SCHEDULE, 24)):
            if not self.refusal(found):
                return found
        raise NotApplicable(f"it supports no data here: {self.refusal(every[0])}")

    @cached_property
    def _trained(self) -> Method | Exception:
        try:
            (method,) = self.train(self.setting)
        except Exception as error:
            return error
        return method

    def trained(self) -> Method:
        """A trained method of the caller's own; NotApplicable if it does not train, which a check says."""
        if isinstance(self._trained, Exception):
            raise NotApplicable(f"it has to train first: see {LEARNS!r}")
        return copy.deepcopy(self._trained)

    def refusal(self, where: Setting) -> Any:
        """Why it does not support some data, as `supports` says it."""
        return self.cls.supports(where.spec)

    def small(self, schedule: Schedule | None, count: int) -> Setting:
        """The first samples of a data set for first tries, with its own schedule or another one."""
        every = [found.cls for found in self.registry.classes["dataset"].values()]
        cls = next((each for each in every if each.first_try), None)
        if cls is None:
            raise NotApplicable("no data set for first tries is installed")
        data = datafile.obtain(cls())
        splits = {name: samples.take(count) for name, samples in data.splits.items()}
        return made_up.setting_of(replace(data, splits=splits), schedule or cls.schedule)

    def made(self, where: Setting, seed: int = 0) -> Method:
        """A method as a job makes it."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed_of(seed, "init"))
            return self.cls(where.spec)

    def train(
        self,
        where: Setting,
        seeds: Sequence[int] = (0,),
        sampler: MissingnessSampler | None = None,
        methods: Sequence[Method] | None = None,
        interruption: tuple[Report, Checkpoint] | None = None,
    ) -> list[Method]:
        """A method from each seed, trained side by side; Diverged where a loss is not finite."""
        methods = methods or [self.made(where, seed) for seed in seeds]
        sampler = sampler or self.registry.find("sampler", self.cls.sampler)(
            **methods[0].sampler_settings
        )
        train, valid = where.split("train"), where.split("valid")
        report, memory = interruption or (lambda progress: None, None)
        results = train_side_by_side(
            methods, train, valid, sampler, seeds, report=report, memory=memory
        )
        for result in results:
            if isinstance(result, Diverged):
                raise result
        return list(methods)

    def masks(self) -> list[dict[str, np.ndarray]]:
        """Of the test split: each set of modalities, some frames of each, and nothing at all."""
        valid = self.setting.test.valid
        sets = [{m: v & (m in subset) for m, v in valid.items()} for subset in subsets(list(valid))]
        return [*sets, made_up.some_hidden(valid), made_up.nothing(valid)]


KINDS = ("three", "two")


MADE = "it is made from a data set's shapes, and every hyper-parameter has a default"


REPEATS = "the same seed gives the same numbers"


LEARNS = "it trains and then predicts finite numbers"


def differs(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, in units of what rounding may do; of what is not finite in both, none."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b) / (CLOSE * np.maximum(1, np.maximum(np.abs(a), np.abs(b))))
    neither = ~np.isfinite(a) & ~np.isfinite(b)
    return float(np.where(neither, 0, np.nan_to_num(gap, nan=np.inf)).max(initial=0))


def identical(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same to the last bit."""
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def ask(method: Method, batch: Batch) -> np.ndarray:
    """Outputs (B, n_out) of a trained method."""
    method.eval()
    with torch.no_grad():
        return method(batch).detach().float().numpy()


def same_state(one: Method, other: Method) -> bool:
    """Whether two have the same parameters and buffers, bit by bit."""
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(n == k and identical(a.numpy(), b.numpy()) for (n, a), (k, b) in pairs)
