"""Writes every file of this folder that comes from results: `tox run -e publish -- [STORE]`.

Of each synthetic data set in STORE its JSON, and from each JSON that is here, of the store or older, the
tables, the figures, the index in README.md and the rates that `mmbench run --dry-run` goes by. The points of
an embedding are not made here, but drawn. A test does the same and compares every byte.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from mmbench import board as boards
from mmbench import figures, plan
from mmbench.errors import MmbenchError, UsageError
from mmbench.figures import embedding
from mmbench.leaderboard import Leaderboard, Row
from mmbench.markdown import table
from mmbench.registry import discover
from mmbench.store import Store

HERE = Path(__file__).parent
RATES = HERE.parent / "mmbench" / plan.RATES
START, END = "<!-- boards, written by publish.py -->\n", "<!-- end of boards -->\n"


def take(store: Store, folder: Path) -> Iterator[Path]:
    """Writes the JSON of each synthetic data set of a store; real data's tables are not for this folder."""
    registry = discover()
    for dataset in store.datasets():
        if registry.find("dataset", dataset).synthetic:
            path = folder / f"{dataset}{boards.SUFFIX}"
            board = Leaderboard.from_store(store, dataset, registry)
            yield figures.put(boards.write(board).encode(), path)


def rendered(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file that the folder's JSON files give, and what it holds."""
    published = [boards.read(path) for path in sorted(folder.glob(f"*{boards.SUFFIX}"))]
    parts = []
    for board in published:
        for found in discover().classes["reporter"].values():
            reporter = found.cls()
            yield folder / f"{board.dataset}{reporter.suffix}", reporter.render(board).encode()
        parts.append(f"## {board.dataset}\n\n{_commands(board)}")
        for kind in figures.KINDS:
            try:
                figure = figures.draw(kind, board)
            except figures.Undrawable:
                continue
            name = f"figures/{board.dataset}-{kind}.svg"
            parts.append(f"![{kind.replace('-', ' ')} of {board.dataset}]({name})")
            yield folder / name, figures.encode(figure, "svg")
        points = folder / f"figures/{board.dataset}-{figures.EMBEDDING}.json"
        if points.is_file():
            shown = embedding.read(points)
            parts.append(_embedding(shown, f"figures/{points.name}"))
            yield points.with_suffix(".svg"), figures.encode(embedding.embedding(shown), "svg")
    before, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    told = "\n\n".join([_index(published), *parts])
    yield folder / "README.md", f"{before}{START}{told}\n{END}{after}".encode()


def rates(folder: Path) -> bytes:
    """What `mmbench run --dry-run` goes by where nothing was run yet."""
    published = [boards.read(path) for path in sorted(folder.glob(f"*{boards.SUFFIX}"))]
    return plan.to_json(rate for board in published for rate in plan.rates_of(board)).encode()


def _index(published: list[Leaderboard]) -> str:
    suffixes = sorted(found.cls.suffix for found in discover().classes["reporter"].values())
    lines = []
    for board in published:
        rows = _rows(board)
        few, many = (f((r.seeds for r in rows), default=0) for f in (min, max))
        lines.append(
            [
                f"[{board.dataset}](#{board.dataset})",
                str(len(rows)) + (f", {n} failed" if (n := len(board.unfinished)) else ""),
                str(many) if few == many else f"{few} to {many}",
                ", ".join(_commits(rows)) or "not known",
                " to ".join(dict.fromkeys((*_dates(rows)[:1], *_dates(rows)[-1:]))),
                " ".join(f"[{s[1:]}]({board.dataset}{s})" for s in suffixes),
            ]
        )
    header = ["Leaderboard", "Rows", "Seeds", "Commit", "Made on", "Files"]
    return table(header, lines, left=header)


def _commands(board: Leaderboard) -> str:
    """What gives a leaderboard's rows, once for all rows of the same settings and as many seeds."""
    alike: dict[tuple[int, str], list[str]] = {}
    for row in _rows(board):
        job = row.finished[0]["job"]
        changed = "".join(f" --set {job['method']}.{k}={v}" for k, v in job["changed"].items())
        alike.setdefault((row.seeds, changed), []).append(job["method"])
    return _shell(
        f"mmbench run --method {','.join(methods)} --dataset {board.dataset} --seeds {seeds}{changed}"
        for (seeds, changed), methods in alike.items()
    )


def _embedding(shown: embedding.Embedding, points: str) -> str:
    methods = ",".join(each.method for each in shown.panels)
    commits = ", ".join(sorted({each.commit[:12] for each in shown.panels if each.commit}))
    drawn = points.replace(".json", ".svg")
    return "\n\n".join(
        [
            f"![embedding of {shown.dataset}]({drawn})",
            f"The [points]({points}) are of one more run, commit {commits or 'not known'}, for no other keeps what "
            "a method makes of a sample:",
            _shell(
                [
                    f"mmbench run --method {methods} --dataset {shown.dataset} --seeds 1 --embeddings --store more",
                    f"mmbench figures {shown.dataset} --kind embedding --method {methods} --store more --format svg",
                ]
            ),
        ]
    )


def _shell(commands: Iterable[str]) -> str:
    return "\n".join(["```sh", *commands, "```"])


def _rows(board: Leaderboard) -> list[Row]:
    return [row for section in board.sections for row in section.rows]


def _commits(rows: list[Row]) -> list[str]:
    made = [m["environment"] for row in rows for m in row.finished if "commit" in m["environment"]]
    return sorted({e["commit"][:12] + " with changes" * bool(e.get("dirty")) for e in made})


def _dates(rows: list[Row]) -> list[str]:
    return sorted(m["finished"][:10] for row in rows for m in row.finished)


def main(arguments: list[str]) -> None:
    """One argument at most: a store."""
    if len(arguments) > 1:
        raise UsageError("expected one store, or nothing to render the JSON files that are here")
    for name in arguments:
        if not Path(name).is_dir():
            raise UsageError(f"{name}: there is no such folder; expected a store")
        for path in take(Store(Path(name)), HERE):
            click.echo(f"wrote {path}")
    for path, content in (*rendered(HERE), (RATES, rates(HERE))):
        if not path.is_file() or path.read_bytes() != content:
            click.echo(f"wrote {figures.put(content, path)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except MmbenchError as error:
        sys.exit(f"publish: {error}")
