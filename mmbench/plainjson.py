"""Reads JSON that a stranger may have written: bounded in bytes, values and depth, and without odd numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mmbench import bounded
from mmbench.errors import DataError

VALUES = 2_000_000
"""In one file, a fifth of a GiB in memory; a manifest of 20,000 scores has a tenth of it."""
DEPTH = 32
"""Of lists and objects in each other; a leaderboard has 9."""

NESTED = frozenset((dict, list))
"""Types, as `json` makes them."""


def read(path: Path, limit: int) -> Any:
    """What a file of at most `limit` bytes holds; DataError, which says why, if that is not plain JSON.

    Refused are NaN, infinite numbers, however they are written, and text that is not UTF-8.
    """
    return parse(bounded.read(path, limit), path)


def parse(found: bytes, path: Path) -> Any:
    """The same of bytes that were read; path: what errors name."""
    try:
        if sum(map(found.count, (b",", b"[", b"{"))) > VALUES:
            raise DataError(f"{path}: refused, it has more than {VALUES} values")
        told = json.loads(found.decode("utf-8"), parse_constant=_constant, parse_float=_float)
        _check_depth(told)
    except RecursionError as error:
        raise DataError(f"{path}: {_too_deep()}") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    return told


def _constant(name: str) -> None:
    raise ValueError(f"{name}, which is no number")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("Infinity, which is no number")
    return value


def _check_depth(told: Any) -> None:
    level = [told] if type(told) in NESTED else []
    for _ in range(DEPTH):
        parts = (outer.values() if type(outer) is dict else outer for outer in level)
        level = [inner for part in parts for inner in part if type(inner) in NESTED]
    if level:
        raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"more than {DEPTH} lists and objects in each other"
