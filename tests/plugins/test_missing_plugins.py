"""The built-in protocols and sampler. A changed golden hash means a new version of the protocol."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.errors import DataError, UsageError
from mmbench.missingness import MissingnessProtocol, joined, n_hidden, subsets
from mmbench_missing import inter, intra, msm
from mmbench_missing.inter import Inter
from mmbench_missing.intra import Intra
from mmbench_missing.msm import MSM

# Ids that a careless key would confuse with each other or with its separator.
IDS = ("a", "a|0", "a|0|l", 'q"\\', "\x1f", "3$[2]", "日", "last")
LENGTHS = {"l": 7, "a": 7, "v": 12}


def some_valid(ids=IDS, *, front: bool = False) -> dict[str, np.ndarray]:
    """Valid frames of every length, none included, padded at the back or at the front."""
    valid = {}
    for shift, (m, length) in enumerate(LENGTHS.items()):
        n = (np.arange(len(ids)) * 3 + shift) % (length + 1)
        valid[m] = np.arange(length) < n[:, None]
        valid[m] = valid[m][:, ::-1].copy() if front else valid[m]
    return valid


def all_masks(protocol: MissingnessProtocol, valid, ids, **changes):
    """By condition, mask seed and modality."""
    names = {"dataset": "mosi", "split": "test", **changes}
    return {
        (condition.name, seed, m): mask
        for seed in range(protocol.mask_seeds)
        for condition in protocol.conditions(list(valid))
        for m, mask in protocol.masks(condition, valid, ids=ids, mask_seed=seed, **names).items()
    }


def digest(masks) -> str:
    """SHA-256 of every mask, bit by bit, in the order of the protocol."""
    total = hashlib.sha256()
    for key, mask in masks.items():
        total.update(repr((key, mask.shape)).encode() + np.packbits(mask).tobytes())
    return total.hexdigest()


GOLDEN = {
    "inter@1": "c98572de961d746c05a4492416f3ddd8f01600a242db4eaac1f63015eb0cc14d",
    "intra@1": "4d3546caf43f3337948766be4fcb18856c006c6791f197612bc8657682f56be0",
}
protocols = pytest.mark.parametrize("protocol", [Inter(), Intra()], ids=lambda p: p.id)


def test_registered():
    assert [module.mmbench_register_missingness() for module in (inter, intra, msm)] == [
        Inter,
        Intra,
        MSM,
    ]
    assert [Inter().id, Intra().id, MSM().id] == ["inter@1", "intra@1", "msm@1"]


@protocols
def test_golden_hash(protocol):
    assert digest(all_masks(protocol, some_valid(), IDS)) == GOLDEN[protocol.id]


@protocols
def test_only_valid_frames_are_ever_observed(protocol):
    valid = some_valid()
    for (_, _, m), mask in all_masks(protocol, valid, IDS).items():
        assert mask.dtype == bool and mask.shape == valid[m].shape
        assert not (mask & ~valid[m]).any()


@protocols
@given(order=st.permutations(range(len(IDS))), count=st.integers(1, len(IDS)))
@settings(max_examples=15, deadline=None)
def test_a_sample_has_the_same_masks_in_any_batch(protocol, order, count):
    whole, valid, rows = all_masks(protocol, some_valid(), IDS), some_valid(), order[:count]
    part = all_masks(protocol, {m: v[rows] for m, v in valid.items()}, [IDS[row] for row in rows])
    for key, mask in part.items():
        np.testing.assert_array_equal(mask, whole[key][rows])


@protocols
def test_the_side_of_the_padding_does_not_matter(protocol):
    back, front = some_valid(), some_valid(front=True)
    for (key, first), second in zip(
        all_masks(protocol, back, IDS).items(),
        all_masks(protocol, front, IDS).values(),
        strict=True,
    ):
        m = key[2]
        np.testing.assert_array_equal(first[back[m]], second[front[m]])


@protocols
def test_masks_leave_their_input_and_each_other_alone(protocol):
    valid, before = some_valid(), some_valid()
    for mask in all_masks(protocol, valid, IDS).values():
        mask[:] = False
    for m, frames in valid.items():
        np.testing.assert_array_equal(frames, before[m])
    assert digest(all_masks(protocol, valid, IDS)) == GOLDEN[protocol.id]


@pytest.mark.parametrize(
    ("modalities", "names"),
    [
        ("lv", "l v lv"),
        ("lav", "l a v la lv av lav"),
        ("lavx", "l a v x la lv lx av ax vx lav lax lvx avx lavx"),
        (("text", "audio"), "text audio text+audio"),
    ],
)
def test_inter_columns(modalities, names):
    conditions = Inter().conditions(modalities)
    assert [c.name for c in conditions] == names.split()
    assert [c.complete for c in conditions] == [False] * (len(conditions) - 1) + [True]
    assert all(c.rate == 0 for c in conditions)


def test_inter_titles():
    titles = [c.title for c in Inter().conditions("lav")]
    assert titles == ["{l}", "{a}", "{v}", "{l, a}", "{l, v}", "{a, v}", "{l, a, v}"]


def test_inter_hides_whole_modalities_and_nothing_else():
    valid, protocol = some_valid(), Inter()
    for condition in protocol.conditions("lav"):
        masks = protocol.masks(condition, valid, ids=IDS, dataset="mosi", split="test", mask_seed=0)
        for m, mask in masks.items():
            expected = valid[m] if m in condition.observed else np.zeros_like(valid[m])
            np.testing.assert_array_equal(mask, expected)


def test_inter_average_leaves_the_complete_set_out():
    conditions = Inter().conditions("lav")
    scores = {c.name: float(k) for k, c in enumerate(conditions, 1)} | {"lav": 100.0}
    assert Inter().summarise(scores, conditions) == pytest.approx(3.5)


def test_inter_needs_two_modalities():
    with pytest.raises(DataError, match="inter@1 needs two modalities, got l"):
        Inter().conditions(["l"])


def test_intra_columns():
    conditions = Intra().conditions("lav")
    assert [c.name for c in conditions] == [f"0.{k}" for k in range(1, 10)] + ["1.0"]
    assert conditions[2].title == "p=0.3" and conditions[2].rate == 0.3
    assert all(c.observed == ("l", "a", "v") and not c.complete for c in conditions)
    assert Intra.mask_seeds == 3


def test_intra_hides_exact_counts_and_everything_at_one():
    valid = some_valid()
    for (name, _, m), mask in all_masks(Intra(), valid, IDS).items():
        n_valid = valid[m].sum(1)
        np.testing.assert_array_equal(n_valid - mask.sum(1), n_hidden(float(name), n_valid))
        if name == "1.0":
            assert not mask.any()


def test_intra_in_plain_python():
    valid = some_valid()
    for (name, seed, m), mask in all_masks(Intra(), valid, IDS).items():
        for sample, frames, seen in zip(IDS, valid[m], mask, strict=True):
            key = json.dumps(["intra@1", "mosi", "test", sample, m, seed])
            places = [t for t, there in enumerate(frames) if there]
            words = hashlib.shake_128(key.encode()).digest(8 * len(places))
            order = sorted(
                range(len(places)), key=lambda k: int.from_bytes(words[8 * k : 8 * k + 8], "little")
            )
            hidden = {places[k] for k in order[: round(round(float(name) * len(places), 9))]}
            assert np.flatnonzero(seen).tolist() == [t for t in places if t not in hidden]


def test_intra_masks_are_nested_in_the_rate():
    masks = all_masks(Intra(), some_valid(), IDS)
    for (name, seed, m), mask in masks.items():
        if name != "1.0":
            higher = masks[f"{float(name) + 0.1:.1f}", seed, m]
            assert (higher <= mask).all()


def test_intra_masks_depend_on_every_name():
    ids = [str(i) for i in range(50)]
    valid = {"l": np.ones((50, 20), bool)}
    usual = all_masks(Intra(), valid, ids)["0.5", 0, "l"]
    others = [
        all_masks(Intra(), valid, ids)["0.5", 1, "l"],
        all_masks(Intra(), valid, ids, dataset="mosei")["0.5", 0, "l"],
        all_masks(Intra(), valid, ids, split="valid")["0.5", 0, "l"],
        all_masks(Intra(), {"a": valid["l"]}, ids)["0.5", 0, "a"],
        all_masks(Intra(), valid, [f"x{i}" for i in ids])["0.5", 0, "l"],
        np.roll(usual, 1, 0),
    ]
    for other in others:
        # Half of 20 frames are seen in either: if they are independent, 5 of them in both.
        overlap = (usual & other).sum(1)
        assert abs(overlap.mean() - 5) < 4 * 1.15 / np.sqrt(50)


def test_intra_hides_modalities_of_one_length_independently():
    ids = [f"v{i}" for i in range(2000)]
    valid = {m: np.ones((2000, 10), bool) for m in "lav"}
    protocol = Intra()
    masks = protocol.masks(
        protocol.conditions("lav")[2], valid, ids=ids, dataset="d", split="test", mask_seed=0
    )
    for first, second in ("la", "lv", "av"):
        both_hidden = (~masks[first] & ~masks[second]).mean()
        assert both_hidden == pytest.approx(0.3 * 0.3, abs=0.008)  # 0.3 if they were shared


def test_intra_favours_no_position():
    valid = {"l": np.ones((4000, 10), bool)}
    ids = [str(i) for i in range(4000)]
    hidden = ~all_masks(Intra(), valid, ids)["0.3", 2, "l"]
    assert hidden.mean(0) == pytest.approx(np.full(10, 0.3), abs=0.035)


def test_intra_average_is_the_mean_height_of_the_curve():
    conditions = Intra().conditions("lav")
    for scores, area in (
        ({c.name: 0.7 for c in conditions}, 0.7),
        ({c.name: 1 - c.rate for c in conditions}, 0.45),
        ({c.name: float(c.name == "0.1") for c in conditions}, 0.05 / 0.9),
        ({c.name: float(c.name == "0.5") for c in conditions}, 0.1 / 0.9),
    ):
        assert Intra().summarise(scores, conditions) == pytest.approx(area)


def full(count: int, length: int = 40) -> dict[str, np.ndarray]:
    return {m: np.ones((count, length), bool) for m in "lav"}


def available(masks) -> np.ndarray:
    """Which modalities have an observed frame, bool (N, M)."""
    return np.stack([mask.any(1) for mask in masks.values()], 1)


def hidden_counts(valid, masks) -> np.ndarray:
    """Frames hidden, int (N, M)."""
    return np.stack([valid[m].sum(1) - masks[m].sum(1) for m in valid], 1)


def lengths(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Valid frames of random number, none included."""
    rng = np.random.default_rng(seed)
    return {
        m: np.arange(size) < rng.integers(0, size + 1, (count, 1)) for m, size in LENGTHS.items()
    }


def test_msm_sets_are_uniform():
    from scipy.stats import chisquare

    masks = MSM().draw(full(14_000), np.random.default_rng(0))
    counts = Counter(map(tuple, available(masks).tolist()))
    assert len(counts) == 7 and (False, False, False) not in counts
    assert chisquare(list(counts.values())).pvalue > 0.01


def test_msm_sets_are_uniform_over_what_a_sample_has():
    from scipy.stats import chisquare

    valid = full(6000)
    valid["a"][:] = False
    counts = Counter(map(tuple, available(MSM().draw(valid, np.random.default_rng(0))).tolist()))
    assert set(counts) == {(True, False, False), (False, False, True), (True, False, True)}
    assert chisquare(list(counts.values())).pvalue > 0.01


def test_msm_rates_are_uniform_and_independent():
    from scipy.stats import chi2_contingency, chisquare

    valid = full(20_000)
    masks = MSM().draw(valid, np.random.default_rng(0))
    counts, stays = hidden_counts(valid, masks), available(masks)
    for column in range(3):
        seen = counts[stays[:, column], column]
        values, frequency = np.unique(seen, return_counts=True)
        assert values.tolist() == [4 * k for k in range(10)]  # exactly p * 40, p of 0 ... 0.9
        assert chisquare(frequency).pvalue > 0.01
    both = stays[:, 0] & stays[:, 1]
    table = np.zeros((10, 10), int)
    np.add.at(table, (counts[both, 0] // 4, counts[both, 1] // 4), 1)
    assert chi2_contingency(table).pvalue > 0.01


def test_msm_hides_frames_of_modalities_independently():
    masks = MSM().draw(full(4000), np.random.default_rng(0))
    both = available(masks)[:, :2].all(1)
    first, second = masks["l"][both], masks["a"][both]
    expected = (first.mean(1) * second.mean(1)).mean()
    assert (first & second).mean() == pytest.approx(expected, abs=0.005)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_msm_never_takes_everything(seed):
    valid = lengths(50, seed)
    masks = MSM().draw(valid, np.random.default_rng(seed))
    has = np.stack([v.any(1) for v in valid.values()], 1)
    stays = available(masks)
    assert (stays.any(1) == has.any(1)).all()
    n_valid = np.stack([v.sum(1) for v in valid.values()], 1)
    allowed = n_hidden(np.arange(10)[:, None, None] / 10, n_valid)  # (10, N, M)
    allowed = np.minimum(allowed, np.maximum(n_valid - 1, 0))
    counts = hidden_counts(valid, masks)
    assert ((counts == allowed).any(0) | ~stays).all()
    for m, mask in masks.items():
        assert not (mask & ~valid[m]).any()


def test_msm_keeps_the_one_frame_there_is():
    valid = {"l": np.eye(3, dtype=bool)}
    for seed in range(20):
        masks = MSM().draw(valid, np.random.default_rng(seed))
        np.testing.assert_array_equal(masks["l"], valid["l"])


def test_msm_sample_without_anything():
    masks = MSM().draw({"l": np.zeros((4, 3), bool)}, np.random.default_rng(0))
    assert masks["l"].tolist() == [[False] * 3] * 4


def test_msm_complete_samples():
    valid = full(5000)
    for p, expected in ((0.0, 1 / 7 / 1000), (0.25, 0.25), (1.0, 1.0)):
        masks = MSM(p_complete=p).draw(valid, np.random.default_rng(0))
        complete = (hidden_counts(valid, masks) == 0).all(1).mean()
        assert complete == pytest.approx(expected, abs=0.025 if 0 < p < 1 else 0.002)
    with pytest.raises(UsageError, match=r"p_complete must lie in \[0, 1\], got 1.5"):
        MSM(p_complete=1.5)


def test_msm_sweep_has_each_set_once_for_all_samples():
    valid = lengths(300)
    has = np.stack([v.any(1) for v in valid.values()], 1)
    swept = list(MSM().sweep(valid, np.random.default_rng(0)))
    assert len(swept) == 7
    for subset, masks in zip(subsets("lav"), swept, strict=True):
        chosen = np.array([m in subset for m in "lav"])
        np.testing.assert_array_equal(available(masks), has & chosen, err_msg=joined(subset))
    counts = hidden_counts(full(300), next(MSM().sweep(full(300), np.random.default_rng(0))))
    assert set(counts[:, 0].tolist()) == {4 * k for k in range(10)}


def test_msm_repeats_with_its_stream_and_differs_without():
    valid = lengths(64)
    draws = [MSM().draw(valid, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert all((draws[0][m] == draws[1][m]).all() for m in valid)
    assert any((draws[0][m] != draws[2][m]).any() for m in valid)


def test_msm_speed(benchmark):
    valid = {m: np.ones((32, 20), bool) for m in "lav"}
    benchmark(MSM().draw, valid, np.random.default_rng(0))
