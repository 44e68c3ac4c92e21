"""The random numbers of training: of one seed, or of several that are trained side by side.

Seeds side by side run as one under `torch.func.vmap`, and each still draws what it would draw alone: every
seed has generators of its own, and no number depends on who trains beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Random:
    """Draws random tensors. Inside vmap each has a hidden first axis, one entry for each seed."""

    def __init__(self, generators: Sequence[torch.Generator | None] = (None,)) -> None:
        self.generators = tuple(generators)
        self.anchor: Tensor | None = None
        """What tells a draw inside vmap which seeds it is for; None outside."""

    @property
    def together(self) -> bool:
        """Whether seeds are side by side at this moment."""
        return self.anchor is not None

    def rand(self, *size: int, device: torch.device | str = "cpu") -> Tensor:
        """Uniform in [0, 1)."""
        return self._draw(lambda g: torch.rand(size, generator=g, device=device))

    def randn(self, *size: int, device: torch.device | str = "cpu") -> Tensor:
        """Normal with mean 0 and variance 1."""
        return self._draw(lambda g: torch.randn(size, generator=g, device=device))

    def randint(
        self, low: int, high: int, *size: int, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Whole numbers, at least `low` and less than `high`."""
        return self._draw(lambda g: torch.randint(low, high, size, generator=g, device=device))

    def mask(self, size: Sequence[int], p: float, device: torch.device | str = "cpu") -> Tensor:
        """What dropout multiplies by: 0 with probability p, else 1 / (1 - p)."""
        return self._draw(lambda g: keep(_bytes(size, g, device), p))

    def noise(
        self, sizes: Sequence[Sequence[int]], device: torch.device | str = "cpu"
    ) -> list[Tensor]:
        """For each seed, random bytes of a size of its own: for code that handles all seeds at once itself."""
        return [_bytes(size, g, device) for size, g in zip(sizes, self.generators, strict=True)]

    def _draw(self, draw: Callable[[torch.Generator | None], Tensor]) -> Tensor:
        if self.anchor is None:
            return draw(self.generators[0])
        return _ForEachSeed.apply(self.anchor, draw, self.generators)  # type: ignore[no-untyped-call]


class _ForEachSeed(torch.autograd.Function):
    """A draw that vmap gives an axis of seeds."""

    @staticmethod
    def forward(anchor: Tensor, draw: Any, generators: Any) -> Tensor:
        raise RuntimeError("seeds are side by side, and yet this draw is not inside vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing: there is no gradient."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, anchor: Tensor, draw: Any, generators: Any
    ) -> tuple[Tensor, int]:
        """One draw for each seed."""
        return torch.stack([draw(g) for g in generators]), 0


def _bytes(
    size: Sequence[int], generator: torch.Generator | None, device: torch.device | str
) -> Tensor:
    """Uniform uint8, eight from one draw: on a CPU many times as fast as torch's dropout.

    Its random numbers cost more than the products beside them.
    """
    count = torch.Size(size).numel()
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.uint8)[:count].view(*size)


def dropped_below(p: float) -> int:
    """Bytes below this are dropped: of 256 values a share of p, rounded."""
    return round(256 * p)


def keep(noise: Tensor, p: float) -> Tensor:
    """What dropout multiplies by, float32, a byte of noise for each element."""
    dropped = dropped_below(p)
    scale = 256 / (256 - dropped)
    # a byte of `dropped` or more is at least 1 after the subtraction; comparing costs more than this
    return noise.float().sub_(dropped - 1).mul_(scale).clamp_(0, scale)


_current = Random()


def current() -> Random:
    """Where dropout draws from: the loop's, or torch's global generator outside of any loop."""
    return _current


@contextmanager
def drawing_from(random: Random) -> Iterator[None]:
    """Lets dropout draw from `random`."""
    global _current
    before, _current = _current, random
    try:
        yield
    finally:
        _current = before
