"""`mmbench leaderboard`: tables from a store, and from nothing else."""

from __future__ import annotations

import click

from mmbench.cli.options import STORE, leaderboard_of


@click.command()
@click.argument("dataset")
@STORE
@click.option(
    "--format",
    "suffix",
    default="md",
    show_default=True,
    help="A reporter: md, csv, html, json or latex.",
)
def leaderboard(dataset: str, store: str, suffix: str) -> None:
    """Print the leaderboard of DATASET from a store of results; --store paper: what the paper reports.

    A leaderboard's .json file in place of DATASET needs no store.
    """
    from mmbench import reported
    from mmbench.catalogue import catalogue
    from mmbench.errors import UsageError
    from mmbench.leaderboard import render
    from mmbench.registry import discover

    catalogue().check("reporter", suffix)
    if store == reported.PAPER and not dataset.endswith(".json"):
        if suffix != "md":
            raise UsageError(f"--store {store} --format {suffix}: the paper's tables come as md")
        click.echo(reported.render(dataset), nl=False)
        return
    made, _ = leaderboard_of(dataset, store)
    click.echo(render(made, discover().find("reporter", suffix)()), nl=False)
