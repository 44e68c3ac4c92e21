"""plugins/mmbench_methods/mctn: each equation against a plain statement."""

import numpy as np
import pytest
import torch
from torch import nn

import mmbench
from mmbench.batching import Batch, Split
from mmbench.data import DataSpec, ModalitySpec, Schedule
from mmbench.errors import UsageError
from mmbench.missingness import subsets
from mmbench.nn import valid_first
from mmbench.tasks import MultiBinary, MultiClass, Regression
from mmbench.training import train
from mmbench_methods.mctn import MCTN
from mmbench_methods.mctn.network import Decoder, Padding, Regressor, attend, error
from mmbench_missing.msm import MSM

SENTIMENT = Regression(-3, 3)
TASKS = [SENTIMENT, MultiBinary(("w", "x", "y", "z")), MultiClass(("x", "y", "z"))]
SCHEDULE = Schedule(batch_size=8, epochs=1, output_dropout=0.0)
LEARNING = Schedule(batch_size=8, epochs=15, output_dropout=0.0, learning_rate=3e-2)
MOSI = {"l": ModalitySpec(50, 300), "a": ModalitySpec(50, 74), "v": ModalitySpec(50, 35)}


def small(
    make_data, task=SENTIMENT, modalities="lav", schedule=SCHEDULE, **settings
) -> tuple[MCTN, Split]:
    torch.manual_seed(0)
    data = make_data(task, modalities)
    spec = DataSpec(data.name, data.modalities(), task, schedule)
    split = Split(data.splits["train"])
    return MCTN(spec, **{"width": 4, "common": 5, **settings}), split


def complete(split: Split) -> Batch:
    return split.training_batch(np.arange(6), None, epoch=1)


def only(split: Split, *seen: str, rows: int = 6) -> Batch:
    masks = {m: v[:rows] & (m in seen) for m, v in split.samples.valid.items()}
    return split.batch(slice(0, rows), masks)


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()})


# -- Parts -------------------------------------------------------------------------------------


def test_decoder_is_the_printed_attention_lstm_step_by_step():
    torch.manual_seed(0)
    decoder, states = Decoder(4), torch.randn(3, 6, 4)
    valid = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1] * 6], dtype=torch.bool)
    w = torch.cat([decoder.score.weight[0], torch.randn(4)])  # with the part for the cell state
    cell = nn.LSTMCell(4, 4)
    (lstm,) = decoder.recurrent.forwards
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(cell, name).data = getattr(lstm, f"{name}_l0").data
    wanted = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    made = decoder(states, valid, wanted)
    assert made.shape == (3, 5, 4) and (made[~wanted] == 0).all()
    for b in range(3):
        e = states[b][valid[b]]
        h, c = torch.zeros(4), torch.zeros(4)
        for t in range(int(wanted[b].sum())):
            scores = torch.stack([w @ torch.cat([e_i, c]) for e_i in e])
            read = (scores.softmax(0)[:, None] * e).sum(0)
            h, c = cell(read, (h, c))
            torch.testing.assert_close(made[b, t], h)


def test_regressor_is_the_printed_attention_over_an_lstm():
    torch.manual_seed(0)
    regressor, states = Regressor(4, 2, dropout=0.0), torch.randn(2, 5, 4)
    valid = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
    output = regressor(regressor.pool(states, valid))
    (lstm,) = regressor.recurrent.forwards
    for b in range(2):
        h, _ = lstm(states[b : b + 1, valid[b]])
        scores = torch.tanh(h[0] @ regressor.score.weight[0])
        expected = regressor.head((scores.softmax(0)[:, None] * h[0]).sum(0))
        torch.testing.assert_close(output[b], expected)


def test_attention_over_nothing_is_0():
    states, scores = torch.zeros(2, 3, 4), torch.randn(2, 3, 1)
    assert (attend(states, scores, torch.zeros(2, 3, dtype=torch.bool)) == 0).all()


def test_error_is_the_mean_over_valid_frames_counted_from_the_start():
    made, truth = torch.randn(3, 4, 6), torch.randn(3, 4, 2)
    valid = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    total = 0.0
    for b in range(3):
        for k, x in enumerate(truth[b][valid[b]]):
            for j in range(6):  # the translator writes zeros behind a narrower modality's features
                total += (made[b, k, j].item() - (x[j].item() if j < 2 else 0)) ** 2 / 6
    assert error(made, *valid_first(truth, valid)).item() == pytest.approx(total / 3, rel=1e-5)
    assert error(made, truth, valid & False) == 0


# -- Translations ------------------------------------------------------------------------------


def test_translations_go_through_the_cycle_and_up_the_levels(make_data):
    method, split = small(make_data)
    batch = complete(split)
    chain = method.bank()[0]
    view = method.translate(batch)[0]
    assert (chain.source, chain.first, chain.later) == ("l", "v", ("a",))
    valid = batch.valid["l"]
    e = chain.encoders[0](method.bank()[0].enter["l"](batch.features["l"]), valid)
    count = batch.valid["v"].sum(1, keepdim=True)
    started = torch.arange(6) < count  # all modalities are valid alike
    there = chain.leave["v"](chain.decoders[0](e, valid, started))
    torch.testing.assert_close(view.there, there)
    again = chain.encoders[0](chain.enter["v"](there), started)
    torch.testing.assert_close(
        view.back, chain.leave["l"](chain.decoders[0](again, started, started))
    )
    e2 = chain.encoders[1](e, valid)
    torch.testing.assert_close(view.later[0], chain.write[0](chain.decoders[1](e2, valid, started)))
    pooled = chain.regressor.pool(e2, valid)
    torch.testing.assert_close(view.output, chain.regressor(pooled))
    torch.testing.assert_close(method.represent(batch)[:, :4], pooled)


def test_targets_are_in_the_declared_order(make_data):
    method, _ = small(make_data)
    order = [(c.source, c.first, *c.later) for c in method.bank()]
    assert order == [("l", "v", "a"), ("a", "l", "v"), ("v", "l", "a")]


@pytest.mark.parametrize("mode", ["source_bank", "language_only"])
def test_the_cycle_reuses_the_translator(make_data, mode):
    """One encoder and one decoder are called twice, and nothing is there for the way back alone."""
    method, split = small(make_data, mode=mode)
    chain = method.bank()[0]
    calls = {"encoder": 0, "decoder": 0}
    for name, module in (("encoder", chain.encoders[0]), ("decoder", chain.decoders[0])):
        module.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    method.translate(complete(split))
    assert calls == {"encoder": 2, "decoder": 2}


@pytest.mark.parametrize("mode", ["source_bank", "language_only"])
@pytest.mark.parametrize("term", ["translation", "cycle"])
def test_both_translation_losses_reach_encoder_and_decoder(make_data, mode, term):
    method, split = small(make_data, mode=mode)
    batch = complete(split)
    loss = method.loss(method.translate(batch), batch, mmbench.Random())[term]
    loss.backward()
    for chain in method.bank():
        for module in (chain.encoders[0], chain.decoders[0]):
            assert all(p.grad is not None and p.grad.any() for p in module.parameters())
        assert all(p.grad is None for p in chain.encoders[1:].parameters())
        assert all(p.grad is None for p in chain.regressor.parameters())


def test_the_cycle_is_closed(make_data):
    """L_c reaches the first half of the cycle, too: the source comes back from what was made of it."""
    method, split = small(make_data)
    batch = complete(split)
    made = method.translate(batch)
    cycle = method.loss(made, batch, mmbench.Random())["cycle"]
    for gradient in torch.autograd.grad(cycle, [view.there for view in made]):
        assert gradient.any()


def test_every_parameter_learns_from_the_whole_loss(make_data):
    method, split = small(make_data)
    batch = complete(split)
    terms = method.loss(method.translate(batch), batch, mmbench.Random())
    assert set(terms) == {"task", "translation", "cycle", "second", "penalty"}
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())


def test_the_decoder_never_reads_the_target(make_data):
    method, split = small(make_data, mode="language_only")
    batch = complete(split)
    before = method.translate(batch)
    loss = method.loss(before, batch, mmbench.Random())
    for m in "av":
        split.features[m] += 1.0
    after = method.translate(complete(split))
    for left, right in zip(before[0][:3], after[0][:3], strict=True):
        assert torch.equal(left, right)
    assert torch.equal(before[0].later[0], after[0].later[0])
    changed = method.loss(after, complete(split), mmbench.Random())
    assert changed["translation"] != loss["translation"] and changed["second"] != loss["second"]
    assert changed["task"] == loss["task"] and changed["cycle"] == loss["cycle"]


def test_loss_is_the_papers_sum_mean_over_the_sources(make_data):
    method, split = small(make_data)
    batch = complete(split)
    method.scale.measure([batch])
    x, valid = method.scale(batch.features), batch.valid["l"]  # all modalities are valid alike
    terms = method.loss(method.translate(batch), batch, mmbench.Random())
    expected = dict.fromkeys(terms, torch.zeros(()))

    def mse(made, m):
        return torch.cat(
            [(made[b, : valid[b].sum()] - x[m][b, valid[b]]).square().flatten() for b in range(6)]
        ).mean()

    for chain, view in zip(method.bank(), method.translate(batch), strict=True):
        expected["task"] = expected["task"] + (view.output - batch.truth).square().mean() / 3
        expected["translation"] = expected["translation"] + 0.1 * mse(view.there, chain.first) / 3
        expected["cycle"] = expected["cycle"] + 0.1 * mse(view.back, chain.source) / 3
        expected["second"] = expected["second"] + 0.1 * mse(view.later[0], chain.later[0]) / 3
        expected["penalty"] = (
            expected["penalty"] + 0.01 * (chain.regressor.head.weight**2).sum() / 3
        )
    for name, value in terms.items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize("name", ["translation", "cycle", "second", "penalty"])
def test_a_weight_scales_its_term_alone(make_data, name):
    batches, terms = [], []
    for weight in (0.0, 0.5, 1.0):
        method, split = small(make_data, **{name: weight})
        batches.append(complete(split))
        terms.append(method.loss(method.translate(batches[-1]), batches[-1], mmbench.Random()))
    assert terms[0][name] == 0 and terms[2][name] > 0
    torch.testing.assert_close(2 * terms[1][name], terms[2][name])
    for other in set(terms[0]) - {name}:
        assert terms[0][other] == terms[2][other]


def test_a_target_that_a_sample_lacks_is_not_compared(make_data):
    method, split = small(make_data, mode="language_only")
    lacking = only(split, "l", "a")
    batch = Batch(**{**vars(lacking), "targets": complete(split).targets})
    terms = method.loss(method.translate(batch), batch, mmbench.Random())
    assert terms["translation"] == 0 and terms["cycle"] == 0 and terms["second"] > 0


def test_padding_at_either_side_gives_the_same_losses(make_data):
    """Translations start with the first valid frame, of the source and of the target."""
    losses = []
    for _ in range(2):
        method, split = small(make_data)
        batch = complete(split)
        if losses:
            roll = {m: v.flip(1).long().argmax(1) for m, v in batch.valid.items()}
            assert all((r == 0).all() for r in roll.values())  # they end at the last frame
            shift = (~batch.valid["l"]).sum(1)
            rows = (torch.arange(6)[None] + shift[:, None]) % 6  # frames to the start
            batch = Batch(
                {m: x.gather(1, rows[..., None].expand_as(x)) for m, x in batch.features.items()},
                {m: v.gather(1, rows) for m, v in batch.observed.items()},
                {m: v.gather(1, rows) for m, v in batch.valid.items()},
                batch.targets,
            )
        losses.append(method.loss(method.translate(batch), batch, mmbench.Random()))
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name])


# -- Prediction --------------------------------------------------------------------------------


def test_language_only_reads_nothing_else(make_data):
    method, split = small(make_data, mode="language_only")
    method.eval()
    before = method(split.batch(slice(0, 6)))
    assert torch.equal(method(only(split, "l")), before)
    for m in "av":
        split.features[m].normal_()
    assert torch.equal(method(split.batch(slice(0, 6))), before)
    assert not torch.equal(method(only(split, "a", "v")), before)


def test_language_only_pads_to_the_widest_and_its_translator_has_no_other_layer(make_data):
    method, split = small(make_data, mode="language_only", source="v")
    (chain,) = method.bank()
    assert (chain.source, chain.first, chain.later) == ("v", "l", ("a",))
    assert chain.leave["v"] is chain.leave["l"] and not list(chain.enter.parameters())
    x = split.features["v"][:2]
    padded = Padding(5)(x)
    assert torch.equal(padded[..., :3], x) and (padded[..., 3:] == 0).all()
    assert method.translate(complete(split))[0].back.shape == (6, 6, 5)


def test_a_source_must_be_a_modality(make_data):
    with pytest.raises(UsageError, match="one of l, a, v, got 'w'"):
        small(make_data, source="w")


def test_the_bank_is_the_mean_of_the_sources_that_are_there(make_data):
    method, split = small(make_data)
    method.eval()
    alone = {m: method(only(split, m)) for m in "lav"}
    for subset in subsets("lav"):
        expected = torch.stack([alone[m] for m in subset]).mean(0)
        torch.testing.assert_close(method(only(split, *subset)), expected)
    for m in "av":
        split.features[m].normal_()
    assert torch.equal(method(only(split, "l")), alone["l"])


def test_a_prediction_needs_no_decoder(make_data):
    method, split = small(make_data)
    method.eval()
    before = method(split.batch(slice(None)))
    needed = {id(p) for module in method.deployed() for p in module.parameters()}
    for p in method.parameters():
        if id(p) not in needed:
            p.data.fill_(torch.nan)
    assert torch.equal(method(split.batch(slice(None))), before)


def test_everything_missing_gives_one_finite_answer(make_data):
    for mode in ("source_bank", "language_only"):
        method, split = small(make_data, mode=mode)
        method.eval()
        logits = method(only(split, rows=24))
        assert logits.isfinite().all() and (logits == logits[0]).all()
        biases = [chain.regressor.head.bias for chain in method.bank()]
        torch.testing.assert_close(logits[0], torch.stack(biases).mean(0))


# -- The method --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "total", "deployed"),
    [("source_bank", 219_955, 149_539), ("language_only", 140_215, 110_913)],
)
def test_size(mode, total, deployed):
    method = MCTN(DataSpec("x", MOSI, SENTIMENT), mode=mode)
    assert size(method) == total and size(*method.deployed()) == deployed
    assert total == pytest.approx(
        {"source_bank": 230_000, "language_only": 139_000}[mode], rel=0.05
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("modalities", "mode"),
    [
        ("la", "source_bank"),
        ("lav", "source_bank"),
        ("lavx", "source_bank"),
        ("av", "language_only"),
    ],
)
def test_every_task_trains_with_any_number_of_modalities(make_data, task, modalities, mode):
    method, split = small(make_data, task, modalities, mode=mode)
    valid = Split(make_data(task, modalities).splits["valid"])
    (log,) = train(method, split, valid, MSM(), 0)
    entry = log.history[0]
    assert np.isfinite(entry["valid"]) and ("second" in entry["loss"]) is (len(modalities) > 2)
    assert method(split.batch(slice(0, 3))).shape == (3, task.n_out)
    assert (method.scale.size != 1).all()


def test_it_learns(make_data):
    method, split = small(make_data, mode="language_only", schedule=LEARNING)
    valid = Split(make_data().splits["valid"])
    history = [e["loss"]["task"] for e in train(method, split, valid, MSM(), 0)[0].history]
    assert np.mean(history[-3:]) < 0.7 * history[0]


def test_sequences_of_different_lengths_are_translated():
    spec = DataSpec("x", {"l": ModalitySpec(4, 3), "a": ModalitySpec(7, 2)}, SENTIMENT)
    method = MCTN(spec, width=4)
    batch = Batch(
        {m: torch.randn(2, s.length, s.width) for m, s in spec.modalities.items()},
        *({m: torch.ones(2, s.length, dtype=torch.bool) for m, s in spec.modalities.items()},) * 2,
        torch.zeros(2, 1),
    )
    first, second = method.translate(batch)
    assert first.there.shape == (2, 7, 2) and first.back.shape == (2, 4, 3)
    assert second.there.shape == (2, 4, 3) and second.back.shape == (2, 7, 2)
    assert method.loss([first, second], batch, mmbench.Random())["cycle"].isfinite()


def test_one_modality_is_refused_with_a_reason():
    spec = DataSpec("x", {"l": ModalitySpec(4, 4)}, SENTIMENT)
    assert "at least two" in (MCTN.supports(spec) or "")
    assert MCTN.supports(DataSpec("x", MOSI, SENTIMENT)) is None
