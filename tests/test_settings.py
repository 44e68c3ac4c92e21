"""mmbench/settings.py."""

from typing import Any, Literal

import pytest

from mmbench.errors import PluginError, UsageError
from mmbench.settings import hyperparameters, parse


class Model:
    name = "model"

    def __init__(
        self,
        spec: object,
        *,
        depth: int = 4,
        rate: float = 0.1,
        heads: int | None = None,
        head: Literal["linear", "mlp"] = "linear",
        frf: bool = True,
    ) -> None: ...


METHODS = {"model": Model}


def test_hyperparameters_are_the_keyword_arguments():
    assert list(hyperparameters(Model)) == ["depth", "rate", "heads", "head", "frf"]


def test_a_hyperparameter_needs_a_default():
    class Bare(Model):
        def __init__(self, spec: object, *, depth: int) -> None: ...

    with pytest.raises(PluginError, match="'depth' has no default"):
        hyperparameters(Bare)


class Extended(Model):
    name = "extended"

    def __init__(self, spec: object, *, frf: bool = False, more: int = 1, **others: Any) -> None:
        super().__init__(spec, frf=frf, **others)


class Inherits(Extended):
    name = "inherits"


@pytest.mark.parametrize("cls", [Extended, Inherits])
def test_a_constructor_that_passes_others_on_takes_theirs_with_its_own_defaults(cls):
    found = {name: parameter.default for name, parameter in hyperparameters(cls).items()}
    own = {"depth": 4, "rate": 0.1, "heads": None, "head": "linear", "frf": False, "more": 1}
    assert found == own
    methods = {"extended": cls}
    assert parse(["extended.depth=2"], methods) == {"extended": {"depth": 2}}
    assert parse(["extended.frf=false"], methods) == {"extended": {}}
    assert parse(["extended.frf=true"], methods) == {"extended": {"frf": True}}
    for setting, message in (
        ("depth=x", "expected int"),
        ("more=x", "expected int"),
        ("no=1", "unknown"),
    ):
        with pytest.raises(UsageError, match=message):
            parse([f"extended.{setting}"], methods)


def test_a_constructor_that_passes_nothing_on_hides_what_it_extends():
    class Closed(Model):
        def __init__(self, spec: object, *, more: int = 1) -> None: ...

    assert list(hyperparameters(Closed)) == ["more"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("model.depth=2", {"depth": 2}),
        ("model.rate=1", {"rate": 1.0}),
        ("model.rate=1e-3", {"rate": 0.001}),
        ("model.heads=8", {"heads": 8}),
        ("model.head=mlp", {"head": "mlp"}),
        ("model.frf=false", {"frf": False}),
        ("model.depth=4", {}),  # the default is no change
        ("model.heads=null", {}),
    ],
)
def test_values_take_their_type_from_the_signature(setting, expected):
    assert parse([setting], METHODS) == {"model": expected}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("depth=2", "expected METHOD.NAME=VALUE"),
        ("model.depth", "expected METHOD.NAME=VALUE"),
        ("modle.depth=2", "did you mean 'model'"),
        ("model.dept=2", "did you mean 'depth'"),
        ("model.depth=two", "expected int, got 'two', which is str"),
        ("model.depth=2.5", "expected int, got 2.5"),
        ("model.depth=true", "expected int, got True, which is bool"),
        ("model.frf=1", "expected bool, got 1"),
        ("model.rate=[1]", "expected float, got"),
        ("model.rate=fast", "expected float, got 'fast'"),
        ("model.head=deep", "expected one of 'linear', 'mlp', got 'deep'"),
        ("model.heads=x", "expected int or NoneType, got 'x'"),
        ("model.head={", "expected one of"),
    ],
)
def test_a_mistake_names_the_setting_and_the_mend(setting, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse([setting], METHODS)
    assert setting in str(caught.value)
