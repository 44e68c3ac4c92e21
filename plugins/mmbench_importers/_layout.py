"""One's own data in a stated layout, which an NPZ or an HDF5 file may have.

<split>/features/<modality>  numbers (N, T, D); splits are train, valid and test, modalities e.g. l, a, v
<split>/valid/<modality>     bool (N, T), optional: False for padding
<split>/targets              numbers (N,) or (N, L), as the data set's task wants them
<split>/ids                  text or numbers (N,), optional, unique

Without `valid`, every frame counts up to the zero frames at both ends of a sample. A modality that is
zero throughout a sample has no valid frame there: it is missing by nature. Every split has the same
modalities, of the same T and D.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data import SPLITS, Data, Dataset, Notice, Samples
from mmbench.errors import DataError
from mmbench_importers._reading import Reader, after_first, before_last, kind_of

_KEY = re.compile(r"(train|valid|test)/(?:(features|valid)/(\w[\w+-]{0,31})|targets|ids)")
RATIO = 200
"""A file may hold so many times its own size, compressed; one that claims more is a bomb."""


def one_of(paths: Sequence[Path], dataset: Dataset, what: str) -> Path:
    """The only path; DataError if there are several."""
    if len(paths) != 1:
        raise DataError(f"{dataset.name} is imported from one {what}, got {len(paths)} files")
    return Path(paths[0])


def check_size(path: Path, claimed: int) -> None:
    """DataError if a file claims to hold more bytes than it can, or than there is memory for."""
    size, free = path.stat().st_size, _free_memory()
    if claimed > RATIO * size:
        raise DataError(
            f"{path}: refused, its {size} bytes claim to hold {claimed}, more than {RATIO} times as many"
        )
    if claimed > free:
        raise DataError(
            f"{path}: holds {claimed} bytes, but this machine has {free} of free memory"
        )


def read_layout(
    path: Path,
    dataset: Dataset,
    keys: Iterable[str],
    take: Callable[[str], np.ndarray | list[Any]],
) -> tuple[Data, list[Notice]]:
    """What lies under `keys`, each taken once. DataError, naming the key, where it does not fit."""
    reader, there = Reader(path, dataset), set(keys)
    modalities = _modalities(reader, there)
    splits = {}
    for split in SPLITS:
        features, valid = {}, {}
        for m in modalities:
            key = f"{split}/features/{m}"
            features[m] = reader.features(key, m, split, take(key))
            key = f"{split}/valid/{m}"
            valid[m] = _valid(reader, key, features[m], take(key) if key in there else None)
            reader.hide(m, split, features[m], valid[m])
        targets = reader.targets(
            f"{split}/targets",
            take(f"{split}/targets"),
            {f"{split}/features/{m}": x for m, x in features.items()},
        )
        key = f"{split}/ids"
        ids = reader.ids(key, split, take(key) if key in there else None, len(targets))
        splits[split] = Samples(ids, features, valid, targets)
    for m in modalities:
        reader.without(m, [samples.valid[m] for samples in splits.values()])
    return reader.data(splits)


def _modalities(reader: Reader, there: set[str]) -> list[str]:
    """Those of the layout, language first, as tables have them; DataError for any other key."""
    found: set[str] = set()
    for key in sorted(there):
        match = _KEY.fullmatch(key)
        if match is None:
            known = [
                f"{s}/{k}" for s in SPLITS for k in ("features/l", "valid/l", "targets", "ids")
            ]
            near = get_close_matches(key, known, 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise reader.fail(repr(key), f"no key of the layout{hint}")
        if match[2] == "features":
            found.add(match[3])
    if len(found) < 2:
        raise reader.fail(
            "'train/features/...'", f"expected two modalities at least, got {len(found)}"
        )
    for split in SPLITS:
        for name in (*(f"features/{m}" for m in sorted(found)), "targets"):
            if f"{split}/{name}" not in there:
                others = [s for s in SPLITS if f"{s}/{name}" in there]
                also = f"; there is {others[0]}/{name}" if others else ""
                raise reader.fail(f"{split}/{name}", f"missing{also}")
    for key in sorted(there):
        split, kind, *m = key.split("/")
        if kind == "valid" and m[0] not in found:
            raise reader.fail(key, f"there is no {split}/features/{m[0]}")
    return sorted(found, key=lambda m: ("lav".find(m) if m in ("l", "a", "v") else 3, m))


def _valid(reader: Reader, key: str, x: np.ndarray, given: Any) -> np.ndarray:
    """Which frames of x (N, T, D) are not padding, bool (N, T)."""
    if given is None:
        filled = np.asarray(x.any(-1))
        return after_first(filled) & before_last(filled)
    if not isinstance(given, np.ndarray) or given.dtype != bool or given.shape != x.shape[:2]:
        raise reader.fail(key, f"expected bool {x.shape[:2]}, got {kind_of(given)}")
    return given


def _free_memory() -> int:
    """Bytes that a process may ask for: what is available, else all that there is."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(text.split("MemAvailable:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system tells
        return 2**63
