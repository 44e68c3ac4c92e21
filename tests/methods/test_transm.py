"""plugins/mmbench_methods/transm: what each translation sees, and what it costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import mmbench
from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec, Samples, Schedule
from mmbench.nn import lay
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench.training import train
from mmbench_methods.transm import Scale, TransM, absolute_error
from mmbench_methods.transm.network import frames_of
from mmbench_missing.msm import MSM

EMOTIONS = MultiBinary(("happy", "sad", "angry", "neutral"))
SENTIMENT = Regression(-3, 3)
TASKS = [SENTIMENT, EMOTIONS, MultiClass(("x", "y", "z"))]
PAPER = {"l": ModalitySpec(50, 300), "a": ModalitySpec(50, 74), "v": ModalitySpec(50, 35)}
NO_RNG = mmbench.Random()


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def small(make_data, task=SENTIMENT, modalities="lav", **settings) -> tuple[TransM, Split]:
    data = make_data(task, modalities)
    schedule = Schedule(heads=2, batch_size=8, epochs=1)
    spec = DataSpec(data.name, data.modalities(), task, schedule)
    torch.manual_seed(0)
    settings = {"width": 4, "depth": 1, "decoder_depth": 1, **settings}
    return TransM(spec, **settings), Split(data.splits["train"])


def paired(split: Split, rows: int = 6, *, without: str = "", every_other: str = "l") -> Batch:
    """A training batch in which one modality is missing, and every other frame of another."""
    masks = {m: v[:rows].copy() for m, v in split.samples.valid.items()}
    if without:
        masks[without][:] = False
    masks[every_other][:, ::2] = False
    return split.training_batch(np.arange(rows), masks, paired=True, epoch=1)


def changed(batch: Batch, m: str, seed: int = 1) -> Batch:
    """The batch with other content in the valid frames of one modality."""
    torch.manual_seed(seed)
    x = torch.randn_like(batch.features[m]) * batch.valid[m][..., None]
    return replace(batch, features={**batch.features, m: x})


def cells(method: TransM, batch: Batch) -> list[torch.Tensor]:
    """E_f, D_f and E_b (C, B, T, d) of all cells, zero at padding."""
    network = method.network
    made = network.cells(*network.embed(batch))
    back = network.encode_back(made.again, made.others)
    return [
        made.pivot.spread(made.encoded),
        made.others.spread(made.translated),
        made.others.spread(back),
    ]


# -- Parameters -----------------------------------------------------------------------------------


def test_network_has_the_declared_size():
    method = TransM(DataSpec("x", PAPER, SENTIMENT, Schedule(heads=10)))
    assert size(method) == 694_510  # 0.69 M
    assert size(*method.deployed()) == 559_841


# -- Who sees what --------------------------------------------------------------------------------


def test_forward_encoder_sees_the_pivot_alone_and_the_decoder_both(make_data):
    method, split = small(make_data)
    batch = paired(split)
    before = cells(method.eval(), batch)
    sound = cells(method, changed(batch, "a"))  # cell 0 is l <-> a, cell 1 is l <-> v
    assert torch.equal(sound[0], before[0])  # E_f
    assert not torch.allclose(sound[1][0], before[1][0])  # D_f of l <-> a
    assert torch.equal(sound[1][1], before[1][1])  # D_f of l <-> v
    text = cells(method, changed(batch, "l"))
    for cell in range(2):
        assert not torch.allclose(text[0][cell], before[0][cell])


def test_way_back_starts_from_the_translation_of_an_absent_modality(make_data):
    """What is encoded on the way back depends on the text although there is no sound at all."""
    method, split = small(make_data)
    batch = paired(split, without="a")
    assert not batch.features["a"].any()
    before, after = (cells(method.eval(), b)[2] for b in (batch, changed(batch, "l")))
    assert not torch.allclose(before[0], after[0])


def test_way_back_encodes_the_translation_and_nothing_else(make_data):
    method, split = small(make_data)
    method.eval()
    batch = paired(split)
    network = method.network
    _, translated, back = cells(method, batch)
    seen = frames_of(batch.valid)
    laid = lay(torch.stack([seen["a"], seen["v"]]))
    placed = laid.take(translated + network.positions[: translated.shape[2]])
    torch.testing.assert_close(back, laid.spread(network.encode_back(placed, laid)))


def test_translation_to_the_text_knows_of_the_other_by_what_is_encoded_alone(
    make_data, monkeypatch
):
    """t^ depends on m through E_b: with E_b held, other sound changes nothing."""
    method, split = small(make_data)
    method.eval()
    batch = paired(split)
    other = changed(batch, "a")
    before = method.view(batch).back
    assert not torch.allclose(method.view(other).back[0], before[0])
    made = method.network.cells(*method.network.embed(batch))
    held = method.network.encode_back(made.again, made.others)
    monkeypatch.setattr(method.network.encode_back, "forward", lambda *_, **__: held)
    decoded = [method.network.translate(b).back for b in (batch, other)]
    torch.testing.assert_close(*decoded)


def test_each_of_four_translations_trains_its_own_encoder_and_decoder(make_data):
    method, split = small(make_data)
    batch = paired(split)
    terms = method.loss(method.view(batch), batch, NO_RNG)
    assert set(terms) == {"task", "to a", "back from a", "to v", "back from v"}
    there = [method.network.encode_there, method.network.decode_there]
    back = [method.network.encode_back, method.network.decode_back]
    for cell, m in enumerate("av"):
        for term, moved, still in ((f"to {m}", there, back), (f"back from {m}", there + back, [])):
            assert terms[term] > 0
            for module in moved + still:
                weights = [p for p in module.parameters() if p.shape[-1] > 1 and p.shape[-2] > 1]
                gradients = torch.autograd.grad(
                    terms[term], weights, retain_graph=True, allow_unused=True
                )
                for gradient in gradients:
                    if module in still:
                        assert gradient is None
                    else:
                        assert gradient[cell].any() and not gradient[1 - cell].any()


def test_prediction_reads_all_encoders_at_the_last_frame(make_data):
    method, split = small(make_data)
    batch = split.batch(slice(0, 6))
    g, _ = method.eval().network.embed(batch)
    encoded, _, back = cells(method, batch)
    vectors = [*encoded, *back, *g]
    joint = method.represent(batch)
    assert joint.shape == (6, 7 * 4)
    expected = torch.cat([x[:, -1] for x in vectors], -1)  # padding is in front
    torch.testing.assert_close(joint, expected)
    torch.testing.assert_close(method(batch), method.head(joint))


def test_training_and_testing_predict_alike(make_data):
    method, split = small(make_data)
    batch = paired(split, without="v")
    torch.testing.assert_close(method.eval().view(batch).logits, method(batch))


def test_prediction_does_not_need_the_last_decoder(make_data):
    method, split = small(make_data)
    batch = split.batch(slice(0, 6))
    before = method.eval()(batch)
    deployed = {id(p) for module in method.deployed() for p in module.parameters()}
    owners = ((method.network, "decode_back"), (method, "speak_there"), (method, "speak_back"))
    for owner, name in owners:
        assert not deployed & {id(p) for p in getattr(owner, name).parameters()}
        delattr(owner, name)
    assert torch.equal(method(batch), before)


def test_pivot_is_the_first_modality_or_the_one_named(make_data):
    assert small(make_data)[0].pivot == "l"
    method, split = small(make_data, pivot="v")
    method.eval()
    batch = paired(split)
    before = cells(method, batch)[0]
    assert torch.equal(cells(method, changed(batch, "l"))[0], before)
    assert not torch.equal(cells(method, changed(batch, "v"))[0], before)
    assert method.others == ["l", "a"]
    with pytest.raises(mmbench.UsageError, match="expected one of l, a, v, got 'x'"):
        small(make_data, pivot="x")


# -- Losses ---------------------------------------------------------------------------------------


def test_absolute_error_is_the_mean_over_valid_frames_and_features():
    made, wanted = torch.randn(12, 5), torch.randn(12, 5)
    valid = torch.rand(12) < 0.6
    errors = [
        abs(made[i, k] - wanted[i, k]).item() for i in range(12) for k in range(5) if valid[i]
    ]
    expected = sum(errors) / len(errors)
    assert absolute_error(made, wanted, valid).item() == pytest.approx(expected, rel=1e-5)
    assert absolute_error(made, wanted, torch.zeros_like(valid)) == 0


def test_translations_are_compared_with_the_complete_standardised_sample(make_data):
    method, split = small(make_data)
    batches = [split.training_batch(np.arange(k, k + 12), None) for k in (0, 12)]
    method.measure(batches)
    batch = paired(split, without="a")
    view = method.eval().view(batch)
    terms = method.loss(view, batch, NO_RNG)
    for cell, m in enumerate("av"):
        for term, to, made, laid in (
            (f"to {m}", m, view.there[cell], view.others),
            (f"back from {m}", "l", view.back[cell], view.pivot),
        ):
            every = split.features[to][split.valid[to]]
            wanted = (split.features[to][:6] - every.mean(0)) / every.std(0, correction=0)
            sample, time, real = laid.frames_of(cell)
            assert split.valid[to][sample, time][real].all()
            error = (made - wanted[sample, time])[real].abs().mean()
            assert terms[term].item() == pytest.approx(10 * error.item(), rel=1e-4)


def test_translation_weight_scales_its_terms_only(make_data):
    method, split = small(make_data)
    batch = paired(split)
    view = method.eval().view(batch)
    ten = method.loss(view, batch, NO_RNG)
    method.translation_weight = 1.0
    one = method.loss(view, batch, NO_RNG)
    for name, value in ten.items():
        torch.testing.assert_close(value, one[name] * (1 if name == "task" else 10))


def test_scale_measures_what_it_standardises():
    scale = Scale(3)
    frames = torch.randn(50, 3) * torch.tensor([1.0, 20.0, 0.0]) + torch.tensor([0.0, 5.0, 7.0])
    scale.measure([frames[:20], frames[20:]])
    made = scale(frames)
    torch.testing.assert_close(made.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(made.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]))


def test_scale_is_measured_before_training(make_data):
    method, split = small(make_data)
    (stage,) = method.stages()
    assert stage.prepare == method.measure and stage.data == "paired"
    before = method.scales["l"].mean.clone()
    train(method, split, Split(make_data().splits["valid"]), MSM(), 0)
    assert not torch.equal(method.scales["l"].mean, before)


# -- Padding and what is missing ------------------------------------------------------------------


def test_content_of_padding_changes_no_loss(make_data):
    """Where each modality has padding of its own."""
    method, split = small(make_data)
    method.eval()
    for valid, frames in ((split.valid["a"], [5]), (split.valid["v"], [4, 5])):
        valid[:, frames] = False
    batch = split.training_batch(np.arange(6), None, paired=True, epoch=1)

    def noisy(batch: Batch) -> Batch:
        features = {
            m: x + 5 * torch.randn_like(x) * ~batch.valid[m][..., None]
            for m, x in batch.features.items()
        }
        return replace(batch, features=features)

    other = replace(noisy(batch), complete=noisy(batch.complete))
    assert not torch.equal(other.features["l"], batch.features["l"])
    expected = method.loss(method.view(batch), batch, NO_RNG)
    torch.testing.assert_close(method.loss(method.view(other), other, NO_RNG), expected)


def test_padding_of_one_modality_is_not_attended_to(make_data):
    method, split = small(make_data)
    method.eval()
    batch = paired(split)
    batch = replace(batch, valid={m: x.clone() for m, x in batch.valid.items()})
    batch.valid["l"][:, 0] = batch.valid["a"][:, 1:3] = batch.valid["v"][:, 4:] = False
    g, seen = method.network.embed(batch)
    noise = torch.randn_like(g) * ~seen[..., None]
    before = method.network.cells(g, seen)
    after = method.network.cells(g + noise, seen)
    for name, laid in (("encoded", before.pivot), ("translated", before.others)):
        made, again = (laid.spread(getattr(cells, name)) for cells in (before, after))
        torch.testing.assert_close(again, made)
        assert made.any(-1).equal(seen[[0, 0] if laid is before.pivot else [1, 2]])


def test_absent_modality_has_the_frames_of_the_present_ones():
    some = torch.tensor([[False, True, True], [False, False, False], [False, False, False]])
    other = torch.tensor([[True, False, False], [False, False, True], [False, False, False]])
    frames = frames_of({"l": some, "a": other})
    assert frames["l"].tolist() == [[False, True, True], [False, False, True], [True, False, False]]
    assert frames["a"].tolist() == [
        [True, False, False],
        [False, False, True],
        [True, False, False],
    ]
    longer = torch.ones(3, 5, dtype=torch.bool)
    frames = frames_of({"l": some, "a": longer})
    assert frames["l"].tolist() == [[False, True, True], [True, False, False], [True, False, False]]


def test_every_module_learns(make_data):
    method, split = small(make_data)
    batch = paired(split)
    terms = method.loss(method.view(batch), batch, NO_RNG)
    torch.stack(list(terms.values())).sum().backward()
    for name, module in method.named_modules():
        own = list(module.parameters(recurse=False))
        assert not own or any(p.grad is not None and p.grad.any() for p in own), name


def test_modalities_may_differ_in_length_and_pad_at_the_end():
    shapes = {"text": ModalitySpec(5, 4), "sound": ModalitySpec(9, 3)}
    spec = DataSpec("x", shapes, SENTIMENT, Schedule(heads=2))
    method = TransM(spec, width=4, depth=1, decoder_depth=1).eval()
    rng = np.random.default_rng(0)
    valid = {
        m: np.arange(s.length) < rng.integers(1, s.length + 1, (6, 1)) for m, s in shapes.items()
    }
    features = {
        m: rng.standard_normal((6, s.length, s.width), dtype=np.float32) * valid[m][..., None]
        for m, s in shapes.items()
    }
    split = Split(Samples(tuple("abcdef"), features, valid, np.zeros((6, 1), np.float32)))
    batch = split.training_batch(np.arange(6), None, paired=True)
    view = method.view(batch)
    assert view.there[0].shape[1:] == (3,) and view.back.shape[::2] == (1, 4)
    assert len(view.there[0]) == valid["sound"].sum() and view.back.shape[1] == valid["text"].sum()
    assert all(x.isfinite() for x in method.loss(view, batch, NO_RNG).values())
    without = {m: v & (m == "sound") for m, v in valid.items()}
    assert method(split.batch(slice(None), without)).isfinite().all()


def test_one_modality_is_refused_with_a_reason():
    spec = DataSpec("x", {"l": ModalitySpec(4, 4)}, SENTIMENT)
    assert "at least two" in (TransM.supports(spec) or "")
    assert TransM.supports(DataSpec("x", PAPER, SENTIMENT)) is None
