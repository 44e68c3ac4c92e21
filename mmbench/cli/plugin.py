"""`mmbench plugin`: for whoever writes one."""

from __future__ import annotations

import click

from mmbench.cli.check import check
from mmbench.cli.new import new


@click.group()
def plugin() -> None:
    """Write a plugin of your own, and have it checked."""


for command in (new, check):
    plugin.add_command(command)
