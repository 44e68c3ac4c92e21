"""Joint representations of test samples in the plane, as in HRLF's figure 6."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmbench.board import text
from mmbench.errors import DataError
from mmbench.figures import Undrawable
from mmbench.figures.looks import NOTE, look, sheet, styled
from mmbench.figures.subject import Subject, named
from mmbench.numbers import fixed
from mmbench.store import Store

EACH = 100
"""Samples of a group at most."""
COLUMNS = 4
DIGITS = 2
"""Of a point's place, of the hundred or so that t-SNE's plane is wide."""


@dataclass(frozen=True)
class Cloud:
    """Standardised representations of one method from one seed."""

    method: str
    seed: int
    commit: str
    """Of the code that trained it, or "" if that is not known."""
    condition: str
    values: np.ndarray
    """(n, k), each column with mean 0 and, unless it never changes, variance 1."""
    groups: np.ndarray
    """(n,) names."""

    @property
    def silhouette(self) -> float:
        """How much closer a sample is to its own group than to the nearest other one: -1 to 1.

        The mean silhouette coefficient (Rousseeuw 1987) of `values`, not of their image in the plane.
        """
        from sklearn.metrics import silhouette_score

        return float(silhouette_score(self.values, self.groups))

    def plane(self) -> np.ndarray:
        """t-SNE (n, 2), exact and from the first principal components: the same image each time."""
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(self.values) - 1) / 3)
        made = TSNE(perplexity=perplexity, init="pca", random_state=0, method="exact")
        return made.fit_transform(self.values)


@dataclass(frozen=True)
class Panel:
    """What a figure shows of one method."""

    method: str
    seed: int
    commit: str
    silhouette: float
    points: Mapping[str, np.ndarray]
    """By group, (n, 2)."""


@dataclass(frozen=True)
class Embedding:
    """What a figure shows."""

    dataset: str
    synthetic: bool
    condition: str
    data_sha256: str
    panels: Sequence[Panel]


def clouds(subject: Subject, store: Store) -> list[Cloud]:
    """Of each row the lowest seed of which the store has representations; Undrawable if it has none.

    Of each group the first `EACH` samples of the test split.
    """
    manifests = {m["key"]: m for m in store.manifests(subject.board.dataset)}
    found: list[Cloud] = []
    for row in subject.rows:
        for brief in row.finished:
            manifest = manifests.get(brief["key"], {})
            if arrays := store.representations(manifest):
                found += _cloud(row.label, manifest, arrays)
                break
    if not found:
        raise Undrawable(
            f"{store.root} has no representations for {subject.board.dataset}: "
            "mmbench run --embeddings keeps them"
        )
    return found


def _cloud(
    method: str, manifest: Mapping[str, Any], arrays: dict[str, np.ndarray]
) -> Iterator[Cloud]:
    names = arrays["groups"]
    rows = [np.flatnonzero(names == name)[:EACH] for name in np.unique(names[names != ""])]
    if len(rows) < 2:
        return
    at = np.sort(np.concatenate(rows))
    values = arrays["values"][at].astype(np.float64)
    spread = values.std(0)
    values = (values - values.mean(0)) / np.where(spread > 0, spread, 1)
    commit = manifest.get("environment", {}).get("commit", "")
    told = manifest["representations"]["condition"]
    yield Cloud(method, manifest["job"]["seed"], commit, told, values, names[at])


def pictured(subject: Subject, found: Sequence[Cloud]) -> Embedding:
    """What a figure shows of clouds."""
    return Embedding(
        subject.board.dataset,
        subject.board.synthetic,
        found[0].condition,
        subject.facts["data"]["sha256"],
        [Panel(c.method, c.seed, c.commit, c.silhouette, _points(c)) for c in found],
    )


def _points(cloud: Cloud) -> Mapping[str, np.ndarray]:
    plane = cloud.plane()
    names = [str(name) for name in np.unique(cloud.groups)]
    return {name: plane[cloud.groups == name].astype(np.float64).round(DIGITS) for name in names}


def embedding(shown: Embedding) -> Figure:
    """A panel for each method: its representations by t-SNE, with their silhouette coefficient."""
    columns = min(COLUMNS, len(shown.panels))
    rows = -(-len(shown.panels) // columns)
    names = sorted({name for panel in shown.panels for name in panel.points})
    with styled():
        figure = sheet(
            max(2.4 * columns + 1.2, 5.0),
            2.6 * rows + 0.9,
            f"{named(shown.dataset, synthetic=shown.synthetic)}: representations under {shown.condition}",
        )
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, panel in zip(axes, shown.panels, strict=False):
            _draw(ax, panel, names)
        for ax in axes[len(shown.panels) :]:
            ax.set_axis_off()
        handles = [
            Line2D([], [], linestyle="", marker=look(n).marker, color=look(n).colour, label=name)
            for n, name in enumerate(names)
        ]
        figure.legend(handles=handles, loc="outside right center")
        figure.supxlabel(
            f"t-SNE of up to {EACH} test samples of each group, from one training seed; silhouette of the "
            "representations themselves.",
            **NOTE,
        )
    return figure


def _draw(ax: Axes, panel: Panel, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        own = panel.points.get(name, np.empty((0, 2)))
        style = look(number)
        ax.scatter(
            own[:, 0],
            own[:, 1],
            s=9,
            marker=style.marker,
            color=style.colour,
            linewidths=0,
            label=name,
        )
    ax.set_title(f"{panel.method}\nsilhouette {fixed(panel.silhouette, 3)}")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set(visible=True, color="#CCCCCC")


# -- The file of what is shown --------------------------------------------------------------------

FORMAT, VERSION = "mmbench embedding", 1


def write(shown: Embedding) -> str:
    """As JSON: the figure can be drawn from it without the results or t-SNE."""
    panels = [
        {
            **{name: getattr(panel, name) for name in ("method", "seed", "commit", "silhouette")},
            "points": {
                name: {"x": own[:, 0].tolist(), "y": own[:, 1].tolist()}
                for name, own in panel.points.items()
            },
        }
        for panel in shown.panels
    ]
    told = {"format": FORMAT, "version": VERSION, **vars(shown), "panels": panels}
    return text(told) + "\n"


def read(path: Path) -> Embedding:
    """What `write` wrote; DataError if it is not that."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if (told.pop("format"), told.pop("version")) != (FORMAT, VERSION):
            raise ValueError("another format or version")
        panels = []
        for panel in told.pop("panels"):
            points = {
                name: np.array([own["x"], own["y"]], float).T
                for name, own in panel.pop("points").items()
            }
            panels.append(Panel(**panel, points=points))
        return Embedding(**told, panels=panels)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: not the points of an embedding ({error}); make it anew: mmbench figures --kind embedding"
        ) from error
