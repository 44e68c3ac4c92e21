"""mmbench/nn/kernels.py against torch, which does the same on other devices and in float64."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmbench.nn import attend, kernels


def test_powers_of_2_are_those_of_numpy():
    x = np.linspace(-125.5, 0, 20001).astype(np.float32)
    made = np.array([kernels._power_of_2(value) for value in x[::7]])
    np.testing.assert_allclose(made, np.exp2(x[::7].astype(np.float64)), rtol=4e-7)
    assert 0 <= kernels._power_of_2(np.float32(-np.inf)) < 2e-38  # padding weighs nothing


@st.composite
def layouts(draw):
    """Queries (s, r) and keys (s, t), rows of two tables, of which some are padding."""
    s, r, t = draw(st.integers(1, 60)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    heads, columns = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    q_at, at = rng.permutation(s * r).reshape(s, r), rng.permutation(s * t).reshape(s, t)
    q_at[:, 1:][rng.random((s, r - 1)) < 0.3] = s * r
    at[:, 1:][rng.random((s, t - 1)) < 0.3] = s * t  # a sequence has a token at least
    return q_at, at, heads, columns * heads, rng


@given(layouts(), st.sampled_from([0.0, 0.25, 0.9]))
def test_kernels_are_the_equations_in_float64(layout, p):
    q_at, at, heads, width, rng = layout
    query, rows, d_out = (
        torch.from_numpy(rng.standard_normal((n, wide)))
        for n, wide in ((q_at.size, width), (at.size, 2 * width), (q_at.size, width))
    )
    shape = (q_at.shape[1], at.shape[1], len(at) * heads)
    noise = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)) if p else None
    places = torch.from_numpy(q_at), torch.from_numpy(at)
    found = []
    for dtype in (torch.float32, torch.float64):
        q, kv, dy = (x.to(dtype) for x in (query, rows, d_out))
        y, dq, dkv = torch.zeros_like(q), torch.zeros_like(q), torch.zeros_like(kv)
        where = (q, places[0], kv, 0, places[1], heads)
        w = attend._attend(*where, noise, p, y)
        attend._attend_backward(dy, *where, w, noise, p, dq, dkv)
        found.append([x.float() for x in (w, y, dq, dkv)])
    real = torch.zeros(len(query), dtype=torch.bool)
    real[places[0][places[0] < len(query)]] = True
    for mine, exact in zip(*found, strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-3, atol=1e-4)
    assert (found[0][1][~real] == 0).all()  # what is no query is not written


def test_a_nan_stays_one():
    """So that a loss that diverged is noticed."""
    q = torch.full((3, 2), torch.nan)
    y = torch.zeros(3, 2)
    at = torch.arange(3)[:, None]
    attend._attend(q, at, torch.ones(3, 4), 0, at, 1, None, 0.0, y)
    assert y.isnan().all()


def test_where_nothing_can_be_kept_on_disk_kernels_are_compiled_all_the_same(monkeypatch):
    def njit(function, **options):
        if options.get("cache"):
            raise RuntimeError("no locator available")
        return function

    monkeypatch.setattr(kernels, "njit", njit)
    assert kernels.compiled(len) is len
