"""Checks of importers: what they do with files that are none of theirs, or damaged."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmbench.checks.core import check, told
from mmbench.checks.failures import fail
from mmbench.checks.made_up import SCORE
from mmbench.data import Dataset
from mmbench.errors import MmbenchError
from mmbench.importers import Importer
from mmbench.registry import Registry

JUNK = {
    "empty": b"",
    "text.csv": b"id,score\nx,1\n",
    "zeros.npz": bytes(64),
    "pickle.pkl": b"\x80\x04\x95\xff\xff\xff\xff",
    "cut.npz": b"PK\x03\x04\x14\x00",
    "cut.h5": b"\x89HDF\r\n\x1a\n" + bytes(8),
    "noise.csd": bytes(range(256)),
}
"""Files of no format, or cut short after the first bytes of one."""


class Wanted(Dataset):
    """A data set to import."""

    name, summary, task = "made-up", "made up", SCORE


class Subject:
    """An importer and damaged files."""

    def __init__(self, cls: type[Importer], registry: Registry) -> None:
        self.cls, self.made = cls, cls()


@contextmanager
def _files() -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in JUNK]
        for path in paths:
            path.write_bytes(JUNK[path.name])
        yield paths


@check("importer", "a look at any file raises nothing", Subject)
def looks(subject: Subject) -> None:
    """Every importer is asked about every file: one that raises is in the way of all others."""
    with _files() as paths:
        for path in paths:
            try:
                found = subject.made.recognises([path])
            except Exception as error:
                fail(
                    f"recognises() of {path.name} raised {told(error, subject.cls)}",
                    expected="True or False, whatever the file is",
                    mend="Catch what reading may raise, and answer False.",
                )
            if not isinstance(found, bool):
                fail(
                    f"recognises() of {path.name} gives {found!r}",
                    expected="True or False",
                    mend="Return a bool: nothing, or the match of a pattern, is no answer.",
                )


@check("importer", "a damaged file is a DataError", Subject)
def refuses(subject: Subject) -> None:
    """It is the user's file that is wrong: that takes one message, and no traceback."""
    with _files() as paths:
        for path in paths:
            try:
                subject.made.read([path], Wanted())
            except MmbenchError:
                continue
            except Exception as error:
                fail(
                    f"reading {path.name} raised {told(error, subject.cls)}",
                    expected="DataError, with the file and what is wrong with it",
                    mend="Catch what reading may raise, and raise DataError from it.",
                )
            fail(
                f"reads {path.name}, which holds no data set",
                expected="DataError, with the file and what is wrong with it",
                mend="Check what was read before it is returned.",
            )
