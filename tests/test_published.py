"""leaderboards/: every file there is what its JSON files give, byte for byte."""

import re
import sys
from importlib import util
from pathlib import Path

import matplotlib as mpl
import pytest

from mmbench import board as boards
from mmbench.figures import CREATOR, embedding
from mmbench.leaderboard import Leaderboard
from mmbench.store import Store

FOLDER = Path(__file__).parent.parent / "leaderboards"
ROOM = 3 * 2**20
"""Bytes that a file may have."""

spec = util.spec_from_file_location("publish", FOLDER / "publish.py")
publish = util.module_from_spec(spec)
sys.modules["publish"] = publish
spec.loader.exec_module(publish)

MADE = dict(publish.rendered(FOLDER))


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_published_file_is_what_the_json_gives(path):
    said = path.read_bytes()
    if path.suffix == ".svg":
        drawn = re.search(f"{CREATOR}([^<]+)<".encode(), said)[1].decode()
        if drawn != mpl.__version__:
            pytest.skip(f"drawn by matplotlib {drawn}, and here is {mpl.__version__}")
    assert said == MADE[path]


def test_the_rates_that_a_plan_goes_by_are_those_of_the_leaderboards():
    assert publish.RATES.read_bytes() == publish.rates(FOLDER)


def test_nothing_else_lies_there():
    others = {FOLDER / "publish.py", *FOLDER.glob("paper/*")}
    others |= {*FOLDER.glob("*.json"), *FOLDER.glob("figures/*-embedding.json")}
    there = {path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert there == {*MADE, *others}


def test_every_file_is_small():
    assert all(path.stat().st_size < ROOM for path in FOLDER.rglob("*") if path.is_file())


def test_every_link_of_the_index_leads_to_a_file_or_a_heading():
    text = (FOLDER / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10
    for link in links:
        there = (FOLDER / link).exists() or f"\n## {link.removeprefix('#')}\n" in text
        assert there, link


def test_the_index_shows_every_figure():
    text = (FOLDER / "README.md").read_text()
    assert all(f"](figures/{path.name})" in text for path in FOLDER.glob("figures/*.svg"))


def test_the_index_has_a_line_for_each_board_with_its_rows_seeds_and_commit():
    text = (FOLDER / "README.md").read_text()
    for path in FOLDER.glob("*.json"):
        (section, *_), name = (board := boards.read(path)).sections, path.stem
        (line,) = (x for x in text.splitlines() if x.startswith(f"| [{name}](#{name})"))
        cells = [cell.strip() for cell in line.split("|")]
        assert board.dataset == name and cells[2].split(",")[0] == str(len(section.rows))
        first = section.rows[0].finished[0]
        assert first["environment"]["commit"][:12] in cells[4]
        assert first["finished"][:10] <= cells[5][-10:]


def test_the_commands_of_the_index_name_every_row():
    text = (FOLDER / "README.md").read_text()
    for path in FOLDER.glob("*.json"):
        (section,) = boards.read(path).sections
        rows = {(row.label, row.seeds) for row in section.rows}
        commands = re.findall(
            rf"^mmbench (run .* --dataset {path.stem} (?!.*--embeddings).*)$", text, re.M
        )
        planned = set()
        for command in commands:
            told = dict(zip(command.split()[1::2], command.split()[2::2], strict=True))
            method, seeds = told["--method"].split(","), int(told["--seeds"])
            _, _, setting = told.get("--set", "").partition(".")
            planned |= {(m + (f"[{setting}]" if setting else ""), seeds) for m in method}
        assert planned == rows


def test_the_embedding_has_the_papers_methods_first_and_a_silhouette_of_each():
    (path,) = FOLDER.glob("figures/*.json")
    shown = embedding.read(path)
    assert [each.method for each in shown.panels[:4]] == ["cubemlp", "transm", "gcnet", "hrlf"]
    assert shown.synthetic and shown.condition == "{l}, p=0.5"
    for each in shown.panels:
        assert {name: own.shape for name, own in each.points.items()} == dict.fromkeys(
            ("angry", "happy", "neutral", "sad"), (embedding.EACH, 2)
        )
        assert -1 <= each.silhouette <= 1


def test_the_embedding_is_of_the_boards_data():
    (path,) = FOLDER.glob("figures/*.json")
    shown = embedding.read(path)
    (section,) = boards.read(FOLDER / f"{shown.dataset}.json").sections
    assert shown.data_sha256 == section.facts["data"]["sha256"]
    assert {each.method for each in shown.panels} <= {row.label for row in section.rows}


@pytest.mark.parametrize("path", [p for p in MADE if p.suffix in (".md", ".csv", ".tex", ".html")])
def test_no_published_number_is_a_negative_zero(path):
    text = path.read_text()
    assert not re.findall(
        r"(?<![\w.-])-0\.?0*(?![\d.\w-])(?!, )", re.sub("(?s)<style>.*?</script>", "", text)
    )


@pytest.mark.parametrize("synthetic", [True, False])
def test_a_store_gives_the_json_of_its_synthetic_data_alone(make_manifest, tmp_path, synthetic):
    from mmbench.jobs import Outcome

    store = Store(tmp_path / "runs")
    store.check_writable()
    manifest = make_manifest()
    manifest["job"] |= {"dataset": "mosi-twin" if synthetic else "mosi"}
    store.save(Outcome(manifest))
    written = list(publish.take(store, tmp_path))
    assert [path.name for path in written] == ["mosi-twin.json"] * synthetic
    for path in written:
        assert isinstance(boards.read(path), Leaderboard)


def test_a_store_that_is_not_there_is_told(tmp_path):
    with pytest.raises(publish.UsageError, match="nowhere: there is no such folder"):
        publish.main([str(tmp_path / "nowhere")])
