"""Which video is in which split, from a YAML file."""

from __future__ import annotations

from pathlib import Path

import yaml

from mmbench.data import SPLITS
from mmbench.errors import DataError

LARGEST = 1 << 20
"""Bytes."""


def read_folds(path: Path) -> dict[str, list[str]]:
    """Names of videos by split, from YAML: `train`, `valid` and `test`, a list each.

    Every name is text, as it is written: an id like 0123 is no number here.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST} bytes")
        # still less than the safe loader: this one knows text, lists and dicts only
        content = yaml.load(path.read_bytes(), Loader=yaml.BaseLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML ({str(error)[:200]})") from error
    if not isinstance(content, dict) or set(content) != set(SPLITS):
        raise DataError(f"{path}: expected the keys {', '.join(SPLITS)}, a list of videos each")
    seen: set[str] = set()
    for split in SPLITS:
        videos = content[split]
        if not isinstance(videos, list) or not videos:
            raise DataError(f"{path}: {split}: expected a list of videos")
        for video in videos:
            if not isinstance(video, str) or not video.isprintable():
                raise DataError(f"{path}: {split}: expected names of videos, text each")
            if video in seen:
                raise DataError(f"{path}: {split}: {video!r} is there twice; a video has one split")
            seen.add(video)
    return {split: content[split] for split in SPLITS}
