"""What must be fast, measured: `tox -e bench`. The suite itself skips these."""

import numpy as np
import pytest
import torch

from mmbench.batching import Split
from mmbench.data import DataSpec, ModalitySpec, Samples, Schedule
from mmbench.nn import Dropout
from mmbench.tasks import MultiBinary
from mmbench.training import _StageLoop
from mmbench_methods.hrlf import HRLF
from mmbench_missing.msm import MSM

TASK = MultiBinary(("happy", "sad", "angry", "neutral"))
SHAPES = {"l": ModalitySpec(20, 300), "a": ModalitySpec(20, 74), "v": ModalitySpec(20, 35)}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("stage", [0, 1], ids=["teacher", "student"])
@pytest.mark.parametrize("depth", [2, 4], ids="depth={}".format)
def test_one_step_of_hrlf_on_iemocap_shapes(benchmark, one_thread, stage, depth):
    schedule = Schedule(
        batch_size=32, heads=10, attention_dropout=0.25, input_dropout={"l": 0.3}, clip=0.8
    )
    rng = np.random.default_rng(0)
    samples = Samples(
        tuple(map(str, range(32))),
        {
            m: rng.standard_normal((32, s.length, s.width), dtype=np.float32)
            for m, s in SHAPES.items()
        },
        {m: np.ones((32, s.length), bool) for m, s in SHAPES.items()},
        rng.integers(0, 2, (32, 4)),
    )
    method = HRLF(DataSpec("shapes", SHAPES, TASK, schedule), depth=depth)
    # one batch of training, and a validation split of one sample
    loop = _StageLoop(
        method, method.stages()[stage], Split(samples), Split(samples.take(1)), MSM(), 0
    )
    benchmark.pedantic(loop.epoch, (1,), rounds=20, warmup_rounds=3)


@pytest.mark.parametrize("layer", [Dropout(0.25), torch.nn.Dropout(0.25)], ids=["ours", "torch"])
def test_dropout_of_attention_weights(benchmark, one_thread, layer):
    weights = torch.rand(32, 10, 50, 50)
    benchmark.pedantic(layer, (weights,), rounds=20, warmup_rounds=3)
