"""Cards: data sets that a person describes in a few lines of YAML beside a file of data, without code.

file: mine.npz                             # beside the card; any format that an importer reads
task: {kind: regression, low: -3, high: 3}
summary: what it is                        # optional
schedule: {learning_rate: 1e-3, epochs: 30}  # optional; any field of `mmbench.Schedule`

The other tasks: {kind: multi-binary, labels: [happy, sad]} and {kind: multi-class, classes: [a, b, c]}.
On import, the card is kept in the cache beside the data, and describes it from then on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from mmbench import datafile
from mmbench.data import Dataset, Schedule
from mmbench.errors import DataError, UsageError
from mmbench.paths import cache_dir
from mmbench.registry import Registry, unknown
from mmbench.tasks import TASKS, Task, task_from_dict

SUFFIXES = (".yaml", ".yml")
_LARGEST = 64 * 2**10
"""Bytes; a card has a few hundred."""
_DEEPEST = 4
"""A share of `schedule.input_dropout` lies three deep."""
_NAME = re.compile(r"(?!all$)[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Card:
    """What a card says."""

    path: Path
    text: str
    file: str
    """As it is written there; `data_file` checks it."""
    task: Task
    summary: str
    schedule: Schedule

    def dataset(self, name: str) -> type[Dataset]:
        """The data set it describes; DataError if it cannot be called so."""
        if not _NAME.fullmatch(name):
            raise DataError(
                f"data set {name!r}: expected a name of small letters, digits, - and _, e.g. my-data"
            )
        described = {
            "name": name,
            "summary": self.summary,
            "task": self.task,
            "schedule": self.schedule,
            "from_card": True,
            "__doc__": self.summary,
        }
        return type("CardDataset", (Dataset,), described)

    def data_file(self) -> Path:
        """The file of data, which lies in the card's folder or below; DataError if it does not."""
        parts = PurePosixPath(self.file).parts
        windows = PureWindowsPath(self.file)  # knows the separators and roots of both
        if windows.anchor or ".." in windows.parts:
            raise _fail(self.path, "file", f"{self.file!r} is not below the card's folder")
        path = self.path.parent
        for part in parts:
            path /= part
            if path.is_symlink():
                raise _fail(self.path, "file", f"{self.file!r} leads over a symbolic link")
        if not path.is_file():
            raise _fail(self.path, "file", f"there is no file {self.file!r} beside the card")
        return path


def path_of(name: str) -> Path:
    """Where the card of a data set is kept."""
    return cache_dir() / "datasets" / f"{name}.yaml"


def kept() -> list[Path]:
    """Every card in the cache."""
    return sorted((cache_dir() / "datasets").glob("*.yaml"))


def check_free(name: str, registry: Registry) -> None:
    """UsageError if a data set that no card describes is called so."""
    found = registry.classes["dataset"].get(name)
    if found is not None and not found.cls.from_card:
        raise UsageError(
            f"data set {name!r} is already registered by {found.source}; choose another name, or "
            f"import the file itself as {name}: mmbench data import {name} FILE"
        )


def keep(card: Card, name: str) -> None:
    """Keeps a card in the cache, whole or not at all; DataError if that cannot be written."""
    path = path_of(name)
    try:
        with datafile.replacing(path) as temporary:
            temporary.write_bytes(card.text.encode())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def read(path: Path) -> Card:
    """Reads a card; DataError, naming the key, for anything that it should not say."""
    text, content = _load(path)
    content = _mapping(path, "the card", content, ("file", "task", "summary", "schedule"))
    for key in ("file", "task"):
        if key not in content:
            raise _fail(path, key, "missing; a card says file and task")
    for key in ("file", "summary"):
        given = content.get(key, "data")
        if not isinstance(given, str) or not given.strip() or not given.isprintable():
            raise _fail(path, key, f"expected a line of text, got {_shown(given)}")
    return Card(
        path=path,
        text=text,
        file=content["file"],
        task=_task(path, content["task"]),
        summary=content.get("summary", f"one's own, {content['file']}"),
        schedule=_schedule(path, content.get("schedule", {})),
    )


def _load(path: Path) -> tuple[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(content) > _LARGEST:
        raise DataError(f"{path}: expected a card of a few lines, got more than {_LARGEST} bytes")
    try:
        text = content.decode("utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):  # nested, they say more than any memory holds
                raise DataError(f"{path}: has an alias (*{event.anchor}); write it out")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:  # the time to read it grows with the square
                raise DataError(f"{path}: nested deeper than a card is")
        return text, yaml.safe_load(text)
    except DataError:
        raise
    except Exception as error:  # yaml raises ValueError and RecursionError, too
        what = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not YAML ({what})") from error


def _task(path: Path, given: Any) -> Task:
    if not isinstance(given, dict) or given.get("kind") not in tuple(TASKS):
        kind = given.get("kind") if isinstance(given, dict) else given
        raise _fail(path, "task", f"{unknown('kind', _shown(kind), TASKS)}; e.g. kind: regression")
    needed = [f for f in fields(TASKS[given["kind"]]) if f.default is MISSING]  # type: ignore[arg-type]
    names = [field.name for field in needed]
    given = _mapping(path, "task", given, ("kind", *names))
    if missing := [name for name in names if name not in given]:
        raise _fail(path, "task", f"{given['kind']} needs {', '.join(missing)}")
    values: dict[str, Any] = {
        field.name: _number(path, f"task, {field.name}", given[field.name], -math.inf)
        if field.type == "float"
        else _labels(path, f"task, {field.name}", given[field.name])
        for field in needed
    }
    if "low" in values and not values["low"] < values["high"]:
        raise _fail(path, "task", f"low ({values['low']:g}) must be below high")
    if len(values.get("classes", "ab")) < 2:
        raise _fail(path, "task, classes", "expected two at least")
    return task_from_dict({"kind": given["kind"], **values})


def _labels(path: Path, where: str, given: Any) -> tuple[str, ...]:
    fit = isinstance(given, list) and given and all(isinstance(x, str) and x for x in given)
    if not fit or len(set(given)) != len(given) or not "".join(given).isprintable():
        raise _fail(
            path,
            where,
            f"expected different names, e.g. [sad, happy], got {_shown(given)}; YAML takes yes, no "
            'and numbers for something else than text: write "yes"',
        )
    return tuple(given)


def _schedule(path: Path, given: Any) -> Schedule:
    known = {field.name: field for field in fields(Schedule)}
    given = _mapping(path, "schedule", given, known)
    return Schedule(
        **{key: _value(path, f"schedule, {key}", known[key], x) for key, x in given.items()}
    )


def _value(path: Path, where: str, field: Field[Any], given: Any) -> Any:
    """One field of a schedule: a count, a positive number or a share, or shares by modality."""
    if field.type == "int":
        if type(given) is not int or not 1 <= given < 2**31:
            raise _fail(path, where, f"expected a whole number from 1, got {_shown(given)}")
        return given
    most = 1.0 if "dropout" in field.name else math.inf
    if field.type == "float":
        return _number(path, where, given, 0.0, most, least_too=most == 1.0)
    shares = _mapping(path, where, given, None)
    return {m: _number(path, f"{where}, {m}", x, 0.0, most, True) for m, x in shares.items()}


def _number(
    path: Path,
    where: str,
    given: Any,
    least: float,
    most: float = math.inf,
    least_too: bool = False,
) -> float:
    """A number between `least` and `most`, neither of which it may be (but `least`, if so said)."""
    try:
        x = float(given) if type(given) in (int, float, str) else math.nan  # 1e-3 is text in YAML
    except (ValueError, OverflowError):
        x = math.nan
    if not (least < x < most or (least_too and x == least)):
        expected = "a number"
        if math.isfinite(least):
            expected += f", {least:g} or above" if least_too else f" above {least:g}"
        if math.isfinite(most):
            expected += f" and below {most:g}"
        raise _fail(path, where, f"expected {expected}, got {_shown(given)}")
    return x


def _mapping(path: Path, where: str, given: Any, known: Iterable[str] | None) -> Mapping[str, Any]:
    """A dict whose keys are text and, unless it is None, among those known."""
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise _fail(path, where, f"expected KEY: VALUE, got {_shown(given)}")
    for key in given:
        if known is not None and key not in known:
            raise _fail(path, where, unknown("key", key[:40], known))
    return given


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _fail(path: Path, where: str, what: str) -> DataError:
    return DataError(f"{path}: {where}: {what}")
