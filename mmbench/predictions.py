"""The file of what a result predicted: the outputs of all trials in one array, for many small ones take long.

    ids (N,)  text        targets (N, L)
    trials (K,)  text, e.g. "inter/la/0"        outputs (K, N, n_out)  of each trial

Before, each trial's (N, n_out) stood under its own name; such files are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmbench import arrays
from mmbench.errors import DataError
from mmbench.hdf5 import MOST

ABOUT = ("ids", "targets")
TRIALS, OUTPUTS = "trials", "outputs"


def to_bytes(predictions: Mapping[str, np.ndarray]) -> bytes:
    """A file of `ids`, `targets` and each trial's outputs by its key, as `Outcome` has them."""
    outputs = {key: array for key, array in predictions.items() if key not in ABOUT}
    if len({(array.shape, array.dtype) for array in outputs.values()}) != 1:
        return arrays.to_bytes(predictions)
    about = {name: predictions[name] for name in ABOUT if name in predictions}
    every = {TRIALS: np.array(list(outputs)), OUTPUTS: np.stack(list(outputs.values()))}
    return arrays.to_bytes({**about, **every})


def from_bytes(found: bytes, path: Path) -> dict[str, np.ndarray]:
    """What `to_bytes` was given; text as an array of str. path: what errors name.

    DataError if the file is none of plain arrays, or if its outputs are not one for each of its trials.
    """
    read = arrays.arrays(found, path)
    if OUTPUTS not in read and TRIALS not in read:
        return read
    none = np.empty(0)
    trials, outputs = read.pop(TRIALS, none), read.pop(OUTPUTS, none)
    if trials.size > MOST:
        raise DataError(f"{path}: refused, it has more than {MOST} trials")
    keys = trials.tolist() if trials.ndim == 1 else []
    if not keys or trials.dtype.kind != "O" or outputs.shape[:1] != trials.shape:
        raise DataError(
            f"{path}: {OUTPUTS} has shape {outputs.shape} and {TRIALS} {trials.shape}; expected an array of "
            "outputs for the name of each trial"
        )
    if len(set(keys)) < len(keys) or not read.keys().isdisjoint(keys):
        raise DataError(f"{path}: {TRIALS} has a name twice, or that of another array")
    return {**read, **dict(zip(keys, outputs, strict=True))}
