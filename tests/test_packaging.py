"""pyproject.toml: what is written there is what is installed."""

import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

import mmbench
from mmbench import reported

PACKAGE = Path(mmbench.__file__).parent
ROOT = Path(__file__).parent.parent
BASES = {"twins"}


def declared() -> dict[str, str]:
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11")
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["entry-points"]["mmbench"]


def test_every_module_below_plugins_is_an_entry_point():
    modules = {
        f"{path.parent.name}.{path.stem}"
        for path in (ROOT / "plugins").glob("*/*")
        if (path.suffix == ".py" or (path / "__init__.py").exists())
        and not path.name.startswith("_")
        and path.stem not in BASES
    }
    assert modules == set(declared().values())


def test_installed_entry_points_are_the_declared_ones():
    installed = {
        e.name: e.value
        for e in entry_points(group="mmbench")
        if e.dist is not None and e.dist.name == "mmbench"
    }
    assert installed == declared(), "entry points changed: run `pip install -e .` again"


def test_plugins_is_a_source_root_and_no_package():
    assert not (ROOT / "plugins" / "__init__.py").exists()


def test_what_the_paper_reports_is_shipped_where_it_is_looked_for():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11")
    import tomllib

    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = hatch["targets"]["wheel"]
    (table,) = [path for path in wheel["only-include"] if path.startswith("leaderboards")]
    assert (ROOT / table).is_file()
    moved = wheel["sources"][Path(table).parent.as_posix()]
    assert f"{moved}/{Path(table).name}" == reported.SHIPPED.relative_to(PACKAGE.parent).as_posix()
    assert reported.tables().shape == (464, 11)


def test_versions_agree():
    import mmbench

    assert distribution("mmbench").version == mmbench.__version__
    assert f"## {mmbench.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_public_names_resolve():
    import mmbench

    for name in dir(mmbench):
        assert getattr(mmbench, name) is not None
    with pytest.raises(AttributeError, match="no public name 'Modle'"):
        _ = mmbench.Modle
