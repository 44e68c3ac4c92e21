"""mmbench/nn/attention.py, each of several networks at once against torch's own."""

import pytest
import torch
from torch import nn

from mmbench.nn import Decoder, Encoder, Memory, between, lay

GROUPS, BATCH, FRAMES, MEMORY, WIDTH, HEADS = 3, 4, 6, 5, 8, 2
ORDER = torch.arange(WIDTH).view(-1, HEADS).t().flatten()
"""torch has a head's columns side by side, ours a column's heads."""


def shake(module):
    """Norms and biases, too, must not be trivial."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def masks(frames: int) -> torch.Tensor:
    """Padding in front, behind, at both ends and nowhere, in another order for each network."""
    valid = torch.ones(BATCH, frames, dtype=torch.bool)
    valid[0, :2] = valid[1, -3:] = valid[2, :1] = valid[2, -1:] = False
    return torch.stack([valid.roll(group, 0) for group in range(GROUPS)])


def sequences() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(GROUPS, BATCH, FRAMES, WIDTH), torch.randn(GROUPS, BATCH, MEMORY, WIDTH)


def encoded(encoder, x, valid, memory=None, memory_valid=None) -> torch.Tensor:
    """Padded sequences through an encoder or a decoder and back."""
    laid = lay(valid)
    if memory is None:
        return laid.spread(encoder(laid.take(x), laid))
    told = lay(memory_valid)
    return laid.spread(encoder(laid.take(x), laid, Memory(told.take(memory), between(laid, told))))


# -- torch's modules with the parameters of one network -------------------------------------------


def fill_linear(theirs: nn.Linear, ours, group: int) -> None:
    theirs.weight.data, theirs.bias.data = ours.weight.data[group], ours.bias.data[group]


def fill_norm(theirs: nn.LayerNorm, ours, group: int) -> None:
    theirs.weight.data, theirs.bias.data = ours.gain.data[group], ours.shift.data[group]


def fill_attention(theirs: nn.MultiheadAttention, ours, group: int) -> None:
    weight, bias = (p.data[group] for p in ours.query_key_value.parameters())
    theirs.in_proj_weight.data = weight.view(3, WIDTH, WIDTH)[:, ORDER].flatten(0, 1)
    theirs.in_proj_bias.data = bias.view(3, WIDTH)[:, ORDER].flatten()
    fill_linear(theirs.out_proj, ours.project, group)
    theirs.out_proj.weight.data = ours.project.weight.data[group][:, ORDER]


def fill_layer(theirs, ours, attention, group: int) -> None:
    fill_attention(theirs.self_attn, attention, group)
    fill_norm(theirs.norm1, attention.norm, group)
    fill_linear(theirs.linear1, ours.feed.layers.widen, group)
    fill_linear(theirs.linear2, ours.feed.layers.narrow, group)


def torch_encoder(ours: Encoder, group: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, batch_first=True)
    layer.norm_first = True
    theirs = nn.TransformerEncoder(
        layer, len(ours.layers), nn.LayerNorm(WIDTH), enable_nested_tensor=False
    )
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        fill_layer(other, mine, mine.attention, group)
        fill_norm(other.norm2, mine.feed.norm, group)
    fill_norm(theirs.norm, ours.norm, group)
    return theirs


def torch_decoder(ours: Decoder, group: int) -> nn.TransformerDecoder:
    layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, batch_first=True)
    layer.norm_first = True
    theirs = nn.TransformerDecoder(layer, len(ours.layers), nn.LayerNorm(WIDTH))
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        fill_layer(other, mine, mine.itself, group)
        fill_attention(other.multihead_attn, mine.memory, group)
        fill_norm(other.norm2, mine.memory.norm, group)
        fill_norm(other.norm3, mine.feed.norm, group)
    fill_norm(theirs.norm, ours.norm, group)
    return theirs


def crossmodal(ours: Encoder, group: int, x, valid, memory):
    """MulT's encoder in plain steps: one norm for what asks and for what is asked."""
    for mine in ours.layers:
        attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        norm, feed_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        widen, narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        fill_attention(attention, mine.attention, group)
        fill_linear(widen, mine.feed.layers.widen, group)
        fill_linear(narrow, mine.feed.layers.narrow, group)
        fill_norm(norm, mine.attention.norm, group)
        source = norm(memory)
        x = x + attention(norm(x), source, source, key_padding_mask=~valid)[0]
        fill_norm(feed_norm, mine.feed.norm, group)
        x = x + narrow(widen(feed_norm(x)).relu())
    norm = nn.LayerNorm(WIDTH)
    fill_norm(norm, ours.norm, group)
    return norm(x)


def assert_same(made, expected, valid, leaves) -> None:
    """At what is no padding, and the gradients of the leaves."""
    made, expected = (y * valid[..., None] for y in (made, expected))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(made)
    mine, theirs = (torch.autograd.grad((y * weights).sum(), leaves) for y in (made, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


# -- Networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3])
def test_each_encoder_is_torchs(depth):
    encoder = shake(Encoder(GROUPS, WIDTH, depth=depth, heads=HEADS))
    x, _ = sequences()
    valid = masks(FRAMES)
    x.requires_grad_()
    each = [torch_encoder(encoder, g)(x[g], src_key_padding_mask=~valid[g]) for g in range(GROUPS)]
    assert_same(encoded(encoder, x, valid), torch.stack(each), valid, [x])


def test_each_crossmodal_encoder_is_mults():
    encoder = shake(Encoder(GROUPS, WIDTH, depth=2, heads=HEADS))
    x, memory = (y.requires_grad_() for y in sequences())
    valid, told = masks(FRAMES).flip(1), masks(MEMORY)
    made = encoded(encoder, x, valid, memory, told)
    each = [crossmodal(encoder, g, x[g], told[g], memory[g]) for g in range(GROUPS)]
    assert_same(made, torch.stack(each), valid, [x, memory])


def test_each_decoder_is_torchs():
    decoder = shake(Decoder(GROUPS, WIDTH, depth=2, heads=HEADS))
    x, memory = (y.requires_grad_() for y in sequences())
    valid, told = masks(FRAMES).flip(1), masks(MEMORY)
    made = encoded(decoder, x, valid, memory, told)
    each = [
        torch_decoder(decoder, g)(
            x[g], memory[g], tgt_key_padding_mask=~valid[g], memory_key_padding_mask=~told[g]
        )
        for g in range(GROUPS)
    ]
    assert_same(made, torch.stack(each), valid, [x, memory])


@pytest.mark.parametrize("with_memory", [False, True])
def test_asking_at_the_last_token_alone_gives_what_is_there(with_memory):
    encoder = shake(Encoder(GROUPS, WIDTH, depth=2, heads=HEADS))
    x, memory = sequences()
    laid, told = lay(masks(FRAMES)), lay(masks(MEMORY))
    asked = Memory(told.take(memory), between(laid, told)) if with_memory else None
    tokens = laid.take(x).requires_grad_()
    every = encoder(tokens, laid, asked)[laid.last]
    read = encoder(tokens, laid, asked, only_last=True)
    assert_same(read, every, torch.ones(len(every)), [tokens])


def test_attention_weights_are_dropped_in_training_only():
    encoder = shake(Encoder(GROUPS, WIDTH, depth=1, heads=HEADS, dropout=0.5))
    x, _ = sequences()
    valid = masks(FRAMES)
    assert not torch.equal(encoded(encoder, x, valid), encoded(encoder, x, valid))
    encoder.eval()
    assert torch.equal(encoded(encoder, x, valid), encoded(encoder, x, valid))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="40 cannot be split among 7 heads"):
        Encoder(2, 40, depth=1, heads=7)
