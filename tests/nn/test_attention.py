"""mmbench/nn/attention.py, each of several networks at once against torch's own."""

import pytest
import torch
from torch import nn

from mmbench.nn import Decoder, Encoder, Linears, attended, by_length, pick, stack_padded

GROUPS, BATCH, FRAMES, MEMORY, WIDTH, HEADS = 3, 4, 6, 5, 8, 2


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


# -- torch's modules with the parameters of one network -------------------------------------------


def fill_linear(theirs: nn.Linear, ours: Linears, group: int) -> None:
    theirs.weight.data, theirs.bias.data = ours.weight.data[group].T, ours.bias.data[group, 0]


def fill_norm(theirs: nn.LayerNorm, ours, group: int) -> None:
    theirs.weight.data, theirs.bias.data = (
        ours.weight.data[group].flatten(),
        ours.bias.data[group].flatten(),
    )


def fill_attention(theirs: nn.MultiheadAttention, ours, group: int) -> None:
    parts = (ours.query, ours.key_value)
    theirs.in_proj_weight.data = torch.cat([part.weight.data[group].T for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias.data[group, 0] for part in parts])
    fill_linear(theirs.out_proj, ours.project, group)


def fill_layer(theirs, ours, attention, group: int) -> None:
    fill_attention(theirs.self_attn, attention, group)
    fill_norm(theirs.norm1, attention.norm, group)
    fill_linear(theirs.linear1, ours.feed.widen, group)
    fill_linear(theirs.linear2, ours.feed.narrow, group)


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
        attention, norm = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), nn.LayerNorm(WIDTH)
        widen, narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        fill_attention(attention, mine.attention, group)
        fill_linear(widen, mine.feed.widen, group)
        fill_linear(narrow, mine.feed.narrow, group)
        fill_norm(norm, mine.attention.norm, group)
        source = norm(memory)
        x = x + attention(norm(x), source, source, key_padding_mask=~valid)[0]
        fill_norm(norm, mine.feed.norm, group)
        x = x + narrow(widen(norm(x)).relu())
    norm = nn.LayerNorm(WIDTH)
    fill_norm(norm, ours.norm, group)
    return norm(x)


# -- Layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_linears_are_linear_layers_side_by_side(bias):
    layers = shake(Linears(GROUPS, 5, 3, bias=bias))
    x = torch.randn(GROUPS, 2, 4, 5)
    for group in range(GROUPS):
        expected = x[group] @ layers.weight[group] + (layers.bias[group] if bias else 0)
        torch.testing.assert_close(layers(x)[group], expected)


def test_linears_start_so_that_a_signal_keeps_its_size():
    torch.manual_seed(0)
    x = torch.randn(2, 256, 200)
    assert 0.9 < Linears(2, 200, 200)(x).square().mean() < 1.1
    assert 0.9 < Linears(2, 200, 200, relu=True)(x).relu().square().mean() < 1.1


@pytest.mark.parametrize("depth", [1, 3])
def test_each_encoder_is_torchs(depth):
    encoder = shake(Encoder(GROUPS, WIDTH, depth=depth, heads=HEADS))
    x, _ = sequences()
    valid = masks(FRAMES)
    made = encoder(x, valid)
    for group in range(GROUPS):
        expected = torch_encoder(encoder, group)(x[group], src_key_padding_mask=~valid[group])
        torch.testing.assert_close(made[group], expected, rtol=1e-4, atol=1e-5)


def test_each_crossmodal_encoder_is_mults():
    encoder = shake(Encoder(GROUPS, WIDTH, depth=2, heads=HEADS))
    x, memory = sequences()
    valid = masks(MEMORY)
    made = encoder(x, valid, memory)
    for group in range(GROUPS):
        expected = crossmodal(encoder, group, x[group], valid[group], memory[group])
        torch.testing.assert_close(made[group], expected, rtol=1e-4, atol=1e-5)


def test_each_decoder_is_torchs():
    decoder = shake(Decoder(GROUPS, WIDTH, depth=2, heads=HEADS))
    x, memory = sequences()
    valid, memory_valid = masks(FRAMES), masks(MEMORY)
    made = decoder(x, valid, memory, memory_valid)
    for group in range(GROUPS):
        expected = torch_decoder(decoder, group)(
            x[group],
            memory[group],
            tgt_key_padding_mask=~valid[group],
            memory_key_padding_mask=~memory_valid[group],
        )
        torch.testing.assert_close(made[group], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("with_memory", [False, True])
def test_asking_at_one_frame_gives_what_is_there(with_memory):
    encoder = shake(Encoder(GROUPS, WIDTH, depth=2, heads=HEADS))
    x, memory = sequences()
    at = torch.randint(0, FRAMES, (GROUPS, BATCH))
    arguments = (masks(MEMORY), memory) if with_memory else (masks(FRAMES),)
    every = encoder(x, *arguments)
    torch.testing.assert_close(encoder(x, *arguments, at=at), pick(every, at), rtol=1e-4, atol=1e-5)


def test_of_a_memory_without_a_frame_the_first_is_attended_to():
    encoder = shake(Encoder(GROUPS, WIDTH, depth=1, heads=HEADS))
    x, memory = sequences()
    nothing = torch.zeros(GROUPS, BATCH, MEMORY, dtype=torch.bool)
    made = encoder(x, nothing, memory)
    assert made.isfinite().all()
    first = nothing.clone()
    first[..., 0] = True
    torch.testing.assert_close(made, encoder(x, first, memory))


def test_attention_weights_are_dropped_in_training_only():
    encoder = shake(Encoder(GROUPS, WIDTH, depth=1, heads=HEADS, dropout=0.5))
    x, _ = sequences()
    valid = masks(FRAMES)
    assert not torch.equal(encoder(x, valid), encoder(x, valid))
    encoder.eval()
    assert torch.equal(encoder(x, valid), encoder(x, valid))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="40 cannot be split among 7 heads"):
        Encoder(2, 40, depth=1, heads=7)


# -- Sequences ------------------------------------------------------------------------------------


def test_pick_takes_each_samples_own_frame():
    x = torch.randn(2, 3, 4, 5)
    at = torch.randint(0, 4, (2, 3))
    for group in range(2):
        for sample in range(3):
            assert torch.equal(pick(x, at)[group, sample], x[group, sample, at[group, sample]])


def test_shorter_sequences_are_padded_behind():
    short, long = torch.ones(2, 3, 4), torch.ones(2, 5, 4)
    both = stack_padded([short, long])
    assert both.shape == (2, 2, 5, 4)
    assert both[0, :, 3:].eq(0).all() and both[0, :, :3].eq(1).all() and both[1].eq(1).all()
    flags = stack_padded([torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)])
    assert flags.dtype == torch.bool and not flags[0, :, 3:].any()


def lengths() -> torch.Tensor:
    """Of 10 samples, with 1 to 7 frames, some in front, some behind; the last has nothing."""
    valid = torch.zeros(2, 10, 7, dtype=torch.bool)
    for sample in range(9):
        count = 1 + sample * 5 % 7
        if sample % 2:
            valid[:, sample, :count] = True
        else:
            valid[:, sample, 7 - count :] = True
    valid[1, 3] = False  # one of the two is absent: the other's frames do not do
    return valid


@pytest.mark.parametrize("rows", [1, 3, 10, 32])
def test_work_by_length_gives_what_work_at_once_gives(rows):
    encoder = shake(Encoder(2, WIDTH, depth=2, heads=HEADS))
    valid = lengths()
    x = torch.randn(2, 10, 7, WIDTH)
    at = 6 - attended(valid).flip(2).int().argmax(2)

    def work(frames, valid, x):
        last = valid.shape[2] - 1 - attended(valid).flip(2).int().argmax(2)
        return encoder(x, valid, at=last), encoder(x, valid)

    one, every = by_length(work, valid, x, rows=rows)
    torch.testing.assert_close(one, encoder(x, valid, at=at), rtol=1e-4, atol=1e-5)
    seen = attended(valid)[..., None]
    torch.testing.assert_close(every * seen, encoder(x, valid) * seen, rtol=1e-4, atol=1e-5)


def test_work_by_length_cuts_off_what_nobody_attends_to():
    valid = lengths()
    sizes = []

    def work(frames, valid, x):
        assert x.shape[2] == valid.shape[2] == frames.stop - frames.start
        sizes.append(x.shape[2])
        return (x,)

    (back,) = by_length(work, valid, torch.ones(1, 10, 7, 1), rows=1)
    assert sorted(sizes) == sizes == sorted(attended(valid).any(0).sum(1).tolist())
    assert torch.equal(back[0, ..., 0] > 0, attended(valid).any(0))


def test_work_by_length_passes_gradients():
    valid = lengths()
    x = torch.randn(1, 10, 7, 2, requires_grad=True)
    (back,) = by_length(lambda frames, valid, x: (x * x,), valid, x, rows=4)
    (gradient,) = torch.autograd.grad(back.sum(), x)
    torch.testing.assert_close(gradient, 2 * x * (back != 0))
