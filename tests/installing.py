"""A package as `pip install -e` leaves it, without pip: on the path, and with its metadata."""

import os
import re
import sys
from pathlib import Path


def installed(folder: Path, site: Path) -> dict[str, str]:
    """The environment of a process that finds the package in `folder`; its metadata goes below `site`."""
    project = (folder / "pyproject.toml").read_text()
    name, version = re.findall(r'^(?:name|version) = "(.*)"$', project, re.M)
    declared = project.split("[project.entry-points.mmbench]\n")[1].split("\n\n")[0]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(about)
    (info / "entry_points.txt").write_text("[mmbench]\n" + declared.replace('"', "") + "\n")
    path = [str(folder), str(site), *filter(None, sys.path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "COLUMNS": "200"}
