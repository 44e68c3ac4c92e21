"""`mmbench verify`: what of a store can be worked out again, and whether it comes out the same."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.cli.options import progress

if TYPE_CHECKING:
    from mmbench.findings import Report


@click.command()
@click.argument("store", default="runs", type=click.Path(path_type=Path))
@click.option(
    "--leaderboards",
    type=click.Path(path_type=Path),
    help="Folder of published tables that the store is said to give.",
)
@click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(), help="A Python file with plugins."
)
@click.option(
    "--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True
)
def verify(store: Path, leaderboards: Path | None, plugins: tuple[str, ...], form: str) -> int:
    """Work out every score in STORE again, from its predictions; check every hash, mask and target.

    Names each place that disagrees, and what could not be checked and why. STORE is a folder of results,
    "runs" by default; anybody's, for nothing in it is run. Exit status 1 if anything disagrees.
    """
    from mmbench.registry import discover
    from mmbench.store import Store
    from mmbench.verify import verify as check

    with progress() as show:
        report = check(Store(store), discover(plugins), leaderboards, show)
    click.echo(_json(report) if form == "json" else _text(report, store))
    return int(bool(report.wrong))


def _json(report: Report) -> str:
    from mmbench.verify import TRUSTED

    facts = {
        "results": report.results,
        "scores": report.scores,
        "leaderboards": report.boards,
        "wrong": [_finding(finding) for finding in map(asdict, report.wrong)],
        "unchecked": [_finding(finding) for finding in map(asdict, report.unchecked)],
        "trusted": TRUSTED,
    }
    return json.dumps(facts, indent=1, allow_nan=False)


def _finding(finding: dict[str, object]) -> dict[str, object]:
    return {"where": finding["where"], "text": finding["text"]}


def _text(report: Report, store: Path) -> str:
    """What disagrees, line by line; what could not be checked, once for each reason; a summary."""
    from mmbench.verify import TRUSTED

    lines = [
        click.style("wrong: ", fg="red", bold=True) + f"{f.where}: {f.text}" for f in report.wrong
    ]
    reasons: dict[str, list[str]] = {}
    for finding in report.unchecked:
        reasons.setdefault(finding.text, []).append(finding.where)
    for text, where in reasons.items():
        whose = where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more"
        lines.append(click.style("not checked: ", fg="yellow") + f"{whose}: {text}")
    done = f"{report.results} results, {report.scores} scores worked out again"
    if report.boards:
        done += f", {report.boards} files of leaderboards rendered again"
    wrong = len(report.wrong)
    verdict = (
        f"{wrong} place{'s disagree' if wrong > 1 else ' disagrees'}" if wrong else "all agree"
    )
    some = ", but for what was not checked" if reasons and not wrong else ""
    lines += [f"{store}: {done}: {verdict}{some}.", f"Taken on trust: {TRUSTED}."]
    return "\n".join(lines)
