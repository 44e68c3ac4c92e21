"""Files of strangers, read whole and not beyond a bound."""

from __future__ import annotations

import os
from pathlib import Path

from mmbench.errors import DataError


def read(path: Path, limit: int) -> bytes:
    """Its bytes; DataError if it is no file, cannot be read or has more than `limit` bytes."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = file.read(min(size, limit) + 1)  # as much is made room for
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(found) > limit:
        raise DataError(f"{path}: refused, it has more than {limit} bytes")
    return found
