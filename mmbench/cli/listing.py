"""`mmbench list`: what is there, and where it comes from."""

from __future__ import annotations

import click

from mmbench.cli.options import show

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
def listing(what: str | None) -> None:
    """List methods, data sets, protocols, metrics, ... or plugins with what is broken."""
    from mmbench.catalogue import catalogue

    known = catalogue()
    for plural in KINDS:
        if what in (None, plural):
            rows = [
                (
                    entry["name"] + (f"@{entry['version']}" if entry["version"] else ""),
                    entry["summary"],
                )
                for entry in known.of(plural[:-1])
            ]
            show(plural, ("name", "what it is"), rows)
    if what == "plugins":
        plugins = sorted({(entry["plugin"], entry["distribution"]) for entry in known.entries})
        owners = [
            (
                plugin,
                distribution,
                ", ".join(
                    f"{entry['kind']} {entry['name']}"
                    for entry in known.entries
                    if (entry["plugin"], entry["distribution"]) == (plugin, distribution)
                ),
            )
            for plugin, distribution in plugins
        ]
        show("plugins", ("plugin", "distribution", "registers"), owners)
    if known.broken and what in (None, "plugins"):
        show(
            "broken plugins",
            ("plugin", "distribution", "error"),
            [(entry["plugin"], entry["distribution"], entry["error"]) for entry in known.broken],
        )
