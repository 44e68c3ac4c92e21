"""Where mmbench keeps what it can make again or was given to keep."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """`$MMBENCH_CACHE`, else the user's cache folder of this platform."""
    chosen = os.environ.get("MMBENCH_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("mmbench"))
