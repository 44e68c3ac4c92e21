"""Masks of made-up samples: three modalities, padding, and what is missing by nature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmbench.checks.failures import fail
from mmbench.missingness import Masks

COUNT, LENGTH = 24, 12
IDS = tuple(f"sample-{row}" for row in range(COUNT))
NAMES = (("l", "a", "v"), ("text", "audio"))


def valid_frames(names: Sequence[str] = NAMES[0]) -> dict[str, np.ndarray]:
    """By modality bool (N, T), padded in front; the same for each modality, whose masks may so be compared.

    Samples of 0 to T frames; the last one lacks the last modality.
    """
    words = np.r_[np.arange(LENGTH + 1), np.full(COUNT - LENGTH - 1, LENGTH)]
    valid = {m: np.arange(LENGTH) >= LENGTH - words[:, None] for m in names}
    valid[names[-1]][-1] = False
    return valid


def same(one: Masks, other: Masks) -> bool:
    """Whether two sets of masks are equal."""
    return list(one) == list(other) and all(np.array_equal(one[m], other[m]) for m in one)


def shaped(masks: Masks, valid: Masks, where: str) -> None:
    """Fails unless there is a mask for each modality, of the shape of its valid frames."""
    right = list(masks) == list(valid) and all(
        np.asarray(masks[m]).dtype == np.bool_ and masks[m].shape == v.shape
        for m, v in valid.items()
    )
    if not right:
        shown = ", ".join(f"{m} {np.asarray(x).dtype} {np.shape(x)}" for m, x in masks.items())
        fail(
            f"{where}: masks are {shown}",
            expected=f"by modality, in order, bool of {next(iter(valid.values())).shape}: {', '.join(valid)}",
            mend="Build masks like {m: ... for m, frames in valid.items()}, each of frames' shape.",
        )


def hidden_only(masks: Masks, valid: Masks, where: str) -> None:
    """Fails if padding is observed."""
    for m, frames in valid.items():
        if (masks[m] & ~frames).any():
            fail(
                f"{where}: padding of {m} is said to be observed",
                expected="that a mask is False wherever valid is",
                mend="Combine it with `valid`: frames & ...",
            )
