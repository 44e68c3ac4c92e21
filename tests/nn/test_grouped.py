"""mmbench/nn/grouped.py against plain statements, values and gradients."""

import pytest
import torch
from torch import nn

from mmbench.nn.grouped import GroupedFeedForward, GroupedLinear, GroupedNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_group_has_a_norm_of_its_own(dtype):
    """In float32 by compiled loops, in float64 by torch."""
    torch.manual_seed(0)
    norm = GroupedNorm(2, 5).to(dtype)
    nn.init.normal_(norm.gain)
    nn.init.normal_(norm.shift)
    x = (3 + 2 * torch.randn(6, 5, dtype=dtype)).requires_grad_()
    each = zip(x.view(2, 3, 5), norm.gain, norm.shift, strict=True)
    expected = torch.cat([nn.functional.layer_norm(*(r, (5,), g, s)) for r, g, s in each])
    torch.testing.assert_close(norm(x), expected)
    leaves, weights = [x, norm.gain, norm.shift], torch.randn_like(expected)
    mine, theirs = (torch.autograd.grad((y * weights).sum(), leaves) for y in (norm(x), expected))
    for gradient, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)


def test_a_linear_layer_without_a_bias_keeps_zeros():
    layer = GroupedLinear([nn.Linear(4, 3, bias=False) for _ in range(2)])
    x = torch.randn(2, 5, 4)
    expected = torch.stack([x[g] @ layer.weight[g].t() for g in range(2)])
    torch.testing.assert_close(layer(x), expected)
    assert (layer(torch.zeros(2, 4)) == 0).all()


def test_each_group_has_a_feed_forward_network_of_its_own():
    torch.manual_seed(0)
    feed = GroupedFeedForward(3, 4, 5, 2)
    x = torch.randn(6, 4)
    for g in range(3):
        hidden = (x[2 * g : 2 * g + 2] @ feed.widen.weight[g].t() + feed.widen.bias[g]).relu()
        expected = hidden @ feed.narrow.weight[g].t() + feed.narrow.bias[g]
        torch.testing.assert_close(feed(x)[2 * g : 2 * g + 2], expected)
