"""mmbench/nn/products.py: the numbers are those of torch's own products."""

import pytest
import torch
from torch.nn import functional as F

from mmbench.nn import affine, products

SHAPES = [(0, 5, 3), (7, 5, 3), (300, 100, 200)]


@pytest.mark.parametrize(("rows", "width_in", "width_out"), SHAPES)
@pytest.mark.parametrize("onednn", [True, False])
def test_values_and_gradients_are_torchs(monkeypatch, rows, width_in, width_out, onednn):
    monkeypatch.setattr(products, "SMALL", 1)
    if not onednn:
        monkeypatch.setattr(products, "_ONEDNN", False)
    sizes = [(rows, width_in), (width_out, width_in), (width_out,)]
    leaves = [torch.randn(size, requires_grad=True) for size in sizes]
    weight = torch.randn(rows, width_out)
    made, expected = affine(*leaves), F.linear(*leaves)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-4)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), leaves) for y in (made, expected))
    for gradient, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-3)


def test_more_axes_are_kept():
    x, weight, bias = torch.randn(2, 3, 4), torch.randn(5, 4), torch.randn(5)
    torch.testing.assert_close(affine(x, weight, bias), F.linear(x, weight, bias))


def test_float64_is_torchs():
    x, weight, bias = (torch.randn(s, dtype=torch.float64) for s in ((3, 4), (5, 4), (5,)))
    assert torch.equal(affine(x, weight, bias), F.linear(x, weight, bias))
