"""Reporters: how a leaderboard is written, one class per file format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from mmbench.leaderboard import Leaderboard


class Reporter(ABC):
    """Writes a leaderboard as text. The same leaderboard gives the same bytes."""

    name: ClassVar[str]
    summary: ClassVar[str]
    suffix: ClassVar[str]
    """Of the file, e.g. ".md"."""

    @abstractmethod
    def render(self, leaderboard: Leaderboard) -> str:
        """The whole file."""
