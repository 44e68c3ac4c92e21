"""Computational sequences of CMU-MultimodalSDK: `.csd` files, and the folds as a YAML file.

Zadeh et al., Multi-attention Recurrent Network for Human Communication Comprehension, AAAI 2018. One
sample per opinion segment of the labels, one frame per word. How it is made of rows with intervals:

1. Pauses, the words "sp", are dropped. Without a file of words, the rows of the vectors are the words.
2. Each modality is aligned to the words: the mean of all rows that overlap a word, and zeros for a word
   that none overlaps. A value that is not finite counts as 0.
3. A segment has the words that overlap it, so a word on its border is in two.
4. Segments are padded with zeros in front, or lose their first words, to have `LENGTH` frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mmbench
from mmbench.data import Data, Dataset, Notice
from mmbench.errors import DataError
from mmbench.importers import sha256_of
from mmbench.tasks import Regression
from mmbench_importers.csd import sequences
from mmbench_importers.csd.samples import MODALITIES, Reader, Source

LENGTH = 50
"""Frames of a sample; a longer segment keeps its last words."""


class CSD(mmbench.Importer):
    """Several such files, told apart by what they call themselves."""

    name = "csd"
    summary = "*.csd of words or their vectors, features and labels, with the folds as *.yaml"

    def recognises(self, paths: Sequence[Path]) -> bool:
        """Files of which one is a .csd by its name."""
        return any(path.suffix.lower() == ".csd" for path in paths)

    def read(self, paths: Sequence[Path], dataset: Dataset) -> tuple[Data, list[Notice]]:
        """From all files together; DataError, naming the file, if one is missing or does not fit."""
        return read_csd(paths, dataset)


def read_csd(
    paths: Sequence[Path], dataset: Dataset, length: int = LENGTH
) -> tuple[Data, list[Notice]]:
    """Reads files as `dataset`, whose task must be a score: it is the first column of the labels.

    The samples are called `<video>[i]`, where i is the row in the labels, from 0. Raises DataError,
    naming the file, for anything that does not fit.
    """
    if not isinstance(dataset.task, Regression):
        raise DataError(f"{dataset.name} is no regression: the labels of .csd files are scores")
    paths = [Path(path) for path in paths]
    with ExitStack() as stack:
        reader = Reader(_source(paths, stack), dataset, length)
        splits = reader.splits(paths)
    data = Data(
        name=dataset.name,
        task=dataset.task,
        splits=splits,
        synthetic=False,
        source={path.name: f"SHA-256 {sha256_of(path)}" for path in paths},
    )
    return data, [Notice(text) for text in reader.notices]


def _source(paths: Sequence[Path], stack: ExitStack) -> Source:
    """What each file is; DataError if one is missing, or two are the same."""
    found: dict[str, Any] = {}
    for path in paths:
        content: Path | sequences.Sequence = path
        if path.suffix.lower() in (".yaml", ".yml"):
            kind = "folds"
        elif path.name.lower().startswith("glove") and path.suffix.lower() == ".txt":
            kind = "glove"
        else:
            content = sequence = sequences.Sequence(path)
            stack.callback(sequence.close)
            kind = sequence.kind
        if kind in found:
            before = found[kind] if isinstance(found[kind], Path) else found[kind].path
            raise DataError(f"{path}: holds {kind}, as {before} does; leave one out")
        found[kind] = content
    for kind, what in (
        ("labels", "a .csd of labels, such as Opinion Segment Labels"),
        ("folds", "a .yaml with the lists train, valid and test of videos"),
    ):
        if kind not in found:
            raise DataError(f"no {kind} among the files: expected {what}, too")
    words, vectors, glove = (found.get(kind) for kind in ("words", "l", "glove"))
    if vectors is None and (words is None or glove is None):
        has = f"{words.path} holds words, not numbers" if words else "there are no words"
        raise DataError(
            f"no text among the files: {has}; expected a .csd of GloVe vectors, or a .csd of words "
            "and a glove*.txt"
        )
    if vectors is not None and glove is not None:
        raise DataError(f"{glove}: {vectors.path} has vectors of the words already; leave one out")
    others = {m: found[m] for m in MODALITIES if m != "l" and m in found}
    return Source(found["labels"], found["folds"], words, vectors, glove, others)


@mmbench.hookimpl
def mmbench_register_importers() -> type[mmbench.Importer]:
    """Computational sequences."""
    return CSD
