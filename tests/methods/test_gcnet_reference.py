"""GCNet computes what its plain form does: tests/reference/gcnet.py."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmbench_methods.gcnet import GCNet
from tests.reference import gcnet
from tests.test_reference import STILL, assert_close, batches, random, spec_of, split, unsettle
from tests.together import assert_same, lstm_names

__all__ = ["split"]


def laid_out(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The plain form's tensors by their names in ours."""
    own = lstm_names(values)
    for k, graph in enumerate(("by_time", "by_speaker")):
        parts = {n.removeprefix(f"{graph}."): own.pop(n) for n in list(own) if graph in n}
        relations = [parts.pop(n) for n in list(parts) if n.startswith("relations")]
        joined = {
            "relational.weight": torch.cat([parts.pop("root.weight"), *relations], 1),
            "relational.bias": parts.pop("root.bias"),
            "neighbours.weight": torch.cat(
                [parts.pop("own.weight"), parts.pop("others.weight")], 1
            ),
            "neighbours.bias": parts.pop("own.bias"),
        }
        own |= {f"graphs.{k}.{name}": value for name, value in (parts | joined).items()}
    if "size" in own:
        own["scale.size"] = own.pop("size")
    return own


def pair(split) -> tuple[GCNet, gcnet.GCNet]:
    torch.manual_seed(0)
    spec = spec_of(split, STILL)
    theirs = gcnet.GCNet(spec, dropout=0.0)
    unsettle(theirs)
    theirs.size.uniform_(0.5, 2)
    ours = GCNet(spec, dropout=0.0)
    ours.load_state_dict(laid_out(theirs.state_dict()))
    return ours.train(), theirs


def test_losses_output_and_gradients_are_the_plain_forms(split):
    ours, theirs = pair(split)
    for batch in batches(split):
        view = ours.view(batch)
        nodes, valid = theirs.nodes(batch)
        logits = theirs.read(nodes, valid)
        assert_close(view.output, logits, "logits")
        assert_same(
            ours,
            ours.loss(view, batch, random()),
            theirs,
            gcnet.loss(theirs, nodes, logits, batch),
            laid_out,
        )


def test_a_prediction_is_the_plain_forms(split):
    ours, theirs = pair(split)
    ours.eval()
    for batch in batches(split):
        with torch.no_grad():
            assert_close(ours(batch), theirs(batch), "logits")
