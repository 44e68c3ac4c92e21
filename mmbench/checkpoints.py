"""Training that goes on where it was interrupted: all that the loop knows after an epoch, in a file.

Checkpoints lie in the cache of the machine that trains, `<cache>/checkpoints/`, and are known by the jobs that
they belong to. One is written at the end of an epoch if none was in the last `EVERY` seconds, and removed when
the results are stored. It holds tensors and plain values (mmbench/states.py), read by
`torch.load(weights_only=True)`, behind their SHA-256. A method that keeps what it learns elsewhere
(mmbench/attributes.py) has none, and is trained anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import torch

from mmbench import attributes, states
from mmbench.datafile import replacing
from mmbench.jobs import Job
from mmbench.methods import Method, Stage
from mmbench.missingness import MissingnessSampler
from mmbench.paths import cache_dir
from mmbench.seeds import Alone
from mmbench.training import Memory, Results, StageLoop

EVERY = 60.0
"""Seconds of training before the first checkpoint, and between two."""
LAYOUT = 1
"""Version of what is in the file. A new one for whatever changes what is kept, or how it is put back."""
KEPT = 30 * 86400.0
"""Seconds after which a checkpoint that nobody came back for is removed."""


class Checkpoint(Memory):
    """The file of jobs that are trained together."""

    def __init__(self, path: Path, identity: Mapping[str, Any], every: float | None = None) -> None:
        self.path = path
        self.identity = json.dumps({**identity, "layout": LAYOUT}, sort_keys=True)
        self.every = EVERY if every is None else every
        self.last = time.monotonic()
        self.refused: str | None = None
        """Why none is written."""

    @classmethod
    def of(cls, jobs: Sequence[Job], environment: Mapping[str, Any]) -> Checkpoint:
        """Of some jobs in an environment: another machine or version would give other numbers."""
        identity = {"keys": [job.key for job in jobs], "environment": dict(environment)}
        return cls(_folder() / f"{jobs[-1].key}-{len(jobs)}.pt", identity)

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """What was written last; None if there is nothing, or what is there is damaged or of other jobs."""
        try:
            content = self.path.read_bytes()
            if hashlib.sha256(content[32:]).digest() != content[:32]:
                raise ValueError("it is damaged")
            found = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
            if found["identity"] != self.identity:
                raise ValueError("it is of other jobs, or of other versions")
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with it, training can begin anew
            self.ignored(error)
            return None
        return _on(found, device)

    def ignored(self, why: object) -> None:
        """Says that the file is left aside."""
        _notice(f"{self.path} is ignored: {why}. Training begins anew.")

    def begin(
        self,
        methods: Sequence[Method],
        plans: Sequence[Sequence[Stage]],
        sampler: MissingnessSampler,
        device: torch.device,
    ) -> None:
        """Reads the file, and looks at what the methods hold."""
        self._methods, self._plans, self._device = methods, plans, device
        self._held = _Held(self, lambda: attributes.digests(methods, plans, sampler))
        self._found = self.read(device)
        if self._found is not None and self._found["fresh"] != self._held.fresh:
            self.ignored("a method made anew is not what it was")
            self._found = None

    def is_past(self, number: int) -> bool:
        """Whether the file was written in a later stage."""
        past = self._found is not None and number < self._found["stage"]
        if past and len(self._methods) == 1:  # parameters lie in memory as that stage has left them
            for step in self._plans[0][number].steps:
                Alone(self._methods, []).flatten(step.updates)
        return past

    def enter(self, number: int) -> None:
        """Puts methods back as they were when the stage began, or keeps how they are."""
        self._number = number
        self._before = self._found["before"] if self._found is not None else None
        if self._before is not None:
            for method, state in zip(self._methods, self._before["methods"], strict=True):
                method.load_state_dict(state)
            states.fill(self._methods, self._before["aside"])
            states.draw_from(self._before["random"], self._device)
        elif number > 0:  # the first begins with methods that are made from their seeds
            self._held.compare("before", f"the stage {self._plans[0][number].name}")
            self._before = {
                "methods": [_cloned(method.state_dict()) for method in self._methods],
                "aside": [_cloned(own) for own in states.aside(self._methods)],
                "random": states.random(self._device),
            }

    def resume(self, loop: StageLoop, results: Results) -> tuple[int, Results]:
        """Puts the loop back as it was after the epoch that the file was written in."""
        self._held.begin()
        found, self._found = self._found, None
        if found is None:
            return 0, results
        states.restore(loop, found["loop"])
        states.fill(self._methods, found["aside"])
        states.draw_from(found["random"], self._device)
        return found["epoch"], [states.result(told) for told in json.loads(found["results"])]

    def keep(self, loop: StageLoop, epoch: int, results: Results) -> None:
        """Writes the file, if it is time to."""
        if self.due and self._held.compare("during", f"the stage {loop.stage.name}"):
            self.write(
                {
                    **{"stage": self._number, "epoch": epoch, "before": self._before},
                    **{"loop": states.of(loop), "random": states.random(self._device)},
                    "aside": states.aside(self._methods),
                    "results": json.dumps([states.told(result) for result in results]),
                    "fresh": self._held.fresh,
                }
            )

    @property
    def due(self) -> bool:
        """Whether it is time to write one."""
        return self.refused is None and time.monotonic() - self.last >= self.every

    def write(self, state: Mapping[str, Any]) -> None:
        """Puts a state in the place of the one before; a disk that is full ends it, and not the training."""
        body = io.BytesIO()
        torch.save({**state, "identity": self.identity}, body)
        content = body.getbuffer()
        try:
            _sweep(self.path.parent)
            with replacing(self.path) as temporary, temporary.open("wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
        except OSError as error:
            self.refused = f"{self.path.parent} cannot be written: {error.strerror or error}"
            _notice(f"{self.refused}. Training goes on without checkpoints.")
        self.last = time.monotonic()


def forget(job: Job) -> None:
    """Removes what is kept of the training of jobs, the last of which is `job`."""
    for path in _folder().glob(f"{job.key}-*.pt"):
        path.unlink(missing_ok=True)


class _Held:
    """What methods hold beside their state: a checkpoint would lose what changes of it."""

    def __init__(self, checkpoint: Checkpoint, look: Callable[[], dict[str, str]]) -> None:
        self.checkpoint, self._look = checkpoint, look
        self.fresh = self.reference = self.look()

    def look(self) -> dict[str, str]:
        """By place a hash; nothing, and no checkpoints, where objects of a kind that cannot be read are held."""
        try:
            return self._look()
        except Exception as error:
            self.checkpoint.refused = f"what the method holds cannot be looked into: {error!r}"
            return {}

    def begin(self) -> None:
        """What `prepare` has just left is made again by it."""
        self.reference = self.look()

    def compare(self, when: str, what: str) -> bool:
        """Whether nothing has changed; else there are no checkpoints from now on, and the reason is kept."""
        reference = self.fresh if when == "before" else self.reference
        if self.checkpoint.refused is None and (
            place := attributes.changed(reference, self.look())
        ):
            self.checkpoint.refused = f"{place} changed {when} {what}, and is in no state_dict()"
        return self.checkpoint.refused is None


def _cloned(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.items()}


def _on(found: Any, device: torch.device) -> Any:
    """A nest with its tensors on a device."""
    if device.type == "cpu":
        return found
    return torch.utils._pytree.tree_map(
        lambda x: x.to(device) if isinstance(x, torch.Tensor) else x, found
    )


def _folder() -> Path:
    return cache_dir() / "checkpoints"


def _sweep(folder: Path) -> None:
    for path in folder.glob("*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT:
                path.unlink()


def _notice(text: str) -> None:
    click.echo(f"warning: {text}", err=True)
