"""`mmbench data`: what data sets are there, import of real ones, a check of their content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mmbench.cli.options import console, show
from mmbench.errors import UsageError


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
    _card(imported)


@data.command("check")
@click.argument("name")
def check_data(name: str) -> None:
    """Read data set NAME, verify its checksum, and show what it holds."""
    from mmbench import datafile
    from mmbench.catalogue import catalogue
    from mmbench.registry import discover
    from mmbench.runner import resolve

    catalogue().check("dataset", name)
    cls, notice = resolve(discover(), name)
    if notice:
        console().print(f"[bold yellow]synthetic:[/] {notice}")
    _card(datafile.obtain(cls()))


def _card(content: Any) -> None:
    """Shapes, sizes and targets of a data set."""
    from mmbench.data import SPLITS

    rows = []
    for name, shape in content.modalities().items():
        lengths = [content.splits[s].valid[name].sum(1) for s in SPLITS]
        rows.append(
            (
                name,
                str(shape.length),
                str(shape.width),
                " / ".join(f"{n.mean():.1f}" for n in lengths),
                " / ".join(str(int((n == 0).sum())) for n in lengths),
            )
        )
    kind = "synthetic twin" if content.synthetic else "real data"
    sizes = " / ".join(str(len(content.splits[s])) for s in SPLITS)
    show(
        f"{content.name} ({kind}): {sizes} samples in train / valid / test",
        ("modality", "T", "width", "valid frames, mean", "samples without it"),
        rows,
    )
    for split in SPLITS:
        targets = content.splits[split].targets
        means = ", ".join(
            f"{label} {value:.3f}"
            for label, value in zip(content.task.labels, targets.mean(0), strict=True)
        )
        console().print(f"mean target, {split}: {means}")
    console().print(f"SHA-256 of the content: {content.sha256}")
    for key, value in content.source.items():
        console().print(f"{key}: {value}")
