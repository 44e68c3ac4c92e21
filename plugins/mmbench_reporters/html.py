"""The leaderboard as one HTML page that needs nothing else: no network, and no script to be read.

Python writes every table and draws every curve; `page/page.js` sorts, filters and shows where a cell comes
from, reading nothing but what stands in the page. A policy in the page forbids any other script, style and
every request.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, Template
from markupsafe import Markup, escape

import mmbench
from mmbench.jobs import why
from mmbench.leaderboard import AVERAGE, Row, Section
from mmbench.numbers import fixed, share
from mmbench.summary import effective_rate, quantity
from mmbench.tables import (
    SYNTHETIC,
    Cell,
    defined,
    heading,
    in_short,
    lines,
    metrics,
    number,
    reading,
    untested,
)


class Html(mmbench.Reporter):
    """Tables that sort and filter, curves, and the provenance of every cell."""

    name = "html"
    summary = "one page: sorts, filters, draws curves, tells where a cell comes from"
    suffix = ".html"

    def render(self, leaderboard: mmbench.Leaderboard) -> str:
        """An HTML document; every text in it that is not ours is escaped."""
        style, script, template = _page()
        sections = [_section(s, f"s{n}") for n, s in enumerate(leaderboard.sections)]
        rows = [row for s in leaderboard.sections for row in s.rows]
        facts = [s.facts for s in leaderboard.sections]
        told = template.render(
            board=leaderboard,
            notice=SYNTHETIC if leaderboard.synthetic else "",
            sections=sections,
            headline=facts[0]["headline"] if facts else "",
            choices={
                "protocol": {n: p["id"] for f in facts for n, p in f["protocols"].items()},
                "metric": {t["name"]: t["title"] for s in sections for t in s["metrics"]},
                "label": {n: n for f in facts for n in f["labels"] if len(f["labels"]) > 1},
                "privilege": {p: p for row in rows for p in _privileges(row)},
            },
            failures=[
                (row.label, m["job"]["seed"], why(m))
                for row in (*rows, *leaderboard.unfinished)
                for m in row.failed
            ],
            style=Markup(style),
            script=Markup(script),
            hashes={"style": _sha256(style), "script": _sha256(script)},
        )
        return told + "\n"


@lru_cache(maxsize=1)
def _page() -> tuple[str, str, Template]:
    """The style, the script and the template, compiled once."""
    page = resources.files("mmbench_reporters") / "page"
    style, script, template = (
        (page / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html")
    )
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"prose": _prose, "fixed": fixed, "label": _label}
    return style, script, environment.from_string(template)


def _sha256(text: str) -> str:
    """As a content security policy has it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _prose(text: str) -> Markup:
    """`code` is code, the rest is text."""
    parts = [escape(part) for part in re.split(r"`([^`]*)`", text)]
    parts[1::2] = [Markup("<code>{}</code>").format(part) for part in parts[1::2]]
    return Markup("").join(parts)


def _label(text: str) -> Markup:
    """Where there is no room, it goes on below from its settings."""
    return Markup("<wbr>[").join(escape(part) for part in text.split("["))


def _privileges(row: Row) -> Sequence[str]:
    return row.finished[0]["method"].get("privileges", ()) if row.finished else ()


def _section(section: Section, key: str) -> dict[str, Any]:
    facts = section.facts
    ids = {row.label: f"{key}-{n}" for n, row in enumerate(section.rows)}
    names = metrics(section)
    return {
        "key": key,
        "data": facts["data"],
        "labels": facts["labels"] if len(facts["labels"]) > 1 else [],
        "rows": [_row(row, ids[row.label]) for row in section.rows],
        "protocols": facts["protocols"],
        "headline": heading(facts["metrics"][facts["headline"]]),
        "summaries": [_summary(section, name, ids) for name in facts["protocols"]],
        "metrics": [
            {
                **facts["metrics"][name],
                "name": name,
                "title": heading(facts["metrics"][name]),
                "tables": [_scores(section, p, name, ids) for p in facts["protocols"]],
            }
            for name in names
        ],
        "reading": list(reading(section)),
        "untested": untested(section),
        "deviations": list(_deviations(section)),
    }


def _row(row: Row, key: str) -> dict[str, Any]:
    """What is the same for all cells of a row; the page has it once, at the row of the costs."""
    first = row.finished[0]
    commits = {
        m["environment"]["commit"][:12] + (" with changes" if m["environment"].get("dirty") else "")
        for m in row.finished
        if "commit" in m["environment"]
    }
    return {
        "key": key,
        "label": row.label,
        "track": "competing" if row.competes else "reference",
        "ceiling": row.ceiling,
        "seeds": ", ".join(str(m["job"]["seed"]) for m in row.finished),
        "config": first["config"],
        "commit": "; ".join(sorted(commits)) or "not known",
        "versions": ", ".join(
            f"{name} {first['environment'][name]}"
            for name in ("mmbench", "torch")
            if name in first["environment"]
        ),
        "deployed": first["parameters"]["deployed"],
        "total": first["parameters"]["total"],
        "seconds": sum(m["seconds"]["train"] for m in row.finished) / row.seeds,
        "privileges": _privileges(row),
        "untested": row.untested,
        "superseded": row.superseded,
        "about": first["method"].get("summary", ""),
    }


def _summary(section: Section, protocol: str, ids: Mapping[str, str]) -> dict[str, Any]:
    facts = section.facts
    about, average = facts["metrics"][facts["headline"]], facts["protocols"][protocol]["average"]
    names, told = in_short(section, protocol)
    return {
        "protocol": protocol,
        "columns": [
            {
                "title": average if name == "score" else quantity(name).title,
                "formula": quantity(name).formula,
                "first": "ascending" if _low_first(name, about) else "descending",
            }
            for name in names
        ],
        "lines": [{"row": ids[label], "label": label, "cells": cells} for label, cells in told],
    }


def _low_first(name: str, about: Mapping[str, Any]) -> bool:
    """Whether small is good: of a rank, a count of what is bad, or an error."""
    kind = quantity(name)
    return kind.whole or not (kind.share or about["higher_is_better"])


def _scores(section: Section, protocol: str, metric: str, ids: Mapping[str, str]) -> dict[str, Any]:
    facts = section.facts
    described, about, labels = (
        facts["protocols"][protocol],
        facts["metrics"][metric],
        facts["labels"],
    )
    columns = section.columns(protocol)
    every = list(lines(section, protocol, metric))
    tops = {
        (label, cell["column"]): number(cell["mean"], about)
        for row, label, cells in every
        if row.ceiling
        for cell in cells
        if cell
    }
    tests = _tests(section, protocol, about) if metric == facts["headline"] else {}

    def told(cell: Cell | None) -> dict[str, Any] | None:
        if cell is None:
            return None
        place = cell["label"], cell["column"]
        return {
            **cell,
            "text": number(cell["mean"], about),
            "over_seeds": number(cell["spread"], about) if defined(cell["spread"]) else "",
            "over_masks": number(cell["mask_spread"], about)
            if defined(cell["mask_spread"])
            else "",
            "ceiling": tops.get(place, ""),
            "test": tests.get((*place, cell["method"]), ""),
        }

    return {
        "key": f"{protocol}-{metric}",
        "protocol": protocol,
        "columns": [
            {"title": title, "hidden": share(effective_rate(described, name))}
            for name, title in columns
        ],
        "lines": [
            {
                "row": ids[row.label],
                "method": row.label,
                "label": label,
                "floor": number(facts["floor"][metric][label], about),
                "cells": list(map(told, cells)),
            }
            for row, label, cells in every
        ],
        "floors": [(label, number(facts["floor"][metric][label], about)) for label in labels],
        "figures": list(_figures(section, protocol, metric, ids)),
    }


def _tests(
    section: Section, protocol: str, about: Mapping[str, Any]
) -> dict[tuple[str, str, str], str]:
    """What the test against its closest rival found, by label, column and method."""
    closest: dict[tuple[str, str, str], tuple[float, str]] = {}
    for test in section.tests[section.tests["protocol"] == protocol].to_dict("records"):
        sides = (test["method"], test["other"], 1), (test["other"], test["method"], -1)
        for own, other, sign in sides:
            place = test["label"], test["column"], own
            text = (
                f"{number(sign * test['difference'], about, '+')} ± {number(test['error'], about)} (standard error) "
                f"against {other}; p = {test['p_adjusted']:.2g} after Holm, {test['seeds']} seeds"
            )
            closest[place] = min(
                closest.get(place, (math.inf, "")), (abs(test["difference"]), text)
            )
    return {place: text for place, (_, text) in closest.items()}


def _deviations(section: Section) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Names of the methods that share them, their paper, and what they decide for themselves."""
    shared: dict[tuple[str, ...], list[Row]] = {}
    for row in section.rows:
        told = row.finished[0]["method"].get("deviations", ())
        if told:
            shared.setdefault(tuple(told), []).append(row)
    for told, rows in shared.items():
        paper = rows[0].finished[0]["method"].get("paper", "")
        yield ", ".join(row.label for row in rows), paper, told


# -- Curves ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """Where a drawing's axes lie, in its own units."""

    left: float = 44
    right: float = 428
    top: float = 10
    bottom: float = 244
    low: float = 0
    high: float = 1
    """Scores at the bottom and the top."""
    first: float = 0
    last: float = 1
    """Rates at the left and the right."""

    def x(self, rate: float) -> float:
        """Of a rate."""
        share = (rate - self.first) / (self.last - self.first)
        return round(self.left + share * (self.right - self.left), 1)

    def y(self, score: float) -> float:
        """Of a score."""
        share = (score - self.low) / (self.high - self.low)
        return round(self.bottom - share * (self.bottom - self.top), 1)


def _figures(
    section: Section, protocol: str, metric: str, ids: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Scores over the rate, for each label, if the protocol has nothing but rates."""
    facts = section.facts
    about, conditions = facts["metrics"][metric], facts["protocols"][protocol]["conditions"]
    rates = {c["name"]: c["rate"] for c in conditions}
    if len(set(rates.values())) < len(rates) or len({tuple(c["observed"]) for c in conditions}) > 1:
        return
    if len(rates) < 2:
        return
    every = list(lines(section, protocol, metric))
    for label in facts["labels"]:
        curves = []
        for row, its, cells in every:
            points = [
                (rates[c["column"]], c["mean"], c["spread"] if defined(c["spread"]) else 0.0)
                for c in cells
                if c and c["column"] != AVERAGE
            ]
            if its == label and points:
                curves.append((row, sorted(points)))
        floor = facts["floor"][metric][label]
        every_score = [
            floor,
            *(v for _, points in curves for _, mean, sd in points for v in (mean - sd, mean + sd)),
        ]
        ticks = _ticks(min(every_score), max(every_score))
        frame = Frame(
            low=ticks[0], high=ticks[-1], first=min(rates.values()), last=max(rates.values())
        )
        digits = 0 if about["unit"] == "%" and ticks[1] - ticks[0] >= 0.01 else 2
        factor = 100 if about["unit"] == "%" else 1
        yield {
            "label": label,
            "frame": frame,
            "floor": frame.y(floor),
            "x_ticks": [(frame.x(rate), f"{rate:g}") for rate in rates.values()],
            "y_ticks": [(frame.y(v), fixed(factor * v, digits)) for v in ticks],
            "curves": [
                {
                    "row": ids[row.label],
                    "method": row.label,
                    "kind": "ceiling" if row.ceiling else f"c{n % 8} d{n // 8 % 3}",
                    "line": _path((frame.x(p), frame.y(mean)) for p, mean, _ in points),
                    "band": _path(
                        (
                            *((frame.x(p), frame.y(mean + sd)) for p, mean, sd in points),
                            *((frame.x(p), frame.y(mean - sd)) for p, mean, sd in reversed(points)),
                        )
                    )
                    if any(sd for _, _, sd in points)
                    else "",
                }
                for n, (row, points) in enumerate(curves)
            ],
        }


def _path(points: Iterator[tuple[float, float]] | Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers whose ends hold both."""
    rough = max(high - low, 1e-3) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * n for n in range(first, max(last, first + 1) + 1)]


@mmbench.hookimpl
def mmbench_register_reporters() -> type[mmbench.Reporter]:
    """HTML."""
    return Html
