"""plugins/mmbench_methods/self_mm computes what tests/reference/self_mm.py does."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmbench.batching import Batch, Split
from mmbench.methods import Method
from mmbench.seeds import Alone
from mmbench.training import _Update
from mmbench_methods.self_mm import SelfMM
from tests.reference import self_mm
from tests.test_reference import (
    STILL,
    Trajectory,
    assert_close,
    assert_step,
    batches,
    fill,
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
    state, names = ours.state_dict(), list(ours.spec.modalities)
    for name, value in values.items():
        name = re.sub(r"^encoders\.(\d+)", lambda found: f"encoders.{names[int(found[1])]}", name)
        state[name.replace("lstm.", "lstm.forwards.0.")].copy_(value)


def pair(split: Split) -> tuple[SelfMM, self_mm.Trainer]:
    """From the same parameters and labels, without dropout."""
    torch.manual_seed(0)
    spec = replace(spec_of(split, STILL), n_train=len(split))
    theirs = self_mm.Trainer(spec)
    unsettle(theirs.model)
    ours = SelfMM(spec)
    fill(ours, theirs.model, copy_into)
    rows = torch.arange(len(split))
    ours.begin([replace(whole, index=rows) for whole in [training(split)]])
    theirs.model.begin(rows, split.targets)
    return ours.train(), theirs


def training(split: Split) -> Batch:
    """Every sample, complete."""
    return replace(split.batch(slice(None)), targets=split.targets)


def epochs(split: Split, *numbers: int) -> Iterator[Batch]:
    """The complete batches of some epochs."""
    for number in numbers:
        for batch in batches(split):
            assert batch.complete is not None
            yield replace(batch.complete, epoch=number)


def assert_memory(ours: SelfMM, theirs: self_mm.SelfMM) -> None:
    for place, (features, labels) in enumerate(zip(theirs.features, theirs.labels, strict=True)):
        assert_close(ours.memory.features(place), features, f"features {place}")
        assert_close(ours.memory.labels[place], labels, f"labels {place}")


def test_labels_are_the_references(split):
    """In float64: a new label divides by the fusion's alpha, which may be near 0."""
    ours, theirs = pair(split)
    ours, model = ours.double(), theirs.model.double()
    model.features = [features.double() for features in model.features]
    model.labels = [labels.double() for labels in model.labels]
    with torch.no_grad():
        for batch in epochs(split, 1, 2, 3):
            features = {m: x.double() for m, x in batch.features.items()}
            batch = replace(batch, features=features)
            ours.remember(ours.view(batch), batch)
            self_mm.remember(model, model(batch), batch)
            assert_memory(ours, model)
            unsettle(model)  # so that the features are others the next time
            fill(ours, model, copy_into)
    assert all((own != model.labels[0]).any() for own in model.labels[1:])


def test_losses_and_gradients_are_the_references(split):
    ours, theirs = pair(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    for place in (1, 2, 3):
        moved = torch.rand_like(ours.memory.labels[place]) * 2 - 1
        ours.memory.labels[place], theirs.model.labels[place] = moved, moved.clone()
    batch = next(epochs(split, 3))
    mine, view = ours.view(batch), theirs.model(batch)
    assert_close(ours(batch), view.outputs, "logits")
    for name, got, expected in [
        *zip("mlav", mine.features, view.features, strict=True),
        *zip("lav", mine.unimodal, view.unimodal, strict=True),
    ]:
        assert_close(got, expected, name)
    terms = self_mm.loss(theirs.model, view, batch)
    assert_step(ours, step, step.loss(mine, batch, random()), theirs.model, terms, copy_into)


def test_incomplete_samples_give_the_references_outputs(split):
    ours, theirs = pair(split)
    for batch in batches(split):
        assert_close(ours(batch), theirs.model(batch).outputs, "logits")


def test_two_steps_are_the_references(split):
    ours, theirs = pair(split)
    ((step,),) = (stage.steps for stage in ours.stages())
    update, trajectory = _Update(step, Alone([ours], [])), Trajectory(ours, theirs.model, copy_into)
    trajectory.watch(theirs.adam)
    for batch in epochs(split, 1):
        view = ours.view(batch)
        update.take(
            sum(step.loss(view, batch, random()).values(), torch.zeros(())),
            last=True,
            clip=STILL.clip,
        )
        with torch.no_grad():
            ours.remember(view, batch)
        theirs.step(batch)
    trajectory.check(ours.encoders, ours.fusion)
