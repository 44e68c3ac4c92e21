"""mmbench/nn/recurrent.py against torch's own cells, one unpadded sequence at a time.

In float32 an LSTM runs on packed steps and its own loops, in float64 on torch's.
"""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

from mmbench.nn import Recurrent, Steps, read_last, valid_first

VALID = torch.tensor(
    [
        [0, 0, 0, 1, 1, 1, 1],  # padding in front
        [1, 1, 0, 0, 0, 0, 0],  # behind
        [0, 1, 1, 1, 0, 0, 0],  # on both sides
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 0, 0],
    ],
    dtype=torch.bool,
)
KINDS = {"lstm": nn.LSTM, "gru": nn.GRU}
SHAPES = [
    (cell, directions, depth, merge)
    for cell in ("lstm", "gru")
    for directions in (1, 2)
    for depth in (1, 3)
    for merge in ("concat", "sum")
]


def twin(net: Recurrent, cell: str, width_in: int, width: int) -> nn.RNNBase:
    """torch's network with the same parameters."""
    depth, directions = len(net.forwards), 2 if net.backwards else 1
    other = KINDS[cell](
        width_in, width, depth, batch_first=True, bidirectional=directions == 2
    ).double()
    for k in range(depth):
        for way, suffix in [(net.forwards, ""), (net.backwards, "_reverse")][:directions]:
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                value = getattr(way[k], f"{name}_l0")
                getattr(other, f"{name}_l{k}{suffix}").data = value.data.clone()
    return other


def made(cell="lstm", directions=2, depth=2, merge="concat", **settings) -> Recurrent:
    torch.manual_seed(0)
    net = Recurrent(
        4, 3, cell=cell, directions=directions, depth=depth, merge=merge, **settings
    ).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.7)
    return net


def frames(valid: torch.Tensor = VALID) -> torch.Tensor:
    """Frames that are not zero at padding either."""
    return torch.randn(*valid.shape, 4, dtype=torch.float64, generator=torch.manual_seed(1))


@pytest.mark.parametrize(("cell", "directions", "depth", "merge"), SHAPES)
def test_states_are_torchs_on_each_unpadded_sequence(cell, directions, depth, merge):
    net = made(cell, directions, depth, merge)
    other = twin(net, cell, 4, 3)
    x = frames()
    states, last = net(x, VALID), net.last(x, VALID)
    assert states.shape == (5, 7, net.width) and last.shape == (5, net.width)
    for b in range(len(x)):
        expected, _ = other(x[b : b + 1, VALID[b]])
        end, begin = expected[0, -1, :3], expected[0, 0, 3:]
        ends = [end, begin] if directions == 2 else [end]
        if merge == "sum":
            expected = expected.unflatten(-1, (directions, 3)).sum(-2)
        torch.testing.assert_close(states[b, VALID[b]], expected[0])
        assert (states[b, ~VALID[b]] == 0).all()
        torch.testing.assert_close(
            last[b], torch.stack(ends).sum(0) if merge == "sum" else torch.cat(ends)
        )


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradients_are_torchs_and_none_reaches_padding(cell):
    net = made(cell)
    other = twin(net, cell, 4, 3)
    x = frames().requires_grad_()
    weight = torch.randn(5, 7, 6, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((net(x, VALID) * weight).sum(), x)
    for b in range(len(x)):
        alone = x[b : b + 1, VALID[b]].detach().requires_grad_()
        (expected,) = torch.autograd.grad((other(alone)[0] * weight[b, VALID[b]]).sum(), alone)
        torch.testing.assert_close(gradient[b, VALID[b]], expected[0])
    assert (gradient[~VALID] == 0).all()


def test_padding_may_hold_anything():
    net, x = made(), frames()
    before, last = net(x, VALID), net.last(x, VALID)
    x[~VALID] = torch.nan
    assert torch.equal(net(x, VALID), before) and torch.equal(net.last(x, VALID), last)


def test_side_of_padding_does_not_matter():
    net = made()
    x = torch.randn(1, 3, 4, dtype=torch.float64)
    out = []
    for start in (0, 2, 4):
        valid = torch.zeros(1, 7, dtype=torch.bool)
        valid[:, start : start + 3] = True
        padded = torch.zeros(1, 7, 4, dtype=torch.float64)
        padded[:, start : start + 3] = x
        out.append(net(padded, valid)[valid])
    assert torch.equal(out[0], out[1]) and torch.equal(out[0], out[2])


def test_a_row_without_a_valid_frame_is_zero_and_has_finite_gradients():
    net, x = made(), frames()
    valid = VALID.clone()
    valid[2] = False
    states, last = net(x, valid), net.last(x, valid)
    assert (states[2] == 0).all() and (last[2] == 0).all()
    assert (read_last(torch.ones_like(states), valid)[2] == 0).all()
    gradients = torch.autograd.grad(last.sum() + states.sum(), list(net.parameters()))
    assert all(g.isfinite().all() for g in gradients)
    assert (net.last(x, VALID & False) == 0).all()


def test_read_last_reads_the_last_valid_state():
    states = made(directions=1)(frames(), VALID)
    expected = torch.stack([s[v][-1] for s, v in zip(states, VALID, strict=True)])
    assert torch.equal(read_last(states, VALID), expected)


def test_valid_first_moves_the_valid_frames_to_the_start_in_their_order():
    x = frames()
    moved, valid = valid_first(x, VALID)
    for b in range(len(x)):
        count = int(VALID[b].sum())
        assert torch.equal(moved[b, :count], x[b, VALID[b]])
        assert valid[b].tolist() == [True] * count + [False] * (7 - count)


def test_dropout_acts_between_layers_in_training_alone():
    net, x = made(directions=1, dropout=0.5), frames()
    kept = made(directions=1)(x, VALID)
    assert torch.equal(net.eval()(x, VALID), kept)
    assert not torch.equal(net.train()(x, VALID), kept)
    single = made(directions=1, depth=1, dropout=0.5).train()
    assert torch.equal(single(x, VALID), single.eval()(x, VALID))


def test_cells_stay_in_training_for_cudnn():
    net = made().eval()
    assert not net.training and all(cell.training for cell in [*net.forwards, *net.backwards])
    assert not net.dropout.training


@pytest.mark.parametrize(("cell", "directions", "depth", "merge"), SHAPES)
def test_packed_steps_in_float32_are_those_of_float64(cell, directions, depth, merge):
    exact = made(cell, directions, depth, merge)
    net = made(cell, directions, depth, merge).float()
    valid = torch.cat([VALID, VALID & False, VALID.flip(0)])  # a row of nothing, rows of one length
    x = frames(valid).requires_grad_()
    found = []
    for model, own in ((exact, x), (net, x.detach().float().requires_grad_())):
        states, last = model(own, valid), model.last(own, valid)
        loss = (states * torch.arange(1, states.shape[-1] + 1)).sum() + last.square().sum()
        gradients = torch.autograd.grad(loss, [own, *model.parameters()])
        found.append([states, last, *gradients])
    for theirs, ours in zip(*found, strict=True):
        assert ours.dtype == torch.float32
        limit = 1e-5 * theirs.abs().max().item()
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=limit)


# -- Packed steps ------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    valid=arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)),
    directions=st.sampled_from([1, 2]),
    depth=st.sampled_from([1, 2]),
    width=st.integers(1, 9),
)
def test_packed_steps_give_torchs_states_and_gradients(valid, directions, depth, width):
    """Whatever is valid: the loops' numbers are those of torch in float64."""
    valid = torch.from_numpy(valid)
    torch.manual_seed(0)
    exact = Recurrent(3, width, directions=directions, depth=depth).double()
    for parameter in exact.parameters():
        nn.init.normal_(parameter)
    net = copy.deepcopy(exact).float()
    x = torch.randn(*valid.shape, 3, dtype=torch.float64, requires_grad=True)
    y = x.detach().float().requires_grad_()
    expected, states = exact(x, valid), net(y, valid)
    weight = torch.randn(expected.shape, dtype=torch.float64)
    torch.testing.assert_close(states.double(), expected, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(
        net.last(y, valid).double(), exact.last(x, valid), rtol=1e-5, atol=2e-6
    )
    if valid.any():
        theirs = torch.autograd.grad((expected * weight).sum(), [x, *exact.parameters()])
        ours = torch.autograd.grad((states * weight.float()).sum(), [y, *net.parameters()])
        for gradient, other in zip(ours, theirs, strict=True):
            close = 1e-5 * max(1.0, other.abs().max().item())
            torch.testing.assert_close(gradient.double(), other, rtol=0, atol=close)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_packed_rows_are_the_valid_frames(cell, dtype):
    net, x = made(cell).to(dtype), frames().to(dtype)
    steps = Steps.of(VALID)
    states = steps.padded(net.packed(steps.packed(x), steps))
    torch.testing.assert_close(states, net(x, VALID))
    assert torch.equal(steps.padded(steps.packed(x)), x * VALID[..., None])
    assert len(steps.packed(x)) == VALID.sum()


def test_a_state_that_is_not_finite_does_not_pass_unseen():
    net, x = made().float(), frames().float()
    x[0, 3] = torch.nan
    states = net(x, VALID)
    assert states[0, VALID[0]].isnan().any() and states[1:].isfinite().all()


def test_gates_far_out_are_closed_or_open():
    net = made(directions=1, depth=1).float()
    for scale in (1e2, 1e6):
        states = net(scale * frames().float(), VALID)
        exact = copy.deepcopy(net).double()(scale * frames().float().double(), VALID)
        torch.testing.assert_close(states.double(), exact, rtol=1e-5, atol=1e-5)


def test_the_last_states_of_packed_steps_have_gradients():
    net, x = made().float(), frames().float().requires_grad_()
    (gradient,) = torch.autograd.grad(net.last(x, VALID).sum(), x)
    assert gradient[VALID].any(1).all() and not gradient[~VALID].any()
