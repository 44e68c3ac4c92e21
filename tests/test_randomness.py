"""mmbench/randomness.py."""

import pytest
import torch
from torch.func import vmap

from mmbench.randomness import Random, current, drawing_from, keep


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


DRAWS = {
    "rand": lambda random: random.rand(3, 2),
    "randn": lambda random: random.randn(4),
    "randint": lambda random: random.randint(1, 100),
    "mask": lambda random: random.mask((5,), 0.5),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_side_by_side_each_seed_draws_what_it_draws_alone(draw):
    together = Random(generators(1, 2, 3))

    def one(anchor):
        together.anchor = anchor
        return draw(together), draw(together)

    first, second = vmap(one)(torch.arange(3))
    for i, generator in enumerate(generators(1, 2, 3)):
        alone = Random([generator])
        assert torch.equal(first[i], draw(alone)) and torch.equal(second[i], draw(alone))


def test_noise_of_each_seed_is_its_own_whatever_the_others_sizes():
    sizes = [(3, 4), (5,)]
    found = Random(generators(1, 2)).noise(sizes)
    for noise, size, generator in zip(found, sizes, generators(1, 2), strict=True):
        assert torch.equal(keep(noise, 0.25), Random([generator]).mask(size, 0.25))


def test_a_mask_is_zero_with_its_probability_and_keeps_the_mean():
    mask = Random(generators(0)).mask((1000, 1000), 0.3)
    dropped = round(256 * 0.3) / 256
    assert (mask == 0).float().mean().item() == pytest.approx(dropped, abs=3e-3)
    assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - dropped)])


def test_dropout_draws_from_the_loop_and_then_no_longer():
    outside, inside = current(), Random(generators(5))
    with pytest.raises(KeyError), drawing_from(inside):
        assert current() is inside
        raise KeyError
    assert current() is outside


def test_without_a_loop_numbers_are_torchs_own():
    torch.manual_seed(3)
    drawn = Random().randn(2)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.randn(2))


def test_a_seed_that_is_not_inside_vmap_is_told_so():
    random = Random(generators(1))
    random.anchor = torch.zeros(())
    with pytest.raises(RuntimeError, match="not inside vmap"):
        random.rand(2)
