"""`mmbench figures`: what a leaderboard looks like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.cli.options import STORE, leaderboard_of, names
from mmbench.errors import UsageError
from mmbench.numbers import fixed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmbench.leaderboard import Leaderboard
    from mmbench.store import Store

ALL = "all"


@click.command()
@click.argument("dataset")
@STORE
@click.option(
    "--kind",
    "kinds",
    default=ALL,
    show_default=True,
    help="curves, critical-difference, cost, embedding, separated by commas, or whatever there can be.",
)
@click.option("--method", "methods", default="", help="Rows to draw.  [default: all full ones]")
@click.option(
    "--out", default="leaderboards/figures", show_default=True, help="Folder to write to."
)
@click.option("--format", "forms", default="svg,png", show_default=True, help="svg and png.")
def figures(dataset: str, store: str, kinds: str, methods: str, out: str, forms: str) -> None:
    """Draw figures of DATASET's results in a store, or of a leaderboard's .json file.

    The embedding needs a store that was made with `mmbench run --embeddings`; its points are written
    beside it, as JSON.
    """
    from mmbench import figures as drawing
    from mmbench.registry import unknown

    known = (*drawing.KINDS, drawing.EMBEDDING)
    wanted = known if kinds == ALL else tuple(names(kinds))
    for what, chosen, there in (
        ("kind of figure", wanted, known),
        ("format of figures", names(forms), drawing.FORMATS),
    ):
        for name in chosen:
            if name not in there:
                raise UsageError(unknown(what, name, there))
    board, results = leaderboard_of(dataset, store)
    folder = Path(out)
    if len(board.sections) > 1:
        click.echo(
            f"drawn are the newest of {len(board.sections)} sections, data or masks", err=True
        )
    for kind in wanted:
        try:
            if kind == drawing.EMBEDDING:
                figure = _embedding(board, results, names(methods), folder)
            else:
                figure = drawing.draw(kind, board, names(methods))
        except drawing.Undrawable as reason:
            if kinds != ALL:
                raise
            click.echo(f"no {kind}: {reason}", err=True)
            continue
        for form in names(forms):
            click.echo(f"wrote {drawing.write(figure, folder / f'{board.dataset}-{kind}.{form}')}")


def _embedding(
    board: Leaderboard, results: Store | None, methods: list[str], folder: Path
) -> Figure:
    """Tells the silhouettes and writes the points."""
    from mmbench import figures as drawing
    from mmbench.figures import embedding

    shown = drawing.embedding_of(board, results, methods)
    for each in shown.panels:
        click.echo(f"silhouette of {each.method}, seed {each.seed}: {fixed(each.silhouette, 3)}")
    path = folder / f"{board.dataset}-{drawing.EMBEDDING}.json"
    click.echo(f"wrote {drawing.put(embedding.write(shown).encode(), path)}")
    return embedding.embedding(shown)
