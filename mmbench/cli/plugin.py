"""`mmbench plugin`: for whoever writes one."""

from __future__ import annotations

import click

from mmbench.cli.new import new


@click.group()
def plugin() -> None:
    """Write a plugin of your own: plugins/README.md is the guide."""


plugin.add_command(new)
