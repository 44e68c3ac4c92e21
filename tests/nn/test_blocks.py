"""mmbench/nn/blocks.py against torch's own modules, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from mmbench.nn.blocks import add_attention, add_feed_forward
from mmbench.nn.packing import between, pack

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
def test_a_feed_forward_half_is_a_norm_two_layers_and_a_residual(dtype):
    torch.manual_seed(0)
    x = torch.randn(10, WIDTH, dtype=dtype, requires_grad=True)
    own = parameters((WIDTH,), (WIDTH,), (9, WIDTH), (9,), (WIDTH, 9), (WIDTH,), dtype=dtype)
    gain, shift, w1, b1, w2, b2 = own
    hidden = (normed(x, gain, shift) @ w1.transpose(1, 2) + b1[:, None]).relu()
    expected = x + (hidden @ w2.transpose(1, 2) + b2[:, None]).view(x.shape)
    made = add_feed_forward(x, *own)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    same_gradients(made, expected, [x, *own])


SHAPES = ((WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,))


def by_torch(asking, told, g, w, b, w_out, b_out) -> torch.Tensor:
    """torch's attention of frames (r, d) to others (t, d), with parameters of group g."""
    # a head's columns side by side, as torch has them
    order = torch.arange(WIDTH).view(-1, HEADS).t().flatten()
    made, _ = F.multi_head_attention_forward(
        *(asking[:, None], told[:, None], told[:, None], WIDTH, HEADS),
        w[g].view(3, WIDTH, WIDTH)[:, order].flatten(0, 1),
        b[g].view(3, WIDTH)[:, order].flatten(),
        *(None, None, False, 0.0, w_out[g][:, order], b_out[g]),
        need_weights=False,
    )
    return made[:, 0]


def tokens_of(laid, s: int) -> slice:
    last, length = int(laid.last[s]), int(laid.length[s])
    return slice(last - length + 1, last + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("only_last", [False, True])
@pytest.mark.parametrize("to", ["itself", "memory", "memory as it is"])
def test_an_attention_half_is_torchs_attention_to_a_norm_and_a_residual(to, only_last, dtype):
    torch.manual_seed(0)
    laid, other = pack([VALID, OTHER], [VALID, OTHER]), pack([OTHER, VALID], [OTHER, VALID])
    x = torch.randn(len(laid.time), WIDTH, dtype=dtype, requires_grad=True)
    own = parameters(*SHAPES, dtype=dtype)
    y = normed(x, *own[:2]).flatten(0, 1)
    memory, told, where, buckets = None, y, laid, laid.buckets
    if to != "itself":
        memory = torch.randn(len(other.time), WIDTH, dtype=dtype, requires_grad=True)
        told = normed(memory, *own[:2]).flatten(0, 1) if to == "memory" else memory
        where, buckets = other, between(laid, other)
    parts = []
    for s in range(len(laid.last)):
        at = tokens_of(laid, s)
        if only_last:
            at = slice(at.stop - 1, at.stop)
        parts.append(x[at] + by_torch(y[at], told[tokens_of(where, s)], s // 3, *own[2:]))
    expected = torch.cat(parts)
    asking = [bucket.asked_once() if only_last else bucket for bucket in buckets]
    found = add_attention(
        *(x, asking, HEADS, 0.0, *own),
        last=laid.last if only_last else None,
        memory=memory,
        same_norm=to == "memory",
    )
    if not only_last:
        found = torch.cat([found[tokens_of(laid, s)] for s in range(len(laid.last))])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    same_gradients(found, expected, [x, *own] if memory is None else [x, memory, *own])


def test_dropout_acts_on_the_attention_of_a_layer():
    laid = pack([VALID], [VALID])
    x = torch.randn(len(laid.time), WIDTH)
    own = [torch.randn(1, *shape) for shape in SHAPES]
    still = [add_attention(x, laid.buckets, HEADS, 0.0, *own) for _ in range(2)]
    noisy = [add_attention(x, laid.buckets, HEADS, 0.5, *own) for _ in range(2)]
    assert torch.equal(*still)
    assert not torch.equal(*noisy)
