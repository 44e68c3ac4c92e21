"""Finds plugins, checks them, and traces each class to the distribution that it came from.

One broken plugin never hurts the others: it is listed with its error, and only asking for it fails.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, distributions
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pluggy

import mmbench
from mmbench import hookspecs
from mmbench.errors import PluginError, UsageError

GROUP = "mmbench"

KINDS = {  # kind of class: the hook that registers it, and its base class
    "dataset": ("mmbench_register_datasets", "Dataset"),
    "importer": ("mmbench_register_importers", "Importer"),
    "protocol": ("mmbench_register_missingness", "MissingnessProtocol"),
    "sampler": ("mmbench_register_missingness", "MissingnessSampler"),
    "method": ("mmbench_register_methods", "Method"),
    "metric": ("mmbench_register_metrics", "Metric"),
    "executor": ("mmbench_register_executors", "Executor"),
    "reporter": ("mmbench_register_reporters", "Reporter"),
}
REGISTERING = frozenset(hook for hook, _ in KINDS.values())
LISTENING = frozenset(
    name for name in vars(hookspecs) if name.startswith("mmbench_") and name not in REGISTERING
)
"""Hooks that are told how a run goes."""


@dataclass(frozen=True)
class Source:
    """A plugin: a module, and where it came from."""

    name: str
    module: str
    """Dotted name, or the path of a file given with --plugin."""
    distribution: str
    """E.g. "mmbench 0.1.0", or "file"."""

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.distribution})"


@dataclass(frozen=True)
class Registered:
    """A class that a plugin registered."""

    cls: type[Any]
    source: Source


@dataclass(frozen=True)
class Broken:
    """What a hook returns in place of a class that it cannot make, so that only asking for it fails."""

    name: str
    why: str


@dataclass
class Registry:
    """Every registered class by kind and name, and every plugin that failed, with its error."""

    classes: dict[str, dict[str, Registered]] = field(
        default_factory=lambda: {kind: {} for kind in KINDS}
    )
    sources: list[Source] = field(default_factory=list)
    broken: dict[str, tuple[Source, str]] = field(default_factory=dict)
    listeners: list[tuple[Source, pluggy.PluginManager]] = field(default_factory=list)
    """Plugins that are told how a run goes."""

    def find(self, kind: str, name: str) -> type[Any]:
        """The class called `name` ("inter@1" asks for that version); UsageError if there is none."""
        plain, _, version = name.partition("@")
        known = self.classes[kind]
        if plain not in known:
            raise UsageError(unknown(kind, plain, known, why_absent(plain, self.broken.values())))
        cls = known[plain].cls
        if version and str(cls.version) != version:
            raise UsageError(
                f"{kind} {plain!r} is here in version {cls.version}, not {version!r}; "
                f"ask for {plain}@{cls.version}"
            )
        return cls

    def add(self, source: Source, load: Callable[[], ModuleType]) -> None:
        """Imports and registers one plugin; whatever goes wrong is kept in `broken`."""
        try:
            manager = _checked(load(), source)
            returned = list(_registrations(manager))
            broken = [item for _, item in returned if isinstance(item, Broken)]
            found = []
            for kind, cls in returned:
                if isinstance(cls, Broken):
                    continue
                other = self.classes[kind].get(cls.name)
                taken = f"{kind} {cls.name!r} is already registered by {other and other.source}"
                if other is None or getattr(other.cls, "from_card", False):
                    found.append((kind, cls))
                elif getattr(cls, "from_card", False):
                    broken.append(Broken(cls.name, f"{taken}; import it by another name"))
                else:
                    raise PluginError(f"{taken}; rename one of them")
        except (Exception, SystemExit) as error:  # a plugin may raise anything, and hurts no other
            text = (
                str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            )
            self.broken[source.name] = (source, text)
            return
        self.sources.append(source)
        if implemented(manager, LISTENING):
            self.listeners.append((source, manager))
        for item in broken:
            self.broken.setdefault(item.name, (replace(source, name=item.name), item.why))
        for kind, cls in found:
            self.classes[kind][cls.name] = Registered(cls, source)


def why_absent(name: str, broken: Iterable[tuple[Source, str]]) -> str:
    """What may be behind an unknown name: the broken plugin that is called so, or others that are broken."""
    found = list(broken)
    own = [f"; {source} is broken: {error}" for source, error in found if named(source) == name]
    others = ", ".join(source.name for source, _ in found)
    there = f"; broken, and so not asked: {others} (mmbench list plugins tells why)"
    return "".join(own) or (there if found else "")


def named(source: Source) -> str:
    """What a plugin is about, by its name: a package mmbench-x registers x."""
    return source.name.removeprefix("mmbench-")


def unknown(kind: str, name: str, known: Iterable[str], more: str = "") -> str:
    """The message for a name that nobody has: with the nearest one, and all there are."""
    names = sorted(known)
    near = get_close_matches(name, names, 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}{more}{hint} Known: {', '.join(names) or 'none'}"


def entry_points() -> Iterator[tuple[Source, EntryPoint]]:
    """Every entry point of group "mmbench", less those of $MMBENCH_DISABLE_PLUGINS (a,b,...).

    Ours come first, so that no name of a stranger's displaces one of them; the others by distribution.
    """
    disabled = {n.strip() for n in os.environ.get("MMBENCH_DISABLE_PLUGINS", "").split(",")}
    found: dict[str, list[tuple[Source, EntryPoint]]] = {}
    for distribution in distributions():
        try:
            own = [entry for entry in distribution.entry_points if entry.group == GROUP]
            name, version = (distribution.metadata[field] for field in ("Name", "Version"))
        except Exception:  # what is left of a damaged installation
            continue
        if own and name:
            # of one that is installed twice, say from a source tree as well, the first on the path counts
            plain = re.sub(r"[-_.]+", "-", name).lower()
            found.setdefault(
                plain, [(Source(e.name, e.value, f"{name} {version}"), e) for e in own]
            )
    for plain in sorted(found, key=lambda plain: (plain != "mmbench", plain)):
        yield from ((source, e) for source, e in found[plain] if source.name not in disabled)


def discover(files: Sequence[str | Path] = ()) -> Registry:
    """All installed plugins, and the bare `files`; a file that is broken is an error at once."""
    registry = Registry()
    owners: dict[str, Source] = {}
    for source, entry in entry_points():
        if source.name in owners:
            registry.broken[f"{source.name} ({source.distribution})"] = (
                source,
                f"entry point {source.name!r} is declared twice, by {owners[source.name].distribution} "
                f"and by {source.distribution}; the first one is used, rename the other",
            )
            continue
        owners[source.name] = source
        registry.add(source, entry.load)
    for file in files:
        path = Path(file).resolve()
        source = Source(path.stem, str(path), "file")
        if not path.is_file():
            raise UsageError(f"--plugin {file}: there is no such file")
        registry.add(source, lambda path=path: _import_file(path))  # type: ignore[misc]
        if source.name in registry.broken and registry.broken[source.name][0] == source:
            raise PluginError(f"{path.name}: {registry.broken[source.name][1]}")
    return registry


class _AsItStands(SourceFileLoader):
    """Compiles a file each time: a change within a second, of the same length, leaves Python its old bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _import_file(path: Path) -> ModuleType:
    name = f"mmbench_file_{path.stem}"
    spec = spec_from_file_location(name, path, loader=_AsItStands(name, str(path)))
    if path.suffix != ".py" or spec is None or spec.loader is None:
        raise PluginError(f"{path.name} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    spec.loader.exec_module(module)
    return module


def _checked(module: ModuleType, source: Source) -> pluggy.PluginManager:
    """A manager of one plugin alone, so that whatever comes of its hooks is traced to it."""
    stated = getattr(module, "mmbench_interface", hookspecs.INTERFACE)
    if stated != hookspecs.INTERFACE:
        raise PluginError(
            f"{module.__name__} is written for version {stated!r} of the hooks, and mmbench "
            f"{mmbench.__version__} has version {hookspecs.INTERFACE}; install a release of it for "
            f"that version or, if it is yours, adapt it and set mmbench_interface = {hookspecs.INTERFACE}"
        )
    manager = pluggy.PluginManager("mmbench")
    manager.add_hookspecs(hookspecs)
    known = REGISTERING | LISTENING
    for name, _ in inspect.getmembers(module, inspect.isfunction):
        marked = manager.parse_hookimpl_opts(module, name) is not None
        if marked and name not in known:
            raise PluginError(unknown("hook", name, known))
        if name in known and not marked:
            raise PluginError(f"{name} is not called; decorate it with @mmbench.hookimpl")
    manager.register(module, source.name)  # pluggy checks the arguments
    if not implemented(manager, known):
        raise PluginError(
            f"{module.__name__} registers nothing; decorate a function with @mmbench.hookimpl and "
            f"call it one of: {', '.join(sorted(known))}"
        )
    return manager


def implemented(manager: pluggy.PluginManager, hooks: Iterable[str]) -> list[str]:
    """Those of some hooks that a plugin has."""
    return [hook for hook in sorted(hooks) if getattr(manager.hook, hook).get_hookimpls()]


def _registrations(manager: pluggy.PluginManager) -> Iterator[tuple[str, type[Any] | Broken]]:
    """What one plugin registers, though that may be nothing today."""
    for hook in implemented(manager, REGISTERING):
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            returned = implementation.function()
            for cls in returned if isinstance(returned, Iterable) else [returned]:
                yield ("", cls) if isinstance(cls, Broken) else (_kind_of(cls, hook), cls)


def _kind_of(cls: object, hook: str) -> str:
    bases = {kind: getattr(mmbench, base) for kind, (h, base) in KINDS.items() if h == hook}
    expected = " or ".join(f"mmbench.{base.__name__}" for base in bases.values())
    if not isinstance(cls, type):
        raise PluginError(f"{hook} returned {cls!r}, which is not a class; return the class itself")
    for kind, base in bases.items():
        if issubclass(cls, base):
            if not isinstance(getattr(cls, "name", None), str):
                raise PluginError(
                    f'{cls.__name__} needs a class attribute `name`, e.g. name = "my-{kind}"'
                )
            if missing := sorted(getattr(cls, "__abstractmethods__", ())):
                raise PluginError(f"{cls.__name__} must define {', '.join(missing)}")
            return kind
    raise PluginError(f"{hook} returned {cls.__name__}, which is not a subclass of {expected}")
