"""mmbench/evaluation.py."""

import hashlib

import numpy as np
import pytest
import torch

import mmbench
from mmbench.batching import Split
from mmbench.data import DataSpec
from mmbench.evaluation import averages, describe, evaluate, trials
from mmbench_metrics.regression import mmbench_register_metrics
from mmbench_missing.inter import Inter
from mmbench_missing.intra import Intra

METRICS = [cls() for cls in mmbench_register_metrics()]


class Mean(mmbench.Method):
    """Predicts the mean of what it sees of language; keeps every batch that it met."""

    name = "mean"

    def __init__(self, spec):
        super().__init__(spec)
        self.met: list[mmbench.Batch] = []

    def forward(self, batch):
        self.met.append(batch)
        return batch.features["l"].mean((1, 2))[:, None]


@pytest.fixture
def ran(make_data):
    data = make_data()
    spec = DataSpec(data.name, data.modalities(), data.task)
    method, test = Mean(spec), Split(data.splits["test"])
    return method, test, evaluate(method, test, [Inter(), Intra()], METRICS)


def test_every_condition_and_mask_seed_is_tested(ran):
    _, _, result = ran
    keys = set(result.predictions)
    assert {"inter/l/0", "inter/lav/0", "intra/0.1/0", "intra/1.0/2"} <= keys
    assert len(keys) == 7 + 10 * Intra.mask_seeds


def test_predictions_are_the_methods_on_the_masked_samples(ran):
    _, test, result = ran
    (trial,) = [t for t in trials([Intra()], "lav") if t.key == "intra/0.4/1"]
    seen = trial.masks(test.samples, "small")["l"]
    expected = (test.samples.features["l"] * seen[..., None]).mean((1, 2))[:, None]
    np.testing.assert_allclose(result.predictions["intra/0.4/1"], expected, atol=1e-6)


def test_a_method_sees_neither_targets_nor_names_nor_hidden_frames(ran):
    method, _, _ = ran
    for batch in method.met:
        assert batch.targets is None and batch.index is None and batch.complete is None
        for m, x in batch.features.items():
            assert (x[~batch.observed[m]] == 0).all()


def test_intra_at_one_is_what_nobody_sees(ran):
    _, _, result = ran
    assert (result.predictions["intra/1.0/0"] == result.predictions["intra/1.0/0"][0]).all()


def test_labels_of_the_test_split_do_not_matter_to_predictions(make_data):
    data = make_data()
    spec = DataSpec(data.name, data.modalities(), data.task)
    test = Split(data.splits["test"])
    before = evaluate(Mean(spec), test, [Inter()], METRICS).predictions
    test.targets.copy_(test.targets.flip(0))
    after = evaluate(Mean(spec), test, [Inter()], METRICS).predictions
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])


def test_averages_are_the_protocols(ran):
    _, _, result = ran
    rows = [r for r in result.scores if r["protocol"] == "inter" and r["metric"] == "mae"]
    expected = np.mean([r["value"] for r in rows if r["condition"] != "lav"])
    (average,) = [r for r in result.averages if r["protocol"] == "inter" and r["metric"] == "mae"]
    assert average["value"] == pytest.approx(expected)
    assert len(
        averages([Intra()], "lav", [r for r in result.scores if r["protocol"] == "intra"])
    ) == (Intra.mask_seeds * len(METRICS))


def test_description_gives_the_rates_that_really_occurred(make_data):
    data = make_data()
    spec = DataSpec(data.name, data.modalities(), data.task)
    facts = describe(Intra(), data.splits["test"], spec)
    n = data.splits["test"].valid["a"].sum(1)
    expected = np.rint(0.3 * n).sum() / n.sum()
    assert facts["effective_rate"]["0.3"]["a"] == pytest.approx(expected)
    assert facts["effective_rate"]["1.0"] == {"l": 1.0, "a": 1.0, "v": 1.0}
    assert facts["mask_seeds"] == 3


def test_hash_is_of_all_masks(make_data):
    data = make_data()
    spec = DataSpec(data.name, data.modalities(), data.task)
    test = data.splits["test"]
    digest = hashlib.sha256()
    for trial in trials([Inter()], list("lav")):
        digest.update(trial.key.encode())
        for m in "lav":
            mask = test.valid[m] & (m in trial.condition.observed)
            digest.update(np.packbits(mask).tobytes())
    assert describe(Inter(), test, spec)["sha256"] == digest.hexdigest()


def test_a_prediction_that_is_not_finite_is_named(make_data):
    class Nan(Mean):
        def forward(self, batch):
            return torch.full((len(batch), 1), torch.nan)

    data = make_data()
    spec = DataSpec(data.name, data.modalities(), data.task)
    with pytest.raises(FloatingPointError, match="inter/l/0: the method predicts NaN or infinity"):
        evaluate(Nan(spec), Split(data.splits["test"]), [Inter()], METRICS)
