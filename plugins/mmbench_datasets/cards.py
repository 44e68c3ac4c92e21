"""The data sets that people described by cards and imported: one for each card in the cache."""

from __future__ import annotations

from pathlib import Path

import mmbench
from mmbench import cards, datafile
from mmbench.errors import DataError
from mmbench.registry import Broken


@mmbench.hookimpl
def mmbench_register_datasets() -> list[type[mmbench.Dataset] | Broken]:
    """Those that are whole; the others are listed as broken, and hurt nobody else."""
    return [_described_by(path) for path in cards.kept()]


def _described_by(path: Path) -> type[mmbench.Dataset] | Broken:
    name = path.stem
    try:
        dataset = cards.read(path).dataset(name)
        if not datafile.is_there(dataset()):
            raise DataError(f"{path}: the data it describes is not in the cache any more")
        return dataset
    except DataError as error:
        return Broken(name, f"{error}; import it again: mmbench data import {name} CARD")
