"""The leaderboard as a file that the other reporters can be given in place of a store."""

from __future__ import annotations

import mmbench
from mmbench import board


class Json(mmbench.Reporter):
    """Everything that a reporter needs, and no sample's prediction."""

    name = "json"
    summary = "all of a leaderboard: `mmbench leaderboard FILE.json` renders it again"
    suffix = board.SUFFIX

    def render(self, leaderboard: mmbench.Leaderboard) -> str:
        """JSON, as `mmbench/board.py` documents it."""
        return board.write(leaderboard)


@mmbench.hookimpl
def mmbench_register_reporters() -> type[mmbench.Reporter]:
    """JSON."""
    return Json
