"""The leaderboard as people read it: the paper's tables, and below them what the numbers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mmbench
from mmbench.jobs import why
from mmbench.leaderboard import Row, Section
from mmbench.markdown import inline, prose, table
from mmbench.numbers import fixed, share
from mmbench.summary import (
    QUANTITIES,
    SHAPLEY,
    effective_rate,
    quantity,
)
from mmbench.tables import defined, heading, in_short, number, reading, untested
from mmbench.tables import lines as lines_of

MARK = "↓"
STAR = "\\*"
LONG = 30
"""Lines; a longer table is folded away."""


class Markdown(mmbench.Reporter):
    """Tables in the layout of HRLF's tables 1 and 2, with floors and provenance."""

    name = "md"
    summary = "the paper's tables with floors, spreads and how to read them"
    suffix = ".md"

    def render(self, leaderboard: mmbench.Leaderboard) -> str:
        """GitHub Markdown."""
        blocks = [f"# {leaderboard.dataset}"]
        if leaderboard.synthetic:
            blocks.append(
                "> **Synthetic data.** A made-up twin with the shapes, sizes and label shares of a real "
                "data set. These scores say nothing about real data, and compare with no paper."
            )
        for section in leaderboard.sections:
            blocks += _section(section)
        if leaderboard.unfinished:
            blocks.append("## Not finished")
            blocks.append(_table(["Method", "Reason"], _reasons(leaderboard.unfinished)))
        return "\n\n".join(blocks) + "\n"


def _section(section: Section) -> Iterator[str]:
    data = section.facts["data"]
    sizes = " / ".join(f"{data['splits'][split]}" for split in ("train", "valid", "test"))
    shapes = ", ".join(f"{m} {s['length']} x {s['width']}" for m, s in data["modalities"].items())
    yield f"## Data {inline(data['sha256'][:12])}"
    yield f"{sizes} samples in train / valid / test; frames x features: {inline(shapes)}."
    if data["source"]:
        source = ", ".join(f"{key} {value}" for key, value in data["source"].items())
        yield f"Made from: {_escape(source)}."
    metrics = section.facts["metrics"]
    headline = heading(metrics[section.facts["headline"]])
    labels = section.facts["labels"]
    over = f", mean over {', '.join(labels)}" if len(labels) > 1 else ""
    for protocol, described in section.facts["protocols"].items():
        yield inline(f"### {described['id']} in short: {headline}{over}")
        yield _summaries(section, protocol)
        for metric, about in metrics.items():
            if about["in_tables"]:
                yield inline(f"### {described['id']}: {heading(about)}")
                yield from _folded(_scores(section, protocol, metric), heading(about))
    yield (
        f"{MARK} below the floor: a constant prediction does better. **Bold**: best of its column. "
        f"{STAR} significantly better than the best other method."
    )
    yield "### Cost and privileges"
    yield _costs(section)
    yield "### How to read this"
    yield "\n".join(f"- {line}" for line in _explanations(section))
    if deviations := list(_deviations(section)):
        yield "### What each method decides for itself"
        yield from deviations


def _folded(told: str, title: str) -> Iterator[str]:
    """A table; behind its title if it is long."""
    lines = told.count("\n") - 1
    if lines <= LONG:
        yield told
    else:
        yield f"<details><summary>{_escape(title)}: {lines} lines</summary>"
        yield told
        yield "</details>"


def _summaries(section: Section, protocol: str) -> str:
    """A line for each method, the best first, and those without a rank last."""
    names, lines = in_short(section, protocol)
    average = section.facts["protocols"][protocol]["average"]
    header = ["Method", *(average if n == "score" else quantity(n).title for n in names)]
    return _table(
        header,
        [[label, *(cell[1] if cell else "-" for cell in cells)] for label, cells in lines],
    )


def _scores(section: Section, protocol: str, metric: str) -> str:
    """One protocol and metric: a line for each method and label, floors last."""
    facts = section.facts
    labels: Sequence[str] = facts["labels"]
    columns = section.columns(protocol)
    about = facts["metrics"][metric]
    lines = []
    for row, label, line in lines_of(section, protocol, metric):
        below = all(cell and cell["below_floor"] for cell in line)
        name = row.label + (f" {MARK}" if below else "")
        texts = [_cell(cell, about) for cell in line]
        lines.append([name if label == labels[0] or below else "", label, row.seeds, *texts])
    for label in labels:
        floor = number(facts["floor"][metric][label], about)
        lines.append(
            ["*floor*" if label == labels[0] else "", label, "", *[floor for _ in columns]]
        )
    rates = [effective_rate(facts["protocols"][protocol], name) for name, _ in columns]
    lines.append(["*frames missing*", "", "", *map(share, rates)])
    header = ["Method", "Label", "Seeds", *(title for _, title in columns)]
    if len(labels) == 1:
        del header[1]
        lines = [[line[0], *line[2:]] for line in lines]
    return _table(header, lines)


def _cell(cell: Mapping[Any, Any] | None, about: Mapping[str, Any]) -> str:
    if cell is None:  # the result is older than the metric
        return "-"
    text = number(cell["mean"], about)
    if defined(cell["spread"]):
        text += f" ± {number(cell['spread'], about)}"
    if cell["best"]:
        text = f"**{text}**"
    if cell["star"]:
        text += f" {STAR}"
    return text + (f" {MARK}" if cell["below_floor"] else "")


def _costs(section: Section) -> str:
    lines = []
    for row in section.rows:
        first = row.finished[0]
        seconds = sum(m["seconds"]["train"] for m in row.finished) / row.seeds
        size = first["parameters"]
        lines.append(
            [
                row.label,
                f"{size['deployed']:,}",
                f"{size['total']:,}",
                fixed(seconds, 1),
                "; ".join(first["method"].get("privileges", ())) or "none",
            ]
        )
    return _table(
        ["Method", "Parameters to predict", "to train", "Seconds to train a seed", "Privileges"],
        lines,
    )


def _explanations(section: Section) -> Iterator[str]:
    facts = section.facts
    for described in facts["protocols"].values():
        yield inline(
            f"{described['average']} of {described['id']} = {described['average_formula']}."
        )
    for about in facts["metrics"].values():
        if about["in_tables"]:
            better = "higher" if about["higher_is_better"] else "lower"
            yield inline(
                f"{about['title']} ({about['id']}): {about['formula']}; {better} is better."
            )
    told = [
        name
        for name in QUANTITIES
        if name != "score" and name in set(section.summaries["quantity"])
    ]
    if SHAPLEY in {name.partition(":")[0] for name in section.summaries["quantity"]}:
        told.append(f"{SHAPLEY}:m")
    for name in told:
        yield f"{quantity(name).title}: {quantity(name).formula}."
    for word, meaning in reading(section):
        yield f"{word.replace('*', STAR)}: {meaning}"
    for reason, names in untested(section):
        yield f"No rank and no test for {', '.join(map(_escape, names))}: {_escape(reason)}."
    yield "Frames missing: the share of valid frames that is really hidden, mean over modalities."
    yield "The CSV beside this file has every other metric, too."
    yield (
        "Floor: the best that any constant prediction scores on the test split, known only in "
        "hindsight. The method `constant` has to choose its constant on the training split."
    )
    yield (
        "mean ± standard deviation over training seeds, each first averaged over the mask seeds. One "
        "checkpoint per seed, chosen on the validation split, stands for all columns."
    )
    for described in facts["protocols"].values():
        yield inline(
            f"Masks of {described['id']}: {described['mask_seeds']} per condition, "
            f"SHA-256 {described['sha256'][:12]}."
        )
        for condition in described["conditions"]:
            rates = described["effective_rate"][condition["name"]]
            nominal = {m: condition["rate"] if m in condition["observed"] else 1.0 for m in rates}
            if any(abs(rates[m] - nominal[m]) > 0.005 for m in rates):
                real = ", ".join(f"{m} {fixed(rate, 3)}" for m, rate in rates.items())
                yield inline(
                    f"{condition['title']} really hides: {real} (whole frames cannot be split)."
                )
    made = {_made_by(manifest["environment"]) for row in section.rows for manifest in row.finished}
    yield inline(f"Made by {'; '.join(sorted(made))}.")
    for row in section.rows:
        own = row.finished[0]["metrics"]
        for name, about in facts["metrics"].items():
            had = own.get(name, "none of that name")
            if about["in_tables"] and had != about["id"]:
                yield inline(
                    f"{row.label} has no score by {about['id']}: it was made with {had}. Run it again."
                )
        for manifest in row.failed:
            other = manifest["config"] != row.finished[0]["config"]
            when = " after a change of code or versions" if other else ""
            seed, reason = manifest["job"]["seed"], _escape(why(manifest))
            yield f"{_escape(row.label)}, seed {seed}, failed{when}: {reason}"
        if row.superseded:
            yield f"{_escape(row.label)}: {row.superseded} older results, of other code or settings, are left out."


def _deviations(section: Section) -> Iterator[str]:
    """What each method decides for itself, folded away; once for methods that share it."""
    shared: dict[tuple[str, ...], list[Row]] = {}
    for row in section.rows:
        told = row.finished[0]["method"].get("deviations", ())  # old results may not say
        if told:
            shared.setdefault(tuple(told), []).append(row)
    for told, rows in shared.items():
        names = ", ".join(_escape(row.label) for row in rows)
        paper = rows[0].finished[0]["method"].get("paper")
        points = "1 point" if len(told) == 1 else f"{len(told)} points"
        yield f"<details><summary>{names}: {points} that the paper leaves open or states otherwise</summary>"
        if paper:
            yield prose(paper)
        yield "\n".join(f"{number}. {prose(point)}" for number, point in enumerate(told, 1))
        yield "</details>"


def _made_by(environment: Mapping[str, Any]) -> str:
    made = [f"{name} {environment[name]}" for name in ("mmbench", "torch") if name in environment]
    if "commit" in environment:
        altered = " with changes" if environment.get("dirty") else ""
        made.append(f"commit {environment['commit'][:12]}{altered}")
    return ", ".join(made)


def _reasons(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each reason; with the seeds, where a method has several."""
    lines = []
    for row in rows:
        seeds: dict[str, list[str]] = {}
        for manifest in row.failed:
            seeds.setdefault(why(manifest), []).append(str(manifest["job"]["seed"]))
        for reason, own in seeds.items():
            whose = f" (seed {', '.join(own)})" if len(seeds) > 1 else ""
            lines.append([row.label, reason + whose])
    return lines


def _table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    escaped = [[_escape(str(cell)) for cell in line] for line in lines]
    titles = [_escape(name) for name in header]
    return table(titles, escaped, left=("Method", "Label", "Reason", "Privileges"))


def _escape(text: str) -> str:
    """On one line, and neither the end of a cell nor an HTML tag."""
    return inline(text).replace("\\|", "\\\\|").replace("|", "\\|")


@mmbench.hookimpl
def mmbench_register_reporters() -> type[mmbench.Reporter]:
    """Markdown."""
    return Markdown
