"""GitHub Markdown: tables, and text that stays text."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from tabulate import tabulate


def table(header: Sequence[str], lines: Sequence[Sequence[Any]], left: Collection[str] = ()) -> str:
    """Columns named in `left` are aligned there, the others, which are numbers, to the right.

    No cell ends before its end: a bar in it that is not escaped is, and lines are joined.
    """
    align = ["left" if name in left else "right" for name in header]
    cells = [[_cell(cell) for cell in line] for line in lines]
    return tabulate(
        cells, list(map(_cell, header)), "github", disable_numparse=True, colalign=align
    )


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    one_line = value if value.isprintable() else " ".join(value.split())
    # a bar after an even number of backslashes ends the cell
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", one_line)


def inline(text: str) -> str:
    """On one line, with neither an HTML tag nor a link."""
    return _bare(" ".join(text.split()))


def _bare(text: str) -> str:
    return text.replace("<", "&lt;").replace("](", "]\\(")


def escape(text: str) -> str:
    """On one line, and neither the end of a cell, nor emphasis, nor code, nor a link, nor an HTML tag."""
    return re.sub(r"([|*_`[])", r"\\\1", " ".join(text.split()).replace("<", "&lt;"))


def prose(text: str) -> str:
    """On one line; `code` stays code, and the rest has neither emphasis nor an HTML tag nor a link."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    parts[::2] = [re.sub(r"([*~])", r"\\\1", _bare(part)) for part in parts[::2]]
    return "".join(parts)
