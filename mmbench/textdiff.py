"""Where two texts with tables differ: the line and, in a table of CSV or Markdown, the cell."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

AROUND = 30
"""Characters that are told before the first one that differs, and half of those after it."""


@dataclass(frozen=True)
class Difference:
    """What is said in one place, and what should be; None where there is no such line."""

    place: str
    """E.g. "line 12 (late-fusion), {l, a}"."""
    said: str | None
    true: str | None


def differences(said: str, true: str, *, comma: bool = False) -> Iterator[Difference]:
    """Each line of `said`, or cell of it, that is not as in `true`; `comma` if both are CSV."""
    mine, theirs = said.split("\n"), true.split("\n")
    if len(mine) == len(theirs):  # line by line, and fast
        pairs = [(n, n) for n in range(len(mine)) if mine[n] != theirs[n]]
        yield from (d for m, t in pairs for d in _line(mine, m, theirs, t, comma))
        return
    for _, start, stop, first, last in SequenceMatcher(None, mine, theirs, False).get_opcodes():
        if mine[start:stop] == theirs[first:last]:
            continue
        both = min(stop - start, last - first)
        for n in range(both):
            yield from _line(mine, start + n, theirs, first + n, comma)
        for n in range(start + both, stop):
            yield Difference(f"line {n + 1}", mine[n], None)
        for n in range(first + both, last):
            yield Difference(f"line {stop + 1}", None, theirs[n])


def _line(
    mine: Sequence[str], m: int, theirs: Sequence[str], t: int, comma: bool
) -> Iterator[Difference]:
    place, cells, right = f"line {m + 1}", _cells(mine[m], comma), _cells(theirs[t], comma)
    headings = _cells(theirs[_top(theirs, t, comma)], comma)
    differing = [n for n, (a, b) in enumerate(zip(cells, right, strict=False)) if a != b]
    if len(headings) == len(cells) == len(right) > 1 and differing:
        name = ", ".join(filter(None, (_name(c) for c in right[: _names(right)])))
        for n in differing:
            yield Difference(f"{place} ({name}), {headings[n]}", cells[n], right[n])
        return
    a, b = mine[m], theirs[t]
    at = next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    part = slice(max(0, at - AROUND), at + 2 * AROUND)
    yield Difference(place, a[part], b[part])


def _cells(line: str, comma: bool) -> list[str]:
    if comma:
        return next(csv.reader([line]), [])
    if not line.startswith("|"):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _top(lines: Sequence[str], number: int, comma: bool) -> int:
    """The heading of the table that a line is in."""
    if comma:
        return 0
    while number and lines[number - 1].startswith("|"):
        number -= 1
    return number


def _names(cells: Sequence[str]) -> int:
    """How many cells come before the first number."""
    numbers = (n for n, cell in enumerate(cells) if re.match(r"[*-]*\d+(\.\d+)?(\D|$)", cell))
    return next(numbers, len(cells))


def _name(cell: str) -> str:
    return cell if len(cell) <= 40 else f"{cell[:12]}..."
