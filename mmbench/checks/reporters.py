"""Checks of reporters, on a leaderboard of made-up results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch

from mmbench.checks.core import check
from mmbench.checks.failures import fail
from mmbench.checks.made_up import LABELS, setting
from mmbench.checks.randomness import seeded
from mmbench.evaluation import evaluate
from mmbench.jobs import Job, begin_manifest
from mmbench.leaderboard import Leaderboard
from mmbench.methods import Method
from mmbench.metrics import floor
from mmbench.registry import Registry
from mmbench.reporters import Reporter
from mmbench.work import metrics_for

WHEN = "2026-01-01T00:00:00+00:00"


class Answers(Method):
    """Gives the same answer to everything."""

    name = "answers"

    def forward(self, batch: Any) -> torch.Tensor:
        """(B, n_out)."""
        return torch.ones(len(batch), self.spec.task.n_out).cumsum(1)


def manifest(registry: Registry, method: str, seed: int, *, synthetic: bool) -> Mapping[str, Any]:
    """The manifest of a result, under every registered protocol and metric."""
    where = setting(LABELS)
    protocols = [found.cls() for found in registry.classes["protocol"].values()]
    metrics = metrics_for(registry, where.spec)
    ids = tuple(protocol.id for protocol in protocols)
    job = Job(method, where.data.name, seed, ids, "d" * 64, "c" * 64, where.spec.schedule)
    found = evaluate(Answers(where.spec), where.split("test"), protocols, metrics, quick=True)
    return begin_manifest(job) | {
        "status": "finished",
        "data": {
            "name": where.data.name,
            "synthetic": synthetic,
            "sha256": "d" * 64,
            "source": {},
            "modalities": {m: asdict(shape) for m, shape in where.spec.modalities.items()},
            "splits": {name: len(samples) for name, samples in where.data.splits.items()},
        },
        "method": {
            **{"summary": "made up", "paper": "", "deviations": [], "privileges": []},
            "competes": True,
        },
        "protocols": found.protocols,
        "metrics": {metric.name: metric.describe() for metric in metrics},
        "headline": where.spec.task.headline,
        "labels": list(where.spec.task.labels),
        "floor": floor(where.spec.task, metrics, where.test.targets),
        "scores": found.scores,
        "averages": found.averages,
        "training": [],
        "parameters": {"deployed": 0, "total": 0, "modules": {}},
        "seconds": {"train": 1.0, "evaluate": 1.0},
        "peak_memory_mib": 1.0,
        "environment": {"mmbench": "0", "torch": "0"},
        "finished": WHEN,
    }


class Subject:
    """A reporter, and leaderboards for it."""

    def __init__(self, cls: type[Reporter], registry: Registry) -> None:
        self.cls, self.registry = cls, registry

    def board(self, *, synthetic: bool) -> Leaderboard:
        """Two methods, one of two seeds."""
        rows = [("first-method", 0), ("first-method", 1), ("second-method", 0)]
        found = [manifest(self.registry, m, seed, synthetic=synthetic) for m, seed in rows]
        return Leaderboard.from_manifests("made-up", found)

    @cached_property
    def real(self) -> Leaderboard:
        """As if the data were real."""
        return self.board(synthetic=False)


@check("reporter", "the same leaderboard gives the same bytes", Subject)
def stable(subject: Subject) -> None:
    """Published tables are checked by rendering them again: no clock, no set order, no random name."""
    texts = []
    for seed in (1, 2):
        with seeded(seed):
            texts.append(subject.cls().render(subject.real))
    if texts[0] != texts[1]:
        fail(
            "the same leaderboard is rendered to two texts",
            expected="the same bytes",
            mend="Write nothing but what the leaderboard says: no time, no random name, no set's order.",
        )


@check("reporter", "every method is named", Subject)
def named(subject: Subject) -> None:
    """A method that a table leaves out was never tested, to whoever reads it."""
    text = subject.cls().render(subject.real)
    if lost := [r.label for s in subject.real.sections for r in s.rows if r.label not in text]:
        fail(
            f"{', '.join(lost)} is not in the text",
            expected="each row's label",
            mend="Write every row of every section of the leaderboard.",
        )


@check("reporter", "made-up data is told as such", Subject)
def synthetic(subject: Subject) -> None:
    """Scores on a synthetic twin say nothing about the real data, and every surface has to say so."""
    text = subject.cls().render(subject.board(synthetic=True))
    if "synthetic" not in text.lower() or text == subject.cls().render(subject.real):
        fail(
            "nothing tells that the data is synthetic",
            expected='the word "synthetic", where leaderboard.synthetic is True',
            mend="Write mmbench.tables.SYNTHETIC, or a column of that name.",
        )


@check("reporter", "a leaderboard without results is text, too", Subject)
def empty(subject: Subject) -> None:
    """Where every job has failed, the reasons are all there is to tell."""
    text = subject.cls().render(Leaderboard("made-up", [], []))
    if not isinstance(text, str):
        fail(
            f"renders a leaderboard without results to {type(text).__name__}",
            expected="text",
            mend="Return what the file holds, as str.",
        )
