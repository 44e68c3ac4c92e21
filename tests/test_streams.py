"""mmbench/streams.py."""

import numpy as np
import torch

from mmbench.streams import seed_of, stream, torch_stream


def test_a_stream_is_a_function_of_its_names():
    assert seed_of(3, "init") == seed_of(3, "init") == 4_196_473_102_205_722_533
    assert seed_of(3, "init") != seed_of(3, "order") != seed_of(4, "order")


def test_names_are_not_run_together():
    assert seed_of("a", "bc") != seed_of("ab", "c")


def test_drawing_from_one_stream_does_not_shift_another():
    alone = stream(0, "order").permutation(9)
    other = stream(0, "missing")
    other.random(100)
    np.testing.assert_array_equal(stream(0, "order").permutation(9), alone)


def test_global_generators_are_left_alone():
    before = torch.random.get_rng_state()
    torch.rand(3, generator=torch_stream(0, "loss"))
    assert torch.equal(torch.random.get_rng_state(), before)
