"""`mmbench plugin check`: whether a plugin keeps the contract of its kind, check by check."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmbench.cli.options import console, progress
from mmbench.errors import UsageError
from mmbench.registry import KINDS

if TYPE_CHECKING:
    from mmbench.checks import Result
    from mmbench.registry import Registry

STYLES = {"passed": "green", "failed": "bold red", "not applicable": "dim", "expected": "yellow"}


@click.command()
@click.argument("plugin", metavar="NAME|FILE")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Check classes of this kind only.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.pass_obj
def check(debug: bool | None, plugin: str, kind: str | None, form: str) -> int:
    """Check whether a plugin keeps the contract of its kind, on small made-up data.

    NAME is what a method, data set, metric, ... is called, or a plugin, for all that it registers; FILE is
    a Python file with plugins. Exit status 1 if a check fails; each failure says the mend. --debug shows
    what the plugin raised.
    """
    from mmbench.registry import discover

    file = plugin.endswith(".py") or Path(plugin).is_file()
    registry = discover([plugin] if file else ())
    classes = chosen(registry, plugin, kind, file=file)

    from mmbench.checks import run_checks

    with progress() as show:
        results = run_checks(classes, registry=registry, report=show)
    if form == "json":
        click.echo(json.dumps([_plain(result) for result in results], indent=1))
    else:
        _show(results, debug=bool(debug))
    return int(any(result.status == "failed" for result in results))


def chosen(registry: Registry, plugin: str, kind: str | None, *, file: bool) -> list[type[Any]]:
    """The classes that a name or file stands for; UsageError if there are none, or a name is of several kinds."""
    from mmbench.registry import unknown

    every = [
        (of, name, found)
        for of, classes in registry.classes.items()
        for name, found in classes.items()
        if kind in (None, of)
    ]
    if file:
        path = str(Path(plugin).resolve())
        found = [entry.cls for _, _, entry in every if entry.source.module == path]
        if not found:
            raise UsageError(f"{plugin} registers no {kind}")
        return found
    named = [(of, entry.cls) for of, name, entry in every if name == plugin]
    if len(named) > 1:
        kinds = [of for of, _ in named]
        raise UsageError(
            f"{plugin!r} is the name of a {' and of a '.join(kinds)}; say which: --kind {kinds[0]}"
        )
    if named:
        return [cls for _, cls in named]
    registered = [entry.cls for _, _, entry in every if entry.source.name == plugin]
    if registered:
        return registered
    if plugin in registry.broken:
        source, error = registry.broken[plugin]
        raise UsageError(f"{source} is broken: {error}")
    names = {name for _, name, _ in every} | {entry.source.name for _, _, entry in every}
    raise UsageError(unknown(kind or "plugin or class", plugin, names))


def _plain(result: Result) -> dict[str, str]:
    return {
        "kind": result.check.kind,
        "name": result.cls.name,
        "check": result.check.name,
        "why": result.check.why,
        "status": result.status,
        "reason": result.reason,
        "mend": result.mend,
    }


def _show(results: Sequence[Result], *, debug: bool) -> None:
    """A table for each class, below it what failed and the mend, and a line that counts."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console(highlight=False)
    for cls in dict.fromkeys(result.cls for result in results):
        own = [result for result in results if result.cls is cls]
        console().print(Text(f"{own[0].check.kind} {cls.name}", "bold"))
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("check", overflow="fold")
        table.add_column("", overflow="fold")
        for result in own:
            told = Text(result.status, STYLES[result.status])
            if result.status in ("not applicable", "expected"):
                told.append(f": {result.reason}", "dim")
            table.add_row(Text(result.check.name), told)
        out.print(table)
        for result in own:
            if result.status == "failed":
                console().print(
                    Text("failed: ", "bold red").append(result.check.name, "bold"),
                    Text(f"  {result.reason}."),
                    Text(f"  Why: {result.check.why}"),
                    Text("  Mend: ", "green").append(result.mend),
                    "",
                    sep="\n",
                )
                cause = result.error and result.error.__cause__
                if debug and cause:
                    click.echo("".join(traceback.format_exception(cause)), err=True)
    counts = {s: sum(r.status == s for r in results) for s in STYLES}
    click.echo(", ".join(f"{n} {status}" for status, n in counts.items() if n) + ".")
