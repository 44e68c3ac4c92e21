"""Does a plugin keep the contract of its kind? The conformance kit, for yours as for the built-in ones.

On the command line, `mmbench plugin check NAME-or-FILE`. In a test of yours:

    import mmbench.checks
    from my_method import MyMethod

    @mmbench.checks.parametrize(MyMethod)
    def test_my_method_keeps_the_contract(check):
        check()

Each check is named as the fact that it proves, and a failure says what was found, what was expected and
the mend. A fact that is known not to hold is told with its reason, and then has to fail:

    @mmbench.checks.parametrize(MyMethod, expected_failures={"order never matters": "a known bug, see ..."})

Methods are trained and asked by the engine that runs the benchmark, on small made-up data of two and three
modalities and every task; it takes seconds. The checks and why each is made: `reference()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mmbench
from mmbench.checks import (
    datasets,
    executors,
    importers,
    learning,
    methods,
    metrics,
    predictions,
    protocols,
    reporters,
    samplers,
)
from mmbench.checks.core import CHECKS, Check
from mmbench.checks.failures import CheckFailed, NotApplicable
from mmbench.errors import UsageError
from mmbench.registry import KINDS, Registry, unknown

__all__ = [
    *("Check", "CheckFailed", "NotApplicable", "Result"),
    *("checks_of", "kind_of", "parametrize", "reference", "run_checks"),
]
_MODULES = (
    methods,
    predictions,
    learning,
    protocols,
    samplers,
    datasets,
    metrics,
    executors,
    reporters,
    importers,
)

Status = Literal["passed", "failed", "not applicable", "expected"]


@dataclass(frozen=True)
class Result:
    """What a check found."""

    check: Check
    cls: type[Any]
    status: Status
    """"expected": it failed, as it was said to."""
    reason: str = ""
    """What failed, why it does not apply, or why a failure was expected."""
    mend: str = ""
    error: BaseException | None = None
    """The failure; its `__cause__` is what the plugin raised, if it did."""


def reference() -> list[tuple[str, str, str]]:
    """Every check: the kind of plugin, its name, and why it is made."""
    return [(check.kind, check.name, check.why) for check in CHECKS]


def kind_of(cls: type[Any]) -> str:
    """The kind of a plugin's class, e.g. "method"; UsageError if it is of none."""
    for kind, (_, base) in KINDS.items():
        if isinstance(cls, type) and issubclass(cls, getattr(mmbench, base)):
            return kind
    bases = ", ".join(f"mmbench.{base}" for _, base in KINDS.values())
    raise UsageError(f"{cls!r} cannot be checked: it extends none of {bases}")


def checks_of(cls: type[Any]) -> list[Check]:
    """The checks of a class's kind, in their order."""
    kind = kind_of(cls)
    return [check for check in CHECKS if check.kind == kind]


def run_checks(
    classes: Iterable[type[Any]],
    expected_failures: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    report: Callable[[float, str], None] = lambda share, doing: None,
) -> list[Result]:
    """Puts each class to every check of its kind.

    `expected_failures` maps names of checks to reasons; one of them that does not fail is a failure
    itself. `registry` is where other plugins are found, by default among those that are installed.
    `report` is told the share of checks that is done, and which one is next.
    """
    cases = _cases(list(classes), expected_failures or {})
    results = []
    for done, (cls, check, expected) in enumerate(cases):
        report(done / len(cases), f"{cls.name}: {check.name}")
        results.append(_result(cls, check, expected, registry))
    report(1.0, "")
    return results


def parametrize(
    *classes: type[Any],
    expected_failures: Mapping[str, str] | None = None,
    registry: Registry | None = None,
) -> Any:
    """A pytest decorator: the test's argument `check` is each check of each class, to be called.

    A check that says nothing of a class is skipped with the reason, and one of `expected_failures` is an
    xfail, strictly: it fails if it passes.
    """
    import pytest

    def case(cls: type[Any], check: Check, expected: str | None) -> Any:
        def call() -> None:
            try:
                check.run(cls, registry)
            except NotApplicable as reason:
                if expected is None:
                    pytest.skip(str(reason))

        marks = () if expected is None else pytest.mark.xfail(
            raises=CheckFailed, reason=expected, strict=True
        )  # fmt: skip
        return pytest.param(call, id=f"{check.kind} {cls.name}: {check.name}", marks=marks)

    cases = [case(*parts) for parts in _cases(classes, expected_failures or {})]
    return pytest.mark.parametrize("check", cases)


def _cases(
    classes: Sequence[type[Any]], expected: Mapping[str, str]
) -> list[tuple[type[Any], Check, str | None]]:
    """Each class with each of its checks and, if it is expected to fail, the reason."""
    cases = [(cls, check, expected.get(check.name)) for cls in classes for check in checks_of(cls)]
    names = {check.name for _, check, _ in cases}
    for name, reason in expected.items():
        if name not in names:
            raise UsageError(f"expected_failures: {unknown('check', name, names)}")
        if not (isinstance(reason, str) and reason.strip()):
            raise UsageError(f"expected_failures: {name!r} has no reason; say why it fails")
    return cases


def _result(
    cls: type[Any], check: Check, expected: str | None, registry: Registry | None
) -> Result:
    found = "passed"
    try:
        check.run(cls, registry)
    except CheckFailed as failure:
        if expected is not None:
            return Result(check, cls, "expected", expected, error=failure)
        what = f"{failure.what}; expected {failure.expected}"
        return Result(check, cls, "failed", what, failure.mend, failure)
    except NotApplicable as reason:
        if expected is None:
            return Result(check, cls, "not applicable", str(reason))
        found = f"did not apply: {reason}"
    if expected is not None:
        mend = "Take it out of expected_failures."
        return Result(check, cls, "failed", f"was expected to fail ({expected}), and {found}", mend)
    return Result(check, cls, "passed")
