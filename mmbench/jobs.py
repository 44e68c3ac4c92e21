"""Jobs: one method on one data set from one seed, and what becomes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

from mmbench.data import Schedule

WHERE = ("plugin_files", "device", "profile", "embeddings")
"""Fields of a job that decide no number."""


@dataclass(frozen=True)
class Job:
    """Plain values that decide every number of a result; any worker can do it from them."""

    method: str
    dataset: str
    seed: int
    protocols: tuple[str, ...]
    """Ids, e.g. "inter@1"."""
    data_sha256: str
    code_sha256: str
    """Of the source, without its comments, of the method and of what trains it."""
    schedule: Schedule
    sampler: str = ""
    """Id of what goes missing in training, e.g. "msm@1"."""
    changed: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters that differ from the method's defaults."""
    quick: bool = False
    """A first look: few samples, few epochs, one mask per condition. Never mixed with full results."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Of the metrics."""
    plugin_files: tuple[str, ...] = ()
    """Files given with --plugin, which a worker has to load again."""
    device: str = "cpu"
    profile: str = ""
    """Folder for a trace of a few updates."""
    embeddings: bool = False
    """Whether representations are kept beside the predictions."""

    @property
    def key(self) -> str:
        """16 hex digits of everything above that decides a number: of neither device nor folders."""
        return self._digest()

    @property
    def config(self) -> str:
        """The same without the seed: the rows of a table."""
        return self._digest("seed")

    def _digest(self, *without: str) -> str:
        return digest(asdict(self), *without)

    @property
    def label(self) -> str:
        """The method as a table names it, e.g. "hrlf[depth=2] (quick)"."""
        return label(self.method, self.changed, self.quick)


def digest(described: Mapping[str, Any], *without: str) -> str:
    """16 hex digits of a job as plain values, but for where it is done and for `without`."""
    decisive = {name: value for name, value in described.items() if name not in (*WHERE, *without)}
    text = json.dumps(decisive, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def label(method: str, changed: Mapping[str, Any], quick: bool) -> str:
    """A method with its settings, as a table names it."""
    changes = ",".join(f"{name}={value}" for name, value in sorted(changed.items()))
    return method + (f"[{changes}]" if changes else "") + (" (quick)" if quick else "")


@dataclass(frozen=True)
class Epoch:
    """What a job did in one epoch."""

    stage: str
    number: int
    """From 1, in each stage anew."""
    loss: Mapping[str, float]
    """The mean of each loss term."""
    valid: float
    """The validation loss."""
    seconds: float
    """Of all seeds that are trained side by side, shared among them."""


@dataclass(frozen=True)
class Progress:
    """What a worker tells on its way, about jobs that differ in their seed alone. It can be pickled."""

    share: float
    """Of the work that is done, 0 to 1."""
    doing: str
    """A word on what is being done."""
    epochs: Mapping[int, Epoch] = field(default_factory=dict)
    """The epoch that has just ended, by seed."""


@dataclass(frozen=True)
class Outcome:
    """What a job left: its manifest and, if it finished, what it predicted."""

    manifest: Mapping[str, Any]
    """JSON values; `docs` of the layout: mmbench/store.py."""
    predictions: Mapping[str, np.ndarray] = field(default_factory=dict)
    """"ids" (N,), "targets" (N, L), and raw outputs float32 (N, n_out) by
    "protocol/condition/mask seed", e.g. "inter/la/0"."""
    representations: Mapping[str, np.ndarray] = field(default_factory=dict)
    """As in mmbench/representations.py; empty unless they were asked for."""


SCHEMA = 1
"""Version of the manifest's layout."""


def begin_manifest(job: Job) -> dict[str, Any]:
    """The part of a manifest that is known before anything is done: that of a failure."""
    described = {k: v for k, v in asdict(job).items() if k not in WHERE}
    return {
        "schema": SCHEMA,
        "status": "failed",
        "key": job.key,
        "config": job.config,
        "job": {"label": job.label, **described},
    }


def lost(job: Job, reason: str) -> Outcome:
    """The outcome of a job whose worker died."""
    return Outcome({**begin_manifest(job), "reason": reason, "finished": now()})


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
