"""Word vectors from a text file of GloVe: a word and its numbers a line, parted by spaces."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import numpy as np

from mmbench.errors import DataError

LONGEST_LINE, WIDEST = 1 << 16, 4096


def read_vectors(path: Path, wanted: Set[str]) -> dict[str, np.ndarray]:
    """The vectors float32 (D,) of the `wanted` words that the file has, the first of each.

    A line is read at a time and only what is wanted is kept. The first line says what D is. Raises
    DataError, naming the line, for one that is not so, and where the file has none of the words.
    """
    vectors: dict[str, np.ndarray] = {}
    width, number = 0, 0
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                width = width or line.count(b" ", 0, len(line.rstrip()))
                if not 0 < width <= WIDEST or len(line) == LONGEST_LINE:
                    raise ValueError(f"expected a word and at most {WIDEST} numbers")
                word, *values = line.rstrip().rsplit(b" ", width)  # a word may hold spaces
                name = word.decode("utf-8", "replace")
                if name in wanted and name not in vectors:
                    with np.errstate(over="ignore"):  # too large for float32: infinite
                        vector = np.array([float(value) for value in values], np.float32)
                    if len(vector) != width or not np.isfinite(vector).all():
                        raise ValueError(f"expected {width} finite numbers")
                    vectors[name] = vector
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: line {number}: {error}") from error
    if not vectors:
        raise DataError(
            f"{path}: has none of the {len(wanted)} words: expected lines of a word and its vector"
        )
    return vectors
