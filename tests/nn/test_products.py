"""mmbench/nn/products.py: the numbers are those of torch's own products."""

import pytest
import torch
from torch.nn import functional as F

from mmbench.nn import affine, bmm, products
from mmbench.nn.products import product


@pytest.fixture(autouse=True)
def everything_by_numpy(monkeypatch):
    monkeypatch.setattr(products, "SMALL", -1)


SHAPES = [(0, 5, 3), (7, 5, 3), (300, 100, 200)]


@pytest.mark.parametrize(("rows", "width_in", "width_out"), SHAPES)
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_torchs(rows, width_in, width_out, biased):
    sizes = [(rows, width_in), (width_out, width_in), (width_out,)]
    leaves = [torch.randn(size, requires_grad=True) for size in sizes]
    if not biased:
        leaves[2:] = []
    weight = torch.randn(rows, width_out)
    made, expected = affine(*leaves, *[None] * (3 - len(leaves))), F.linear(*leaves)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-4)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), leaves) for y in (made, expected))
    for gradient, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_group_has_a_matrix_of_its_own(dtype):
    x, w, b = (torch.randn(s, dtype=dtype, requires_grad=True) for s in ((6, 4), (2, 5, 4), (2, 5)))
    expected = torch.cat([F.linear(x[3 * g : 3 * g + 3], w[g], b[g]) for g in range(2)])
    made = affine(x, w, b)
    torch.testing.assert_close(made, expected)
    weight = torch.randn_like(made)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), [x, w, b]) for y in (made, expected))
    for gradient, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_positive_part_keeps_what_is_not_a_number(dtype):
    x, w, b = (torch.randn(s, dtype=dtype) for s in ((6, 4), (2, 5, 4), (2, 5)))
    x[2, 1] = torch.nan
    made = product(x, w, b, relu=True)
    expected = torch.cat([F.linear(x[3 * g : 3 * g + 3], w[g], b[g]) for g in range(2)]).relu()
    torch.testing.assert_close(made, expected, equal_nan=True)
    assert made[2].isnan().all()


def test_more_axes_are_kept():
    x, weight, bias = torch.randn(2, 3, 4), torch.randn(5, 4), torch.randn(5)
    torch.testing.assert_close(affine(x, weight, bias), F.linear(x, weight, bias))


def test_no_rows_are_none(monkeypatch):
    monkeypatch.setattr(products, "SMALL", 1)
    assert affine(torch.zeros(0, 4), torch.zeros(5, 4), torch.zeros(5)).shape == (0, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_for_each_of_a_batch_is_torchs(dtype, transposed):
    a, b = torch.randn(3, 4, 5, dtype=dtype), torch.randn(3, 5, 6, dtype=dtype)
    if transposed:
        b = b.transpose(1, 2).contiguous().transpose(1, 2)
    a.requires_grad_(), b.requires_grad_()
    made, expected = bmm(a, b), torch.bmm(a, b)
    torch.testing.assert_close(made, expected)
    weight = torch.randn_like(made)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), [a, b]) for y in (made, expected))
    for gradient, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, other)
