"""mmbench/cards.py and plugins/mmbench_datasets/cards.py: a data set from a few lines of YAML."""

import numpy as np
import pytest

from mmbench import cards
from mmbench.cli import main
from mmbench.data import SPLITS, Schedule
from mmbench.errors import DataError
from mmbench.registry import discover
from mmbench.tasks import MultiBinary, MultiClass, Regression

CARD = "file: mine.npz\ntask: {kind: regression, low: -3, high: 3}\n"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def card(tmp_path):
    """Writes a card; its path."""

    def write(text=CARD, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def mmbench(tmp_path, monkeypatch, capsys):
    """Runs the command line in the card's folder; (exit status, output and errors as one line)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(line):
        with pytest.raises(SystemExit) as ended:
            main(line.split())
        return int(ended.value.code or 0), " ".join("".join(capsys.readouterr()).split())

    return call


def save(file, n=6, classes=None):
    rng = np.random.default_rng(0)
    given = {}
    for split in SPLITS:
        for m, width in (("l", 4), ("a", 3)):
            given[f"{split}/features/{m}"] = rng.standard_normal((n, 5, width))
        given[f"{split}/targets"] = (
            np.arange(n) % classes if classes else rng.uniform(-3, 3, n).astype("f4")
        )
    np.savez(file, **given)


@pytest.fixture
def data(tmp_path):
    save(tmp_path / "mine.npz")


def test_a_short_card_is_read(card):
    read = cards.read(card())
    assert (
        read.task == Regression(-3, 3)
        and read.schedule == Schedule()
        and "mine.npz" in read.summary
    )
    cls = read.dataset("mine")
    assert cls.name == "mine" and cls.from_card and cls().make() is None and cls.stand_in is None


def test_a_long_card_is_read(card):
    read = cards.read(
        card(
            "file: below/mine.h5\n"
            "task: {kind: multi-binary, labels: [happy, sad]}\n"
            "summary: what a café says\n"
            "schedule: {learning_rate: 1e-3, batch_size: 7, epochs: 3, heads: 2, clip: 1,\n"
            "           output_dropout: 0, input_dropout: {l: 0.2}}\n"
        )
    )
    assert read.task == MultiBinary(("happy", "sad")) and read.summary == "what a café says"
    assert read.schedule == Schedule(1e-3, 7, 3, 1.0, 2, 0.1, 0.0, {"l": 0.2})
    read = cards.read(card("file: x\ntask: {kind: multi-class, classes: [a, b, c]}"))
    assert read.task == MultiClass(("a", "b", "c"))


def with_task(text):
    return f"file: mine.npz\ntask: {text}"


def with_schedule(text):
    return f"{CARD}schedule: {text}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CARD + "taks: 1", "the card: unknown key 'taks'; did you mean 'task'"),
        (CARD + "1: 1", "the card: expected KEY: VALUE"),
        ("", "the card: expected KEY: VALUE, got None"),
        ("[" * 60_000, "nested deeper than a card is"),
        ("a: " + "[" * 9 + "]" * 9, "nested deeper"),
        ("a: [", "not YAML"),
        ("a: 2001-99-99", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        ("!!python/object/apply:os.system [echo]", "not YAML"),
        ("a: &x [1]\nb: *x", r"has an alias \(\*x\)"),
        ("#" * 70_000, "more than 65536 bytes"),
        ("file: mine.npz", "task: missing"),
        ("task: {kind: regression, low: -3, high: 3}", "file: missing"),
        (CARD.replace("mine.npz", "[a]"), "file: expected a line of text"),
        (CARD + "summary: 3", "summary: expected a line of text, got 3"),
        (CARD + 'summary: "a\\e[1mb"', "summary: expected a line of text"),
        (with_task("regression"), "task: unknown kind 'regression'.*e.g. kind: regression"),
        (with_task("{kind: regresion, low: 1}"), "task: unknown kind.*did you mean 'regression'"),
        (with_task("{kind: [1]}"), "task: unknown kind"),
        (with_task("{kind: regression, low: -3}"), "task: regression needs high"),
        (with_task("{kind: regression, lo: -3, high: 3}"), "'lo'; did you mean 'low'"),
        (with_task("{kind: regression, low: 3, high: 3}"), r"low \(3\) must be below high"),
        (with_task("{kind: regression, low: -.inf, high: 3}"), "task, low: expected a number"),
        (with_task("{kind: regression, low: -3, high: .nan}"), "task, high: expected a number"),
        (with_task("{kind: multi-class, classes: [a]}"), "classes: expected two at least"),
        (with_task("{kind: multi-class, classes: [yes, no]}"), "got .True, False.; YAML takes"),
        (with_task("{kind: multi-class, classes: [a, a]}"), "expected different names"),
        (with_task("{kind: multi-binary, labels: []}"), "expected different names"),
        (with_schedule("{epoch: 3}"), "schedule: unknown key 'epoch'; did you mean 'epochs'"),
        (with_schedule("3"), "schedule: expected KEY: VALUE, got 3"),
        (with_schedule("{epochs: 0}"), "schedule, epochs: expected a whole number from 1, got 0"),
        (with_schedule("{epochs: 1.5}"), "expected a whole number"),
        (with_schedule("{epochs: yes}"), "expected a whole number from 1, got True"),
        (with_schedule("{learning_rate: 0}"), "learning_rate: expected a number above 0, got 0"),
        (with_schedule(f"{{learning_rate: 1{'0' * 400}}}"), "expected a number above 0, got 10000"),
        (with_schedule("{output_dropout: 1}"), "a number, 0 or above and below 1, got 1"),
        (with_schedule("{input_dropout: 0.1}"), "input_dropout: expected KEY: VALUE"),
        (with_schedule("{input_dropout: {l: a}}"), "input_dropout, l: expected a number"),
    ],
)
def test_what_a_card_should_not_say_is_named(card, text, told):
    with pytest.raises(DataError, match=rf"mine\.yaml: .*{told}") as caught:
        cards.read(card(text))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "file",
    [
        "../mine.npz",
        "/etc/passwd",
        "a/../../mine.npz",
        "..",
        "C:/x",
        "a\\..\\x",
        "\\\\host\\x",
    ],
)
def test_a_file_elsewhere_is_refused(card, data, file):
    read = cards.read(card(CARD.replace("mine.npz", f"'{file}'")))
    with pytest.raises(DataError, match=r"mine\.yaml: file: .* is not below the card's folder"):
        read.data_file()


def test_a_file_over_a_link_is_refused(card, data, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.npz").write_bytes(b"")
    (tmp_path / "folder" / "link.npz").symlink_to(tmp_path / "mine.npz")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for file in ("folder/link.npz", "link/mine.npz"):
        read = cards.read(card(CARD.replace("mine.npz", file)))
        with pytest.raises(DataError, match=f"'{file}' leads over a symbolic link"):
            read.data_file()
    read = cards.read(card(CARD.replace("mine.npz", "folder/mine.npz")))
    assert read.data_file() == tmp_path / "folder" / "mine.npz"
    for file in ("nothing.npz", "folder", "."):
        read = cards.read(card(CARD.replace("mine.npz", file)))
        with pytest.raises(DataError, match=f"there is no file '{file}' beside the card"):
            read.data_file()


@pytest.mark.parametrize(
    "name", ["all", "Mine", "../mine", "a.b", "", "a,b", "a@1", "-a", "é", "a\n"]
)
def test_a_name_must_do_as_a_files(card, name):
    with pytest.raises(DataError, match="expected a name of small letters"):
        cards.read(card()).dataset(name)


def test_a_card_is_imported_and_found_ever_after(mmbench, card, data, cache):
    listed = mmbench("list plugins")[1]
    assert "cards" in listed and "broken" not in listed  # though it registers nothing today
    card()
    status, out = mmbench("data import mine mine.yaml")
    assert status == 0 and "mine (real data)" in out
    assert (cache / "datasets" / "mine.yaml").read_text() == CARD
    assert discover().find("dataset", "mine").task == Regression(-3, 3)
    assert "one's own, mine.npz" in mmbench("list datasets")[1]  # the catalogue was made anew
    assert " mine real here " in mmbench("data list")[1]
    assert mmbench("data check mine")[0] == 0
    (cache / "datasets" / "mine-v1.h5").unlink()
    status, out = mmbench("data check mine")
    assert status == 2 and "not in the cache any more; import it again: mmbench data import" in out
    assert mmbench("data import mine mine.yaml")[0] == 0
    assert mmbench("data check mine")[0] == 0


def test_a_card_may_be_imported_again_and_differ(mmbench, card, data, tmp_path):
    card()
    mmbench("data import mine mine.yaml")
    save(tmp_path / "mine.npz", classes=3)
    card("file: mine.npz\ntask: {kind: multi-class, classes: [a, b, c]}", "new.yml")
    assert mmbench("data import mine new.yml")[0] == 0
    assert mmbench("data check mine")[0] == 0
    assert discover().find("dataset", "mine").task == MultiClass(("a", "b", "c"))
    assert mmbench("data import mine mine.npz")[0] == 0  # the card that is kept still describes it


@pytest.mark.parametrize(
    ("name", "told"), [("mosi", "already registered by plugin 'mosi'"), ("a.b", "small")]
)
def test_a_name_that_cannot_be_is_refused(mmbench, card, data, cache, name, told):
    card()
    status, out = mmbench(f"data import {name} mine.yaml")
    assert status == 2 and told in out
    assert not list((cache / "datasets").glob("*"))


def test_data_of_ones_own_without_a_card_gets_a_hint(mmbench, data):
    status, out = mmbench("data import mine mine.npz")
    assert status == 2 and "unknown dataset 'mine'" in out and "describe data of your own" in out


def test_a_failed_import_keeps_no_card(mmbench, card, data, cache):
    card(CARD.replace("high: 3", "high: -2"))
    status, out = mmbench("data import mine mine.yaml")
    assert status == 2 and "train/targets: scores must lie in [-3, -2]" in out
    assert cards.kept() == []


def test_a_broken_card_hurts_nobody_else(mmbench, card, data, cache):
    card()
    mmbench("data import mine mine.yaml")
    mmbench("data import other mine.yaml")
    (cache / "datasets" / "mine.yaml").write_text("task: [")
    found = discover()
    assert {"other", "mosi", "mosi-twin"} < set(found.classes["dataset"])
    assert "mine" not in found.classes["dataset"]
    status, out = mmbench("data check mine")
    assert status == 2 and "mine.yaml: not YAML" in out and "import it again" in out
    assert "mine.yaml: not YAML" in mmbench("list plugins")[1]
    assert mmbench("data check other")[0] == 0
    assert mmbench("data import mine mine.yaml")[0] == 0
    assert not discover().broken


def test_a_card_gives_way_to_a_plugins_data_set(mmbench, card, data, cache):
    card()
    mmbench("data import mine mine.yaml")
    for kept in list((cache / "datasets").glob("mine*")):
        kept.rename(kept.with_name(kept.name.replace("mine", "mosi")))
    found = discover()
    assert not found.find("dataset", "mosi").from_card and "mosi-twin" in found.classes["dataset"]
    assert set(found.broken) <= {"mosi"}  # the plugin that came first, or second


def test_workers_find_it_too(mmbench, card, data, tmp_path):
    card()
    mmbench("data import mine mine.yaml")
    words = "--protocol inter --store runs --leaderboards tables"
    status, out = mmbench(f"run --method constant --dataset mine --seeds 2 --jobs 2 {words}")
    assert status == 0, out
    assert "mine" in (tmp_path / "tables" / "mine.md").read_text()
