"""A data card on screen, as Markdown, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmbench.cli.options import console, show
from mmbench.data import SPLITS
from mmbench.datacard import DataCard
from mmbench.markdown import escape, table
from mmbench.numbers import fixed

MEANS = {"regression": ("mean",), "multi-binary": ("share of yes",)}
"""What the mean target is, by kind of task; that of class numbers is nothing."""
STYLES = {"serious": "bold red", "warning": "yellow", "note": "cyan"}


@dataclass(frozen=True)
class Table:
    """What both the screen and Markdown show."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def show_card(card: DataCard) -> None:
    """Tables on screen, after the problems in colour."""
    from rich.markup import escape as literal

    kind = "synthetic twin" if card.synthetic else "real data"
    console().print(f"[bold]{literal(card.name)}[/] ({kind}): {_verdict(card)}")
    for finding in card.findings:
        style = STYLES[finding.level]
        text = literal(f"{finding.where}: {finding.text}")
        console().print(f"[{style}]{finding.level}:[/] {text}")
    console().print()
    for part in _tables(card):
        show(part.title, part.columns, part.rows)
    for line in _lines(card):
        console().print(literal(line))


def markdown(card: DataCard) -> str:
    """A README of the data: headings, tables, lists."""
    blocks = [f"# {escape(card.name)}"]
    if card.synthetic:
        blocks.append(
            "> **Synthetic data.** A made-up twin: what is found here says nothing about real data."
        )
    blocks.append(f"## Findings: {_verdict(card)}")
    if card.findings:
        blocks.append(
            "\n".join(
                f"- **{f.level}**, {escape(f.where)}: {escape(f.text)}" for f in card.findings
            )
        )
    for part in _tables(card):
        rows = [[escape(cell) for cell in row] for row in part.rows]
        names = [escape(name) for name in part.columns]
        blocks += [f"## {part.title}", table(names, rows, left=names[:1])]
    blocks.append("\n".join(f"- {escape(line)}" for line in _lines(card)))
    return "\n\n".join(blocks)


def as_json(card: DataCard) -> str:
    """Every fact, with sorted keys."""
    return json.dumps(card.to_dict(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _verdict(card: DataCard) -> str:
    counts = {level: sum(f.level == level for f in card.findings) for level in STYLES}
    told = [
        f"{n} {level}" + ("s" if n > 1 and level != "serious" else "")
        for level, n in counts.items()
        if n
    ]
    return ", ".join(told) if told else "nothing found to be wrong"


def _tables(card: DataCard) -> Iterator[Table]:
    yield Table(
        "Modalities: padding, values of valid frames, how many of these are all zero",
        ("modality", "T", "width", "padding", "range", "mean ± std", "zeros"),
        [
            (
                m,
                str(x.length),
                str(x.width),
                f"{x.padding:.1%} {x.side}" if x.padding else "none",
                f"{x.low + 0.0:.3g} to {x.high + 0.0:.3g}",
                f"{x.mean + 0.0:.2g} ± {x.std:.3g}",
                f"{x.zero_frames:.1%}",
            )
            for m, x in card.modalities.items()
        ],
    )
    yield Table(
        "Samples, and their valid frames: least / mean / most",
        ("split", "samples", "published", *card.modalities),
        [
            (
                split,
                str(card.sizes[split]),
                str((card.expected_sizes or {}).get(split, "-")),
                *(
                    f"{n.least} / {fixed(n.mean, 1)} / {n.most}"
                    + (f" ({n.without} without)" if n.without else "")
                    for n in (x.lengths[split] for x in card.modalities.values())
                ),
            )
            for split in SPLITS
        ],
    )
    bins = next(iter(card.labels.values())).bins
    mean = MEANS.get(card.task["kind"], ())
    yield Table(
        "Targets: samples of each" + (", a score rounded" if mean == ("mean",) else ""),
        ("label", "split", *bins, *mean),
        [
            (
                label,
                split,
                *map(str, facts.counts[split]),
                *(fixed(facts.means[split], 3) for _ in mean),
            )
            for label, facts in card.labels.items()
            for split in SPLITS
        ],
    )
    names = sorted(card.metrics, key=lambda name: (name != card.headline, name))
    yield Table(
        "Floors: the best score of a constant prediction on test",
        ("metric", *card.labels),
        [
            (
                card.metrics[name]["title"] + (" (%)" if card.metrics[name]["unit"] == "%" else ""),
                *(
                    fixed(100 * v, 2) if card.metrics[name]["unit"] == "%" else fixed(v, 4)
                    for v in card.floors[name].values()
                ),
            )
            for name in names
        ],
    )


def _lines(card: DataCard) -> Iterator[str]:
    yield "The first floor is that of the headline. Floors are the same under every condition: a constant does not look at its input."
    yield "How much each condition hides: mmbench protocol show NAME --dataset " + card.name
    for label, facts in card.labels.items():
        yield (
            f"Shares of {label} differ most between {' and '.join(facts.drifted)}: "
            f"total variation {fixed(facts.drift, 3)}"
        )
    told, total = card.groups.told, sum(card.sizes.values())
    yield (
        f"Ids tell the video or speaker of {told} of {total} samples: {card.groups.count} of them"
        if told
        else "Ids do not tell the video or speaker: whether splits share one is not checked"
    )
    yield f"SHA-256 of the content: {card.sha256}"
    for key, value in card.source.items():
        yield f"{key}: {value}"
