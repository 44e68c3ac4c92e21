"""mmbench/nn/recurrent.py against torch's own cells, one unpadded sequence at a time."""

import pytest
import torch
from torch import nn

from mmbench.nn import GRUs, Recurrent, read_last, valid_first

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


def test_grus_are_a_recurrent_network_for_each_modality_values_and_gradients():
    """Of their own lengths and widths, with padding anywhere, and of one sample nothing."""
    torch.manual_seed(0)
    widths, batch, longest, width = [7, 5, 3], 4, 6, 8
    lengths = [longest, longest, longest - 1]
    each = [Recurrent(size, width, cell="gru", directions=2) for size in widths]
    grus = GRUs(widths, width)
    hidden = []
    with torch.no_grad():
        for run in range(6):
            cell = (each[run % 3].backwards if run > 2 else each[run % 3].forwards)[0]
            weight_in, weight, bias_in, bias = cell.parameters()
            grus.inputs[run].load_state_dict({"weight": weight_in, "bias": bias_in})
            grus.weight[run], grus.bias[run] = weight, bias
            hidden.append((weight, bias))
    valid = torch.rand(3, batch, longest) < 0.6
    valid[0, 0], valid[2, :, -1] = False, False
    xs = [
        torch.randn(batch, t, size, requires_grad=True)
        for t, size in zip(lengths, widths, strict=True)
    ]
    made = grus(xs, valid)
    expected = [
        nn.functional.pad(f(x, own[:, :t]), (0, 0, 0, longest - t))
        for f, x, own, t in zip(each, xs, valid, lengths, strict=True)
    ]
    torch.testing.assert_close(made, torch.stack(expected), rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(made)
    mine = torch.autograd.grad((made * weights).sum(), [*xs, grus.weight, grus.bias])
    leaves = [*xs, *(p for pair in zip(*hidden, strict=True) for p in pair)]
    theirs = torch.autograd.grad((torch.stack(expected) * weights).sum(), leaves)
    parts = [*theirs[:3], torch.stack(theirs[3:9]), torch.stack(theirs[9:])]
    for gradient, other in zip(mine, parts, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)
