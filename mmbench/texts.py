"""Text of strangers, made harmless where people see it."""

from __future__ import annotations

import re

CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
TAG = re.compile(r"<(?=[A-Za-z/!?])")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harmless(text: str) -> str:
    """Without what moves a cursor, changes colours, turns the direction of text, or has no bytes in UTF-8.

    Lines and tabulators stay.
    """
    return CONTROL.sub("\ufffd", text)


def printable(text: str) -> str:
    """In one line, and without what would move the cursor or change a terminal's colours."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def untagged(text: str) -> str:
    """Without what a browser takes for the beginning of a tag; "p < 0.05" stays."""
    return TAG.sub("&lt;", text)


def field(text: str) -> str:
    """That no spreadsheet takes for a formula, which could run what it names."""
    return f"'{text}" if text.startswith(FORMULA) else text
