"""mmbench/nn/kernels.py against torch, which does the same on other devices and in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmbench.nn import grouped, kernels
from mmbench.randomness import Random


def test_powers_of_2_are_those_of_numpy():
    x = np.linspace(-125.5, 0, 20001).astype(np.float32)
    made = np.array([kernels._power_of_2(value) for value in x[::7]])
    np.testing.assert_allclose(made, np.exp2(x[::7].astype(np.float64)), rtol=4e-7)
    assert 0 <= kernels._power_of_2(np.float32(-np.inf)) < 2e-38  # padding weighs nothing


@given(
    c=st.integers(1, 6),
    r=st.integers(1, 5),
    t=st.integers(1, 7),
    x=st.sampled_from([1, 15, 16, 33, 512, 700]),
    p=st.sampled_from([0.0, 0.25, 0.9]),
    seed=st.integers(0, 2**31),
)
def test_kernels_are_the_equations_in_float64(c, r, t, x, p, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(size, generator=generator)

    q, k, v, dy = draw(c, r, x), draw(c, t, x), draw(c, t, x), draw(c, r, x)
    padding = torch.rand(t, x, generator=generator) < 0.3
    padding[0] = False  # a sequence has a token at least
    bias = torch.zeros(t, x).masked_fill(padding, -torch.inf)
    noise = Random([generator]).noise([(r, t, x)])[0] if p else None
    y, w = grouped._attend(q, k, v, bias, noise, p)
    exact_q, exact_k, exact_v = (z.double() for z in (q, k, v))
    expected_y, expected_w = grouped._attend(exact_q, exact_k, exact_v, bias.double(), noise, p)
    torch.testing.assert_close(w, expected_w.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(y, expected_y.float(), rtol=1e-4, atol=1e-5)
    found = grouped._attend_backward(dy, q, k, v, w, noise, p)
    expected = grouped._attend_backward(
        dy.double(), exact_q, exact_k, exact_v, expected_w, noise, p
    )
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs.float(), rtol=1e-3, atol=1e-4)


def test_a_nan_stays_one():
    """So that a loss that diverged is noticed."""
    q = torch.full((2, 1, 16), torch.nan)
    k = v = torch.ones(2, 3, 16)
    y, _ = grouped._attend(q, k, v, torch.zeros(3, 16), None, 0.0)
    assert y.isnan().all()


def test_where_nothing_can_be_kept_on_disk_kernels_are_compiled_all_the_same(monkeypatch):
    def njit(function, **options):
        if options.get("cache"):
            raise RuntimeError("no locator available")
        return function

    monkeypatch.setattr(kernels, "njit", njit)
    assert kernels.compiled(len) is len


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_equations_gradient_is_autograds(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, size, 8, dtype=torch.float64) for size in (2, 4, 4))
    bias = torch.zeros(4, 8, dtype=torch.float64)
    leaves = [z.clone().requires_grad_() for z in (q, k, v)]
    weights = torch.einsum("crx,ctx->rtx", leaves[0], leaves[1]).mul(np.log(2)).softmax(1)
    y = torch.einsum("rtx,ctx->crx", weights, leaves[2])
    dy = torch.randn_like(y)
    expected = torch.autograd.grad((y * dy).sum(), leaves)
    q, k, v, bias, dy = (z.to(dtype) for z in (q, k, v, bias, dy))
    made, w = grouped._attend(q, k, v, bias, None, 0.0)
    torch.testing.assert_close(made.double(), y, rtol=1e-4, atol=1e-5)
    dq, dk, dv = grouped._attend_backward(dy, q, k, v, w, None, 0.0)
    for mine, theirs in zip((dq * np.log(2), dk * np.log(2), dv), expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-5)
