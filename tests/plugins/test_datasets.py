"""plugins/mmbench_datasets: the twins."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmbench import datafile
from mmbench.data import SPLITS
from mmbench.tasks import MultiBinary, Regression
from mmbench_datasets import iemocap, mosei, mosi

TWINS = (iemocap.IEMOCAPTwin, mosi.MOSITwin, mosei.MOSEITwin)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))


def small(cls, share=0.02):
    """A twin of few utterances."""
    counts = {
        split: tuple(max(2, int(n * share)) for n in of_split)
        for split, of_split in cls.recipe.counts.items()
    }
    return type("Small", (cls,), {"recipe": dataclasses.replace(cls.recipe, counts=counts)})()


@pytest.mark.parametrize("cls", TWINS)
def test_a_twin_keeps_the_promises_of_data(cls):
    twin = small(cls)
    data = twin.make()
    datafile.check(data)
    assert data.synthetic and data.name.endswith("-twin") and "generator" in data.source
    assert list(data.modalities()) == ["l", "a", "v"]
    for split, samples in data.splits.items():
        assert samples.ids[1] == f"{cls.name}/{split}/00001"
        valid = samples.valid["l"]
        assert (np.diff(valid.astype(int), axis=1) >= 0).all() and valid.any(1).all()
        assert valid.sum(1).std() > 1
        for m in "av":
            np.testing.assert_array_equal(samples.valid[m], valid)
            np.testing.assert_array_equal(samples.features[m].any(-1), valid)
        if isinstance(cls.task, MultiBinary):
            assert (samples.targets.sum(1) == 1).all()
            assert tuple(samples.targets.sum(0)) == twin.recipe.counts[split]
        else:
            scores = samples.targets[:, 0]
            signs = tuple((np.sign(scores) == s).sum() for s in (-1, 0, 1))
            assert signs == twin.recipe.counts[split]
            steps = scores / cls.recipe.grid
            np.testing.assert_allclose(steps, np.rint(steps), atol=1e-5)


@pytest.mark.parametrize(
    ("real", "twin", "sizes", "length", "widths"),
    [
        (iemocap.IEMOCAP, iemocap.IEMOCAPTwin, (2717, 798, 938), 20, (300, 74, 35)),
        (mosi.MOSI, mosi.MOSITwin, (1284, 229, 686), 50, (300, 5, 20)),
        (mosei.MOSEI, mosei.MOSEITwin, (16326, 1871, 4659), 50, (300, 74, 35)),
    ],
)
def test_a_twin_has_the_shape_of_the_real_data(real, twin, sizes, length, widths):
    assert real.stand_in == twin.name and not real.synthetic and twin.synthetic
    assert real.task == twin.task and real.schedule == twin.schedule
    assert tuple(sum(twin.recipe.counts[s]) for s in SPLITS) == sizes
    assert twin.recipe.length == length
    assert tuple(m.width for m in twin.recipe.modalities.values()) == widths
    assert real().make() is None


def test_the_counts_of_the_published_test_splits():
    assert iemocap.TASK.labels == ("happy", "sad", "angry", "neutral")
    assert iemocap.IEMOCAPTwin.recipe.counts["test"] == (135, 193, 227, 383)
    assert mosi.MOSITwin.recipe.counts["test"] == (379, 30, 277)
    assert mosei.MOSEITwin.recipe.counts["test"] == (1350, 1025, 2284)
    assert mosi.TASK == mosei.TASK == Regression(-3, 3)


def test_a_twin_is_a_pure_function_of_its_version(monkeypatch):
    np.random.seed(1)  # noqa: NPY002 - it must not matter
    first = datafile.content_hash(small(mosi.MOSITwin).make())
    np.random.seed(2)  # noqa: NPY002
    assert datafile.content_hash(small(mosi.MOSITwin).make()) == first
    monkeypatch.setattr(mosi.MOSITwin, "version", mosi.MOSITwin.version + 1)
    assert datafile.content_hash(small(mosi.MOSITwin).make()) != first


def test_memory_beside_the_result_is_bounded():
    counts = {"train": (400, 400, 4000), "valid": (1, 1, 1), "test": (1, 1, 1)}
    modalities = {"l": mosei.MOSEITwin.recipe.modalities["l"]}
    recipe = dataclasses.replace(mosei.MOSEITwin.recipe, counts=counts, modalities=modalities)
    twin = type("Small", (mosei.MOSEITwin,), {"recipe": recipe})()
    tracemalloc.start()
    try:
        size = twin.make().splits["train"].features["l"].nbytes
        assert tracemalloc.get_traced_memory()[1] < 1.4 * size
    finally:
        tracemalloc.stop()


def probe(data, modalities, label=0):
    """Weighted F1 of a linear probe on the mean valid frame; of positive against negative scores."""

    def split(name):
        samples = data.splits[name]
        n = samples.valid["l"].sum(1, keepdims=True)
        x = np.concatenate([samples.features[m].sum(1) / n for m in modalities], 1)
        y = samples.targets[:, label]
        keep = y != 0 if isinstance(data.task, Regression) else y >= 0
        return x[keep], y[keep] > 0

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    (x, y), (x_test, y_test) = split("train"), split("test")
    return 100 * f1_score(y_test, model.fit(x, y).predict(x_test), average="weighted")


def test_the_signal_of_the_mosi_twin():
    data = mosi.MOSITwin().make()
    scores = {m: probe(data, m) for m in ("l", "a", "v", "av", "lav")}
    assert 70 < scores["l"] < 82  # a model that finds the cue frames reaches more
    assert 58 < scores["v"] < scores["l"] and 58 < scores["a"] < scores["l"]  # the floor is 42
    assert max(scores["a"], scores["v"]) < scores["av"] < scores["lav"]
    assert scores["l"] < scores["lav"] < 85


def test_the_signal_of_the_iemocap_twin():
    data = iemocap.IEMOCAPTwin().make()
    assert len(data.splits["test"]) == 938
    for label, floor in ((1, 70.3), (2, 65.4), (3, 44.0)):  # sad, angry, neutral
        scores = {m: probe(data, m, label) for m in ("l", "a", "v", "lav")}
        assert floor + 2 < min(scores.values()) and max(scores.values()) < 92
        assert scores["a"] < scores["l"] < scores["lav"] and scores["v"] < scores["l"]
