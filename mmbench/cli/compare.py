"""`mmbench compare`: what differs between two sets of scores, and why it may."""

from __future__ import annotations

from pathlib import Path

import click

from mmbench.cli.differences import report
from mmbench.cli.options import progress, warn_damaged
from mmbench.errors import UsageError
from mmbench.texts import harmless, untagged


@click.command()
@click.argument("left")
@click.argument("right")
@click.option(
    "--fail-on-regression",
    is_flag=True,
    help="Exit 1 if LEFT is significantly worse somewhere; without two stores, by more than 3 standard "
    "deviations over seeds.",
)
@click.option(
    "--other-settings",
    is_flag=True,
    help="Compare rows of one method whose settings differ, too, e.g. hrlf[depth=1] with hrlf.",
)
def compare(left: str, right: str, fail_on_regression: bool, other_settings: bool) -> int:
    """Compare LEFT with RIGHT, cell by cell, as Markdown; a difference is LEFT less RIGHT.

    Each is a store, a leaderboard's JSON or CSV or, for what HRLF's tables 1 to 3 report, the word paper.
    Of two stores, differences are tested.
    """
    from mmbench import compare as scores
    from mmbench import sides as origins
    from mmbench.registry import discover
    from mmbench.store import Store

    registry = discover()
    for origin in (left, right):
        if Path(origin).is_dir():
            warn_damaged(Store(Path(origin)))
    sides = origins.read(left, registry), origins.read(right, registry)
    with progress() as show:
        pairs = scores.compare(*sides, registry, other_settings=other_settings, show=show)
    for pair in pairs:
        if fail_on_regression and pair.mixed:
            raise UsageError(
                f"--fail-on-regression: one of {pair.left} and {pair.right} is synthetic and the other "
                "real; a difference between them is no regression"
            )
    metrics = {name: found.cls for name, found in registry.classes["metric"].items()}
    blocks = [block for pair in pairs for block in report(pair, *sides, metrics)]
    click.echo(harmless(untagged("\n\n".join(blocks))))
    return int(fail_on_regression and any(pair.regressed for pair in pairs))
