"""Settings: what a method or an executor takes, and what a person sets with --set."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml

from mmbench.errors import PluginError, UsageError
from mmbench.registry import unknown


def hyperparameters(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of a constructor, each of which has a default.

    A constructor that passes `**others` on takes those of the class that it extends, too.
    """
    found = {
        name: parameter
        for constructor in _constructors(cls)
        for name, parameter in inspect.signature(constructor).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for name, parameter in found.items():
        if parameter.default is inspect.Parameter.empty:
            raise PluginError(f"{cls.name!r}: setting {name!r} has no default; give it one")
    return found


def parse(settings: Iterable[str], methods: Mapping[str, type[Any]]) -> dict[str, dict[str, Any]]:
    """`["hrlf.depth=2"]` to `{"hrlf": {"depth": 2}}`, checked against what will run.

    Raises UsageError for a setting of another form, an unknown name, or a value of the wrong type.
    """
    changed: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for setting in settings:
        target, equals, text = setting.partition("=")
        method, dot, name = target.partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {setting}: expected METHOD.NAME=VALUE, e.g. hrlf.depth=2")
        if method not in methods:
            raise UsageError(
                f"--set {setting}: {unknown('method or executor in this run', method, methods)}"
            )
        known = hyperparameters(methods[method])
        if name not in known:
            raise UsageError(f"--set {setting}: {unknown(f'setting of {method}', name, known)}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        hint: Any = object
        for constructor in _constructors(methods[method]):
            hint = typing.get_type_hints(constructor).get(name, hint)
        value = _fit(value, hint, f"--set {setting}")
        if value != known[name].default:
            changed[method][name] = value
    return changed


def _constructors(cls: type[Any]) -> list[Callable[..., None]]:
    """A class's constructor, after those that it passes its `**others` on to."""
    found: list[Callable[..., None]] = []
    for base in cls.__mro__:
        if "__init__" in vars(base):
            found.insert(0, vars(base)["__init__"])
            parameters = inspect.signature(found[0]).parameters.values()
            if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
                break
    return found


def _fit(value: Any, hint: Any, where: str) -> Any:
    """`value` if it has the type `hint`; an int may stand for a float."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise UsageError(
            f"{where}: expected one of {', '.join(map(repr, arguments))}, got {value!r}"
        )
    options: Sequence[Any] = arguments if origin in (typing.Union, types.UnionType) else [hint]
    for option in options:
        if option is float and type(value) in (int, str):
            try:
                return float(value)  # YAML reads 1e-3 as text
            except ValueError:
                continue
        if option in (object, typing.Any) or type(value) is option:
            return value
    expected = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise UsageError(
        f"{where}: expected {expected}, got {value!r}, which is {type(value).__name__}"
    )
