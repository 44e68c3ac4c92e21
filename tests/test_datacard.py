"""mmbench/datacard and mmbench/cli/card.py: data sets in which one thing is wrong, each found alone."""

import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench import datafile
from mmbench.cli import main
from mmbench.data import SPLITS, Data, Dataset, Samples
from mmbench.datacard import DataCard, features
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench_datasets import iemocap, mosei, mosi
from mmbench_importers.mult import MulT
from mmbench_metrics.classification import WeightedF1
from mmbench_metrics.regression import F1, MAE

SCORE = Regression(-3, 3)
YES_NO = MultiBinary(("happy", "sad"))
CLASSES = MultiClass(("low", "mid", "high"))
METRICS = {SCORE: [F1(), MAE()], YES_NO: [WeightedF1()], CLASSES: [WeightedF1()]}


class Any(Dataset):
    name, summary, task = "any", "", SCORE


def made(task=SCORE, widths=None, n=42, length=5, side="front", seed=0, synthetic=False):
    """A data set in which nothing is wrong, whose splits have the same targets in another order."""
    rng = np.random.default_rng(seed)

    def split(name):
        words = rng.integers(1, length + 1, (n, 1))
        valid = np.arange(length) < words
        if side == "front":
            valid = valid[:, ::-1].copy()
        kinds = {SCORE: np.arange(n) % 7 - 3.0, CLASSES: np.arange(n) % 3}
        targets = kinds[task][:, None] if task in kinds else np.arange(n)[:, None] // [1, 2] % 2
        return Samples(
            tuple(f"{name}-{i}" for i in range(n)),
            {
                m: rng.standard_normal((n, length, width), dtype=np.float32) * valid[..., None]
                for m, width in (widths or {"l": 4, "a": 3}).items()
            },
            {m: valid.copy() for m in widths or "la"},
            task.check(rng.permutation(targets)),
        )

    return Data(
        "any", task, {s: split(s) for s in SPLITS}, synthetic, {"file": "any.pkl"}, "0" * 64
    )


def card(data, dataset=None):
    return DataCard.of(data, dataset or Any(), METRICS[data.task])


@pytest.mark.parametrize("task", METRICS)
@pytest.mark.parametrize("side", ["front", "back"])
def test_nothing_is_wrong(task, side):
    data = made(task, side=side)
    datafile.check(data)
    assert card(data).findings == ()
    assert {m.side for m in card(data).modalities.values()} == {side}


def only(data, at, value, m="a", split="train"):
    """Sets features of valid frames."""
    x, valid = data.splits[split].features[m], data.splits[split].valid[m]
    x[at] = value
    x[~valid] = 0


def column(number, value):
    return lambda data: only(data, (..., number), value)


def gone(data, m="a", splits=SPLITS, rows=slice(None)):
    """Takes a modality away."""
    for split in splits:
        data.splits[split].features[m][rows] = 0
        data.splits[split].valid[m][rows] = False


def copy(data, source, target, targets=True):
    """Puts the sample at `source`, a split and row, in the place of that at `target`."""
    (s, i), (t, j) = source, target
    for m in "la":
        data.splits[t].features[m][j] = data.splits[s].features[m][i]
        data.splits[t].valid[m][j] = data.splits[s].valid[m][i]
    # swapped with another one of the split, so that shares stay what they are
    y, like = data.splits[t].targets, data.splits[s].targets[i]
    where = np.flatnonzero((y == like).all(1) == targets)[0]
    y[[j, where]] = y[[where, j]]


def zero_frames(data):
    for split in SPLITS:
        data.splits[split].features["a"][:, -1] = 0


def holes(data):
    """A frame in the middle of a long sample becomes padding."""
    valid = data.splits["test"].valid
    row = np.flatnonzero(valid["a"].all(1))[0]
    valid["a"][row, 2] = False
    data.splits["test"].features["a"][row, 2] = 0


def same_columns(data):
    x = data.splits["train"].features["l"]
    x[..., 3] = x[..., 1]


def rare_column(data):
    only(data, (..., 1), 0)
    row = np.flatnonzero(data.splits["train"].valid["a"][:, -1])[0]
    data.splits["train"].features["a"][row, -1, 1] = 5


def sort_targets(data):
    """The test split becomes mostly positive."""
    data.splits["test"].targets[:] = np.abs(data.splits["test"].targets)


def set_targets(split, value, label=0):
    return lambda data: data.splits[split].targets.__setitem__((slice(None), label), value)


def no_class(data):
    y = data.splits["train"].targets
    y[y == 2] = 1


def ids(split, *names):
    def apply(data):
        given = data.splits[split].ids
        data.splits[split] = replace(data.splits[split], ids=(*names, *given[len(names) :]))

    return apply


def both(*changes):
    def apply(data):
        for change in changes:
            change(data)

    return apply


LEAK = (
    "2 samples in 1 set of equal features stand in more than one split.*train:train-3 = test:test-5"
)


@pytest.mark.parametrize(
    ("task", "spoil", "level", "where", "text"),
    [
        (
            SCORE,
            lambda d: only(d, (0, -1, 0), np.nan, split="test"),
            "serious",
            "a",
            "^1 values are NaN",
        ),
        (SCORE, lambda d: only(d, (0, -1), -np.inf), "serious", "a", "^3 values are NaN"),
        (
            SCORE,
            lambda d: gone(d, splits=["test"]),
            "serious",
            "test, a",
            "no sample has a valid frame",
        ),
        (
            SCORE,
            lambda d: gone(d, rows=slice(2), splits=["valid"]),
            "note",
            "valid, a",
            "^2 samples",
        ),
        (
            SCORE,
            lambda d: gone(d, rows=slice(5), splits=["test"]),
            "warning",
            "test, a",
            "^5 samples",
        ),
        (
            SCORE,
            lambda d: only(d, (0, -1, 0), -2e4),
            "warning",
            "a",
            "^1 values are beyond 10000, up to",
        ),
        (SCORE, zero_frames, "warning", "a", r"% of the valid frames are all zero"),
        (SCORE, column(1, 7), "warning", "train, a", "^1 of 3 columns are constant.*: 1;"),
        (SCORE, column(2, 0), "warning", "train, a", "^1 of 3 columns are constant.*: 2;"),
        (SCORE, same_columns, "warning", "train, l", "the same throughout: 1 = 3;"),
        (SCORE, rare_column, "note", "train, a", r"^1 columns are zero in more than 99%.*: 1;"),
        (SCORE, holes, "warning", "a", "padding is on both sides, or between frames"),
        (SCORE, sort_targets, "warning", "sentiment", "train and test differ by 0.43"),
        (YES_NO, lambda d: copy(d, ("train", 3), ("test", 5)), "serious", "samples", LEAK),
        (SCORE, lambda d: copy(d, ("train", 3), ("test", 5)), "serious", "samples", LEAK),
        (
            SCORE,
            lambda d: copy(d, ("train", 3), ("train", 5)),
            "warning",
            "samples",
            "2 samples in 1 set of equal features stand in one split",
        ),
        (
            SCORE,
            both(ids("train", "x[1]", "y[2]"), ids("test", "x[3]", "z[1]")),
            "serious",
            "ids",
            "^1 of 3 videos or speakers.*: x in train and test;",
        ),
        (
            SCORE,
            lambda d: d.source.update(not_finite="12"),
            "warning",
            "source",
            "^12 values were NaN",
        ),
    ],
)
def test_one_thing_is_wrong(task, spoil, level, where, text):
    data = made(task)
    spoil(data)
    (finding,) = card(data).findings
    assert (finding.level, finding.where) == (level, where)
    assert re.search(text, finding.text), finding.text
    assert card(data).serious == (level == "serious")


def found(data, dataset=None):
    return [(f.level, f.where) for f in card(data, dataset).findings]


def test_a_constant_target_is_serious():
    data = made()
    set_targets("test", 1)(data)
    assert ("serious", "test, sentiment") in found(data)
    data = made(YES_NO)
    set_targets("train", 0, label=1)(data)  # never in train
    assert ("serious", "train, sad") in found(data)
    data = made(YES_NO)
    set_targets("train", 1, label=0)(data)  # always in train
    assert ("serious", "train, happy") in found(data)
    data = made(YES_NO)
    set_targets("test", 0, label=1)(data)  # nothing to find in test
    assert found(data) == [("warning", "test, sad"), ("warning", "sad")]


def test_a_class_that_train_lacks_is_serious():
    data = made(CLASSES)
    no_class(data)
    (serious, drift) = card(data).findings
    assert serious.level == "serious" and "no sample is of class high" in serious.text
    assert drift.level == "warning"


def test_the_same_features_with_different_targets():
    data = made()
    copy(data, ("train", 3), ("train", 5), targets=False)
    same, contradict = card(data).findings
    assert same.level == contradict.level == "warning"
    assert "stand in one split" in same.text
    assert "2 samples in 1 set of equal features have different targets" in contradict.text


def test_single_modalities_that_are_the_same_are_no_leak():
    data = made()
    gone(data, splits=["train"], rows=3)
    copy(data, ("train", 3), ("test", 5))
    assert found(data) == [("warning", "samples"), ("note", "train, a"), ("note", "test, a")]
    data = made(widths={"l": 4})  # unless the data set has no more
    for of in ("features", "valid"):
        getattr(data.splits["test"], of)["l"][5] = getattr(data.splits["train"], of)["l"][3]
    assert ("serious", "samples") in found(data)


def test_samples_with_nothing_are_empty_and_not_the_same():
    data = made()
    for m in "la":
        gone(data, m, ["train", "test"], rows=3)
    assert ("warning", "train") in found(data) and ("warning", "test") in found(data)
    assert card(data).empty == {"train": 1, "valid": 0, "test": 1} and not card(data).repeats
    assert not card(data).serious


def test_sizes_other_than_the_published():
    class Published(Any):
        expected_sizes = {"train": 42, "valid": 42, "test": 42}  # noqa: RUF012

    assert found(made(), Published()) == []
    (finding,) = card(made(n=49), Published()).findings
    assert (
        finding.level == "note" and "49/49/49 samples, the published data has 42/42" in finding.text
    )


def test_the_published_sizes():
    for module, sizes in (
        (mosi, (1284, 229, 686)),
        (mosei, (16326, 1871, 4659)),
        (iemocap, (2717, 798, 938)),
    ):
        for cls in module.mmbench_register_datasets():
            assert tuple((cls.expected_sizes or {}).values()) == sizes


def test_the_worst_comes_first():
    data = made()
    rare_column(data)
    sort_targets(data)
    copy(data, ("train", 3), ("test", 5))
    assert [level for level, _ in found(data)] == ["serious", "warning", "note"]


@pytest.mark.parametrize(
    ("sample_id", "group"),
    [
        ("03bSnISJMiM$_$3", "03bSnISJMiM"),
        ("-a_b[12]", "-a_b"),
        ("_dI--eQ_0.5_1.5", "_dI--eQ"),
        ("100178_3_9.125", "100178"),
        ("100178_3.5_9", "100178"),
        ("Af8D0E4ZXaw_12", "Af8D0E4ZXaw"),
        ("Af8_3_12", "Af8_3"),  # whole numbers are no seconds
        ("video_3#2", "video"),
        ("train-17", None),
        ("mosi-twin/train/00017", None),
        ("Ses01F_impro01_F000", None),
        ("video", None),
        ("_3", None),
        ("", None),
    ],
)
def test_the_group_that_an_id_tells(sample_id, group):
    assert Any().group_of(sample_id) == group


def test_groups():
    class Speakers(Any):
        def group_of(self, sample_id):
            return sample_id.partition("-")[2] if sample_id.endswith(("-1", "-2")) else None

    groups = card(made(), Speakers()).groups
    assert (groups.told, groups.count) == (6, 2)
    assert groups.shared == dict.fromkeys(["1", "2"], SPLITS)
    data = made()
    for split in SPLITS:  # one prefix for all is not a group
        ids(split, *(f"utterance_{SPLITS.index(split)}{i:02}" for i in range(42)))(data)
    assert card(data).groups.told == 0 and card(data).findings == ()


def test_facts_of_modalities():
    data = made(length=3, widths={"l": 2, "a": 1}, side="back")
    x, valid = (getattr(data.splits["valid"], of)["l"] for of in ("features", "valid"))
    gone(data, "l", ["valid"])
    valid[0, :2], x[0, :2], valid[1, :1], x[1, :1] = True, [[0, 0], [3, 4]], True, 10
    facts = card(data).modalities["l"]
    assert (facts.length, facts.width, facts.side) == (3, 2, "back")
    lengths = facts.lengths["valid"]
    assert (lengths.least, lengths.mean, lengths.most, lengths.without) == (1, 1.5, 2, 40)
    every = np.concatenate([s.features["l"][s.valid["l"]] for s in data.splits.values()])
    np.testing.assert_allclose(
        [facts.low, facts.high, facts.mean, facts.std],
        [every.min(), every.max(), every.mean(dtype=float), every.std(dtype=float)],
        rtol=1e-6,
    )
    assert facts.zero_frames == pytest.approx(1 / len(every))
    has = np.concatenate([s.valid["l"][s.valid["l"].any(1)] for s in data.splits.values()])
    assert facts.padding == pytest.approx(1 - has.mean())


def test_constant_columns_are_not_told_twice():
    data = made(widths={"l": 4, "a": 3})
    only(data, (..., slice(1, 3)), 0)
    (finding,) = card(data).findings
    assert finding.text.startswith("2 of 3 columns are constant")
    assert card(data).modalities["a"].duplicate == ()


def test_one_frame_does_not_make_columns_constant():
    data = made()
    gone(data, splits=["train"], rows=slice(1, None))
    data.splits["train"].valid["a"][0] = [False] * 4 + [True]
    data.splits["train"].features["a"][0, :-1] = 0
    assert card(data).modalities["a"].constant == ()


def test_zeros_of_other_length_are_not_the_same():
    data = made()
    for m in "la":
        gone(data, m, ["train"], rows=slice(2))
        data.splits["train"].valid[m][0, -1:] = True
        data.splits["train"].valid[m][1, -2:] = True
    assert card(data).repeats == ()
    data.splits["train"].valid["l"][1] = data.splits["train"].valid["l"][0]
    data.splits["train"].valid["a"][1] = data.splits["train"].valid["a"][0]
    assert len(card(data).repeats) == 1


def test_single_frames_have_no_padding():
    data = made(length=1)
    assert {m.side for m in card(data).modalities.values()} == {"none"}
    assert card(data).findings == ()


def test_facts_of_labels():
    facts = card(made(CLASSES)).labels["class"]
    assert facts.bins == ("low", "mid", "high") and facts.counts["test"] == (14, 14, 14)
    facts = card(made(YES_NO)).labels["sad"]
    assert facts.bins == ("no", "yes") and facts.means["valid"] == pytest.approx(20 / 42)
    data = made()
    data.splits["test"].targets[:, 0] = [-2.5, 2.6, *[0.4] * 40]  # a half goes to the even one
    facts = card(data).labels["sentiment"]
    assert facts.counts["test"] == (0, 1, 0, 40, 0, 0, 1)
    assert facts.drift == pytest.approx(40 / 42 - 1 / 7) and facts.drifted == ("train", "test")


def test_floors_are_those_of_the_test_split():
    data = made(synthetic=True)
    data.splits["test"].targets[:] = [[-1]] * 30 + [[2]] * 12
    made_card = card(data)
    assert made_card.headline == "f1" and made_card.floors["mae"]["sentiment"] == pytest.approx(
        36 / 42
    )
    assert made_card.metrics["f1"]["unit"] == "%"


def test_chunks_do_not_show(monkeypatch):
    data = made(widths={"l": 3, "a": 1})
    same_columns_of = data.splits["train"].features["l"]
    same_columns_of[..., 2] = same_columns_of[..., 0]
    whole = card(data).to_dict()
    monkeypatch.setattr(features, "CHUNK", 1)
    assert card(data).to_dict() == whole and whole["modalities"]["l"]["duplicate"] == [[0, 2]]


def test_memory_beside_the_data_is_bounded():
    data = made(n=1400, length=50, widths={"l": 100})  # 28 MB a split
    tracemalloc.start()
    try:
        card(data)
        assert tracemalloc.get_traced_memory()[1] < 7 * features.CHUNK
    finally:
        tracemalloc.stop()


@given(
    task=st.sampled_from(list(METRICS)),
    widths=st.dictionaries(st.sampled_from("lavx"), st.integers(1, 4), min_size=2),
    n=st.integers(14, 40),
    length=st.integers(1, 6),
    side=st.sampled_from(["front", "back"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_clean_data_set_has_nothing_serious(task, widths, n, length, side, seed):
    data = made(task, widths, n, length, side, seed)
    datafile.check(data)
    assert not card(data).serious
    json.dumps(card(data).to_dict(), allow_nan=False)


@pytest.fixture
def mmbench(tmp_path, monkeypatch, capsys):
    """Runs the command line with a cache of its own; gives (exit status, output, errors)."""
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "150")

    def call(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def import_mosi(mmbench, tmp_path):
    """Imports a small pickle of MulT, spoilt as told, as mosi."""

    def call(spoil=lambda content: None):
        keys = {"l": "text", "a": "audio", "v": "vision"}
        data = made(widths={"l": 4, "a": 3, "v": 2})
        content = {
            split: {
                **{keys[m]: x.copy() for m, x in s.features.items()},
                "labels": s.targets[..., None],
                "id": [(f"{split}{i // 10}[b]<b>|", i) for i in range(len(s))],
            }
            for split, s in data.splits.items()
        }
        spoil(content)
        file = tmp_path / "mosi_data.pkl"
        file.write_bytes(pickle.dumps(content))
        status, out, _ = mmbench("data", "import", "mosi", str(file))
        assert status == 0
        return out

    return call


def leak(content):
    """A sample of train stands in test, and so does its video; one value is not finite."""
    for key in ("text", "audio", "vision", "labels", "id"):
        content["test"][key][2] = content["train"][key][1]
    content["valid"]["audio"][0, -1, 0] = -np.inf


@pytest.mark.parametrize("form", ["text", "md", "json"])
def test_the_exit_status(mmbench, import_mosi, form):
    import_mosi()
    assert mmbench("data", "check", "mosi", "--format", form)[0] == 0
    import_mosi(leak)
    assert mmbench("data", "check", "mosi", "--format", form)[0] == 1


def test_problems_come_first_on_screen(mmbench, import_mosi):
    assert "serious" not in import_mosi()
    imported = import_mosi(leak)
    _, out, err = mmbench("data", "check", "mosi")
    lines = out.splitlines()
    assert not err and lines[0] == "mosi (real data): 2 serious, 1 warning, 1 note"
    assert [line.partition(":")[0] for line in lines[1:5]] == ["serious"] * 2 + ["warning", "note"]
    assert "train0[b]<b>|" in out and out in imported  # an import ends with the same
    for told in ("Modalities", "Samples", "Targets", "Floors", "F1 (%)", "not_finite: 1"):
        assert told in out


def test_the_markdown_is_whole(mmbench, import_mosi):
    import_mosi(leak)
    _, out, err = mmbench("data", "check", "mosi", "--format", "md")
    assert not err and out.startswith(
        "# mosi\n\n## Findings: 2 serious, 1 warning, 1 note\n\n- **serious**"
    )
    assert "train0\\[b]&lt;b>\\|" in out
    headings = [line for line in out.splitlines() if line.startswith("## ")]
    assert len(headings) == 5
    tables = [line for line in out.splitlines() if line.startswith("|")]
    for row in tables:
        assert row.endswith("|")
    assert any(re.match(r"\| sentiment +\| +train \| +6 \|", row) for row in tables)


def test_the_json_is_sorted_and_stable(mmbench, import_mosi):
    import_mosi(leak)
    first, again = (mmbench("data", "check", "mosi", "--format", "json") for _ in range(2))
    assert first == again and not first[2]
    content = json.loads(first[1])
    assert first[1] == json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert [f["level"] for f in content["findings"]] == ["serious", "serious", "warning", "note"]
    assert content["sizes"] == dict.fromkeys(SPLITS, 42)
    assert content["expected_sizes"] == {"train": 1284, "valid": 229, "test": 686}
    assert content["groups"]["shared"] == {"train0[b]<b>|": ["train", "test"]}
    assert content["modalities"]["v"]["width"] == 2 and content["source"]["not_finite"] == "1"
    assert content["labels"]["sentiment"]["counts"]["train"] == [6] * 7
    assert set(content["floors"]) == set(content["metrics"]) and content["headline"] == "f1"


@pytest.mark.parametrize("form", ["text", "md", "json"])
def test_a_twin_says_that_it_is_synthetic(mmbench, monkeypatch, form):
    few = replace(mosi.MOSITwin.recipe, counts=dict.fromkeys(SPLITS, (3, 3, 3)), scores=(-1, 0, 1))
    monkeypatch.setattr(mosi.MOSITwin, "recipe", few)
    _, out, err = mmbench("data", "check", "mosi", "--format", form)
    told = err if form != "text" else out
    assert "synthetic: mosi has not been imported" in " ".join(told.split())
    assert {"text": "synthetic twin", "md": "**Synthetic data.**", "json": '"synthetic": true'}[
        form
    ] in out
    if form == "json":
        json.loads(out)


@pytest.mark.skipif(
    "MMBENCH_REAL_MOSI" not in os.environ,
    reason="MMBENCH_REAL_MOSI does not name the folder of export.py, which has the real CMU-MOSI",
)
def test_real_mosi(tmp_path):
    script = Path(os.environ["MMBENCH_REAL_MOSI"]) / "export.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True)

    def of(name):
        data, _ = MulT().read([tmp_path / name / "mosi_data_noalign.pkl"], mosi.MOSI())
        return DataCard.of(data, mosi.MOSI(), METRICS[SCORE])

    for name, sizes, videos in (
        ("trimodal", (437, 86, 229), 31),
        ("standard", (1284, 229, 686), 93),
    ):
        made_card = of(name)
        assert not made_card.serious and not made_card.repeats
        assert tuple(made_card.sizes.values()) == sizes
        assert made_card.groups.told == sum(sizes) and made_card.groups.count == videos
        l, a = (made_card.modalities[m] for m in "la")  # noqa: E741
        assert (l.length, l.width, l.side) == (50, 300, "front")
        assert (a.length, a.width, a.side) == (1, 73, "none")
        told = [(f.level, f.where) for f in made_card.findings]
        assert ("warning", "sentiment") in told  # train leans to positive, test to negative
        assert (("note", "splits") in told) == (name == "trimodal")
    assert made_card.floors["f1"]["sentiment"] == pytest.approx(0.4231, abs=5e-5)
