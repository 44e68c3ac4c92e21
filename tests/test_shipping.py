"""mmbench/shipping.py: what a job needs arrives, and nothing that was there is replaced."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mmbench import cards, datafile
from mmbench.data import Schedule
from mmbench.jobs import Job
from mmbench.registry import discover
from mmbench.shipping import pack, unpacked

CARD = "file: mine.h5\ntask: {kind: regression, low: -3, high: 3}\n"


@pytest.fixture
def sender(tmp_path, monkeypatch, make_data):
    """A cache with a data set that only a card describes, and a file of plugins; the job that needs them."""
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "sender"))
    folder = tmp_path / "sender" / "datasets"
    data = datafile.write(replace(make_data(), name="mine"), folder / "mine-v1.h5")
    cards.path_of("mine").write_text(CARD)
    (tmp_path / "plugin.py").write_text("X = 1\n")
    job = Job("m", "mine", 0, ("inter@1",), data.sha256, "c", Schedule())
    return replace(job, plugin_files=(str(tmp_path / "plugin.py"),))


@pytest.fixture
def packed(sender, monkeypatch, tmp_path):
    """What was packed and its bytes, seen from where the receiver's cache is, which is empty."""
    monkeypatch.setattr("mmbench.shipping.discover", lambda files: discover())
    shipment = pack(sender, same_cache=False)
    content = shipment.data()
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "receiver"))
    return shipment, content


def test_a_machine_that_has_nothing_is_given_data_card_and_plugins(sender, packed):
    shipment, content = packed
    before = os.environ["MMBENCH_CACHE"]
    with unpacked(shipment, [sender], lambda: content) as (job,):
        dataset = discover().find("dataset", "mine")
        assert datafile.obtain(dataset()).sha256 == sender.data_sha256
        (file,) = job.plugin_files
        assert Path(file).read_text() == "X = 1\n" and file != sender.plugin_files[0]
        assert job.key == sender.key
    assert os.environ["MMBENCH_CACHE"] == before and not Path(file).exists()
    with unpacked(shipment, [sender], lambda: pytest.fail("it is there by now")):
        pass


def test_data_that_is_there_is_not_asked_for(sender, packed, tmp_path):
    shipment, _ = packed
    (tmp_path / "receiver").symlink_to(tmp_path / "sender")
    with unpacked(shipment, [sender], lambda: pytest.fail("asked for")):
        assert os.environ["MMBENCH_CACHE"] == str(tmp_path / "receiver")


@pytest.mark.parametrize("what", ["data", "card", "damaged"])
def test_other_data_of_the_same_name_stays_as_it_is(sender, packed, tmp_path, make_data, what):
    shipment, content = packed
    own = tmp_path / "receiver" / "datasets" / "mine-v1.h5"
    datafile.write(replace(make_data(sizes=(9, 8, 7)), name="mine"), own)
    cards.path_of("mine").write_text(CARD)
    if what == "card":
        own.write_bytes(content)
        cards.path_of("mine").write_text(CARD.replace("-3", "-4"))
    if what == "damaged":
        own.write_bytes(b"not HDF5")
    before = own.read_bytes(), cards.path_of("mine").read_text()
    with unpacked(shipment, [sender], lambda: content):
        dataset = discover().find("dataset", "mine")
        assert datafile.obtain(dataset()).sha256 == sender.data_sha256
        assert dataset.task.low == -3
    assert (own.read_bytes(), cards.path_of("mine").read_text()) == before


def test_nothing_is_sent_where_the_cache_is_the_same(sender, monkeypatch):
    monkeypatch.setattr("mmbench.shipping.discover", lambda files: discover())
    shipment = pack(sender, same_cache=True)
    assert shipment.data() == b"" and shipment.file is None
    with unpacked(shipment, [sender], lambda: pytest.fail("asked for")) as (job,):
        assert job.key == sender.key
