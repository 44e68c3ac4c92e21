"""mmbench/sources.py: which source a hash is of."""

import pytest

from mmbench import sources
from mmbench.registry import discover
from mmbench_methods.constant import Constant

METHOD = """
import torch

import mmbench
{imports}


class Own(mmbench.Method):
    name = "own"

@mmbench.hookimpl
def mmbench_register_methods():
    return Own
"""


def of_package(folder, name):
    """The hash of a method in a package that is on the path, as an installed plugin's is."""
    from importlib import import_module, invalidate_caches

    invalidate_caches()
    return sources.code_sha256(import_module(f"{name}.method").Own)


@pytest.mark.parametrize(
    "imports",
    [
        "from {name}.helper import f",
        "from {name} import helper",
        "import {name}.helper",
        "from .helper import f",
        "from . import helper",
        "from {name}.between import g",
        "def late():\n    from .sub.deep import f",
    ],
)
def test_what_a_method_imports_from_its_package_counts_and_its_neighbours_do_not(
    tmp_path, monkeypatch, imports, request
):
    name = f"stranger_{abs(hash(imports))}"
    package = tmp_path / name
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "sub" / "__init__.py").touch()
    (package / "method.py").write_text(METHOD.format(imports=imports.format(name=name)))
    (package / "between.py").write_text("from .helper import f as g\n")
    (package / "helper.py").write_text("def f(): return 1\n")
    (package / "sub" / "deep.py").write_text("from ..helper import f\n")
    (package / "neighbour.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = of_package(package, name)
    (package / "neighbour.py").write_text("x = 2\n")
    assert of_package(package, name) == before
    (package / "helper.py").write_text("# why\ndef f(): return 1\n")
    assert of_package(package, name) == before
    (package / "helper.py").write_text("def f(): return 2\n")
    assert of_package(package, name) != before


def test_what_lies_beside_a_plugin_file_counts_if_it_is_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file, helper = tmp_path / "own.py", tmp_path / "helper_of_own.py"
    helper.write_text("x = 1\n")
    file.write_text(METHOD.format(imports="import helper_of_own"))

    def digest():
        return sources.code_sha256(discover([file]).find("method", "own"))

    before = digest()
    (tmp_path / "other.py").write_text("x = 1\n")
    assert digest() == before
    helper.write_text("x = 2\n")
    assert digest() != before


@pytest.mark.parametrize(("method", "counts"), [("mctn", True), ("gcnet", True), ("hrlf", False)])
def test_a_module_that_built_in_methods_share_counts_for_those_that_import_it(
    method, counts, monkeypatch
):
    cls = discover().find("method", method)
    before = sources.code_sha256(cls)
    read = sources._text
    monkeypatch.setattr(
        sources, "_text", lambda path: read(path) + "\n1\n" * (path.name == "_scale.py")
    )
    assert (sources.code_sha256(cls) != before) is counts


def test_code_hash_sees_code_and_not_comments(tmp_path, monkeypatch):
    def digest(text: str) -> str:
        file = tmp_path / "method.py"
        file.write_text(text)
        monkeypatch.setattr(sources.inspect, "getfile", lambda cls: str(file))
        return sources.code_sha256(Constant)

    plain = digest("def f():\n    return 1\n")
    assert digest('"""Doc."""\n# why\n\ndef f():\n    """Doc."""\n    return 1\n') == plain
    assert digest("def f():\n    return 2\n") != plain
    monkeypatch.setattr(sources, "TRAINING", ("nn",))
    assert digest("def f():\n    return 1\n") != plain  # it is of the training code, too


def test_code_hash_sees_the_method_that_is_extended(tmp_path, monkeypatch):
    class Extended(Constant):
        """In a file of its own."""

    own, base = tmp_path / "own.py", tmp_path / "base.py"
    own.write_text("x = 1\n")
    monkeypatch.setattr(sources.inspect, "getfile", lambda c: str(base if c is Constant else own))
    digests = []
    for text in ("y = 1\n", "y = 2\n"):
        base.write_text(text)
        digests.append([sources.code_sha256(cls) for cls in (Constant, Extended)])
    assert len({digest for pair in digests for digest in pair}) == 4
