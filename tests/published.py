"""The published leaderboards: their index, the figures that their JSON draws, the rates of their results.

As a script, `python -m tests.published`, it writes all three anew; tests/test_published.py sees that nothing
else stands there.
"""

from contextlib import suppress
from pathlib import Path

import matplotlib as mpl

from mmbench import board, figures, plan
from mmbench.leaderboard import Leaderboard, Row
from mmbench.markdown import table

FOLDER = Path(__file__).parent.parent / "leaderboards"
INDEX = FOLDER / "README.md"
FIGURES = FOLDER / "figures"
RATES = FOLDER.parent / "mmbench" / plan.RATES
BEGIN, END = "<!-- index -->\n", "<!-- end of index -->\n"


def boards() -> list[Leaderboard]:
    return [board.read(path) for path in sorted(FOLDER.glob("*.json"))]


def index(every: list[Leaderboard]) -> str:
    """What there is, as the README lists it."""
    lines = []
    for each in every:
        rows = each.sections[0].rows
        links = ", ".join(f"[{form}]({each.dataset}.{form})" for form in ("md", "html", "csv"))
        for seeds in sorted({row.seeds for row in rows}, reverse=True):
            own = [row for row in rows if row.seeds == seeds]
            lines.append(
                [
                    each.dataset,
                    links,
                    ", ".join(row.label for row in own),
                    seeds,
                    ", ".join(sorted(set(map(commit, own)))),
                ]
            )
    header = ["Board", "Files", "Rows", "Seeds", "Results by commit"]
    return f"{table(header, lines, left=header)}\n\nFigures: matplotlib {mpl.__version__}.\n"


def commit(row: Row) -> str:
    """Of the code that a row's results were made by."""
    environment = row.finished[0].get("environment", {}) if row.finished else {}
    return str(environment.get("commit", "?"))[:7] + " (altered)" * bool(environment.get("dirty"))


def told() -> str:
    """The index as it stands."""
    return INDEX.read_text().partition(BEGIN)[2].partition(END)[0]


def rates(every: list[Leaderboard]) -> str:
    """What `mmbench run --dry-run` goes by where nothing was run yet."""
    return plan.to_json(rate for each in every for rate in plan.rates_of(each))


def draw(folder: Path, every: list[Leaderboard]) -> list[Path]:
    """Every figure that a leaderboard has without its store: one of too few seeds has no tests to show."""
    drawn = []
    for each in every:
        for kind in figures.KINDS:
            with suppress(figures.Undrawable):
                figure = figures.draw(kind, each)
                drawn.append(figures.write(figure, folder / f"{each.dataset}-{kind}.svg"))
    return drawn


def main() -> None:
    every = boards()
    before, _, rest = INDEX.read_text().partition(BEGIN)
    INDEX.write_text(before + BEGIN + index(every) + END + rest.partition(END)[2])
    RATES.write_text(rates(every))
    for path in draw(FIGURES, every):
        print(f"wrote {path.relative_to(FOLDER.parent)}")  # noqa: T201


if __name__ == "__main__":
    main()
