"""plugins/mmbench_methods/cubemlp: what each axis mixes, and what it must not."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import mmbench
from mmbench.batching import Split
from mmbench.data import DataSpec, ModalitySpec, Schedule
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench.training import train
from mmbench_methods.cubemlp import AxisMLP, Block, Context, CubeMLP
from mmbench_missing.msm import MSM

SENTIMENT = Regression(-3, 3)
EMOTIONS = MultiBinary(("happy", "sad", "angry", "neutral"))
CLASSES = MultiClass(("x", "y", "z"))
PAPER = {"l": ModalitySpec(50, 300), "a": ModalitySpec(50, 74), "v": ModalitySpec(50, 35)}
AXES = (0, 1, -1)  # frames, modalities, channels of a cube (T, M, B, d)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def small(make_data, task=SENTIMENT, *, modalities="lav", input_dropout=None, **settings):
    """The method on small data, and the splits it trains and is validated on."""
    data = make_data(task, modalities)
    schedule = Schedule(batch_size=8, epochs=1, input_dropout=input_dropout or {})
    spec = DataSpec(data.name, data.modalities(), task, schedule, 24)
    method = CubeMLP(spec, width=8, frames=4, channels=5, **settings)
    return method, *(Split(data.splits[n]) for n in ("train", "valid"))


# -- The mixer ---------------------------------------------------------------------------------


def plain_mix(axis: AxisMLP, x: list[float]) -> list[float]:
    """One vector along the axis: W_res x + W_2 gelu(W_1 LN(x) + b_1) + b_2."""
    norm, first, second = axis.norm, axis.first, axis.second
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    normed = [
        (value - mean) / math.sqrt(variance + 1e-5) * g.item() + b.item()
        for value, g, b in zip(x, norm.weight, norm.bias, strict=True)
    ]

    def layer(weight, bias, values):
        return [
            sum(w.item() * v for w, v in zip(row, values, strict=True)) + b
            for row, b in zip(weight, bias, strict=True)
        ]

    hidden = layer(first.weight, first.bias.tolist(), normed)
    hidden = [0.5 * h * (1 + math.erf(h / math.sqrt(2))) for h in hidden]  # GELU
    mixed = layer(second.weight, second.bias.tolist(), hidden)
    residual = layer(axis.residual.weight, [0.0] * len(mixed), x)
    return [r + m for r, m in zip(residual, mixed, strict=True)]


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_is_mixed_as_printed(axis):
    lengths = [2, 3, 2, 4]
    mlp = AxisMLP(axis, lengths[axis], 5, dropout=0.1).eval()
    for parameter in mlp.parameters():
        nn.init.normal_(parameter)
    cube = torch.randn(lengths)
    mixed = mlp(cube).movedim(axis, -1)
    assert mixed.shape[-1] == 5
    for place in np.ndindex(*mixed.shape[:-1]):
        expected = plain_mix(mlp, cube.movedim(axis, -1)[place].tolist())
        assert mixed[place].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_block_mixes_frames_then_modalities_then_channels():
    block = Block((6, 3, 8), (4, 2, 5), dropout=0.1).eval()
    assert [mlp.axis for mlp in block] == list(AXES)
    cube = torch.randn(6, 3, 7, 8)
    shapes = []
    for mlp in block:
        cube = mlp(cube)
        shapes.append(tuple(cube.shape))
    assert shapes == [(4, 3, 7, 8), (4, 2, 7, 8), (4, 2, 7, 5)]


@pytest.mark.parametrize("axis", AXES)
def test_what_a_silent_axis_would_mix_stays_apart(axis):
    """With the identity as residual of one axis alone, no slice of that axis sees another."""
    sizes = (6, 3, 8)
    for silent in (False, True):
        block = Block(sizes, sizes, dropout=0.1).eval()
        if silent:
            mlp = block[axis]
            nn.init.eye_(mlp.residual.weight)
            nn.init.zeros_(mlp.second.weight)  # and its bias starts at zero
        cube = torch.randn(6, 3, 2, 8)
        other = cube.clone()
        other.select(axis, 1).normal_()
        changed = (block(cube) != block(other)).movedim(axis, 0).flatten(1).any(1)
        assert changed.tolist() == [not silent or i == 1 for i in range(sizes[axis])]


def test_the_order_of_modalities_matters():
    block = Block((6, 3, 8), (4, 3, 5), dropout=0.1).eval()
    cube = torch.randn(6, 3, 2, 8)
    turned = block(cube.roll(1, 1))
    for shift in range(3):
        assert not torch.allclose(turned, block(cube).roll(shift, 1), atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"dropout": 0.5}, "lav"),
        ({"dropout": 0.0, "input_dropout": {"l": 0.5}}, "l"),
        ({"dropout": 0.0}, ""),
    ],
)
def test_dropout_acts_on_frames_in_training_alone(make_data, settings, places):
    method, split, _ = small(make_data, **settings)
    cubes = []
    method.blocks.register_forward_hook(lambda _, cube, __: cubes.append(cube[0]))
    batch = split.batch(slice(None))
    outputs = [method.train(mode)(batch) for mode in (True, False, False)]
    changed = (cubes[0] != cubes[1]).any(-1).any(-1).any(0)
    assert changed.tolist() == [name in places for name in "lav"]
    assert torch.equal(outputs[0], outputs[1]) is (not places)
    assert torch.equal(outputs[1], outputs[2])


# -- Size --------------------------------------------------------------------------------------


def mixer(before: tuple[int, ...], after: tuple[int, ...]) -> int:
    return sum(
        (i * o + o) + (o * o + o) + 2 * i + i * o for i, o in zip(before, after, strict=True)
    )


@pytest.mark.parametrize(
    ("width", "settings", "expected"),
    [
        (40, {}, 134_823),
        (128, {}, 983_495),
        (40, {"recurrent_text": True}, 134_823 - 12_000 + 2 * 120 * 342 + 29_280 + 80),
    ],
)
def test_size_is_the_declared_one(width, settings, expected):
    method = CubeMLP(DataSpec("x", PAPER, SENTIMENT), width=width, **settings)
    assert size(method) == size(*method.deployed()) == expected  # 0.135 M and 0.98 M
    first, second = (50, 3, width), (10, 3, 32)
    assert size(method.blocks) == mixer(first, first) + mixer(first, second)
    if width == 128:
        assert size(method.blocks) == 68_198


# -- The method --------------------------------------------------------------------------------


def test_it_trains_on_complete_data(make_data):
    method, _, _ = small(make_data)
    (stage,) = method.stages()
    assert stage.data == "complete"


@pytest.mark.parametrize("modalities", ["la", "lav", "lavx"])
@pytest.mark.parametrize("task", [SENTIMENT, EMOTIONS, CLASSES])
def test_every_task_and_number_of_modalities_trains(make_data, task, modalities):
    method, train_split, valid_split = small(make_data, task, modalities=modalities)
    (log,) = train(method, train_split, valid_split, MSM(), seed=0)
    assert math.isfinite(log.history[0]["valid"])
    batch = valid_split.batch(slice(None))
    assert method(batch).shape == (12, task.n_out)
    assert method.represent(batch).shape == (12, 5 * len(modalities))


def test_every_module_learns(make_data):
    method, split, _ = small(make_data, recurrent_text=True)
    batch = split.training_batch(np.arange(8), None)
    method.loss(method(batch), batch, mmbench.Random())["task"].backward()
    for name, module in method.named_modules():
        own = list(module.parameters(recurse=False))
        assert not own or any(p.grad is not None and p.grad.any() for p in own), name


def test_the_prediction_reads_the_mean_over_frames(make_data):
    method, split, _ = small(make_data)
    method.eval()
    cubes = []
    method.blocks.register_forward_hook(lambda _, __, cube: cubes.append(cube))
    outputs = method(split.batch(slice(0, 2)))
    (cube,) = cubes
    assert cube.shape == (4, 3, 2, 5)
    joint = torch.cat([sum(cube[t, m] for t in range(4)) / 4 for m in range(3)], 1)
    torch.testing.assert_close(method.head(joint), outputs)


def test_padding_and_absence_are_zeros_in_the_cube(make_data):
    method, split, _ = small(make_data)
    method.eval()
    for encoder in method.encoders.values():
        if isinstance(encoder, Context):
            nn.init.ones_(encoder.norm.bias)  # which padding would otherwise take on
    cubes = []
    method.blocks.register_forward_hook(lambda _, cube, __: cubes.append(cube[0]))
    masks = {m: v.copy() for m, v in split.samples.valid.items()}
    masks["v"][:] = False
    method(split.batch(slice(None), masks))
    (cube,) = cubes  # (T, M, B, d)
    valid = torch.stack([split.valid["l"], split.valid["a"], torch.zeros_like(split.valid["v"])])
    assert torch.equal(cube.any(-1), valid.permute(2, 0, 1))


def test_what_makes_no_cube_is_refused_with_a_reason():
    ragged = PAPER | {"a": ModalitySpec(375, 74)}
    assert "word-aligned" in (CubeMLP.supports(DataSpec("x", ragged, SENTIMENT)) or "")
    single = {"l": ModalitySpec(4, 4)}
    assert "at least two" in (CubeMLP.supports(DataSpec("x", single, SENTIMENT)) or "")
    assert CubeMLP.supports(DataSpec("x", PAPER, SENTIMENT)) is None
