"""What a check of results finds, and how two values are told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from mmbench.errors import MmbenchError
from mmbench.texts import printable

SLACK = 1e-9
"""Of numbers that are equal."""


@dataclass(frozen=True)
class Finding:
    """Something that disagrees or that could not be checked."""

    where: str
    """File and place in it, e.g. ".../manifest.json, scores, inter/la/0, f1 of sentiment"."""
    text: str
    wrong: bool = True
    """False if it could not be checked."""


@dataclass
class Report:
    """What became of the check of a store."""

    results: int = 0
    scores: int = 0
    """Scores that were computed again, equal or not."""
    boards: int = 0
    """Files of leaderboards that were rendered again."""
    findings: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> None:
        """Each in one line, whatever names a stranger has given."""
        self.findings += (
            replace(f, where=printable(f.where), text=printable(f.text)) for f in findings
        )

    @property
    def wrong(self) -> list[Finding]:
        """What disagrees."""
        return [finding for finding in self.findings if finding.wrong]

    @property
    def unchecked(self) -> list[Finding]:
        """What could not be checked."""
        return [finding for finding in self.findings if not finding.wrong]


def guarded(where: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Makes whatever reading a stranger's values raises a finding."""
    try:
        yield from findings
    except MmbenchError as error:
        yield Finding(where, str(error))
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        yield Finding(where, f"is not laid out as this version of mmbench writes it ({why})")


def differences(where: str, said: Any, true: Any, gives: str) -> Iterator[Finding]:
    """Each place in which nested plain values differ, numbers by more than `SLACK`."""
    if isinstance(said, dict) and isinstance(true, dict):
        for name in dict.fromkeys((*said, *true)):
            if name not in said:
                yield Finding(f"{where}, {name}", f"is missing, {gives} {brief(true[name])}")
            elif name not in true:
                yield Finding(f"{where}, {name}", f"says {brief(said[name])}, {gives} nothing")
            else:
                yield from differences(f"{where}, {name}", said[name], true[name], gives)
    elif isinstance(said, list) and isinstance(true, list) and len(said) == len(true):
        for number, (one, other) in enumerate(zip(said, true, strict=True)):
            yield from differences(f"{where}, {number}", one, other, gives)
    elif not _equal(said, true):
        yield Finding(where, f"says {brief(said)}, {gives} {brief(true)}")


def _equal(said: Any, true: Any) -> bool:
    if isinstance(true, float) and type(said) in (int, float):
        return abs(said - true) <= SLACK
    return type(said) is type(true) and bool(said == true)


def brief(value: Any) -> str:
    """As JSON, of 100 characters at most."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."
