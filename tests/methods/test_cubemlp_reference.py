"""plugins/mmbench_methods/cubemlp.py computes what tests/reference/cubemlp.py does."""

import copy
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mmbench.batching import Batch, Split
from mmbench.methods import Method
from mmbench.seeds import Alone
from mmbench.training import _Update
from mmbench_methods.cubemlp import CubeMLP
from tests.reference import cubemlp
from tests.test_reference import (
    CLOSE,
    STILL,
    Trajectory,
    assert_close,
    assert_step,
    batches,
    fill,
    gradients,
    laid_out,
    padded_samples,
    random,
    spec_of,
    unsettle,
)


@pytest.fixture(scope="module")
def split() -> Split:
    return padded_samples()


def copy_into(ours: Method, values: Mapping[str, Tensor]) -> None:
    """Writes the reference's tensors, by their names there, to where the repository has them."""
    state = ours.state_dict()
    first, *others = ours.spec.modalities
    for name, value in values.items():
        for theirs, mine in LAYOUT.items():
            name = re.sub(theirs, mine, name)
        name = re.sub(r"^text\.", f"encoders.{first}.project.", name)
        name = re.sub(
            r"^contexts\.(\d+)\.", lambda found: f"encoders.{others[int(found[1])]}.", name
        )
        state[name].copy_(value)


LAYOUT = {
    r"gru\.(\w+)_l(\d+)_reverse$": r"gru.backwards.\2.\1_l0",
    r"gru\.(\w+)_l(\d+)$": r"gru.forwards.\2.\1_l0",
    r"^head\.": "head.0.",
}


def pair(split: Split) -> tuple[CubeMLP, cubemlp.Trainer]:
    """From the same parameters, without dropout."""
    torch.manual_seed(0)
    spec = spec_of(split, STILL)
    theirs = cubemlp.Trainer(spec, dropout=0.0)
    unsettle(theirs.model)
    ours = CubeMLP(spec, dropout=0.0)
    fill(ours, theirs.model, copy_into)
    return ours.train(), theirs


@pytest.mark.parametrize("complete", [True, False])
def test_outputs_loss_and_gradients_are_the_references(split, complete):
    """In float64: LayerNorm over modalities that are nearly alike magnifies float32's rounding."""
    ours, theirs = pair(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    ours, model, batch = ours.double(), theirs.model.double(), doubled(a_batch(split, complete))
    mine, logits = ours(batch), model(batch)
    assert_close(mine, logits, "logits")
    terms = step.loss(mine, batch, random())
    assert_step(ours, step, terms, model, cubemlp.loss(logits, batch), copy_into)


@pytest.mark.parametrize("complete", [True, False])
def test_rounding_in_float32_is_of_the_size_of_the_references(split, complete):
    ours, theirs = pair(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    batch = a_batch(split, complete)
    loss = step.loss(ours(batch), batch, random())
    found = {"loss": loss["task"], **gradients_by_name(ours, loss)}
    expected = []
    for model, given in (
        (theirs.model, batch),
        (copy.deepcopy(theirs.model).double(), doubled(batch)),
    ):
        loss = cubemlp.loss(model(given), given)
        values = laid_out(ours, gradients_by_name(model, loss), copy_into)
        expected.append({"loss": loss["task"], **values})
        ours.double()
    rounded, exact = expected
    assert off(found, exact) <= max(CLOSE, 10 * off(rounded, exact))


def off(found: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    """By how much of a tensor's largest entry, at most."""
    return max(
        ((found[name] - value).abs().max() / value.abs().max()).item()
        for name, value in exact.items()
    )


def test_two_steps_are_the_references(split):
    ours, theirs = pair(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    ours, model = ours.double(), theirs.model.double()
    update, trajectory = _Update(step, Alone([ours], [])), Trajectory(ours, model, copy_into)
    trajectory.watch(theirs.adam)
    for incomplete in batches(split):
        batch = doubled(incomplete.complete)
        update.take(
            sum(step.loss(ours(batch), batch, random()).values(), torch.zeros(())),
            last=True,
            clip=STILL.clip,
        )
        theirs.step(batch)
    trajectory.check(ours)


def a_batch(split: Split, complete: bool) -> Batch:
    batch = next(batches(split))
    assert batch.complete is not None
    return batch.complete if complete else batch


def doubled(batch: Batch) -> Batch:
    """In float64."""
    return replace(batch, features={m: x.double() for m, x in batch.features.items()})


def gradients_by_name(model: nn.Module, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names, leaves = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, gradients(terms, leaves), strict=True))
