"""How a check ends that does not pass."""

from __future__ import annotations

from typing import NoReturn

from mmbench.errors import MmbenchError


class CheckFailed(MmbenchError):
    """A fact does not hold: whose fault it is, what was found, what was expected, and the mend."""

    def __init__(self, what: str, expected: str, mend: str, culprit: str = "") -> None:
        super().__init__(what, expected, mend, culprit)
        self.what, self.expected, self.mend, self.culprit = what, expected, mend, culprit

    def __str__(self) -> str:
        whose = f"{self.culprit}: " if self.culprit else ""
        return f"{whose}{self.what}; expected {self.expected}. {self.mend}"


class NotApplicable(Exception):
    """A fact that says nothing of such a class, and why."""


def fail(what: str, *, expected: str, mend: str) -> NoReturn:
    """The fact does not hold."""
    raise CheckFailed(what, expected, mend)
