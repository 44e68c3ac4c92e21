"""mmbench/reported.py and leaderboards/paper: the paper's numbers, each once and where it belongs."""

from pathlib import Path

import pytest

from mmbench.errors import UsageError
from mmbench.registry import discover
from mmbench.reported import render, tables

FOLDER = Path(__file__).parent.parent / "leaderboards" / "paper"
ROW = ["table", "dataset", "name", "label"]


@pytest.fixture
def cells():
    return tables()


def test_every_table_is_whole(cells):
    assert cells.groupby(["table", "dataset"]).size().to_dict() == {
        ("1", "mosi"): 9 * 8,
        ("1", "mosei"): 9 * 8,
        ("2", "iemocap"): 9 * 4 * 8,
        ("3", "mosi"): 4 * 8,
    }
    assert not cells.duplicated([*ROW, "column"]).any()


def test_the_average_is_that_of_the_incomplete_columns(cells):
    """As the paper says; it holds in every row, which a slip in typing would not leave so."""
    value = cells["value"].astype(float)
    mean = value[cells["incomplete"] == "1"].groupby([cells[key] for key in ROW]).mean()
    printed = cells[cells["column"] == "Avg."].set_index(ROW)["value"].astype(float)
    assert len(printed) == 58
    unit = printed.index.get_level_values("table").map({"1": 0.01, "2": 0.1, "3": 0.01})
    assert ((mean - printed).abs() < unit + 1e-9).all()  # half a unit for each, and for their mean


def test_some_cells_by_hand(cells):
    found = cells.set_index([*ROW, "column"])["value"]
    assert found["1", "mosi", "HRLF", "sentiment", "l"] == "83.36"
    assert found["1", "mosei", "Self-MM", "sentiment", "av"] == "49.52"
    assert found["2", "iemocap", "CubeMLP", "sad", "la"] == "70.3"
    assert found["3", "mosi", "w/o HAL", "sentiment", "lav"] == "83.67"


def test_hrlf_alone_is_starred_and_in_its_averages_alone(cells):
    starred = cells[cells["significant"] == "1"]
    assert set(starred["method"]) == {"hrlf"} and set(starred["column"]) == {"Avg."}
    assert list(starred["value"]) == ["76.74", "75.63", "78.5", "77.8", "76.4", "61.7"]


def test_every_name_is_one_that_mmbench_has(cells):
    registry = discover()
    for method in cells["method"].unique():
        registry.find("method", method)
    for dataset, part in cells.groupby("dataset"):
        task = registry.find("dataset", dataset).task
        assert set(part["label"]) == set(task.labels)
        assert set(part["metric"]) == {task.headline}
    assert set(cells["protocol"]) == {"inter"}
    protocol = registry.find("protocol", "inter")()
    conditions = protocol.conditions("lav")
    assert set(cells["column"]) == {*(c.name for c in conditions), protocol.average}
    lacking = {c.name for c in conditions if not c.complete}
    assert set(cells["column"][cells["incomplete"] == "1"]) == lacking


def test_table_3_has_each_ablation_of_its_method(cells):
    registry = discover()
    found = {name for name, x in registry.classes["method"].items() if x.cls.ablates == "hrlf"}
    assert set(cells["method"][cells["table"] == "3"]) == {"hrlf", *found} and len(found) == 3


@pytest.mark.parametrize("dataset", ["mosi", "mosei", "iemocap"])
def test_what_people_read_is_rendered_from_the_table(dataset):
    assert (FOLDER / f"{dataset}.md").read_text(encoding="utf-8") == render(dataset)


def test_a_cell_is_shown_as_it_was_printed():
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in render("mosi").splitlines()]
    values = ["83.36", "69.47", "64.59", "83.82", "83.56", "75.62", "76.74*", "84.15"]
    assert ["HRLF", "hrlf", "sentiment", *values] in lines


def test_a_data_set_that_the_paper_has_not_is_told():
    with pytest.raises(UsageError, match="unknown data set 'mossi'; did you mean 'mosi'"):
        render("mossi")
