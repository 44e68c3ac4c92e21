"""GitHub Markdown: tables, and text that stays text."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from tabulate import tabulate


def table(header: Sequence[str], lines: Sequence[Sequence[Any]], left: Collection[str] = ()) -> str:
    """Columns named in `left` are aligned there, the others, which are numbers, to the right."""
    align = ["left" if name in left else "right" for name in header]
    return tabulate(lines, header, "github", disable_numparse=True, colalign=align)


def escape(text: str) -> str:
    """On one line, and neither the end of a cell, nor emphasis, nor code, nor a link, nor an HTML tag."""
    return re.sub(r"([|*_`[])", r"\\\1", " ".join(text.split()).replace("<", "&lt;"))


def prose(text: str) -> str:
    """On one line; `code` stays code, and the rest has neither emphasis nor an HTML tag."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    parts[::2] = [re.sub(r"([*~])", r"\\\1", part.replace("<", "&lt;")) for part in parts[::2]]
    return "".join(parts)
