"""Joint representations of test samples in the plane, as in HRLF's figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmbench.figures import Undrawable
from mmbench.figures.looks import NOTE, look, sheet, styled
from mmbench.figures.subject import Subject
from mmbench.numbers import fixed
from mmbench.store import Store

EACH = 100
"""Samples of a group at most."""
COLUMNS = 4


@dataclass(frozen=True)
class Cloud:
    """Standardised representations of one method from one seed."""

    method: str
    seed: int
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


def clouds(subject: Subject, store: Store) -> list[Cloud]:
    """Of each row the lowest seed of which the store has representations; Undrawable if it has none.

    Of each group the first `EACH` samples of the test split.
    """
    manifests = {m["key"]: m for m in store.manifests(subject.board.dataset)}
    found = []
    for row in subject.rows:
        for brief in row.finished:
            manifest = manifests.get(brief["key"], {})
            if arrays := store.representations(manifest):
                told = manifest["representations"]["condition"]
                made = _cloud(row.label, manifest["job"]["seed"], told, arrays)
                found += [made] if made else []
                break
    if not found:
        raise Undrawable(
            f"{store.root} has no representations for {subject.board.dataset}: "
            "mmbench run --embeddings keeps them"
        )
    return found


def _cloud(method: str, seed: int, condition: str, arrays: dict[str, np.ndarray]) -> Cloud | None:
    names = arrays["groups"]
    rows = [np.flatnonzero(names == name)[:EACH] for name in np.unique(names[names != ""])]
    if len(rows) < 2:
        return None
    at = np.sort(np.concatenate(rows))
    values = arrays["values"][at].astype(np.float64)
    spread = values.std(0)
    values = (values - values.mean(0)) / np.where(spread > 0, spread, 1)
    return Cloud(method, seed, condition, values, names[at])


def embedding(subject: Subject, found: Sequence[Cloud]) -> Figure:
    """A panel for each method: its representations by t-SNE, with their silhouette coefficient."""
    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    names = sorted({name for cloud in found for name in cloud.groups})
    with styled():
        figure = sheet(
            max(2.4 * columns + 1.2, 5.0),
            2.6 * rows + 0.9,
            f"{subject.name}: representations under {found[0].condition}",
        )
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, cloud in zip(axes, found, strict=False):
            _panel(ax, cloud, names)
        for ax in axes[len(found) :]:
            ax.set_axis_off()
        handles = [
            Line2D([], [], linestyle="", marker=look(n).marker, color=look(n).colour, label=name)
            for n, name in enumerate(names)
        ]
        figure.legend(handles=handles, loc="outside right center")
        figure.supxlabel(
            f"t-SNE of up to {EACH} test samples of each group; silhouette of the representations.",
            **NOTE,
        )
    return figure


def _panel(ax: Axes, cloud: Cloud, names: Sequence[str]) -> None:
    plane = cloud.plane()
    for number, name in enumerate(names):
        own = plane[cloud.groups == name]
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
    ax.set_title(f"{cloud.method}\nsilhouette {fixed(cloud.silhouette, 3)}")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set(visible=True, color="#CCCCCC")
