"""mmbench/catalogue.py: names without imports, and never stale ones."""

import json
import os

import pytest

from mmbench import catalogue as module
from mmbench.catalogue import catalogue
from mmbench.errors import UsageError


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Counts how often the plugins are imported for a catalogue."""
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path))
    calls = []
    discover = module.discover
    monkeypatch.setattr(module, "discover", lambda: calls.append(1) or discover())
    return calls


def test_it_is_made_once(counted):
    first, second = catalogue(), catalogue()
    assert first.entries == second.entries and len(counted) == 1


def test_it_is_made_anew_when_a_file_changes(counted, monkeypatch):
    catalogue()
    stamp = module._stamp
    monkeypatch.setattr(
        module, "_stamp", lambda file: stamp(file) + (b"!" if file.name == "msm.py" else b"")
    )
    catalogue()
    assert len(counted) == 2


def test_it_is_made_anew_when_a_plugin_is_disabled(counted, monkeypatch):
    catalogue()
    monkeypatch.setenv("MMBENCH_DISABLE_PLUGINS", "hrlf")
    assert "hrlf" not in {entry["name"] for entry in catalogue().of("method")}


def test_it_is_made_anew_when_a_card_comes_or_loses_its_data(counted, tmp_path):
    folder = tmp_path / "datasets"
    folder.mkdir()
    catalogue()
    (folder / "mine.yaml").write_text("file: x\ntask: {kind: regression, low: 0, high: 1}")
    assert "mine" not in {entry["name"] for entry in catalogue().of("dataset")}
    (folder / "mine-v1.h5").touch()
    assert "mine" in {entry["name"] for entry in catalogue().of("dataset")}
    (folder / "mine-v1.h5").unlink()
    assert "mine" not in {entry["name"] for entry in catalogue().of("dataset")}
    catalogue()
    assert len(counted) == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": 3}'])
def test_a_damaged_one_is_made_anew(counted, tmp_path, text):
    catalogue()
    (tmp_path / "catalogue.json").write_text(text)
    assert catalogue().of("method") and len(counted) == 2
    json.loads((tmp_path / "catalogue.json").read_text())


def test_a_cache_that_cannot_be_written_only_costs_time(counted, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMBENCH_CACHE", os.fspath(tmp_path / "file" / "below"))
    assert catalogue().of("method")


def test_a_method_whose_settings_are_wrong_is_listed_with_what_is_wrong(tmp_path):
    text = """
import mmbench

class Bare(mmbench.Method):
    name = "bare"

    def __init__(self, spec, *, depth):
        super().__init__(spec)

@mmbench.hookimpl
def mmbench_register_methods():
    return Bare
"""
    (tmp_path / "bare.py").write_text(text)
    entries = module.describe(module.discover([tmp_path / "bare.py"]))["entries"]
    (facts,) = [entry["facts"] for entry in entries if entry["name"] == "bare"]
    assert "setting 'depth' has no default" in facts["settings"]


def test_a_method_without_a_summary_is_listed(tmp_path):
    text = "import mmbench\nclass Bare(mmbench.Method):\n    name = 'bare'\n"
    hook = "@mmbench.hookimpl\ndef mmbench_register_methods():\n    return Bare\n"
    (tmp_path / "bare.py").write_text(text + hook)
    entries = module.describe(module.discover([tmp_path / "bare.py"]))["entries"]
    assert [entry["summary"] for entry in entries if entry["name"] == "bare"] == [""]


def test_a_broken_plugin_is_named_where_it_was_asked_for():
    content = {
        "entries": [],
        "plugins": [],
        "broken": [{"plugin": "mult", "distribution": "mmbench-mult 1.0", "error": "boom"}],
    }
    with pytest.raises(UsageError, match=r"plugin .mult. .mmbench-mult 1.0. is broken: boom"):
        module.Catalogue(content).check("method", "mult")
