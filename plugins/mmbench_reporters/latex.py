r"""The leaderboard for a paper: tables in booktabs, in the layout of HRLF's tables 1 and 2.

A fragment to `\input`. It asks for the package booktabs and for nothing else. How a best score, a spread, a
star or a score below the floor looks is a command of its own, which a paper may define before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import mmbench
from mmbench.jobs import why
from mmbench.leaderboard import Section
from mmbench.tables import SYNTHETIC, Cell, defined, heading, lines, number

PREAMBLE = r"""% \usepackage{booktabs} before \begin{document}, then \input this file.
\providecommand{\mmbest}[1]{\textbf{#1}}
\providecommand{\mmspread}[1]{$_{\pm #1}$}
\providecommand{\mmstar}{$^{*}$}
\providecommand{\mmbelow}{$^{\downarrow}$}"""
KEY = (
    r"Mean\mmspread{\mathrm{spread}} over training seeds; \mmbest{bold}: best of its column; \mmstar: "
    r"significantly better than the best other method; \mmbelow: below the floor, the best that a constant "
    "prediction scores."
)


class Latex(mmbench.Reporter):
    """A table for each protocol and metric, and one of what failed."""

    name = "latex"
    summary = "booktabs tables in the paper's layout, to \\input"
    suffix = ".tex"

    def render(self, leaderboard: mmbench.Leaderboard) -> str:
        """A LaTeX fragment."""
        blocks = [PREAMBLE]
        many = len(leaderboard.sections) > 1
        for section in leaderboard.sections:
            own = section.facts["data"]["sha256"][:12] if many else ""
            for protocol in section.facts["protocols"]:
                for metric, about in section.facts["metrics"].items():
                    if about["in_tables"]:
                        name = "-".join(filter(None, (leaderboard.dataset, own, protocol, metric)))
                        blocks.append(_table(section, leaderboard.dataset, protocol, metric, name))
        failed = [
            (row.label, manifest)
            for rows in (*(s.rows for s in leaderboard.sections), leaderboard.unfinished)
            for row in rows
            for manifest in row.failed
        ]
        if failed:
            blocks.append(_failures(leaderboard, failed))
        return "\n\n".join(blocks) + "\n"


def _table(section: Section, dataset: str, protocol: str, metric: str, name: str) -> str:
    """Methods below each other, each with its labels, as in table 2; one label: as in table 1."""
    facts = section.facts
    described, about, labels = (
        facts["protocols"][protocol],
        facts["metrics"][metric],
        facts["labels"],
    )
    columns = section.columns(protocol)
    several = len(labels) > 1
    body: list[str] = []
    previous = ""
    for row, label, cells in lines(section, protocol, metric):
        first = row.label != previous
        if several and first and previous:
            body.append(r"\midrule")
        model = escape(row.label) if first else ""
        dataset_once = "" if previous else escape(dataset)
        head = [model, escape(label)] if several else [dataset_once, model]
        body.append(_line([*head, *(_cell(cell, about) for cell in cells)]))
        previous = row.label
    body.append(r"\midrule")
    for label in labels:
        floor = number(facts["floor"][metric][label], about)
        word = r"\emph{floor}" if label == labels[0] else ""
        head = [word, escape(label)] if several else ["", word]
        body.append(_line([*head, *[floor] * len(columns)]))
    better = "higher" if about["higher_is_better"] else "lower"
    seeds = sorted({row.seeds for row in section.rows})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    caption = [
        f"{escape(heading(about))} on {escape(dataset)} under {escape(described['id'])}; {better} is better.",
        *([escape(SYNTHETIC)] if facts["data"]["synthetic"] else []),
        f"{escape(described['average'])} = {escape(described['average_formula'])}.",
        KEY.replace("training seeds", f"{count} training seed{'s' * (count != '1')}"),
    ]
    last = len(columns) + 2
    conditions = rf"& & \multicolumn{{{len(columns)}}}{{c}}{{Testing conditions}} \\"
    titles = ["Models", "Labels"] if several else ["Datasets", "Models"]
    return _float(
        " ".join(caption),
        name,
        "ll" + "c" * len(columns),
        [
            conditions,
            rf"\cmidrule(lr){{3-{last}}}",
            _line([*titles, *(escape(title) for _, title in columns)]),
            r"\midrule",
            *body,
        ],
    )


def _cell(cell: Cell | None, about: Mapping[str, Any]) -> str:
    if cell is None:
        return "--"
    text = number(cell["mean"], about)
    if cell["best"]:
        text = rf"\mmbest{{{text}}}"
    if defined(cell["spread"]):
        text += rf"\mmspread{{{number(cell['spread'], about)}}}"
    return text + r"\mmstar" * cell["star"] + r"\mmbelow" * cell["below_floor"]


def _failures(leaderboard: mmbench.Leaderboard, failed: Sequence[tuple[str, Any]]) -> str:
    body = [
        _line([escape(label), str(manifest["job"]["seed"]), escape(why(manifest))])
        for label, manifest in failed
    ]
    caption = f"Runs on {escape(leaderboard.dataset)} that failed."
    if leaderboard.synthetic:
        caption += f" {escape(SYNTHETIC)}"
    header = [_line(["Models", "Seeds", "Reasons"]), r"\midrule"]
    return _float(caption, f"{leaderboard.dataset}-failed", r"llp{0.6\textwidth}", header + body)


def _float(caption: str, name: str, columns: str, body: Sequence[str]) -> str:
    label = re.sub(r"[^A-Za-z0-9]+", "-", name)
    return "\n".join(
        [
            r"\begin{table*}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
        ]
    )


def _line(parts: Sequence[str]) -> str:
    return " & ".join(parts) + r" \\"


SPECIAL = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "{}$&#_%"},
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"{\char96}",
    "±": r"$\pm$",
    "[": "{[}",  # first in a row it would be an argument of the \\ before it, and so would the star
    "*": "{*}",
}


def escape(text: str) -> str:
    """On one line, and as it reads: no command, no ligature, and neither the end of a cell nor of a row."""
    told = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return re.sub(r"([-',])(?=\1)", r"\1{}", "".join(SPECIAL.get(c, c) for c in told))


@mmbench.hookimpl
def mmbench_register_reporters() -> type[mmbench.Reporter]:
    """LaTeX."""
    return Latex
