"""What a check is: a fact with a name, a reason for it, and a proof that any class of its kind can be put to."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mmbench.checks.failures import CheckFailed, NotApplicable
from mmbench.checks.randomness import preserved
from mmbench.registry import Registry, discover

Proof = Callable[[Any], None]
"""Takes the subject, raises CheckFailed or NotApplicable, or returns."""
Subject = Callable[[type[Any], Registry], Any]
"""Makes of a class what the checks of its kind look at, so that they share what is slow to make."""


@dataclass(frozen=True)
class Check:
    """One fact that every plugin of a kind has to keep."""

    kind: str
    name: str
    """The fact."""
    why: str
    """What goes wrong where it does not hold, in a sentence or two."""
    proves: Proof
    subject: Subject

    def run(self, cls: type[Any], registry: Registry | None = None) -> None:
        """Raises CheckFailed if the fact does not hold, NotApplicable if it says nothing of `cls`.

        Whatever `cls` raises is a failure, too. `registry` is where other plugins are found, by
        default among those that are installed. Global random generators are left as they were.
        """
        culprit = f"{self.kind} {cls.name!r}"
        try:
            with preserved():
                self.proves(_subject(self.subject, cls, registry or installed()))
        except CheckFailed as failure:
            raise CheckFailed(
                failure.what, failure.expected, failure.mend, culprit
            ) from failure.__cause__
        except NotApplicable:
            raise
        except Exception as error:  # a plugin may raise anything
            raise CheckFailed(
                f"raised {told(error, cls)}",
                "that nothing is raised",
                "Mend what it tells; --debug shows the traceback.",
                culprit,
            ) from error


CHECKS: list[Check] = []
"""Every check, kind by kind, in the order in which they help: what others build on comes first."""


def check(kind: str, name: str, subject: Subject) -> Callable[[Proof], Proof]:
    """Makes a function a check; its docstring says why."""

    def register(proves: Proof) -> Proof:
        CHECKS.append(
            Check(kind, name, " ".join((inspect.getdoc(proves) or "").split()), proves, subject)
        )
        return proves

    return register


@lru_cache(maxsize=1)
def installed() -> Registry:
    """What is installed, found once."""
    return discover()


_latest: list[tuple[Subject, type[Any], Registry, Any]] = []


def _subject(make: Subject, cls: type[Any], registry: Registry) -> Any:
    """The subject of the latest class is kept: checks come class by class."""
    if not _latest or any(
        a is not b for a, b in zip(_latest[0], (make, cls, registry), strict=False)
    ):
        _latest[:] = [(make, cls, registry, make(cls, registry))]
    return _latest[0][3]


def told(error: BaseException, cls: type[Any]) -> str:
    """An exception in a line: its type, its message, and where in the class's own file it came from."""
    text = " ".join(str(error).split())
    try:
        own = inspect.getfile(cls)
    except (TypeError, OSError):
        own = ""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == own]
    where = f" (line {lines[-1]} of {own.rpartition('/')[2]})" if lines else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"
