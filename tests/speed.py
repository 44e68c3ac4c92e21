"""What tests/test_speed.py measures: training on the twin of IEMOCAP, ours and the plain way.

As a script, `python -m tests.speed DEPTH SEED`, it trains in a process of its own, as a job does: for each
line of standard input, a number of seconds, it says how many steps a second it took in them.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec
from mmbench.methods import Method, Stage
from mmbench.registry import discover
from mmbench.training import StageLoop
from mmbench_datasets.iemocap import SCHEDULE, SIZES, TASK, IEMOCAPTwin
from mmbench_missing.msm import MSM
from tests.reference import (
    corrkd,
    cubemlp,
    dmd,
    gcnet,
    hrlf,
    late_fusion,
    mctn,
    self_mm,
    smil,
    transm,
)

METHODS: dict[str, Callable[..., Any]] = {
    "mctn": mctn.Trainer,
    "transm": transm.Trainer,
    "smil": smil.Trainer,
    "gcnet": gcnet.Trainer,
    "corrkd": corrkd.Trainer,
    "self-mm": self_mm.Trainer,
    "cubemlp": cubemlp.Trainer,
    "dmd": dmd.Trainer,
}
PLAIN: dict[str, Callable[..., Any]] = {
    "teacher": hrlf.TeacherTrainer,
    "student": hrlf.StudentTrainer,
    "late-fusion": late_fusion.Trainer,
    **METHODS,
}
"""By step, a method or a stage of HRLF, the same as the equations stand: of a DataSpec and a method's
settings, something whose `step(batch)` is one update of that stage, or of the method's last."""

STEPS = 8
"""Updates in one pass over the samples, whatever the step."""


@lru_cache(maxsize=1)
def split() -> Split:
    """The first samples of the training split, padded as they are."""
    return Split(IEMOCAPTwin().split("train").take(STEPS * SCHEDULE.batch_size))


@lru_cache(maxsize=1)
def spec() -> DataSpec:
    shapes = {m: ModalitySpec(*x.shape[1:]) for m, x in split().features.items()}
    return DataSpec("iemocap-twin", shapes, TASK, SCHEDULE, n_train=SIZES["train"])


class _Loop(StageLoop):
    """The training loop without validation, which is not a step's."""

    def _validate(self) -> list[float]:
        return [1.0] * len(self.best)


def ours(
    step: str, depth: int | None = None, seeds: Sequence[int] = (0,), device: str = "cpu"
) -> Callable[[], None]:
    """Takes `STEPS` steps at each call: batches drawn and updates done by the training loop itself.

    Each call is another epoch, for what changes with their number. Several seeds are trained side by side.
    """
    methods = [made(step, depth, seed).to(device) for seed in seeds]
    stages = [stage_of(step, method) for method in methods]
    splits = Split(split().samples, device), Split(split().samples, device)
    loop, epochs = _Loop(methods, stages, *splits, MSM(), seeds), count(1)
    return lambda: loop.epoch(next(epochs))


def made(step: str, depth: int | None = None, seed: int = 0) -> Method:
    """The method that a step is of, as deep as it is by itself or as told."""
    torch.manual_seed(seed)
    name = "hrlf" if step in ("teacher", "student") else step
    method: Method = discover().find("method", name)(spec(), **settings(depth))
    return method


def stage_of(step: str, method: Method) -> Stage:
    """The stage of that name, or the last one."""
    stages = method.stages()
    return next((stage for stage in stages if stage.name == step), stages[-1])


def settings(depth: int | None) -> dict[str, Any]:
    """What a method is made with."""
    return {} if depth is None else {"depth": depth}


def plain(step: str, depth: int | None = None, seed: int = 0) -> Callable[..., None]:
    """The same with the reference, or fewer steps; batches are drawn as the training loop draws them."""
    stage = stage_of(step, made(step, depth))
    data = "paired" if stage.given else stage.data  # a frozen teacher reads the complete samples
    torch.manual_seed(seed)
    trainer, epochs = PLAIN[step](spec(), **settings(depth)), count(1)

    def epoch(steps: int = STEPS) -> None:
        number = next(epochs)
        for batch in islice(batches(data), steps):
            trainer.step(replace(batch, epoch=number))

    return epoch


def batches(data: str) -> Iterator[Batch]:
    """Complete samples, incomplete ones, or both, drawn as the training loop draws them."""
    rng = np.random.default_rng(0)
    for rows in rng.permutation(len(split())).reshape(STEPS, -1):
        masks = None
        if data != "complete":
            masks = MSM().draw({m: v[rows] for m, v in split().samples.valid.items()}, rng)
        yield split().training_batch(rows, masks, paired=data == "paired")


def main(depth: int, seed: int) -> None:
    """The script."""
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")
    epochs = [ours(step, depth, [seed]) for step in ("teacher", "student")]
    for epoch in epochs:  # the first pass is slower
        epoch()
    say("ready")
    for line in sys.stdin:
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < float(line):
            for epoch in epochs:
                epoch()
                steps += STEPS
        say(steps / (time.perf_counter() - started))


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
