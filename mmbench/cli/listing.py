"""`mmbench list`: what is there, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from mmbench.cli.options import console, show
from mmbench.errors import UsageError

KINDS = (
    "methods",
    "datasets",
    "importers",
    "protocols",
    "samplers",
    "metrics",
    "executors",
    "reporters",
)


@click.command("list")
@click.argument("what", type=click.Choice([*KINDS, "plugins"]), required=False)
@click.option("--long", "whole", is_flag=True, help="Tell all, e.g. each deviation from a paper.")
def listing(what: str | None, whole: bool) -> None:
    """List methods, data sets, protocols, metrics, ... or plugins with what is broken."""
    from mmbench.catalogue import catalogue

    if whole and what == "plugins":
        raise UsageError(
            f"list plugins --long: there is no more to tell; --long goes with {', '.join(KINDS)}"
        )
    known = catalogue()
    for plural in KINDS:
        if what not in (None, plural):
            continue
        entries = known.of(plural[:-1])
        if whole:
            _show_whole(plural, entries)
        else:
            rows = [(_identity(entry), entry["summary"]) for entry in entries]
            show(plural, ("name", "what it is"), rows)
    if what == "plugins":
        owners = [
            (
                plugin["plugin"],
                plugin["distribution"],
                ", ".join(
                    [
                        f"{entry['kind']} {entry['name']}"
                        for entry in known.entries
                        if entry["plugin"] == plugin["plugin"]
                        and entry["distribution"] == plugin["distribution"]
                    ]
                    + [hook.removeprefix("mmbench_") for hook in plugin["hears"]]
                ),
            )
            for plugin in known.plugins
        ]
        show("plugins", ("plugin", "distribution", "registers, or is told of"), owners)
    if known.broken and what in (None, "plugins"):
        show(
            "broken plugins",
            ("plugin", "distribution", "error"),
            [(entry["plugin"], entry["distribution"], entry["error"]) for entry in known.broken],
        )


def _identity(entry: Mapping[str, Any]) -> str:
    return entry["name"] + (f"@{entry['version']}" if entry["version"] else "")


def _show_whole(plural: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """A paragraph for each entry, its facts one below the other; a long list once, where it first stands."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    out = Console(highlight=False)
    console().print(f"[bold]{plural}[/]\n")
    told: dict[tuple[str, ...], str] = {}
    for entry in entries:
        facts = Table.grid(padding=(0, 2, 0, 0))
        facts.add_column(no_wrap=True, style="dim")
        facts.add_column(overflow="fold")
        owner = f"plugin {entry['plugin']} of {entry['distribution']}"
        for heading, fact in {**entry["facts"], "from": owner}.items():
            lines = [fact] if isinstance(fact, str) else fact
            if lines[1:]:
                first = told.setdefault(tuple(lines), entry["name"])
                numbered = [f"{n}. {line}" for n, line in enumerate(lines, 1)]
                lines = numbered if first == entry["name"] else [f"those of {first}"]
            for line in lines:
                facts.add_row(heading if line is lines[0] else "", Text(line))
        out.print(Text(_identity(entry), "bold"))
        for part in (Text(entry["summary"]), facts):
            out.print(Padding(part, (0, 0, 0, 2), expand=False))
        out.print()
