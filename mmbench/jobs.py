"""Jobs: one method on one data set from one seed, and what becomes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, get_args

import numpy as np

from mmbench.data import Schedule

WHERE = ("plugin_files", "device", "profile", "embeddings", "time_limit")
"""Fields of a job that decide no number."""

Kind = Literal[
    "exception", "out of memory", "diverged", "time limit", "not applicable", "refused", "lost"
]
"""Why a job failed. The method raised something; wanted more memory than there is; lost or predicted numbers
that are not finite; took longer than allowed; does not apply to the data; was refused by a worker whose code
or data is not what the run was planned with; or its worker died."""
KINDS: tuple[Kind, ...] = get_args(Kind)
INFRASTRUCTURE: tuple[Kind, ...] = ("refused", "lost")
"""Failures that are nobody's but the machine's: the same command tries these again."""


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
    """Of the metrics that can judge the data."""
    rules_sha256: str = ""
    """Of the source, as `code_sha256`, of sampler, protocols and metrics, and of what tests by them."""
    plugin_files: tuple[str, ...] = ()
    """Files given with --plugin, which a worker has to load again."""
    device: str = "cpu"
    profile: str = ""
    """Folder for a trace of a few updates."""
    embeddings: bool = False
    """Whether representations are kept beside the predictions."""
    time_limit: float = 0.0
    """Seconds of a worker that it may take; 0 for as many as it likes."""

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


def rules(job: Job) -> list[tuple[str, str]]:
    """The classes, by kind and name, that decide what is hidden from a job's method and how it is scored."""
    return [
        ("sampler", job.sampler),
        *(("protocol", name) for name in job.protocols),
        *(("metric", name) for name in sorted(job.versions)),
    ]


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


def failure(job: Job, kind: Kind, reason: str) -> Outcome:
    """The outcome of a job that told nothing of its failure."""
    return Outcome({**begin_manifest(job), "kind": kind, "reason": reason, "finished": now()})


def lost(job: Job, reason: str) -> Outcome:
    """The outcome of a job whose worker died. It is tried again, a few times."""
    return failure(job, "lost", reason)


def overdue(job: Job) -> Outcome:
    """The outcome of a job whose worker was killed, because it went on for longer than the job may."""
    return failure(job, "time limit", f"{limit(job)}, and had to be killed")


def limit(job: Job) -> str:
    """That a job was over its time limit."""
    return f"it took longer than the {job.time_limit / 60:g} minutes of --time-limit"


def kind_of(manifest: Mapping[str, Any]) -> Kind | None:
    """Why a job failed; None if it did not. What an old manifest does not say is told by its reason."""
    if manifest["status"] == "finished":
        return None
    if manifest.get("kind") in KINDS:
        return manifest["kind"]
    said = str(manifest.get("reason", ""))
    told: dict[str, Kind] = {"not applicable": "not applicable", "its process ended": "lost"}
    return next((kind for start, kind in told.items() if said.startswith(start)), "exception")


def why(manifest: Mapping[str, Any]) -> str:
    """Why a job failed, for a person: the reason, and its kind where that says more."""
    kind, reason = kind_of(manifest), str(manifest["reason"])
    return reason if kind == "exception" or reason.startswith(str(kind)) else f"{kind}: {reason}"


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
