"""What several commands share: options, tables on screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.texts import harmless, printable

if TYPE_CHECKING:
    from rich.console import Console

    from mmbench.leaderboard import Leaderboard
    from mmbench.store import Store

STORE = click.option(
    "--store",
    type=click.Path(),
    default="runs",
    show_default=True,
    help="Folder of results, one for each method, data set and seed.",
)
LEADERBOARDS = click.option(
    "--leaderboards",
    type=click.Path(),
    default="leaderboards",
    show_default=True,
    help="Folder where tables are written.",
)


def names(text: str) -> list[str]:
    """ "a,b" to ["a", "b"], each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def console(*, stderr: bool = False) -> Console:
    """Where people read: standard output or, beside what a program reads, standard error."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, stderr=stderr)


@contextmanager
def progress() -> Iterator[Callable[[float, str], None]]:
    """A bar on standard error, if that is a screen: gives what is to be told the share done, and of what."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        *(BarColumn(), TaskProgressColumn(), TimeRemainingColumn()),
        TextColumn("{task.description}", markup=False),
    )
    screen = console(stderr=True)
    with Progress(
        *columns, console=screen, transient=True, disable=not screen.is_terminal
    ) as shown:
        bar = shown.add_task("", total=1.0)

        def show(share: float, doing: str) -> None:
            shown.update(bar, completed=share, description=printable(doing))

        yield show


def warn_damaged(store: Store) -> None:
    """Says on standard error which results are left out because their manifest cannot be read."""
    for path in store.damaged():
        click.echo(
            f"warning: {printable(str(path))}: altered, or no manifest of this version; left out. `mmbench verify` says more, "
            "and the run that made it makes it anew.",
            err=True,
        )


def leaderboard_of(dataset: str, store: str) -> tuple[Leaderboard, Store | None]:
    """The leaderboard of a data set in a store or, without one, of a leaderboard's .json file."""
    from mmbench import board
    from mmbench.errors import UsageError
    from mmbench.leaderboard import Leaderboard
    from mmbench.registry import discover, unknown
    from mmbench.store import Store

    if dataset.endswith(board.SUFFIX):
        return board.read(Path(dataset)), None
    results = Store(Path(store))
    warn_damaged(results)
    there = results.datasets()
    # A twin's results stand under its own name; ask for "iemocap" and be told of "iemocap-twin".
    if dataset not in there:
        raise UsageError(f"{store}: {unknown('data set', dataset, there)}")
    return Leaderboard.from_store(results, dataset, discover()), results


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on screen."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    console().print(f"[bold]{title}[/]")  # not the table's own, which wraps at the table's width
    Console(highlight=False).print(table)
