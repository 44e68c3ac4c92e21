"""What `mmbench compare` prints: differences cell by cell and what may cause them, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmbench.numbers import fixed, score

if TYPE_CHECKING:
    import pandas as pd

    from mmbench.compare import Pair
    from mmbench.sides import Side

    Metrics = Mapping[str, Any]

BELOW = "↓"


def report(pair: Pair, left: Side, right: Side, metrics: Metrics) -> Iterator[str]:
    """One block after the other, of metrics by name."""
    both_ours = not (left.reported or right.reported)
    titles = [
        side if both_ours else "Reported" if which.reported else "Measured"
        for side, which in (("Left", left), ("Right", right))
    ]
    yield f"# {titles[0]}: {pair.left} of {left.origin}. {titles[1]}: {pair.right} of {right.origin}"
    yield from _synthetic(pair)
    yield from _below(pair, metrics)
    yield _summary(pair, titles)
    yield from _tested(pair, titles, metrics)
    by = [*(["table"] if "table" in pair.cells else []), "method", "metric", "protocol"]
    for _, group in pair.cells.groupby(by, sort=False):
        yield from _section(group, titles, metrics)
    yield from _orders(pair, titles, metrics)
    yield f"{BELOW} below the floor: a constant prediction does better.{_star(pair, left, right)}"
    yield from _list("Regressions", _regressions(pair, metrics))
    yield from _list("Not tested", _untested(pair))
    yield from _list("What one side lacks", _lacking(pair, titles))
    yield from _list("Other settings", _settings(pair, titles))
    yield from _list("Why they may differ", _why(pair, left, right, titles))


def _synthetic(pair: Pair) -> Iterator[str]:
    """The notice that stands above everything else."""
    names = (pair.left, pair.right)
    made_up = [n for n, cells in zip(names, pair.sides, strict=True) if cells["synthetic"].any()]
    if pair.mixed:
        (twin,) = made_up
        (real,) = (cells for cells in pair.sides if not cells["synthetic"].any())
        yield (
            f"> **Synthetic data.** {twin} is a made-up twin of {real['dataset'].iloc[0]}. What is scored "
            "on it says nothing about the numbers of real data, nor do those about it: no difference "
            "below confirms or refutes anything."
        )
    elif made_up:
        yield "> **Synthetic data** on both sides: these scores say nothing about real data."


def _below(pair: Pair, metrics: Metrics) -> Iterator[str]:
    """How many of the cells that a paper reports lie below the floor, by method and label."""
    from mmbench.compare import SLACK
    from mmbench.markdown import table

    told_by = [cells for cells in pair.sides if "incomplete" in cells]
    for number, part in (group for c in told_by for group in c[c["incomplete"]].groupby("table")):
        floors = part.drop_duplicates(["metric", "label"])
        told = ", ".join(
            f"{row['label']} {_number(row['floor'], metrics.get(row['metric']))}"
            for row in floors.to_dict("records")
        )
        close = part["below"] & (part["floor"] - part["mean"] <= part["half"] + SLACK)
        rounded = f", {close.sum()} of them by less than the paper rounds" if close.any() else ""
        yield (
            f"**{part['below'].sum()} of the {len(part)} cells** that table {number} reports with a modality "
            f"missing lie below the floor, the best score of a constant prediction on the data that was measured ({told}){rounded}:"
        )
        labels = list(part["label"].unique())
        lines = []
        for (name, method), own in part.groupby(["name", "method"], sort=False):
            counts = own.groupby("label")["below"].sum()
            total = f"{own['below'].sum()} of {len(own)}"
            lines.append(
                [name, method, *([counts[n] for n in labels] if labels[1:] else []), total]
            )
        header = ["Method", "Here", *(labels if labels[1:] else []), "Below"]
        yield table(header, lines, left=header[:2])


def _summary(pair: Pair, titles: Sequence[str]) -> str:
    from mmbench.compare import SLACK, SPREADS

    cells = pair.cells
    better, worse = (cells["gain"] > SLACK).sum(), (cells["gain"] < -SLACK).sum()
    told = (
        f"{len(cells)} cells are on both sides. {titles[0]} is better in {better}, equal in "
        f"{len(cells) - better - worse}, worse in {worse}"
    )
    regressed = cells[cells["regressed"]]
    if proven := regressed["tested"].sum():
        told += f", {proven} of them significantly after Holm over all tests (**bold**)"
    if far := len(regressed) - proven:
        told += f", {far} of them by more than {SPREADS} standard deviations over seeds (**bold**)"
    return told + "."


def _tested(pair: Pair, titles: Sequence[str], metrics: Metrics) -> Iterator[str]:
    """The summary column of each row that was tested, for all labels."""
    from mmbench.markdown import table
    from mmbench.summary import ALL

    if pair.tests.empty:
        return
    averages = {  # of a protocol, by what the cells call it
        (test["protocol"], test["method"], test["metric"], test["label"]): test
        for test in pair.tests.to_dict("records")
    }  # the summary is the last of its columns
    labels = set(pair.tests["label"])
    lines = []
    for (protocol, method, metric, label), test in averages.items():
        if label == ALL or len(labels) == 1:
            about = metrics.get(metric)
            name = about.title if about is not None else metric
            error, apart = (_number(test[k], about) for k in ("error", "difference"))
            if float(apart):
                apart = _number(test["difference"], about, "+")
            numbers = [apart, error, *(_p(test[k]) for k in ("p_adjusted", "p_overall"))]
            lines.append([method, f"{name}, {protocol} {test['column']}", test["seeds"], *numbers])
    over = "" if len(labels) == 1 else ", mean over labels"
    yield f"## Tests{over}: {titles[0].lower()} less {titles[1].lower()}"
    header = ["Method", "Column", "Seeds", "Difference", "Error", "p, columns", "p, all"]
    yield table(header, lines, left=header[:2])
    yield (
        "Paired by sample, mask and training seed; the error is from seeds and from drawing the test samples "
        "anew. p after Holm over the columns of the protocol, and over all that is tested below and here."
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else fixed(value, 3)


def _star(pair: Pair, left: Side, right: Side) -> str:
    from mmbench.statistics import ALPHA

    if left.reported or right.reported:
        return " \\* called significant by the paper."
    if pair.tests.empty:
        return ""
    return (
        f" \\* a significant difference: p < {ALPHA} after Holm over the columns of its protocol."
    )


def _section(group: pd.DataFrame, titles: Sequence[str], metrics: Metrics) -> Iterator[str]:
    """One method's cells of one metric and protocol, below each other."""
    from mmbench.compare import SLACK
    from mmbench.markdown import table

    first = group.iloc[0]
    about = metrics.get(first["metric"])
    unit = f" ({about.unit})" if about is not None and about.unit else ""
    title = f"{about.title if about is not None else first['metric']}{unit}"
    paper = f", table {first['table']} ({first['name']})" if "table" in group else ""
    yield f"## {first['method']}: {title}, {first['protocol']}{paper}"
    if (group["difference"].abs() <= SLACK).all():
        yield f"Equal in all {len(group)} cells."
        return
    lines = []
    for _, own in group.groupby("label", sort=False):
        for number, cell in enumerate(own.to_dict("records")):
            difference = _number(cell["difference"], about, "+")
            floors = [_number(cell[f"floor_{side}"], about) for side in ("left", "right")]
            lines.append(
                [
                    "" if number else cell["label"],
                    cell["column"],
                    *(_cell(cell, side, about) for side in ("left", "right")),
                    (f"**{difference}**" if cell["regressed"] else difference)
                    + " \\*" * bool(cell["significant"]),
                    " / ".join(dict.fromkeys(floors)),
                ]
            )
    header = ["Label", "Column", *titles, "Difference", "Floor"]
    if group["label"].nunique() == 1:
        header, lines = header[1:], [line[1:] for line in lines]
    yield table(header, lines, left=("Label", "Column"))


def _orders(pair: Pair, titles: Sequence[str], metrics: Metrics) -> Iterator[str]:
    """How far the methods stand in the order that a paper reports, table by table."""
    from mmbench.markdown import table
    from mmbench.orders import orders

    if "table" not in pair.cells:
        return
    for number, cells in pair.cells.groupby("table", sort=False):
        found = list(orders(cells))
        if not found:
            continue
        yield f"## Order of the methods, table {number}"
        lines, names = [], []
        for order in found:
            about = metrics.get(order.metric)
            metric = about.title if about is not None else order.metric
            column = f"{metric}, {order.protocol} {order.column}"
            lines.append([column, fixed(order.tau, 2), _p(order.p)])
            told = zip(titles, (order.left, order.right), strict=True)
            best = "; ".join(f"{title.lower()} {', '.join(own)}" for title, own in told)
            names.append(f"- {column}: {best}")
        yield table(["Column", "Tau", "p"], lines, left=["Column"])
        yield (
            "Kendall's tau: 1 the same order, 0 nothing in common, -1 the reverse; p of an order by chance, for "
            "each column by itself. Best first, by the mean over labels:"
        )
        yield "\n".join(names)


def _cell(cell: Mapping[Any, Any], side: str, about: Any) -> str:
    if cell["printed_by"] == side:
        text = str(cell["printed"])
    else:
        text = _number(cell[f"mean_{side}"], about)
        if cell[f"spread_{side}"] == cell[f"spread_{side}"]:  # NaN where there is one seed
            text += f" ± {_number(cell[f'spread_{side}'], about)}"
    return text + (f" {BELOW}" if cell[f"below_{side}"] else "")


def _number(value: float, about: Any, sign: str = "") -> str:
    return score(value, "" if about is None else about.unit, sign)


def _list(heading: str, lines: Iterator[str]) -> Iterator[str]:
    if told := list(lines):
        yield f"## {heading}"
        yield "\n".join(f"- {line}" for line in told)


def _regressions(pair: Pair, metrics: Metrics) -> Iterator[str]:
    from mmbench.summary import ALL

    lost = pair.lost
    for test in lost[lost["label"] == ALL].to_dict("records"):
        about = metrics.get(test["metric"])
        yield f"{_place(test)}: {_number(test['difference'], about, '+')}"
    for cell in pair.cells[pair.cells["regressed"]].to_dict("records"):
        about = metrics.get(cell["metric"])
        numbers = (_number(cell[f"mean_{side}"], about) for side in ("left", "right"))
        yield f"{_place(cell)}: {' against '.join(numbers)}"


def _place(cell: Mapping[Any, Any]) -> str:
    return "{method}, {metric} of {label}, {protocol} {column}".format(**cell)


def _untested(pair: Pair) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for method, why in pair.untested.items():
        reasons.setdefault(why, []).append(method)
    for why, methods in reasons.items():
        yield f"{', '.join(methods)}: {why}."


def _settings(pair: Pair, titles: Sequence[str]) -> Iterator[str]:
    from mmbench.compare import BESIDE

    for mine, theirs in pair.settings.values():
        yield f"{titles[0].lower()} {', '.join(mine)}; {titles[1].lower()} {', '.join(theirs)}"
    if pair.settings and not pair.cells["method"].str.contains(BESIDE, regex=False).any():
        yield "Rows are compared if their settings are the same; `--other-settings` compares these, too."


def _lacking(pair: Pair, titles: Sequence[str]) -> Iterator[str]:
    for title, own in zip(titles, pair.only, strict=True):
        if own:
            told = "; ".join(f"{what} {', '.join(names)}" for what, names in own.items())
            yield f"Only {title.lower()}: {told}."


def _why(pair: Pair, left: Side, right: Side, titles: Sequence[str]) -> Iterator[str]:
    every = pair.cells["method"].nunique()
    for reason in pair.reasons:
        whom = "" if len(reason.methods) == every else f" ({', '.join(reason.methods)})"
        yield (
            f"{reason.what}: {titles[0].lower()} {reason.left}, {titles[1].lower()} {reason.right}{whom}"
        )
    if left.reported or right.reported:
        yield (
            "The paper tells no spread, hash, version or seed. What stands for its F1 is said in "
            "`leaderboards/paper/README.md`; where a method departs from its own paper, by "
            "`mmbench list methods --long`."
        )
    elif not pair.reasons:
        yield "Nothing that both sides tell differs. Of two stores, settings, code and versions are compared."
