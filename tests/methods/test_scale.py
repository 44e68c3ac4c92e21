"""plugins/mmbench_methods/_scale.py."""

import numpy as np
import torch

from mmbench.batching import Split
from mmbench.data import DataSpec, ModalitySpec, Samples
from mmbench.tasks import Regression
from mmbench_methods._scale import Scale


def test_features_come_out_with_a_mean_square_of_1_over_the_valid_frames(make_data):
    data = make_data()
    samples = data.splits["train"]
    samples.features["a"][..., 1] *= 1000  # a feature in other units
    samples.features["v"][..., 2] = 0
    scale = Scale(DataSpec("x", data.modalities(), Regression(-3, 3)))
    split = Split(samples)
    batches = [split.training_batch(np.arange(start, start + 8), None) for start in (0, 8, 16)]
    before = scale(batches[0].features)
    assert all(torch.equal(before[m], batches[0].features[m]) for m in "lav")
    scale.measure(batches)
    for m, x in scale(split.features).items():
        size = x[split.valid[m]].square().mean(0).sqrt()
        expected = torch.ones_like(size)
        if m == "v":
            expected[2] = 0
        torch.testing.assert_close(size, expected)
        assert (x[~split.valid[m]] == 0).all()


def test_a_feature_that_no_sample_has_stays_0():
    samples = Samples(
        ("x",),
        {"l": np.zeros((1, 2, 3), np.float32)},
        {"l": np.zeros((1, 2), bool)},
        np.zeros((1, 1), np.float32),
    )
    batch = Split(samples).training_batch(np.arange(1), None)
    scale = Scale(DataSpec("x", {"l": ModalitySpec(2, 3)}, Regression(-3, 3)))
    scale.measure([batch])
    assert (scale(batch.features)["l"] == 0).all()
