"""SMIL's meta stage computes what its plain form does: tests/reference/smil.py."""

import re
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from mmbench_methods.smil import SMIL
from tests.reference import smil
from tests.test_reference import (
    STILL,
    assert_close,
    batches,
    generator,
    laid_out,
    random,
    spec_of,
    split,
    unsettle,
)
from tests.together import assert_same

__all__ = ["split"]

NAMES = {r"^weigh\.": "reconstruct.weigh.", r"^perturb\.": "perturb.layers."}


def layout(ours: SMIL, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The plain form's tensors by their names in ours."""
    named = {}
    for name, value in values.items():
        for theirs, mine in NAMES.items():
            name = re.sub(theirs, mine, name)
        named[name] = value
    return laid_out(ours, named)


def pair(split) -> tuple[SMIL, smil.SMIL]:
    torch.manual_seed(0)
    spec = spec_of(split, STILL)
    theirs = smil.SMIL(spec, torch.randn(3, 10, 40))
    unsettle(theirs)
    ours = SMIL(spec)
    ours.load_state_dict(
        layout(ours, dict(theirs.named_parameters())) | {"reconstruct.priors": theirs.priors}
    )
    return ours.train(), theirs


def test_losses_and_gradients_of_the_bilevel_update_are_the_plain_forms(split):
    ours, theirs = pair(split)
    for batch in batches(split):
        terms = ours.meta_loss(ours.encode(batch), batch, random())
        assert_same(
            ours, terms, theirs, smil.loss(theirs, batch, generator()), partial(layout, ours)
        )


def test_a_prediction_is_the_plain_forms(split):
    ours, theirs = pair(split)
    ours.eval()
    for batch in batches(split):
        with torch.no_grad():
            assert_close(ours(batch), theirs(batch), "logits")
