"""Hashes of the source that numbers come from, so that a result of other code is not taken for one of this.

Comments and docstrings do not count, nor where a file lies. What is imported from the same package counts, or
from beside a file that belongs to none; other packages are libraries, whose versions a manifest has under
`environment`. They are not in a job's key: each of them would throw a store away with every small release.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mmbench
from mmbench.registry import Registry

TRAINING = (
    *("batching", "methods", "nn", "randomness", "seeds", "start", "streams", "tasks", "training"),
)
"""Modules of mmbench in which a change of code may change what a method learns."""
TESTING = ("evaluation", "metrics", "missingness")
"""Those in which it may change what is hidden, or how predictions are scored."""


def code_sha256(method: type[Any], dataset: type[Any] | None = None) -> str:
    """Of what a method's numbers come from: its code, that of the methods that it extends, and what trains it.

    Also that of the data set, if the method asks it for more than samples.
    """
    classes = [method] if dataset is None or not method.asks_dataset else [method, dataset]
    return _sha256([*_files(classes), *_own(TRAINING)])


def rules_sha256(registry: Registry, names: Iterable[tuple[str, str]]) -> str:
    """Of what is hidden in training and tests, and of scores: classes by kind and name, and what uses them."""
    classes = [registry.find(kind, name) for kind, name in names]
    return _sha256([*_files(classes), *_own(TESTING)])


def _own(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        place = Path(mmbench.__file__).with_name(name)
        yield from sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def _files(classes: Iterable[type[Any]]) -> list[Path]:
    """Their modules, or all of their packages, those of what they extend, and what these import of their own."""
    kinds = (
        *(mmbench.Method, mmbench.Dataset, mmbench.Metric),
        *(mmbench.MissingnessProtocol, mmbench.MissingnessSampler),
    )
    found: list[Path] = []
    for cls in classes:
        for base in cls.__mro__:
            if not issubclass(base, kinds) or base in kinds:
                continue
            file = Path(inspect.getfile(base))
            package = file.name == "__init__.py"
            found += sorted(file.parent.glob("*.py")) if package else [file]
    files = list(dict.fromkeys(found))
    for file in files:  # grows
        files += [path for path in dict.fromkeys(_imported(file)) if path not in files]
    return files


def _imported(file: Path) -> Iterator[Path]:
    """Files of modules that a file imports from its own package or, where it is in none, from its folder."""
    top = file.parent
    while (top / "__init__.py").exists():
        top = top.parent
    if top == file.parent and top.name in ("site-packages", "dist-packages"):
        return  # its neighbours are everybody's
    inside = file.parent.relative_to(top).parts
    for name in _names(_text(file), inside):
        if name[0] in (inside or name)[:1] and name[0] != "mmbench":
            for length in range(1, len(name) + 1):
                place = top.joinpath(*name[:length])
                for path in (place.with_suffix(".py"), place / "__init__.py"):
                    if path.is_file():
                        yield path


@cache
def _names(text: str, inside: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Dotted names, in parts, of whatever may be a module."""
    found: list[tuple[str, ...]] = []
    for node in ast.walk(_tree(text)):
        if isinstance(node, ast.Import):
            found += (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = inside[: len(inside) - node.level + 1] if node.level else ()
            start += tuple(node.module.split(".")) if node.module else ()
            found += ((*start, alias.name) for alias in node.names)
    return tuple(found)


def _sha256(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in dict.fromkeys(files):
        digest.update(_dump(_text(path)))
    return digest.hexdigest()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _dump(text: str) -> bytes:
    return ast.dump(_tree(text)).encode()


@cache
def _tree(text: str) -> ast.AST:
    """Without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a bare string: a docstring."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
