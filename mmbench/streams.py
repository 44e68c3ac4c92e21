"""One seed, many independent random streams, each with a name.

A stream is a pure function of its names, so drawing more from one ("dropout") never shifts another
("order"), and nobody touches the global generators of numpy or torch.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(*names: object) -> int:
    """A 63-bit seed for the stream called `names`, e.g. `seed_of(3, "init")`."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(*names: object) -> np.random.Generator:
    """A fresh numpy generator at the start of the stream called `names`."""
    return np.random.Generator(np.random.Philox(seed_of(*names)))


def torch_stream(*names: object, device: str = "cpu") -> torch.Generator:
    """A fresh torch generator on `device`, at the start of the stream called `names`."""
    import torch

    return torch.Generator(device).manual_seed(seed_of(*names))
