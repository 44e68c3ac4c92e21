"""Importers: one class per foreign file format, which any data set can be read from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mmbench.data import Data, Dataset, Notice
from mmbench.errors import DataError, UsageError


class Importer(ABC):
    """Reads files of one format. Nothing in a file may run, and memory is bounded by the files' size."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def recognises(self, paths: Sequence[Path]) -> bool:
        """Whether the files look like this format: a quick look that reads little and raises nothing.

        Any file, damaged or hostile, may be given. It is enough to be right about files of the other
        formats; `read` finds what is wrong with a file of its own.
        """

    @abstractmethod
    def read(self, paths: Sequence[Path], dataset: Dataset) -> tuple[Data, list[Notice]]:
        """The files as `dataset`, whose name and task the data takes; DataError if they do not fit."""


def importer_for(paths: Sequence[Path], importers: Mapping[str, type[Importer]]) -> Importer:
    """The one importer that recognises the files; DataError if none does, UsageError if several do."""
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file")
    every = [cls() for _, cls in sorted(importers.items())]
    found = [importer for importer in every if importer.recognises(paths)]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(str(path) for path in paths)
    if found:
        names = ", ".join(importer.name for importer in found)
        raise UsageError(f"{shown}: may be read as {names}; say which: --format NAME")
    known = "; ".join(f"{importer.name}: {importer.summary}" for importer in every)
    raise DataError(f"{shown}: not recognised. Formats: {known}. To insist on one: --format NAME")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; for `Data.source`."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
