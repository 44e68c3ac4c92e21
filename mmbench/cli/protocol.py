"""`mmbench protocol show`: what a missingness protocol really hides."""

from __future__ import annotations

import click

from mmbench.cli.options import console, show
from mmbench.numbers import fixed


@click.group()
def protocol() -> None:
    """Look at missingness protocols."""


@protocol.command("show")
@click.argument("name")
@click.option("--dataset", required=True, help="Data set whose test split is masked.")
def show_protocol(name: str, dataset: str) -> None:
    """Show each condition of a protocol and the share of frames that it hides of a test split."""
    from mmbench import datafile
    from mmbench.catalogue import catalogue
    from mmbench.data import DataSpec
    from mmbench.evaluation import describe
    from mmbench.registry import discover
    from mmbench.runner import resolve

    known = catalogue()
    known.check("protocol", name)
    known.check("dataset", dataset)
    registry = discover()
    cls, notice = resolve(registry, dataset)
    if notice:
        console().print(f"[bold yellow]synthetic:[/] {notice}")
    data = datafile.obtain(cls())
    spec = DataSpec(data.name, data.modalities(), data.task)
    facts = describe(registry.find("protocol", name)(), data.splits["test"], spec)
    show(
        f"{facts['id']} on {data.name}, test split",
        ("condition", "column", *(f"{m} hidden" for m in spec.modalities)),
        [
            (
                condition["name"],
                condition["title"],
                *(fixed(facts["effective_rate"][condition["name"]][m], 4) for m in spec.modalities),
            )
            for condition in facts["conditions"]
        ],
    )
    console().print(f"mask seeds {facts['mask_seeds']}, SHA-256 of all masks {facts['sha256']}")
    console().print(f"{facts['average']} = {facts['average_formula']}")
