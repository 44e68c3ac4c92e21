"""Whether a row scores otherwise in one store than in another, by chance or not.

The test is that of `mmbench/statistics.py`: paired by sample, mask and training seed, on what both stores
have. A row is tested in every condition and in the summary column, for each label and for the mean over
labels, by every metric that tables show, and p is adjusted twice, by Holm's method: over the columns of a
protocol, for a reader of one row and label; and over all that is tested of a data set, for a gate that
raises a false alarm in one comparison of 20 at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmbench.resampling import Rules, Untestable, find
from mmbench.significance import brief
from mmbench.statistics import LEAST, compare, holm
from mmbench.tidy import Columns, tidy

if TYPE_CHECKING:
    from mmbench.leaderboard import Manifest, Row
    from mmbench.metrics import Metric
    from mmbench.registry import Registry
    from mmbench.sides import Side

CHANGE_COLUMNS: Columns = {
    **dict.fromkeys(("protocol", "metric", "label", "column", "method"), str),
    "seeds": int,
    **dict.fromkeys(("difference", "error", "df", "p", "p_adjusted", "p_overall"), float),
}
FAMILY = ["protocol", "metric", "label", "method"]
"""What `p_adjusted` is adjusted within; `p_overall` is over the whole table."""


def changes(
    left: Side,
    mine: str,
    right: Side,
    theirs: str,
    methods: Sequence[str],
    registry: Registry,
    show: Callable[[float, str], None] = lambda share, doing: None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The tests of the rows that have one label on both sides, tidy: CHANGE_COLUMNS; by label, why none.

    mine, theirs: names of the data set. A difference is left less right. column: as the tables name it,
    the summary by its protocol's heading. show: is told how much is done, and what comes next.
    """
    lines: list[tuple[Any, ...]] = []
    untested: dict[str, str] = {}
    for number, method in enumerate(methods):
        show(number / len(methods), f"testing {method}")
        try:
            lines += _row(left, (mine, method), right, (theirs, method), registry)
        except Untestable as error:
            untested[method] = str(error)
    table = tidy([(*line, 1.0, 1.0) for line in lines], CHANGE_COLUMNS)
    table["p_overall"] = holm(table["p"].to_numpy())
    for _, family in table.groupby(FAMILY, sort=False):
        table.loc[family.index, "p_adjusted"] = holm(family["p"].to_numpy())
    return table, untested


def _row(
    left: Side, mine: tuple[str, str], right: Side, theirs: tuple[str, str], registry: Registry
) -> Iterator[tuple[Any, ...]]:
    if left.store is None or right.store is None:
        raise Untestable("only two stores have the predictions that a test needs")
    (facts, ours), (others, other) = left.rows[mine], right.rows[theirs]
    shared = {m["job"]["seed"] for m in ours.finished} & {m["job"]["seed"] for m in other.finished}
    if len(shared) < LEAST:
        raise Untestable(f"fewer than {LEAST} training seeds are on both sides")
    rules = Rules.of({**facts, "protocols": _protocols(facts, others)}, registry)
    metrics = _metrics(facts, ours, others, other, registry)
    (a, samples), (b, same) = rules.decided(left.store, ours), rules.decided(right.store, other)
    samples.check(same)
    decided = [{seed: own[seed] for seed in sorted(shared)} for own in (a, b)]
    if all(np.array_equal(decided[0][seed], decided[1][seed]) for seed in shared):
        raise Untestable("it says the same of every sample on both sides")
    for metric in metrics:
        scores = rules.scored(metric, decided, samples.targets, list(facts["labels"]))
        for protocol, by_label in scores.items():
            described = facts["protocols"][protocol]
            names = [*(c["name"] for c in described["conditions"]), described["average"]]
            for label, columns in by_label.items():  # (1 + B, 2, S, C + 1)
                apart = (columns[:, 0] - columns[:, 1]).swapaxes(1, 2)  # (1 + B, C + 1, S)
                found = np.stack(compare(apart[0], apart[1:], len(samples.targets)), -1)
                for name, numbers in zip(names, found, strict=True):
                    place = protocol, metric.name, label, name, ours.label
                    yield *place, len(shared), *brief(*numbers)


def _protocols(facts: Manifest, others: Manifest) -> Mapping[str, Any]:
    """Those under which both sides hid the same frames."""
    parts = ("id", "sha256", "mask_seeds", "conditions")
    found = {
        name: told
        for name, told in facts["protocols"].items()
        if name in others["protocols"]
        and all(told[part] == others["protocols"][name][part] for part in parts)
    }
    if not found:
        raise Untestable("the masks differ under every protocol")
    return found


def _metrics(
    facts: Manifest, ours: Row, others: Manifest, other: Row, registry: Registry
) -> list[Metric]:
    """Those of the tables whose version is the same on both sides and here."""
    if list(facts["labels"]) != list(others["labels"]):
        raise Untestable("the labels differ")
    theirs = other.finished[0]["metrics"]
    names = [
        name
        for name, version in ours.finished[0]["metrics"].items()
        if theirs.get(name) == version and facts["metrics"][name]["in_tables"]
    ]
    if not names:
        raise Untestable("the metrics of the tables differ in their versions")
    return [find(registry, "metric", theirs[name])() for name in names]
