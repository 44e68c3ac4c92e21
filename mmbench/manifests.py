"""The manifest of a result: what was done and what it scored, in JSON.

It has `schema`, `status` ("finished" or "failed"), `key` (of everything that decides the
numbers), `config` (the same without the seed), `job`, `data`, `method`, `protocols`, `metrics`, `floor`,
`scores`, `averages`, `training`, `parameters`, `seconds`, `environment` and `predictions_sha256`; a
failure has `kind` (mmbench/jobs.py; old ones have none), `reason` and `traceback` instead of what it did not
reach. `representations` is there if they were asked for: their `condition` and `sha256`, or why they are
`absent`. Last comes `sha256`, of all the rest; results of before it was written are read without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmbench import arrays, bounded, plainjson
from mmbench.errors import DataError
from mmbench.jobs import SCHEMA

MANIFEST = "manifest.json"
LIMIT = 1 << 26
"""Bytes; a manifest of some 20,000 scores has a twentieth of it."""
_SEAL = b',\n "sha256": "'


def read(path: Path, *, sealed: bool = True) -> dict[str, Any]:
    """A manifest; DataError, which says why, if it is damaged, too long, or of a layout unknown here.

    And if it was altered since it was written, unless `sealed` is false: then its `sha256` is left in it.
    """
    try:
        found = bounded.read(path, LIMIT)
        manifest = plainjson.parse(found, path)
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"schema {manifest['schema']!r}, expected {SCHEMA}")
        if not isinstance(manifest["job"]["dataset"], str):
            raise ValueError("its job names no data set")
        if sealed and manifest.pop("sha256", None) is not None:
            body, _, rest = found.rpartition(_SEAL)
            if rest != _hashed(body):
                raise ValueError("altered since it was written")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as a manifest ({error!r})") from error
    return manifest


def to_bytes(manifest: Mapping[str, Any]) -> bytes:
    """What `read` reads, sealed: its last value is the SHA-256 of all before it.

    A line for each part, and for each part of that; one for each score would take longer than they do.
    """
    body = _lines(manifest, "", 1).removesuffix("\n}").encode()
    return body + _SEAL + _hashed(body)


def _lines(told: Mapping[str, Any], indent: str, depth: int) -> str:
    deeper = indent + " "
    parts = (
        f"{deeper}{_encode(name)}: "
        + (_lines(v, deeper, depth - 1) if depth and v and isinstance(v, dict) else _encode(v))
        for name, v in told.items()
    )
    return "{\n" + ",\n".join(parts) + f"\n{indent}}}"


_encode = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def _hashed(body: bytes) -> bytes:
    return arrays.sha256(body).encode() + b'"\n}\n'
