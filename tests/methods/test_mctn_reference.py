"""MCTN computes what its plain form does: tests/reference/mctn.py."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mmbench_methods.mctn import MCTN
from tests.reference import mctn
from tests.test_reference import STILL, assert_close, batches, random, spec_of, split, unsettle
from tests.together import assert_same, lstm_names

__all__ = ["split"]

WIDTH = 32
NAMES = {
    r"\.encoder\.": ".encoders.0.",
    r"\.top\.": ".encoders.1.",
    r"\.decoder\.": ".decoders.0.",
    r"\.top_decoder\.": ".decoders.1.",
    r"\.cell\.(.*)": r".recurrent.forwards.0.\1_l0",
    r"\.write\.": ".write.0.",
    r"regressor\.forwards": "regressor.recurrent.forwards",
    r"^size$": "scale.size",
}


def laid_out(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The plain form's tensors by their names in ours, those that chains share for each of them."""
    own = {}
    for name, value in lstm_names(values).items():
        for theirs, mine in NAMES.items():
            name = re.sub(theirs, mine, name)
        if "decoders" in name and "score" in name:
            value = value[:, :WIDTH]  # without the cell state's part, which changes nothing
        if name.startswith(("enter", "leave")):
            own |= {f"chains.{k}.{name}": value for k in range(3)}
        else:
            own[name] = value
    return own


def pair(split) -> tuple[MCTN, mctn.MCTN]:
    torch.manual_seed(0)
    spec = spec_of(split, STILL)
    theirs = mctn.MCTN(spec, width=WIDTH)
    unsettle(theirs)
    theirs.size.uniform_(0.5, 2)
    ours = MCTN(spec, width=WIDTH)
    state = laid_out(theirs.state_dict())
    ours.load_state_dict({name: state[name] for name in ours.state_dict()})
    return ours.train(), theirs


def test_losses_output_and_gradients_are_the_plain_forms(split):
    ours, theirs = pair(split)
    for batch in batches(split):
        for seen in (batch.complete, batch):  # it is trained on the former
            assert_same(
                ours,
                ours.loss(ours.translate(seen), seen, random()),
                theirs,
                mctn.loss(theirs, seen),
                laid_out,
            )


def test_a_prediction_is_the_plain_forms(split):
    ours, theirs = pair(split)
    ours.eval()
    for batch in batches(split):
        with torch.no_grad():
            assert_close(ours(batch), theirs(batch), "logits")
