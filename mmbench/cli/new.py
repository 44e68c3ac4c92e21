"""`mmbench plugin new`: a package that installs, runs and passes its own test, to be filled with a method."""

from __future__ import annotations

import keyword
import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from mmbench.cli.options import console
from mmbench.errors import UsageError

TEMPLATES = Path(__file__).parent.parent / "templates"
RUNS = {
    file.parent.name: file.read_text(encoding="utf-8").strip()
    for file in sorted(TEMPLATES.glob("*/options.txt"))
}
"""By kind, the options of `mmbench run` that run a new plugin; the data set is the word after --dataset."""
LONGEST = 24
"""Letters of a name: lines of the templates stay short enough for any formatter."""


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(list(RUNS)), default="method", show_default=True)
@click.option("--out", type=click.Path(), help="The folder to make.  [default: mmbench-NAME]")
def new(name: str, kind: str, out: str | None) -> None:
    """Write a package with one plugin, which runs as it is, and say what to do next."""
    check_name(name, kind)
    folder = Path(out or f"mmbench-{name}")
    write(name, kind, folder)
    python = _python()
    where = shlex.quote(str(folder))
    options = RUNS[kind].replace("my-plugin", name)
    console().print(f"wrote {folder}. Next:\n", markup=False)
    for command in (
        f"{python} -m pip install -e {shlex.quote(f'{folder}[test]')}",
        f"{python} -m pytest {where}",
        f"{python} -m mmbench run {options} --quick",
    ):
        console().print(f"  {command}", markup=False)


def check_name(name: str, kind: str) -> None:
    """UsageError if nothing can be called so, or something is already."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > LONGEST:
        near = re.sub(r"[^a-z0-9]+", "-", re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", name).lower())
        near = re.sub(r"^[^a-z]+", "", near)[:LONGEST].strip("-")
        near = near if len(near) > 1 else f"my-{kind}"
        raise UsageError(
            f"{name!r} cannot be a name: expected small letters and digits, a letter first, parts joined "
            f"by single hyphens, at most {LONGEST} in all; for example {near}"
        )
    if keyword.iskeyword(_class(name)):
        raise UsageError(f"{name!r} would be the class {_class(name)} in Python; try my-{name}")
    module = _module(name)
    if module in sys.modules or find_spec(module) is not None:
        raise UsageError(f"there is a module {module} already; choose another name than {name!r}")
    from mmbench.catalogue import catalogue

    for entry in catalogue().of(kind):
        if entry["name"] == name:
            raise UsageError(
                f"{kind} {name!r} is registered already, by plugin {entry['plugin']!r} "
                f"({entry['distribution']}); choose another name"
            )


def write(name: str, kind: str, folder: Path) -> None:
    """Fills the templates; UsageError where the folder is there, or cannot be made."""
    options = RUNS[kind]
    words = options.split()
    filled = {
        "RUN": f"mmbench run {options} --quick",
        "OPTIONS": options,
        "DATASET": words[words.index("--dataset") + 1],
        "KIND": {"dataset": "data set"}.get(kind, kind),
        "my_plugin": name.replace("-", "_"),
        "my-plugin": name,
        "MyPlugin": _class(name),
    }
    texts = {}
    for layer in (TEMPLATES / "common", TEMPLATES / kind):
        for file in sorted(
            path for path in layer.rglob("*") if path.suffix in (".py", ".md", ".toml")
        ):
            place, text = str(file.relative_to(layer)), file.read_text(encoding="utf-8")
            for word, value in filled.items():
                place, text = place.replace(word, value), text.replace(word, value)
            texts[folder / place] = text
    try:
        folder.mkdir(parents=True)
        for path, text in texts.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except FileExistsError as error:
        raise UsageError(
            f"{folder} is there already; choose another --out, or remove it"
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot write {folder}: {error.strerror}; choose another --out"
        ) from error


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _module(name: str) -> str:
    return f"mmbench_{name.replace('-', '_')}"


def _python() -> str:
    """How this Python is called: what is installed elsewhere is not found here."""
    found = shutil.which("python")
    if found and Path(found).absolute() == Path(sys.executable).absolute():
        return "python"
    return shlex.quote(sys.executable)
