"""The rogues' gallery: `python -m tests.checks.gallery` prints it as a table in Markdown."""

from __future__ import annotations

import warnings

import click

import mmbench.checks
from mmbench.checks import Result
from mmbench.markdown import prose, table
from tests.checks.rogues import GALLERY, Rogue


def failed(rogue: Rogue) -> dict[str, Result]:
    """By name of the check, what failed."""
    results = mmbench.checks.run_checks([rogue.cls])
    return {result.check.name: result for result in results if result.status == "failed"}


def rows() -> list[list[str]]:
    """Rogue, what it does, caught by, message."""
    found = []
    for rogue in GALLERY:
        kind = mmbench.checks.kind_of(rogue.cls)
        result = failed(rogue)[rogue.caught_by]
        cells = [f"{kind} {rogue.cls.name}", rogue.what, rogue.caught_by, result.reason]
        found.append([prose(cell) for cell in cells])
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    click.echo(table(["rogue", "what it does", "caught by", "message"], rows()))
