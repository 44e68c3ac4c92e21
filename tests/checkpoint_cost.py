"""What a checkpoint costs: `python tests/checkpoint_cost.py [METHOD] [DATASET]`, by default hrlf on mosi-twin."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch

from mmbench import datafile
from mmbench.batching import Split
from mmbench.checkpoints import Checkpoint
from mmbench.data import DataSpec
from mmbench.registry import discover
from mmbench.streams import seed_of
from mmbench.training import StageLoop


def main(method: str = "hrlf", dataset: str = "mosi-twin") -> None:
    """Seconds of an epoch of the last stage, milliseconds of a checkpoint after it, both of this process."""
    torch.set_num_threads(1)
    registry = discover()
    source = registry.find("dataset", dataset)
    data = datafile.obtain(source())
    train, valid = (Split(data.splits[name]) for name in ("train", "valid"))
    spec = DataSpec(data.name, data.modalities(), data.task, source.schedule, len(train))
    cls = registry.find("method", method)
    torch.manual_seed(seed_of(0, "init"))
    made = cls(spec)
    sampler = registry.find("sampler", cls.sampler)(**made.sampler_settings)
    stage = made.stages()[-1]
    loop = StageLoop([made], [stage], train, valid, sampler, [0])
    started = time.process_time()
    loop.epoch(1)
    epoch = time.process_time() - started
    with TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder, "checkpoint"), {}, every=0.0)
        checkpoint.begin([made], [[stage]], sampler, train.device)
        checkpoint.enter(0)
        checkpoint.resume(loop, [])
        times = []
        for _ in range(10):
            started, seen = time.process_time(), time.perf_counter()
            checkpoint.keep(loop, 1, [])
            assert checkpoint.refused is None, checkpoint.refused
            times.append((time.process_time() - started, time.perf_counter() - seen))
        size = checkpoint.path.stat().st_size / 2**20
    spent, seen = (1000 * sorted(values)[5] for values in zip(*times, strict=True))
    click.echo(
        f"{method} on {dataset}: an epoch of stage {stage.name} {epoch:.1f} s, a checkpoint {spent:.0f} ms "
        f"({seen:.0f} ms by the clock), {size:.1f} MiB, {100 * spent / 1000 / epoch:.1f} % of an epoch"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
