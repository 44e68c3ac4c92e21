"""mmbench/nn/packing.py against plain loops, over masks of every kind."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmbench.nn.packing import Pack, between, lay, pack, stack_padded


@st.composite
def masks(draw):
    """Valid and observed frames of one to three modalities of their own lengths, of one to three runs."""
    runs, samples = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    valid, observed = [], []
    for _ in range(draw(st.integers(1, 3))):
        shape = (runs, samples, draw(st.integers(1, 6)))
        seen = draw(arrays.arrays(bool, shape))
        # padding may be anywhere, but nothing is valid of a modality that is not seen at all
        more = draw(arrays.arrays(bool, shape))
        valid.append((seen | more) & seen.any(-1, keepdims=True))
        observed.append(seen)
    return valid, observed


def packed(valid, observed) -> Pack:
    return pack(*([torch.from_numpy(mask) for mask in masks] for masks in (valid, observed)))


def tokens_of(laid: Pack, run: int, sample: int, m: int) -> list[int]:
    sequence = (m * laid.runs + run) * laid.samples + sample
    last, length = int(laid.last[sequence]), int(laid.length[sequence])
    return list(range(last - length + 1, last + 1))


@given(masks())
def test_each_sequence_has_its_valid_frames_in_order_of_time_or_an_empty_one(given_masks):
    valid, observed = given_masks
    laid = packed(valid, observed)
    owned: list[int] = []
    for m, mask in enumerate(valid):
        for run, sample in np.ndindex(mask.shape[:2]):
            times = np.flatnonzero(mask[run, sample]).tolist() or [0]
            tokens = tokens_of(laid, run, sample, m)
            assert laid.time[tokens].tolist() == times
            group = m * laid.runs + run
            assert all(token // (len(laid.time) // laid.groups) == group for token in tokens)
            owned += tokens
    assert len(set(owned)) == len(owned)


@given(masks())
def test_neighbours_are_the_observed_frames_around_a_token_and_the_other_way_round(given_masks):
    valid, observed = given_masks
    laid = packed(valid, observed)
    frames = [
        (m, run, sample, t)
        for m, mask in enumerate(observed)
        for run, sample, t in zip(*np.nonzero(mask), strict=True)
    ]
    number = {frame: i for i, frame in enumerate(frames)}
    rows = torch.cat(laid.observed)
    assert len(rows) == len(frames)
    for (m, run, sample, t), row in zip(frames, rows.tolist(), strict=True):
        assert row == np.ravel_multi_index((run, sample, t), observed[m].shape)
    for m, mask in enumerate(valid):
        for run, sample in np.ndindex(mask.shape[:2]):
            if not mask[run, sample].any():
                continue
            for token in tokens_of(laid, run, sample, m):
                t = int(laid.time[token])
                around = [number.get((m, run, sample, t + k), len(frames)) for k in (-1, 0, 1)]
                assert laid.sources[:, token].tolist() == around
    for k in range(3):  # frame i is source k of the token that is its target k, where there is one
        for i, token in enumerate(laid.targets[k].tolist()):
            assert token == len(laid.time) or laid.sources[k, token] == i
        there = laid.sources[k] < len(frames)
        assert (laid.targets[k][laid.sources[k][there]] == there.nonzero().squeeze(1)).all()


@given(masks())
def test_buckets_hold_every_sequence_once_and_a_runs_together(given_masks):
    laid = packed(*given_masks)
    found = []
    for bucket in laid.buckets:
        place = 0
        assert bucket.asking.equal(bucket.tokens)
        for run, (count, most, longest) in enumerate(bucket.runs):
            assert most == longest
            own = bucket.sequences[place : place + count]
            groups = own // (len(laid.last) // laid.groups)
            assert (groups % laid.runs == run).all()
            assert not count or int(laid.length[own].max()) == longest
            place += count
        for sequence, tokens in zip(bucket.sequences.tolist(), bucket.tokens, strict=True):
            real = tokens[tokens < len(laid.time)].tolist()
            last, length = int(laid.last[sequence]), int(laid.length[sequence])
            assert real == list(range(last - length + 1, last + 1))
            found.append(sequence)
    assert sorted(found) == list(range(len(laid.length)))


@given(masks())
def test_tokens_are_taken_from_frames_and_go_back_there(given_masks):
    valid, observed = given_masks
    laid = packed(valid, observed)
    frames = torch.randn(*laid.shape, 2)
    tokens = laid.take(frames)
    assert len(tokens) == len(laid.time)
    used = torch.zeros(laid.shape, dtype=torch.bool)
    for m, mask in enumerate(valid):
        for run, sample in np.ndindex(mask.shape[:2]):
            group = m * laid.runs + run
            for token in tokens_of(laid, run, sample, m):
                t = int(laid.time[token])
                assert tokens[token].equal(frames[group, sample, t])
                used[group, sample, t] = True
    assert laid.spread(tokens).equal(frames * used[..., None])
    for group in range(laid.groups):
        sample, time, real = laid.frames_of(group)
        found = torch.zeros(laid.shape[1:], dtype=torch.bool)
        found[sample[real], time[real]] = True
        assert found.equal(used[group]) and real.sum() == used[group].sum()


@given(masks(), st.randoms())
def test_buckets_between_two_layouts_pair_each_sequence_with_its_like(given_masks, random):
    asked = packed(*given_masks)
    shape = (asked.groups, asked.samples, random.randint(1, 6))
    used = torch.rand(shape).lt(0.5).logical_or(torch.arange(shape[2]) == 0)
    asking = replace(lay(used), runs=asked.runs)
    found = []
    for bucket in between(asking, asked):
        assert sum(count for count, _, _ in bucket.runs) == len(bucket.sequences)
        for laid, tokens, place in ((asking, bucket.asking, 1), (asked, bucket.tokens, 2)):
            assert tokens.shape[1] == max(run[place] for run in bucket.runs)
            for sequence, own in zip(bucket.sequences.tolist(), tokens, strict=True):
                last, length = int(laid.last[sequence]), int(laid.length[sequence])
                real = own[own < len(laid.time)].tolist()
                assert real == list(range(last - length + 1, last + 1))
        once = bucket.asked_once()
        assert once.asking.squeeze(1).equal(bucket.sequences)
        found += bucket.sequences.tolist()
    assert sorted(found) == list(range(len(asked.length)))


def test_shorter_sequences_are_padded_behind():
    short, long = torch.ones(2, 3, 4), torch.ones(2, 5, 4)
    both = stack_padded([short, long])
    assert both.shape == (2, 2, 5, 4)
    assert both[0, :, 3:].eq(0).all() and both[0, :, :3].eq(1).all() and both[1].eq(1).all()
    flags = stack_padded([torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)])
    assert flags.dtype == torch.bool and not flags[0, :, 3:].any()
