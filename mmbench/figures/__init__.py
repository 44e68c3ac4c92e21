"""Figures of a leaderboard: each a pure function from numbers to a matplotlib Figure.

The same numbers give the same bytes with the same matplotlib. matplotlib is imported only when something
is drawn, and never its pyplot, which keeps figures of its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mmbench.datafile import replacing
from mmbench.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmbench.figures.embedding import Embedding
    from mmbench.leaderboard import Leaderboard
    from mmbench.store import Store

KINDS = ("curves", "critical-difference", "cost")
"""What `draw` can make of a leaderboard alone."""
EMBEDDING = "embedding"
"""What needs a store beside it."""
FORMATS = ("svg", "png")
CREATOR = "mmbench with matplotlib "
"""What an SVG says of its maker, before the version on which its bytes depend."""


class Undrawable(UsageError):
    """Why a leaderboard has no figure of a kind."""


def draw(kind: str, board: Leaderboard, methods: Collection[str] = ()) -> Figure:
    """The figure of a kind, of the newest section of a leaderboard; Undrawable if there is none.

    methods: labels of the rows to draw; all full ones if empty.
    """
    from mmbench.figures.cost import cost
    from mmbench.figures.curves import curves
    from mmbench.figures.differences import critical_difference
    from mmbench.figures.subject import Subject

    kinds = dict(zip(KINDS, (curves, critical_difference, cost), strict=True))
    return kinds[kind](Subject.of(board, methods))


def embedding_of(
    board: Leaderboard, store: Store | None, methods: Collection[str] = ()
) -> Embedding:
    """What the figure of representations shows: for `mmbench.figures.embedding`, which draws and writes it."""
    from mmbench.figures.embedding import clouds, pictured
    from mmbench.figures.subject import Subject

    if store is None:
        raise Undrawable("an embedding needs a store, for a leaderboard has no sample's numbers")
    subject = Subject.of(board, methods)
    return pictured(subject, clouds(subject, store))


def encode(figure: Figure, form: str) -> bytes:
    """The figure as a file of one of `FORMATS`, without a date; an SVG names the matplotlib that drew it."""
    from matplotlib import __version__ as version

    from mmbench.figures.looks import styled

    told = {"svg": {"Date": None, "Creator": f"{CREATOR}{version}"}, "png": {"Software": "mmbench"}}
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format=form, metadata=told[form])
    content = buffer.getvalue()
    return _steady(content) if form == "svg" else content


SHAPE = re.compile(rb'(?<= )(?:d|x|y)="[^"]*"|translate\([^)]*\)')
"""Where an SVG says where something is."""
ID = re.compile(rb'(?<=["#])[mp][0-9a-f]{10}(?=["\)])')
"""What matplotlib calls a shape, after a hash of all its digits."""


def _steady(svg: bytes) -> bytes:
    """With hundredths of a point and shapes by number: a third less to store, and deaf to how a machine rounds."""
    numbers: dict[bytes, bytes] = {}

    def number(found: re.Match[bytes]) -> bytes:
        return numbers.setdefault(found[0], b"%s%d" % (found[0][:1], len(numbers) + 1))

    return ID.sub(number, SHAPE.sub(_coarse, svg))


def _coarse(shape: re.Match[bytes]) -> bytes:
    return re.sub(rb"-?\d+\.\d+", lambda number: b"%g" % (round(float(number[0]), 2) + 0), shape[0])


def write(figure: Figure, path: Path) -> Path:
    """Writes the figure in the format that the path's suffix names, whole or not at all."""
    return put(encode(figure, path.suffix.removeprefix(".")), path)


def put(content: bytes, path: Path) -> Path:
    """Writes a file of a figure, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
            temporary.chmod(0o644)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another --out") from error
    return path
