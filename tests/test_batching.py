"""mmbench/batching.py."""

import numpy as np
import torch

from mmbench.batching import Split, conceal, in_order


def test_what_is_hidden_is_zero_whatever_stood_there():
    x = torch.tensor([[[float("nan")], [2.0], [float("inf")]]])
    valid = torch.tensor([[True, True, True]])
    observed = torch.tensor([[False, True, False]])
    batch = conceal({"l": x}, {"l": valid}, {"l": observed})
    assert batch.features["l"].flatten().tolist() == [0.0, 2.0, 0.0]
    assert batch.valid["l"].all()


def test_the_length_of_an_absent_sequence_is_hidden_too():
    valid = torch.tensor([[False, True, True], [True, True, True]])
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    batch = conceal({"l": torch.ones(2, 3, 1)}, {"l": valid}, {"l": nothing})
    assert not batch.valid["l"].any()
    assert batch.available.tolist() == [[False], [False]]


def test_a_mask_never_reveals_padding(make_data):
    samples = make_data().splits["train"]
    split = Split(samples)
    everything = {m: np.ones_like(v) for m, v in samples.valid.items()}
    batch = split.batch(slice(0, 5), {m: v[:5] for m, v in everything.items()})
    for m, v in samples.valid.items():
        np.testing.assert_array_equal(batch.observed[m].numpy(), v[:5])


def test_testing_has_no_targets_and_training_has(make_data):
    split = Split(make_data().splits["train"])
    assert split.batch(slice(0, 3)).targets is None
    rows = np.array([4, 1])
    batch = split.training_batch(rows, None, paired=True, epoch=2)
    assert batch.index is not None and batch.index.tolist() == [4, 1]
    assert torch.equal(batch.truth, split.targets[torch.tensor([4, 1])])
    assert batch.complete is not None and batch.complete.epoch == 2


def test_paired_data_keeps_the_complete_sample(make_data):
    samples = make_data().splits["train"]
    rows = np.arange(4)
    nothing = {m: np.zeros_like(v[:4]) for m, v in samples.valid.items()}
    batch = Split(samples).training_batch(rows, nothing, paired=True)
    assert batch.complete is not None
    for m, x in samples.features.items():
        assert (batch.features[m] == 0).all()
        np.testing.assert_array_equal(batch.complete.features[m].numpy(), x[:4])


def test_in_order_covers_everything_once():
    assert [list(range(7))[at] for at in in_order(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
