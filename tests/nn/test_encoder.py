"""mmbench/nn, each piece against torch's own or a closed form."""

import math

import pytest
import torch
from torch import nn

from mmbench.nn import (
    Dropout,
    SequenceEncoder,
    TemporalConvolution,
    last_valid,
    linear,
    mlp,
    positional_encoding,
)


def test_last_valid_reads_either_side_of_padding():
    valid = torch.tensor([[0, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    assert last_valid(valid).tolist() == [2, 1, 0, 2]


def test_positional_encoding_is_the_papers():
    table = positional_encoding(7, 6)
    for t in range(7):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_temporal_convolution_is_a_conv1d():
    ours, theirs = TemporalConvolution(5, 4), nn.Conv1d(5, 4, 3, padding=1)
    # Conv1d's weight is (d, D, 3); ours is (d, 3 D), tap after tap
    theirs.weight.data = ours.taps.weight.data.unflatten(1, (3, 5)).transpose(1, 2).clone()
    theirs.bias.data = ours.taps.bias.data.clone()
    x = torch.randn(2, 6, 5)
    torch.testing.assert_close(ours(x), theirs(x.transpose(1, 2)).transpose(1, 2))


def torch_encoder(encoder: SequenceEncoder, heads: int) -> nn.TransformerEncoder:
    """torch's pre-norm encoder with the same parameters."""
    width = encoder.norm.normalized_shape[0]
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
    )
    twin = nn.TransformerEncoder(
        layer, len(encoder.layers), nn.LayerNorm(width), enable_nested_tensor=False
    )
    for mine, other in zip(encoder.layers, twin.layers, strict=True):
        attention = other.self_attn
        attention.in_proj_weight.data = torch.cat([mine.query.weight, mine.key_value.weight]).data
        attention.in_proj_bias.data = torch.cat([mine.query.bias, mine.key_value.bias]).data
        attention.out_proj.load_state_dict(mine.project.state_dict())
        other.norm1.load_state_dict(mine.attention_norm.state_dict())
        other.norm2.load_state_dict(mine.feed_norm.state_dict())
        other.linear1.load_state_dict(mine.feed[0].state_dict())
        other.linear2.load_state_dict(mine.feed[2].state_dict())
    twin.norm.load_state_dict(encoder.norm.state_dict())
    return twin


@pytest.mark.parametrize("depth", [1, 3])
def test_sequence_encoder_is_torchs_encoder_read_at_the_last_valid_frame(depth):
    encoder = SequenceEncoder(5, 6, 8, depth=depth, heads=2)
    for parameter in encoder.parameters():  # norms, too, must not be trivial
        nn.init.normal_(parameter, std=0.5)
    twin = torch_encoder(encoder, heads=2)
    x = torch.randn(3, 6, 5)
    valid = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1] * 6], dtype=torch.bool)
    embedded = encoder.convolution(x) + encoder.positions
    every = twin(embedded, src_key_padding_mask=~valid)
    expected = every[torch.arange(3), torch.tensor([5, 2, 5])]
    torch.testing.assert_close(encoder(x, valid), expected, rtol=1e-4, atol=1e-5)


def test_absent_sequence_is_encoded_finitely_and_always_alike():
    encoder = SequenceEncoder(5, 6, 8, depth=2, heads=2)
    out = encoder(torch.zeros(4, 6, 5), torch.zeros(4, 6, dtype=torch.bool))
    assert out.isfinite().all()
    assert (out == out[0]).all()


def test_padding_does_not_matter_beyond_the_convolution():
    encoder = SequenceEncoder(5, 6, 8, depth=2, heads=2)
    valid = torch.tensor([[False, False, True, True, True, True]])
    x = torch.zeros(1, 6, 5)
    x[0, 2:] = torch.randn(4, 5)
    other = x.clone()
    other[0, 0] = (
        9.0  # frame 1, a neighbour of a valid one, is read by the convolution; frame 0 is not
    )
    torch.testing.assert_close(encoder(x, valid), encoder(other, valid))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="40 cannot be split among 7 heads"):
        SequenceEncoder(5, 6, 40, depth=1, heads=7)


def test_mlp_has_relu_between_and_none_at_the_end():
    assert [type(layer) for layer in mlp(3, 4, 2)] == [nn.Linear, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in mlp(3, 2)] == [nn.Linear]


def test_a_signal_keeps_its_size_through_many_layers():
    torch.manual_seed(0)
    x = torch.randn(512, 256)
    for _ in range(10):
        x = linear(256, 256, relu=True)(x).relu()
    assert 0.5 < x.square().mean() < 2  # the layer doubles the second moment, ReLU halves it
    assert 0.8 < linear(256, 256)(torch.randn(512, 256)).var() < 1.25


def test_dropout_drops_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = Dropout(0.25)
    y = drop(torch.ones(1000, 1001))
    assert y.unique().tolist() == [0.0, pytest.approx(256 / 192)]
    share = (y == 0).float().mean().item()
    assert share == pytest.approx(64 / 256, abs=5 * math.sqrt(0.25 * 0.75 / 1e6))
    # each element by itself: rows, columns and neighbours agree with the share as often as chance has it
    dropped = (y == 0).float()
    assert (dropped[:, 1:] * dropped[:, :-1]).mean().item() == pytest.approx(0.0625, abs=2e-3)
    for lag in range(1, 9):  # bytes of one word, too
        flat = dropped.flatten()
        assert (flat[lag:] * flat[:-lag]).mean().item() == pytest.approx(0.0625, abs=2e-3)


def test_dropout_rests_in_evaluation_and_passes_gradients_where_it_keeps():
    drop = Dropout(0.5)
    x = torch.ones(64, requires_grad=True)
    y = drop(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y.detach())
    assert drop.eval()(x) is x and Dropout(0.0)(x) is x


def test_dropout_is_the_global_streams_and_differs_from_call_to_call():
    drop, x = Dropout(0.5), torch.ones(100)
    torch.manual_seed(1)
    first, second = drop(x), drop(x)
    torch.manual_seed(1)
    assert torch.equal(drop(x), first) and not torch.equal(first, second)
