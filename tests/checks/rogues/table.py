"""What a rogue is: a plugin with one thing wrong, and the check that is meant for it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rogue:
    cls: type[Any]
    caught_by: str
    also: Mapping[str, str]
    """Other checks that it cannot but fail, and why."""

    @property
    def what(self) -> str:
        return " ".join((inspect.getdoc(self.cls) or "").split())


GALLERY: list[Rogue] = []


def rogue(
    caught_by: str, also: Mapping[str, str] | None = None
) -> Callable[[type[Any]], type[Any]]:
    def register(cls: type[Any]) -> type[Any]:
        cls.name = re.sub("(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        GALLERY.append(Rogue(cls, caught_by, also or {}))
        return cls

    return register
