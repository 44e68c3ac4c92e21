"""MulT: its equations against a plain statement, and a quick run of it ends with a leaderboard."""

import os
import subprocess
import sys

import torch
from mmbench_mult import Layer


def test_a_layer_is_its_equations():
    """Two heads by hand: softmax(Q K^T / sqrt(d / h)) V of what is seen, after norms, added twice."""
    torch.manual_seed(0)
    layer, heads, width = Layer(4, 2, 0.0).double(), 2, 4
    x, source = torch.randn(2, 3, width).double(), torch.randn(2, 5, width).double()
    seen = torch.tensor([[True] * 5, [False, True, True, False, True]])
    asks, told = layer.norm(x), layer.norm(source)
    weights = layer.attention.in_proj_weight.chunk(3)
    shifts = layer.attention.in_proj_bias.chunk(3)
    query, key, value = (
        from_ @ w.T + b for from_, w, b in zip((asks, told, told), weights, shifts, strict=True)
    )
    parts = []
    for head in range(heads):
        at = slice(2 * head, 2 * head + 2)
        scores = query[..., at] @ key[..., at].transpose(1, 2) / (width / heads) ** 0.5
        scores = scores.masked_fill(~seen[:, None], -torch.inf)
        parts.append(scores.softmax(-1) @ value[..., at])
    out = layer.attention.out_proj
    expected = x + torch.cat(parts, -1) @ out.weight.T + out.bias
    expected = expected + layer.inner(layer.norm_inner(expected))
    torch.testing.assert_close(layer(x, source, seen), expected)


def mmbench(words, folder):
    """What the command prints."""
    command = [sys.executable, "-m", "mmbench", *words.split()]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_listed_with_its_distribution_and_version(tmp_path):
    lines = [line.split() for line in mmbench("list plugins", tmp_path).splitlines()]
    assert ["mmbench-mult", "mmbench-mult", "0.1.0", "method", "mult"] in lines


def test_a_quick_run_writes_a_leaderboard(tmp_path):
    mmbench("run --method mult --dataset tiny --quick --format md", tmp_path)
    lines = (tmp_path / "leaderboards" / "tiny.md").read_text().splitlines()
    assert any(line.startswith("| mult (quick)") for line in lines)
