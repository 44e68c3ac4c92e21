"""mmbench/registry.py: one broken plugin never hurts the others, and every mistake is named."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

import mmbench
from mmbench import registry
from mmbench.errors import PluginError, UsageError
from mmbench.registry import Registry, Source, discover

HEAD = "import mmbench\n"
METRIC = """
class Half(mmbench.Metric):
    name = "half"
    title = formula = "half"
    tasks = (mmbench.Regression,)
    vectors = ()

    def score(self, truth, prediction):
        return 0.5

@mmbench.hookimpl
def mmbench_register_metrics():
    return Half
"""


@pytest.fixture
def from_text(tmp_path):
    """Loads a plugin file of this text."""

    def load(text: str) -> Registry:
        file = tmp_path / "mine.py"
        file.write_text(HEAD + text)
        return discover([file])

    return load


def test_everything_built_in_is_found_and_nothing_is_broken():
    found = discover()
    assert not found.broken
    for kind in registry.KINDS:
        assert found.classes[kind], kind
    assert found.classes["method"]["hrlf"].source.distribution == f"mmbench {mmbench.__version__}"


def test_a_file_adds_to_what_is_installed(from_text):
    found = from_text(METRIC)
    assert found.find("metric", "half")().score(None, None) == 0.5
    assert found.classes["metric"]["half"].source.distribution == "file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import transformers_not_here", "ModuleNotFoundError"),
        ("raise SystemError('at import')", "SystemError: at import"),
        (
            METRIC.replace("register_metrics", "register_metric"),
            "did you mean 'mmbench_register_metrics'",
        ),
        (METRIC.replace("@mmbench.hookimpl", ""), "registers nothing"),
        (METRIC.replace('name = "half"', ""), "Half needs a class attribute `name`"),
        (
            METRIC.replace("return Half", "return Half()"),
            "which is not a class; return the class itself",
        ),
        (
            METRIC.replace("return Half", "return dict"),
            "dict, which is not a subclass of mmbench.Metric",
        ),
        (METRIC.replace("def score", "def scores"), "Half must define score"),
        (METRIC.replace('"half"\n    title', '"mae"\n    title'), "already registered by plugin"),
        (METRIC.replace("metrics():", "metrics(extra):"), "extra"),
        (METRIC.replace("return Half", "raise ValueError('in hook')"), "ValueError: in hook"),
    ],
)
def test_a_mistake_in_a_file_is_told_at_once(from_text, text, message):
    with pytest.raises(PluginError, match=r"mine\.py") as caught:
        from_text(text)
    assert message in str(caught.value)


def test_a_hook_may_have_nothing_to_register(from_text):
    found = from_text(METRIC.replace("return Half", "return []"))
    assert "half" not in found.classes["metric"] and not found.broken


def test_a_hook_may_name_what_is_broken(from_text):
    found = from_text(
        METRIC.replace("return Half", "return [Half, mmbench.registry.Broken('third', 'boom')]")
    )
    assert "half" in found.classes["metric"]
    with pytest.raises(UsageError, match=r"plugin 'third' .file. is broken: boom"):
        found.find("metric", "third")


@pytest.mark.parametrize("order", ["card first", "card last"])
def test_what_a_card_describes_gives_way_to_a_plugin(order):
    def plugin(name, from_card):
        class Mine(mmbench.Dataset):
            name = "mine"
            summary = "mine"
            task = mmbench.Regression(-3, 3)

        Mine.from_card = from_card
        module = ModuleType(name)
        module.mmbench_register_datasets = mmbench.hookimpl(lambda: [Mine])
        module.mmbench_register_datasets.__name__ = "mmbench_register_datasets"
        return source(name), lambda: module

    found = Registry()
    plugins = [plugin("cards", True), plugin("other", False)]
    for one in plugins if order == "card first" else plugins[::-1]:
        found.add(*one)
    assert not found.find("dataset", "mine").from_card
    assert found.classes["dataset"]["mine"].source.name == "other"
    if order == "card last":
        assert "already registered by plugin 'other'" in found.broken["mine"][1]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        discover([tmp_path / "nothing.py"])


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UsageError, match="did you mean 'hrlf'"):
        discover().find("method", "hrfl")


def test_a_version_can_be_asked_for():
    found = discover()
    assert found.find("protocol", "inter@1") is found.find("protocol", "inter")
    with pytest.raises(UsageError, match=r"version 1, not '2'; ask for inter@1"):
        found.find("protocol", "inter@2")


def source(name: str, distribution: str = "other 1.0") -> Source:
    return Source(name, f"module_of_{name}", distribution)


def test_a_broken_plugin_is_listed_and_the_rest_works():
    found = discover()
    before = {kind: dict(classes) for kind, classes in found.classes.items()}

    def explode() -> ModuleType:
        raise RuntimeError("boom")

    found.add(source("bad"), explode)
    assert found.broken["bad"] == (source("bad"), "RuntimeError: boom")
    assert found.classes == before
    with pytest.raises(UsageError, match=r"plugin 'bad' .other 1.0. is broken: RuntimeError: boom"):
        found.find("method", "bad")


def test_a_plugin_with_one_bad_class_registers_none(from_text, monkeypatch):
    module = ModuleType("module_of_pair")
    exec(HEAD + METRIC.replace("return Half", "return [Half, 3]"), module.__dict__)
    monkeypatch.setitem(sys.modules, "module_of_pair", module)
    found = Registry()
    found.add(source("pair"), lambda: module)
    assert "pair" in found.broken and not found.classes["metric"]


def test_an_entry_point_declared_twice_is_reported(monkeypatch):
    entry = EntryPoint("inter", "mmbench_missing.inter", "mmbench")
    twice = [(source("inter", "mmbench 0"), entry), (source("inter", "stranger 2.0"), entry)]
    monkeypatch.setattr(registry, "entry_points", lambda: iter(twice))
    found = discover()
    assert list(found.classes["protocol"]) == ["inter"]
    ((_, message),) = found.broken.values()
    assert "declared twice, by mmbench 0 and by stranger 2.0" in message


def test_plugins_can_be_disabled(monkeypatch):
    monkeypatch.setenv("MMBENCH_DISABLE_PLUGINS", "hrlf,msm")
    assert "hrlf" not in discover().classes["method"]
