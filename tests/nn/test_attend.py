"""mmbench/nn/attend.py against a plain statement, values and gradients; in float32 by compiled loops, in float64 by torch."""

import math

import pytest
import torch

from mmbench.nn.attend import attend, attend_backward
from mmbench.nn.packing import Bucket
from mmbench.randomness import Random, drawing_from

HEADS, WIDTH = 2, 6
LENGTHS = [2, 3, 1, 4]


def buckets() -> tuple[Bucket, ...]:
    """Four sequences of 10 tokens in two buckets."""
    n = sum(LENGTHS)
    start = [sum(LENGTHS[:i]) for i in range(4)]
    found = []
    for chosen, longest in (([2, 0], 2), ([1, 3], 4)):
        tokens = [[start[s] + t if t < LENGTHS[s] else n for t in range(longest)] for s in chosen]
        at = torch.tensor(tokens)
        found.append(Bucket(torch.tensor(chosen), at, at, ((2, longest, longest),)))
    return tuple(found)


def plainly(query, key, value, s) -> list[torch.Tensor]:
    """softmax(q k^T / sqrt(c)) v of one sequence and each head; column i of head j is number i h + j."""
    start, stop = sum(LENGTHS[:s]), sum(LENGTHS[: s + 1])
    mixed = []
    for j in range(HEADS):
        k, v = (x[start:stop].view(-1, WIDTH // HEADS, HEADS)[..., j] for x in (key, value))
        q = query.view(-1, WIDTH // HEADS, HEADS)[..., j]
        weights = (q @ k.t() / math.sqrt(WIDTH // HEADS)).softmax(-1)
        mixed.append(weights @ v)
    return mixed


class Attention(torch.autograd.Function):
    """`attend` and `attend_backward` as one."""

    @staticmethod
    def forward(ctx, rows, query, p):
        ctx.save_for_backward(rows, query)
        ctx.p, ctx.buckets = p, buckets()
        if query is not None:
            ctx.buckets = [bucket.asked_once() for bucket in buckets()]
        out, ctx.saved = attend(query, rows, HEADS, ctx.buckets, p)
        return out

    @staticmethod
    def backward(ctx, d_out):
        rows, query = ctx.saved_tensors
        d_query, d_rows = attend_backward(
            d_out.contiguous(), query, rows, HEADS, ctx.buckets, ctx.p, ctx.saved
        )
        return d_rows, d_query, None


def attention(rows, p, query=None) -> torch.Tensor:
    return Attention.apply(rows, query, p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("only_last", [False, True])
def test_attention_is_softmax_of_scaled_products_within_a_sequence(only_last, dtype):
    torch.manual_seed(0)
    n = sum(LENGTHS)
    like = {"dtype": dtype, "requires_grad": True}
    rows = torch.randn(n, 2 * WIDTH if only_last else 3 * WIDTH, **like)
    asked = torch.randn(4, WIDTH, **like) if only_last else None
    made = attention(rows, 0.0, asked)
    *first, key, value = rows.split(WIDTH, 1)
    expected = torch.zeros(len(made), WIDTH, dtype=dtype)
    for s in range(4):
        at = slice(s, s + 1) if only_last else slice(sum(LENGTHS[:s]), sum(LENGTHS[: s + 1]))
        query = asked[at] if only_last else first[0][at]
        out = torch.stack(plainly(query, key, value, s), -1)  # (r, c, h)
        expected[at] = out.flatten(1)
    torch.testing.assert_close(made, expected)
    leaves = [rows, asked] if only_last else [rows]
    weights = torch.randn_like(made)
    mine = torch.autograd.grad((made * weights).sum(), leaves)
    theirs = torch.autograd.grad((expected * weights).sum(), leaves)
    for gradient, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)


def test_attention_with_dropout_has_the_gradient_of_what_it_computed():
    """For fixed noise the output is linear in the values; their gradient is then a matter of sums."""
    torch.manual_seed(0)
    rows = torch.randn(sum(LENGTHS), 3 * WIDTH, requires_grad=True)

    def made(x):
        with drawing_from(Random([torch.Generator().manual_seed(3)])):
            return attention(x, 0.5)

    weights = torch.randn(sum(LENGTHS), WIDTH)
    (gradient,) = torch.autograd.grad((made(rows) * weights).sum(), rows)
    direction = torch.randn_like(rows)
    step = 1e-2
    ahead, behind = (
        (made(rows.detach() + sign * step * direction) * weights).sum().double() for sign in (1, -1)
    )
    slope = (ahead - behind) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=2e-2, abs=1e-2)
    assert not torch.allclose(made(rows), attention(rows, 0.0))


def test_attention_drops_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    rows = torch.randn(sum(LENGTHS), 3 * WIDTH)
    rows[:, 2 * WIDTH :] = 1.0  # all values 1: without dropout every mixture is 1
    with drawing_from(Random([torch.Generator().manual_seed(3)])):
        mean = torch.stack([attention(rows, 0.25) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=0, atol=0.06)


def test_large_scores_do_not_overflow():
    rows = 1e3 * torch.randn(sum(LENGTHS), 3 * WIDTH)
    assert attention(rows, 0.0).isfinite().all()
