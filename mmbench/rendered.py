"""Checks files of leaderboards: each against what the results of a store render."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmbench.arrays import LARGEST
from mmbench.findings import Finding, Report, brief, guarded
from mmbench.leaderboard import Leaderboard, write_leaderboard
from mmbench.registry import Registry
from mmbench.store import Store
from mmbench.textdiff import differences


def leaderboards(
    store: Store, folder: Path, registry: Registry, report: Report
) -> Iterator[Finding]:
    """Files in a folder against what the store's results give."""
    reporters = [found.cls() for found in registry.classes["reporter"].values()]
    folders = {path.name for path in store.root.iterdir()}  # a manifest may name anything
    datasets = [name for name in store.datasets() if name in folders]
    with tempfile.TemporaryDirectory() as scratch:
        for dataset in datasets:
            places = [folder / f"{dataset}{reporter.suffix}" for reporter in reporters]
            there = [path for path in places if path.is_file()]
            if not there:  # which formats there are is a person's choice
                yield Finding(dataset, f"{folder} has no leaderboard of it", wrong=False)
            try:
                board = Leaderboard.from_store(store, dataset, registry)
                write_leaderboard(board, Path(scratch), reporters)
            except Exception as error:  # what no result may hold has been told already
                text = f"the store's results give none ({type(error).__name__}: {error})"
                yield from (Finding(path.name, text) for path in there)
                continue
            for path in there:
                report.boards += 1
                yield from guarded(path.name, _board(path, Path(scratch) / path.name))
    for name in sorted(set(registry.classes["dataset"]) - set(datasets)):
        for reporter in reporters:
            if (folder / f"{name}{reporter.suffix}").is_file():
                text = f"{store.root} has no results of its data set"
                yield Finding(f"{name}{reporter.suffix}", text, wrong=False)


def _board(path: Path, rendered: Path) -> Iterator[Finding]:
    """Each line, and cell if it is a table's, that differs from what was rendered."""
    if path.stat().st_size > LARGEST:
        yield Finding(path.name, f"refused, it has more than {LARGEST} bytes")
        return
    if path.read_bytes() == rendered.read_bytes():
        return
    said, true = (file.read_bytes().decode("utf-8", "replace") for file in (path, rendered))
    told = False
    for found in differences(said, true, comma=path.suffix == ".csv"):
        here, there = (
            "no such line" if text is None else brief(text) for text in (found.said, found.true)
        )
        yield Finding(f"{path.name}, {found.place}", f"says {here}, the store gives {there}")
        told = True
    if not told:
        yield Finding(path.name, "is not UTF-8, and not what the store gives")
