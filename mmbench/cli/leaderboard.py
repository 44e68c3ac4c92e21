"""`mmbench leaderboard`: tables from a store, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from mmbench.cli.options import STORE, warn_damaged


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
    from mmbench import board, reported
    from mmbench.catalogue import catalogue
    from mmbench.errors import UsageError
    from mmbench.leaderboard import Leaderboard
    from mmbench.registry import discover, unknown
    from mmbench.store import Store

    catalogue().check("reporter", suffix)
    if dataset.endswith(board.SUFFIX):
        told = board.read(Path(dataset))
        click.echo(discover().find("reporter", suffix)().render(told), nl=False)
        return
    if store == reported.PAPER:
        if suffix != "md":
            raise UsageError(f"--store {store} --format {suffix}: the paper's tables come as md")
        click.echo(reported.render(dataset), nl=False)
        return
    results = Store(Path(store))
    warn_damaged(results)
    there = results.datasets()
    # A twin's results stand under its own name; ask for "iemocap" and be told of "iemocap-twin".
    if dataset not in there:
        raise UsageError(f"{store}: {unknown('data set', dataset, there)}")
    registry = discover()
    made = Leaderboard.from_store(results, dataset, registry)
    click.echo(registry.find("reporter", suffix)().render(made), nl=False)
