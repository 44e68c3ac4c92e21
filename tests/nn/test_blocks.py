"""mmbench/nn/blocks.py against torch's own modules, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from mmbench.nn.basic import attended as some
from mmbench.nn.blocks import asked, attended, fed
from mmbench.nn.packing import between, lay, pack

HEADS, WIDTH = 2, 6
VALID = torch.tensor([[[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]]).bool()  # (R, B, T)
OTHER = torch.tensor([[[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]]).bool()


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
    """For two groups."""
    return [torch.randn(2, *shape, dtype=dtype).requires_grad_() for shape in shapes]


def normed(x, gain, shift) -> torch.Tensor:
    """torch's own layer norm of each group's rows."""
    rows = x.view(len(gain), -1, WIDTH)
    made = [F.layer_norm(own, (WIDTH,), g, s) for own, g, s in zip(rows, gain, shift, strict=True)]
    return torch.stack(made)  # (G, n, d)


def same_gradients(made, expected, leaves) -> None:
    weights = torch.randn_like(made)
    mine, theirs = (torch.autograd.grad((y * weights).sum(), leaves) for y in (made, expected))
    for gradient, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fed_is_a_norm_two_layers_and_a_residual(dtype):
    torch.manual_seed(0)
    x = torch.randn(10, WIDTH, dtype=dtype, requires_grad=True)
    own = parameters((WIDTH,), (WIDTH,), (9, WIDTH), (9,), (WIDTH, 9), (WIDTH,), dtype=dtype)
    gain, shift, w1, b1, w2, b2 = own
    hidden = (normed(x, gain, shift) @ w1.transpose(1, 2) + b1[:, None]).relu()
    expected = x + (hidden @ w2.transpose(1, 2) + b2[:, None]).view(x.shape)
    made = fed(x, *own)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    same_gradients(made, expected, [x, *own])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("only_last", [False, True])
def test_attended_is_torchs_attention_to_a_norm_and_a_residual(only_last, dtype):
    torch.manual_seed(0)
    laid = pack([VALID, OTHER], [VALID, OTHER])
    x = torch.randn(len(laid.time), WIDTH, dtype=dtype, requires_grad=True)
    shapes = ((WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,))
    own = parameters(*shapes, dtype=dtype)
    gain, shift, w, b, w_out, b_out = own
    y = normed(x, gain, shift).flatten(0, 1)
    # a head's columns side by side, as torch has them
    order = torch.arange(WIDTH).view(-1, HEADS).t().flatten()
    expected = [torch.zeros(0)] * len(laid.last)
    for s, (last, length) in enumerate(zip(laid.last.tolist(), laid.length.tolist(), strict=True)):
        g, at = s // 3, slice(last - length + 1, last + 1)
        frames = y[at]
        made, _ = F.multi_head_attention_forward(
            (frames[-1:] if only_last else frames)[:, None],
            *(frames[:, None], frames[:, None], WIDTH, HEADS),
            w[g].view(3, WIDTH, WIDTH)[:, order].flatten(0, 1),
            b[g].view(3, WIDTH)[:, order].flatten(),
            *(None, None, False, 0.0, w_out[g][:, order], b_out[g]),
            need_weights=False,
        )
        expected[s] = x[at][-len(made) :] + made[:, 0]
    found = attended(x, laid, HEADS, 0.0, *own, only_last=only_last)
    if not only_last:
        tokens = [range(b - n + 1, b + 1) for b, n in zip(laid.last, laid.length, strict=True)]
        found = found[[int(token) for own_ in tokens for token in own_]]
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
    same_gradients(found, torch.cat(expected), [x, *own])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("same_norm", [False, True])
def test_asked_is_torchs_attention_to_other_sequences_and_a_residual(same_norm, dtype):
    torch.manual_seed(0)
    mine = some(torch.cat([VALID, OTHER]))
    others = some(torch.cat([OTHER, VALID])[..., :3])
    laid, told = lay(mine), lay(others)
    x, memory = (
        torch.randn(len(k.time), WIDTH, dtype=dtype, requires_grad=True) for k in (laid, told)
    )
    shapes = ((WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,))
    own = parameters(*shapes, dtype=dtype)
    gain, shift, w, b, w_out, b_out = own
    y = normed(x, gain, shift).flatten(0, 1)
    source = normed(memory, gain, shift).flatten(0, 1) if same_norm else memory
    order = torch.arange(WIDTH).view(-1, HEADS).t().flatten()
    expected, tokens = [], []
    for s in range(len(laid.last)):
        at, to = (range(int(k.last[s] - k.length[s]) + 1, int(k.last[s]) + 1) for k in (laid, told))
        frames = source[list(to)][:, None]
        made, _ = F.multi_head_attention_forward(
            y[list(at)][:, None],
            *(frames, frames, WIDTH, HEADS),
            w[s // 3].view(3, WIDTH, WIDTH)[:, order].flatten(0, 1),
            b[s // 3].view(3, WIDTH)[:, order].flatten(),
            *(None, None, False, 0.0, w_out[s // 3][:, order], b_out[s // 3]),
            need_weights=False,
        )
        expected.append(x[list(at)] + made[:, 0])
        tokens += at
    found = asked(x, memory, between(laid, told), HEADS, 0.0, *own, same_norm=same_norm)[tokens]
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
    same_gradients(found, torch.cat(expected), [x, memory, *own])


def test_dropout_acts_on_the_attention_of_a_layer():
    laid = pack([VALID], [VALID])
    x = torch.randn(len(laid.time), WIDTH)
    own = [torch.randn(1, *shape) for shape in ((WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,))]  # fmt: skip
    assert torch.equal(attended(x, laid, HEADS, 0.0, *own), attended(x, laid, HEADS, 0.0, *own))
    assert not torch.equal(attended(x, laid, HEADS, 0.5, *own), attended(x, laid, HEADS, 0.5, *own))
