"""The global random generators of Python, numpy and torch, which a plugin must leave alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mmbench.checks.failures import fail


def states() -> dict[str, Any]:
    """Of each library's generator, something that compares equal if it was left alone."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "Python's random": random.getstate(),
        "numpy.random": (name, keys.tobytes(), *rest),  # type: ignore[union-attr]
        "torch": torch.random.get_rng_state().numpy().tobytes(),
    }


@contextmanager
def preserved() -> Iterator[None]:
    """Leaves every generator as it was found, and torch's number of threads at one inside."""
    ours, numpys, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002
    torch.set_num_threads(1)  # as jobs run
    try:
        with torch.random.fork_rng([]):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)  # noqa: NPY002
        torch.set_num_threads(threads)


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Every generator at the start of a seed inside, and as it was found outside."""
    with preserved():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        yield


@contextmanager
def untouched(doing: str) -> Iterator[None]:
    """Fails if a global generator is seeded or drawn from inside."""
    with seeded():
        random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002  (past what a seed gives)
        before = states()
        yield
        after = states()
    refuse_touched(doing, [name for name, state in before.items() if after[name] != state])


def refuse_touched(doing: str, moved: Sequence[str]) -> None:
    """Fails if global generators, by name, were moved."""
    if moved:
        fail(
            f"{doing} changes the global generator of {', '.join(moved)}",
            expected="that no global generator is seeded or drawn from",
            mend="Draw from a generator of its own: what it is given, or mmbench.streams.stream(name, ...).",
        )
