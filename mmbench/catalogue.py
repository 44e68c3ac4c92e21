"""What is registered, remembered between commands, so that listing it needs no import of torch.

The catalogue is made anew when a plugin's distribution, a file of mmbench or of a plugin, or what has
been imported by a card changes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from glob import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmbench
from mmbench.errors import PluginError, UsageError
from mmbench.paths import cache_dir
from mmbench.registry import (
    LISTENING,
    Registry,
    Source,
    discover,
    entry_points,
    implemented,
    unknown,
    why_absent,
)
from mmbench.settings import hyperparameters

FACTS = {
    "ablates": "ablation of",
    "paper": "paper",
    "privileges": "privileges",
    "settings": "settings",
    "unit": "unit",
    "better": "better",
    "stand_in": "synthetic twin",
    "deviations": "deviations",
}
"""What `mmbench list --long` tells of a class, mostly its attributes of these names, and how it heads them."""


class Catalogue:
    """Names, summaries and origins of everything registered, and what is broken."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.entries: list[dict[str, Any]] = content["entries"]
        self.plugins: list[dict[str, Any]] = content["plugins"]
        self.broken: list[dict[str, str]] = content["broken"]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The entries of one kind, by name."""
        return [entry for entry in self.entries if entry["kind"] == kind]

    def check(self, kind: str, name: str) -> None:
        """UsageError if there is no such class, before anything heavy is imported."""
        names = {entry["name"] for entry in self.of(kind)}
        if name.partition("@")[0] not in names:
            broken = [(Source(b["plugin"], "", b["distribution"]), b["error"]) for b in self.broken]
            raise UsageError(unknown(kind, name, names, why_absent(name, broken)))


def catalogue() -> Catalogue:
    """The catalogue of what is installed, from the cache where it still holds."""
    fingerprint = _fingerprint()
    path = cache_dir() / "catalogue.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["fingerprint"] == fingerprint:
            return Catalogue(content)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or not ours: make it anew
    content = {"fingerprint": fingerprint, **describe(discover())}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8"
        ) as file:
            json.dump(content, file)
        Path(file.name).replace(path)
    except OSError:
        pass  # a cache that cannot be written only costs time
    return Catalogue(content)


def describe(registry: Registry) -> dict[str, Any]:
    """A registry as plain values."""
    return {
        "entries": [
            {
                "kind": kind,
                "name": name,
                "version": getattr(found.cls, "version", None),
                "summary": _summary(found.cls),
                "facts": _facts(kind, found.cls),
                "plugin": found.source.name,
                "distribution": found.source.distribution,
            }
            for kind, classes in registry.classes.items()
            for name, found in sorted(classes.items())
        ],
        "plugins": [
            {
                "plugin": source.name,
                "distribution": source.distribution,
                "hears": [
                    hook
                    for listener, manager in registry.listeners
                    if listener == source
                    for hook in implemented(manager, LISTENING)
                ],
            }
            for source in sorted(registry.sources, key=lambda source: source.name)
        ],
        "broken": [
            {"plugin": source.name, "distribution": source.distribution, "error": error}
            for source, error in registry.broken.values()
        ],
    }


def _summary(cls: type[Any]) -> str:
    """One line; a metric's is its formula, and there may be none."""
    return f"{cls.title}: {cls.formula}" if hasattr(cls, "formula") else getattr(cls, "summary", "")


def _facts(kind: str, cls: type[Any]) -> dict[str, Any]:
    """What else there is to tell of a class: text, or a list of it, by heading."""
    known: dict[str, Any] = {name: getattr(cls, name, None) for name in FACTS}
    if kind in ("method", "executor"):
        try:
            known["settings"] = ", ".join(
                f"{name}={parameter.default!r}" for name, parameter in hyperparameters(cls).items()
            )
        except PluginError as error:  # to run it will fail, to list it need not
            known["settings"] = str(error)
    if kind == "metric":
        known["better"] = "higher" if cls.higher_is_better else "lower"
    told = {FACTS[name]: value for name, value in known.items() if value}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in told.items()
    }


def _fingerprint() -> str:
    """Changes with every installed plugin, its version and files, mmbench's own files, and the cards."""
    digest = hashlib.sha256()
    for source, _ in entry_points():
        digest.update(repr(source).encode())
        for file in _files(source.module):
            digest.update(_stamp(file))
    for file in sorted(Path(mmbench.__file__).parent.rglob("*.py")):
        digest.update(_stamp(file))
    for card in sorted((cache_dir() / "datasets").glob("*.yaml")):
        digest.update(_stamp(card))
        for file in sorted(card.parent.glob(f"{escape(card.stem)}-v*.h5")):
            digest.update(_stamp(file))
    return digest.hexdigest()


def _files(module: str) -> Iterator[Path]:
    """The files of a plugin's module, without importing it."""
    try:
        spec = find_spec(module.partition(":")[0])
    except Exception:  # its parent package may raise anything
        return
    if spec is not None and spec.origin:
        origin = Path(spec.origin)
        yield from (
            sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
        )


def _stamp(file: Path) -> bytes:
    try:
        status = file.stat()
    except OSError:
        return str(file).encode()
    return f"{file} {status.st_size} {status.st_mtime_ns}".encode()
