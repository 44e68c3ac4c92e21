"""mmbench/nn, each piece against torch's own or a closed form."""

import math

import pytest
import torch
from torch import nn

from mmbench.batching import Batch, conceal
from mmbench.data import DataSpec, ModalitySpec, Schedule
from mmbench.nn import Dropout, FrontEnd, attended, last_valid, linear, mlp, positional_encoding
from mmbench.nn.encoder import _Convolved
from mmbench.tasks import Regression


def test_last_valid_reads_either_side_of_padding():
    valid = torch.tensor([[0, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    assert last_valid(valid).tolist() == [2, 1, 0, 2]


def test_attended_is_valid_or_else_the_first_frame():
    valid = torch.tensor([[False, True, True], [False, False, False]])
    assert attended(valid).tolist() == [[False, True, True], [True, False, False]]


def test_positional_encoding_is_the_papers():
    table = positional_encoding(7, 6)
    for t in range(7):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def front_end(
    lengths: dict[str, int], depth: int, heads: int = 2, width: int = 8, dropout: float = 0.0
) -> FrontEnd:
    """One whose parameters, norms' too, are not trivial."""
    shapes = {m: ModalitySpec(length, 5 + i) for i, (m, length) in enumerate(lengths.items())}
    schedule = Schedule(heads=heads, attention_dropout=dropout)
    front = FrontEnd(DataSpec("x", shapes, Regression(-3, 3), schedule), width, depth)
    for parameter in front.parameters():
        nn.init.normal_(parameter, std=0.5)
    return front


def torch_encoder(front: FrontEnd, m: int, heads: int) -> tuple[nn.Conv1d, nn.TransformerEncoder]:
    """torch's convolution and pre-norm encoder with the parameters of modality m."""
    taps = front.embedding.taps[m][0]  # (3, d, D)
    width = taps.shape[1]
    convolution = nn.Conv1d(taps.shape[2], width, 3, padding=1)
    convolution.weight.data = taps.data.permute(1, 2, 0).clone()
    convolution.bias.data = front.embedding.bias.data[m].clone()
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
    )
    twin = nn.TransformerEncoder(
        layer, len(front.encoder.layers), nn.LayerNorm(width), enable_nested_tensor=False
    )
    # torch has a head's columns side by side, the front end a column's heads
    order = torch.arange(width).view(-1, heads).t().flatten()
    for mine, other in zip(front.encoder.layers, twin.layers, strict=True):
        weight, bias = (
            mine.attention.query_key_value.weight[m],
            mine.attention.query_key_value.bias[m],
        )
        other.self_attn.in_proj_weight.data = weight.data.view(3, width, width)[:, order].flatten(
            0, 1
        )
        other.self_attn.in_proj_bias.data = bias.data.view(3, width)[:, order].flatten()
        other.self_attn.out_proj.weight.data = mine.attention.project.weight.data[m][:, order]
        other.self_attn.out_proj.bias.data = mine.attention.project.bias.data[m]
        for norm, theirs in ((mine.attention.norm, other.norm1), (mine.feed.norm, other.norm2)):
            theirs.weight.data, theirs.bias.data = norm.gain.data[m], norm.shift.data[m]
        for linear_, theirs in (
            (mine.feed.layers.widen, other.linear1),
            (mine.feed.layers.narrow, other.linear2),
        ):
            theirs.weight.data, theirs.bias.data = linear_.weight.data[m], linear_.bias.data[m]
    twin.norm.weight.data, twin.norm.bias.data = (
        front.encoder.norm.gain.data[m],
        front.encoder.norm.shift.data[m],
    )
    return convolution, twin


VALID = torch.tensor(
    [[0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1] * 6, [0] * 6, [0] * 5 + [1]]
).bool()


def masked_batch() -> Batch:
    """Padding on either side, a frame hidden, a modality absent; the second modality is longer."""
    valid = {"l": VALID, "a": torch.cat([VALID, VALID], 1)[torch.tensor([1, 2, 0, 4, 4])]}
    observed = {m: v.clone() for m, v in valid.items()}
    observed["l"][2, 1] = False
    return conceal({"l": torch.randn(5, 6, 5), "a": torch.randn(5, 12, 6)}, valid, observed)


def expected_encodings(front: FrontEnd, batch: Batch, m: int, name: str) -> torch.Tensor:
    """(B, T, d) by torch's own modules, of a modality that is absent at its first frame."""
    convolution, twin = torch_encoder(front, m, heads=2)
    x, valid = batch.features[name], batch.valid[name]
    embedded = convolution(x.transpose(1, 2)).transpose(1, 2)
    embedded = embedded + positional_encoding(x.shape[1], 8)
    return twin(embedded, src_key_padding_mask=~attended(valid))


@pytest.mark.parametrize("depth", [1, 3])
def test_front_end_is_torchs_encoder_read_at_the_last_valid_frame(depth):
    front, batch = front_end({"l": 6, "a": 12}, depth), masked_batch()
    made = front(batch)
    for m, name in enumerate(batch.valid):
        every = expected_encodings(front, batch, m, name)
        read = every[torch.arange(5), last_valid(attended(batch.valid[name]))]
        torch.testing.assert_close(made[:, m], read, rtol=1e-4, atol=1e-5)


def test_sequences_are_torchs_encodings_at_every_valid_frame():
    front, batch = front_end({"l": 6, "a": 12}, depth=2), masked_batch()
    for m, (name, made) in enumerate(front.sequences(batch).items()):
        valid = attended(batch.valid[name])
        expected = expected_encodings(front, batch, m, name)
        torch.testing.assert_close(made[valid], expected[valid], rtol=1e-4, atol=1e-5)
        assert (made[~valid] == 0).all()


def test_front_ends_gradients_are_those_of_torchs_encoder():
    front, batch = front_end({"l": 6, "a": 12}, depth=2), masked_batch()
    weights = torch.randn(5, 2, 8)
    (front(batch) * weights).sum().backward()
    layer = front.encoder.layers[0]
    for m, name in enumerate(batch.valid):
        convolution, twin = torch_encoder(front, m, heads=2)
        x, valid = batch.features[name], batch.valid[name]
        embedded = convolution(x.transpose(1, 2)).transpose(1, 2) + positional_encoding(
            x.shape[1], 8
        )
        every = twin(embedded, src_key_padding_mask=~attended(valid))
        (every[torch.arange(5), last_valid(attended(valid))] * weights[:, m]).sum().backward()
        theirs = twin.layers[0]
        pairs = [
            (layer.attention.norm.gain.grad[m], theirs.norm1.weight.grad),
            (layer.attention.norm.shift.grad[m], theirs.norm1.bias.grad),
            (layer.feed.layers.widen.weight.grad[m], theirs.linear1.weight.grad),
            (layer.feed.layers.narrow.bias.grad[m], theirs.linear2.bias.grad),
            (front.embedding.taps[m].grad[0], convolution.weight.grad.permute(2, 0, 1)),
            (front.embedding.bias.grad[m], convolution.bias.grad),
            (front.encoder.norm.gain.grad[m], twin.norm.weight.grad),
        ]
        order = torch.arange(8).view(-1, 2).t().flatten()
        mine = layer.attention.query_key_value.weight.grad[m].view(3, 8, 8)[:, order].flatten(0, 1)
        pairs.append((mine, theirs.self_attn.in_proj_weight.grad))
        for ours, reference in pairs:
            torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-4)


def test_absent_sequence_is_encoded_finitely_and_always_alike():
    front = front_end({"l": 6}, depth=2)
    nothing = torch.zeros(4, 6, dtype=torch.bool)
    out = front(conceal({"l": torch.randn(4, 6, 5)}, {"l": ~nothing}, {"l": nothing}))
    assert out.isfinite().all()
    assert (out == out[0]).all()


def test_with_dropout_those_who_lack_a_modality_are_no_longer_alike():
    front = front_end({"l": 6}, depth=2, dropout=0.5)
    nothing = torch.zeros(4, 6, dtype=torch.bool)
    batch = conceal({"l": torch.randn(4, 6, 5)}, {"l": ~nothing}, {"l": nothing})
    out = front.train()(batch)
    assert len(out.flatten(1).unique(dim=0)) > 1
    out = front.eval()(batch)
    assert len(out.flatten(1).unique(dim=0)) == 1


def test_padding_never_matters():
    front = front_end({"l": 6}, depth=2)
    valid = {"l": torch.tensor([[False, False, True, True, True, True]])}
    x = torch.zeros(1, 6, 5)
    x[0, 2:] = torch.randn(4, 5)
    other = x.clone()
    other[0, :2] = 9.0
    made = [front(Batch({"l": y}, valid, valid)) for y in (x, other)]
    assert torch.equal(*made)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="40 cannot be split among 7 heads"):
        front_end({"l": 6}, depth=1, heads=7, width=40)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_token_adds_up_its_neighbours_and_its_gradient_goes_back_to_them(dtype):
    """In float32 by compiled loops, in float64 by torch."""
    torch.manual_seed(0)
    # two frames of which tokens 0, 1 of one group and 2, 3 of another see:
    sources = torch.tensor([[2, 0, 1, 2], [0, 1, 2, 2], [1, 2, 2, 2]])
    targets = torch.tensor([[1, 2], [0, 1], [4, 0]])
    x, bias = torch.randn(2, 3, 5, dtype=dtype), torch.randn(2, 5, dtype=dtype)
    leaves = [x.requires_grad_(), bias.requires_grad_()]
    places = torch.randn(4, 5, dtype=dtype)
    made = _Convolved.apply(x, bias, places, sources, targets)
    padded = torch.cat([x, x.new_zeros(1, 3, 5)])
    expected = sum(padded[sources[k], k] for k in range(3))
    expected = expected + places + bias.repeat_interleave(2, 0)
    torch.testing.assert_close(made, expected)
    weights = torch.randn_like(made)
    mine, theirs = (torch.autograd.grad((y * weights).sum(), leaves) for y in (made, expected))
    torch.testing.assert_close(mine, theirs)
