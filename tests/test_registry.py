"""mmbench/registry.py: one broken plugin never hurts the others, and every mistake is named."""

import os
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
        (METRIC.replace("@mmbench.hookimpl", ""), "decorate it with @mmbench.hookimpl"),
        (METRIC.split("@")[0], "registers nothing; decorate a function with @mmbench.hookimpl"),
        ("mmbench_interface = 2\n" + METRIC, "mine is written for version 2 of the hooks"),
        (METRIC.replace("return Half", "raise SystemExit(3)"), "SystemExit: 3"),
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


def test_a_plugin_may_state_the_version_of_the_hooks(from_text):
    assert (
        "half"
        in from_text(f"mmbench_interface = {registry.hookspecs.INTERFACE}" + METRIC).classes[
            "metric"
        ]
    )


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution on the path, as pip does: a module of this text, and its metadata."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(text: str, name: str = "mmbench-stranger", entry: str = "stranger") -> None:
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(HEAD + text)
        monkeypatch.delitem(sys.modules, module, raising=False)
        info = tmp_path / f"{module}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[mmbench]\n{entry} = {module}\n")

    return install


def names(found: Registry) -> dict[str, set[str]]:
    return {kind: set(classes) for kind, classes in found.classes.items()}


def test_an_installed_distribution_is_found(install):
    install(METRIC)
    assert (
        str(discover().classes["metric"]["half"].source)
        == "plugin 'stranger' (mmbench-stranger 2.0)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import transformers_not_here",
            "ModuleNotFoundError: No module named 'transformers_not_here'",
        ),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        (METRIC.replace("return Half", "raise ValueError('in hook')"), "ValueError: in hook"),
        (
            METRIC.replace('"half"\n    title', '"mae"\n    title'),
            "already registered by plugin 'regression'",
        ),
        (
            METRIC.replace("register_metrics", "register_metric"),
            "unknown hook 'mmbench_register_metric'",
        ),
        ("mmbench_interface = 0\n" + METRIC, "written for version 0 of the hooks"),
        ("mmbench_interface = 0\n" + METRIC, "install a release of it for that version"),
    ],
)
def test_a_broken_distribution_is_listed_with_its_error_and_hurts_nothing_else(
    install, text, message
):
    before = names(discover())
    install(text)
    found = discover()
    source, error = found.broken["stranger"]
    assert source.distribution == "mmbench-stranger 2.0" and message in error
    assert names(found) == before and list(found.broken) == ["stranger"]


def test_a_distribution_never_displaces_what_is_built_in(install):
    """Though it comes first on the path, and its name first in the alphabet."""
    install(METRIC.replace('"half"\n', '"mae"\n'), "aaa")
    install(METRIC, "aab", entry="regression")
    found = discover()
    ours = f"mmbench {mmbench.__version__}"
    assert found.classes["metric"]["mae"].source.distribution == ours
    assert {source.distribution for source, _ in found.broken.values()} == {"aaa 2.0", "aab 2.0"}
    assert any("declared twice, by mmbench" in error for _, error in found.broken.values())


def test_of_a_distribution_that_is_there_twice_the_first_counts(install, tmp_path, monkeypatch):
    install(METRIC)
    older = tmp_path / "older"
    info = older / "mmbench.stranger-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmbench_Stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmbench]\nold = gone\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(older)])
    found = discover()
    assert not found.broken and "half" in found.classes["metric"]


@pytest.mark.parametrize("left", ["", "nothing", "no entry points"])
def test_what_is_left_of_a_damaged_installation_is_passed_over(tmp_path, monkeypatch, left):
    info = tmp_path / "mmbench_gone-1.0.dist-info"
    info.mkdir()
    if left == "nothing":
        (info / "entry_points.txt").write_text("[mmbench]\ngone = gone\n")
    if left == "no entry points":
        (info / "entry_points.txt").write_text("[mmbench]\ngone\n= =\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert not discover().broken


def test_an_unknown_name_may_be_that_of_a_broken_plugin(install):
    install("import transformers_not_here", "mmbench-mult", entry="mmbench-mult")
    found = discover()
    with pytest.raises(
        UsageError, match=r"plugin 'mmbench-mult' .mmbench-mult 2.0. is broken: Mod"
    ):
        found.find("method", "mult")
    with pytest.raises(UsageError, match=r"broken, and so not asked: mmbench-mult .*mean 'hrlf'"):
        found.find("method", "hrfl")


def test_an_installed_plugin_can_be_disabled(install, monkeypatch):
    install("import transformers_not_here")
    monkeypatch.setenv("MMBENCH_DISABLE_PLUGINS", "other, stranger")
    assert not discover().broken


def test_a_file_that_changes_within_a_second_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "number.py"
    found = []
    for number in (1, 2):
        path.write_text(f"NUMBER = {number}\n")
        os.utime(path, (1e9, 1e9))  # of the same length, too
        found.append(registry._import_file(path).NUMBER)
    assert found == [1, 2]
