"""`mmbench plugin`: what authors of plugins need."""

from __future__ import annotations

import click

from mmbench.cli.check import check


@click.group()
def plugin() -> None:
    """Check plugins."""


plugin.add_command(check)
