"""What a job starts from: samples, epochs, the spec that a method is told, and parameters from its seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from mmbench.data import Data, DataSpec, Samples, Schedule
from mmbench.jobs import Job
from mmbench.methods import Method
from mmbench.streams import seed_of

QUICK_SAMPLES = 512
QUICK_EPOCHS = 2


def schedule_of(schedule: Schedule, *, quick: bool) -> Schedule:
    """A data set's own; a quick job has fewer epochs."""
    return replace(schedule, epochs=min(QUICK_EPOCHS, schedule.epochs)) if quick else schedule


def spec_of(data: Data, job: Job) -> DataSpec:
    """What the method is told; a quick job has fewer samples and epochs."""
    n_train = len(limited(data, "train", job))
    return DataSpec(data.name, data.modalities(), data.task, job.schedule, n_train)


def limited(data: Data, split: str, job: Job) -> Samples:
    """A split; of training and validation only the first few for a quick job. Never less of the test."""
    samples = data.splits[split]
    return samples.take(QUICK_SAMPLES) if job.quick and split != "test" else samples


def methods_of(
    cls: type[Any], spec: DataSpec, jobs: Sequence[Job], device: torch.device
) -> list[Method]:
    """One for each job, its parameters drawn from the job's seed."""
    methods = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for job in jobs:
            torch.manual_seed(seed_of(job.seed, "init"))
            methods.append(cls(spec, **job.changed).to(device))
    return methods
