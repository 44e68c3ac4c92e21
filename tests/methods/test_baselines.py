"""plugins/mmbench_methods: late_fusion.py and constant.py."""

import numpy as np
import pytest
import torch

from mmbench.batching import Split
from mmbench.data import DataSpec, Schedule
from mmbench.missingness import subsets
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench.training import predict, train
from mmbench_methods.constant import Constant
from mmbench_methods.late_fusion import LateFusion
from mmbench_missing.msm import MSM

TASKS = [Regression(-3, 3), MultiBinary(("w", "x", "y", "z")), MultiClass(("x", "y", "z"))]


def made(cls, make_data, task=TASKS[0], modalities="lav", **schedule):
    data = make_data(task, modalities)
    chosen = Schedule(**{"heads": 2, "batch_size": 8, "epochs": 1, **schedule})
    splits = {name: Split(samples) for name, samples in data.splits.items()}
    return cls(DataSpec(data.name, data.modalities(), task, chosen)), splits


@pytest.mark.parametrize("task", TASKS)
def test_constant_predicts_the_prior_whatever_it_sees(make_data, task):
    method, splits = made(Constant, make_data, task)
    train(method, splits["train"], splits["valid"], MSM(), 0)
    outputs = predict(method, splits["test"], [None])[0]
    assert (outputs == outputs[0]).all()
    targets = splits["train"].samples.targets
    if isinstance(task, Regression):
        assert outputs[0, 0] == pytest.approx(targets.mean(), rel=1e-5)
    elif isinstance(task, MultiBinary):
        yes = (targets.sum(0) + 0.5) / (len(targets) + 1)
        np.testing.assert_allclose(np.exp(outputs[0].reshape(-1, 2)[:, 1]), yes, rtol=1e-5)
    else:
        assert np.exp(outputs[0]).sum() == pytest.approx(1)
    assert not list(method.parameters())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("modalities", ["la", "lav", "lavx"])
def test_late_fusion_fits_any_task_and_number_of_modalities(make_data, task, modalities):
    method, splits = made(LateFusion, make_data, task, modalities)
    assert predict(method, splits["test"], [None])[0].shape == (10, task.n_out)


def test_late_fusion_puts_its_learned_vector_where_a_modality_is_absent(make_data):
    method, splits = made(LateFusion, make_data)
    torch.nn.init.normal_(method.absent)
    method.eval()
    valid = splits["test"].samples.valid
    for subset in subsets("lav"):
        masks = {m: v & (m in subset) for m, v in valid.items()}
        joint = method.represent(splits["test"].batch(slice(None), masks)).unflatten(1, (3, -1))
        for column, m in enumerate("lav"):
            same = (joint[:, column] == method.absent[column]).all()
            assert bool(same) is (m not in subset)


def test_late_fusion_learns(make_data):
    torch.manual_seed(0)
    method, splits = made(LateFusion, make_data, epochs=40, learning_rate=1e-2)
    logs = train(method, splits["train"], splits["valid"], MSM(), 0)
    history = [entry["loss"]["task"] for entry in logs[0].history]
    assert np.mean(history[-5:]) < 0.6 * history[0]
