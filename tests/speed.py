"""What tests/test_speed.py measures: training on the twin of IEMOCAP, ours and the plain way.

As a script, `python -m tests.speed DEPTH SEED`, it trains in a process of its own, as a job does: for each
line of standard input, a number of seconds, it says how many steps a second it took in them.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count, islice
from typing import Any

import numpy as np
import torch

from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec
from mmbench.methods import Method, Stage
from mmbench.registry import discover
from mmbench.training import _StageLoop
from mmbench_datasets.iemocap import SCHEDULE, SIZES, TASK, IEMOCAPTwin
from mmbench_methods.hrlf import HRLF
from mmbench_methods.late_fusion import LateFusion
from mmbench_missing.msm import MSM
from tests.reference import corrkd, cubemlp, gcnet, hrlf, late_fusion, mctn, self_mm, smil
from tests.reference.adam import Adam

PLAIN: dict[str, Callable[[DataSpec], Any]] = {
    "corrkd": corrkd.Trainer,
    "cubemlp": cubemlp.Trainer,
    "gcnet": gcnet.Trainer,
    "mctn": mctn.Trainer,
    "self-mm": self_mm.Trainer,
    "smil": smil.Trainer,
}
"""Methods' references: `step(batch)` is one update of the last stage, which is the main one."""
STEPS = 4
"""Updates in one pass over the samples, whatever the step."""


@lru_cache(maxsize=1)
def split() -> Split:
    """The first samples of the training split, padded as they are."""
    return Split(IEMOCAPTwin().split("train").take(STEPS * SCHEDULE.batch_size))


@lru_cache(maxsize=1)
def spec() -> DataSpec:
    shapes = {m: ModalitySpec(*x.shape[1:]) for m, x in split().features.items()}
    return DataSpec("iemocap-twin", shapes, TASK, SCHEDULE, n_train=SIZES["train"])


class _Loop(_StageLoop):
    """The training loop without validation, which is not a step's."""

    def _validate(self) -> list[float]:
        return [1.0] * len(self.best)


def ours(
    step: str, depth: int, seeds: Sequence[int] = (0,), device: str = "cpu"
) -> Callable[[], None]:
    """Takes `STEPS` steps at each call: batches drawn and updates done by the training loop itself.

    Several seeds are trained side by side.
    """
    methods = [made(step, depth, seed).to(device) for seed in seeds]
    stages = [next(s for s in m.stages() if s.name in (step, "train")) for m in methods]
    splits = Split(split().samples, device), Split(split().samples, device)
    return partial(_Loop(methods, stages, *splits, MSM(), seeds).epoch, 1)


def a_method(name: str) -> tuple[Callable[[], None], Callable[..., None]]:
    """Ours and the plain way of training a method: the last stage, `STEPS` steps at each call.

    Each call is another epoch, for what changes with their number. The plain way may do fewer steps.
    """
    torch.manual_seed(0)
    method = discover().find("method", name)(spec())
    stage: Stage = method.stages()[-1]
    epochs, plain_epochs, trainer = count(1), count(1), PLAIN[name](spec())
    loop = _Loop([method], [stage], split(), split(), MSM(), [0])
    data = "paired" if stage.given else stage.data  # a frozen teacher reads the complete samples

    def plainly(steps: int = STEPS) -> None:
        number = next(plain_epochs)
        for batch in islice(batches(data), steps):
            trainer.step(replace(batch, epoch=number))

    return lambda: loop.epoch(next(epochs)), plainly


def made(step: str, depth: int, seed: int = 0) -> Method:
    """The method that a step is of."""
    torch.manual_seed(seed)
    return (LateFusion if step == "late-fusion" else HRLF)(spec(), depth=depth)


def plain(step: str, depth: int, seed: int = 0) -> Callable[..., None]:
    """The same with the reference, or fewer steps."""
    torch.manual_seed(seed)
    adam = partial(Adam, learning_rate=SCHEDULE.learning_rate, clip=SCHEDULE.clip)
    if step == "late-fusion":
        fusion = late_fusion.LateFusion(spec(), depth=depth)
        update = partial(late_fusion.train_step, fusion, adam(fusion))
    else:
        model = hrlf.HRLF(spec(), depth=depth)
        if step == "teacher":
            update = partial(hrlf.teacher_step, model, adam(model.teacher))
        else:
            model.start_student()
            discriminate, learn = adam(model.discriminators), adam(model.student, model.statistics)
            update = partial(hrlf.student_step, model, discriminate, learn, rng=torch.Generator())

    def epoch(steps: int = STEPS) -> None:
        for batch in islice(batches(NEEDS.get(step, "incomplete")), steps):
            update(batch=batch)

    return epoch


NEEDS = {"teacher": "complete", "student": "paired"}


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
