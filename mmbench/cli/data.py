"""`mmbench data`: what data sets are there, import of real ones, a check of their content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.cli.options import console, show
from mmbench.errors import UsageError
from mmbench.numbers import fixed

if TYPE_CHECKING:
    from mmbench.data import Data, Dataset
    from mmbench.datacard import DataCard
    from mmbench.registry import Registry


@click.group()
def data() -> None:
    """List, import and check data sets."""


@data.command("list")
def list_data() -> None:
    """Show every data set, and whether it is here."""
    from mmbench import datafile
    from mmbench.registry import discover

    rows = []
    for name, found in sorted(discover().classes["dataset"].items()):
        dataset = found.cls()
        here = "here" if datafile.is_there(dataset) else "made on first use"
        if not dataset.synthetic and here != "here":
            here = (
                f"not imported; {dataset.stand_in} stands in"
                if dataset.stand_in
                else "not imported"
            )
        rows.append((name, "synthetic" if dataset.synthetic else "real", here, dataset.summary))
    show("data sets", ("name", "kind", "state", "what it is"), rows)


@data.command("import")
@click.argument("name")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format", "form", help="An importer's name.  [default: the one that recognises PATHS]"
)
def import_data(name: str, paths: tuple[Path, ...], form: str | None) -> None:
    """Read real data from PATHS, check it, and keep it as data set NAME.

    PATHS may be one card, a YAML file that describes a data set of your own and names its file.
    """
    from mmbench import cards, datafile
    from mmbench.catalogue import catalogue
    from mmbench.cli.card import show_card
    from mmbench.importers import importer_for
    from mmbench.registry import discover

    card = cards.read(paths[0]) if len(paths) == 1 and paths[0].suffix in cards.SUFFIXES else None
    if card is None:
        try:
            catalogue().check("dataset", name)
        except UsageError as error:
            raise UsageError(
                f"{error}. To describe data of your own: mmbench data import {name} CARD.yaml"
            ) from error
    registry = discover()
    known = {key: found.cls for key, found in registry.classes["importer"].items()}
    if card is None:
        dataset = registry.find("dataset", name)()
    else:
        cards.check_free(name, registry)
        dataset, paths = card.dataset(name)(), (card.data_file(),)
    datafile.check_importable(dataset)
    importer = registry.find("importer", form)() if form else importer_for(paths, known)
    with console().status(f"importing {name} as {importer.name}"):
        imported, notices = datafile.store_import(dataset, importer, paths)
        if card is not None:
            cards.keep(card, name)
    for notice in notices:
        console().print(f"[yellow]note:[/] {notice.text}")
    show_card(_card(imported, dataset, registry))


@data.command("check")
@click.argument("name")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "json"]),
    default="text",
    show_default=True,
    help="For people, for a README, or for programs.",
)
def check_data(name: str, form: str) -> int:
    """Read data set NAME, verify its checksum, and show what it holds and what is wrong with it.

    Exit status 1 if something is serious: it makes results wrong.
    """
    from mmbench import datafile
    from mmbench.catalogue import catalogue
    from mmbench.cli.card import as_json, markdown, show_card
    from mmbench.registry import discover
    from mmbench.runner import resolve

    catalogue().check("dataset", name)
    registry = discover()
    cls, notice = resolve(registry, name)
    if notice:
        console(stderr=form != "text").print(f"[bold yellow]synthetic:[/] {notice}")
    card = _card(datafile.obtain(cls()), cls(), registry)
    if form == "text":
        show_card(card)
    else:
        click.echo(markdown(card) if form == "md" else as_json(card))
    return 1 if card.serious else 0


@data.command()
@click.argument("name")
@click.option("--protocol", default="inter", show_default=True, help="A protocol's name.")
def ceiling(name: str, protocol: str) -> None:
    """Show what the best possible predictor scores on a synthetic data set, above the floor."""
    from rich.progress import Progress

    from mmbench import datafile
    from mmbench.catalogue import catalogue
    from mmbench.data import DataSpec
    from mmbench.metrics import floor
    from mmbench.oracle import ceilings
    from mmbench.registry import discover
    from mmbench.runner import resolve
    from mmbench.work import metrics_for

    catalogue().check("dataset", name)
    catalogue().check("protocol", protocol)
    registry = discover()
    cls, notice = resolve(registry, name)
    if notice:
        console().print(f"[bold yellow]synthetic:[/] {notice}")
    oracle = cls().oracle()
    if oracle is None:
        raise UsageError(f"{name} is real data, and nobody knows its ceiling; ask for a twin's")
    content = datafile.obtain(cls())
    chosen = registry.find("protocol", protocol)()
    spec = DataSpec(content.name, content.modalities(), content.task, cls.schedule)
    metrics = [m for m in metrics_for(registry, spec) if m.name == content.task.headline]
    with Progress(console=console(), transient=True) as progress:
        bar = progress.add_task("ceilings", total=1.0)
        found = ceilings(
            oracle, content, chosen, metrics, lambda share: progress.update(bar, completed=share)
        )
    lowest = floor(content.task, metrics, content.splits["test"].targets)
    conditions = chosen.conditions(list(content.modalities()))
    for metric in metrics:
        unit, floors = 100 if metric.unit == "%" else 1, lowest[metric.name]
        show(
            f"ceilings of {content.name}, {chosen.id}: {metric.title}{' x 100' if unit == 100 else ''}",
            (
                "condition",
                *(f"{label} (floor {fixed(unit * low, 1)})" for label, low in floors.items()),
            ),
            [
                (
                    c.title,
                    *(fixed(unit * value, 1) for value in found[c.name][metric.name].values()),
                )
                for c in conditions
            ],
        )


def _card(content: Data, dataset: Dataset, registry: Registry) -> DataCard:
    """The card of a data set, with the floors of every metric that can judge it."""
    from mmbench.data import DataSpec
    from mmbench.datacard import DataCard
    from mmbench.work import metrics_for

    spec = DataSpec(content.name, content.modalities(), content.task)
    return DataCard.of(content, dataset, metrics_for(registry, spec))
