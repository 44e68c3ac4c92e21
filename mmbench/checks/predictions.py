"""Checks of what a method's predictions depend on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mmbench.batching import Split
from mmbench.checks import made_up
from mmbench.checks.core import check
from mmbench.checks.failures import fail
from mmbench.checks.method import CLOSE, Subject, ask, differs, identical, same_state
from mmbench.missingness import joined, subsets
from mmbench.numbers import fixed
from mmbench.training import predict


@check("method", "hidden values never matter in a prediction", Subject)
def hidden(subject: Subject) -> None:
    """Every hidden value is NaN, and predictions stay bit-identical: else a score says nothing of missingness."""
    where = subject.setting
    for masks in subject.masks():
        clean = predict(subject.trained(), where.split("test"), [masks])
        other = Split(made_up.poisoned(where.test, masks))
        if not identical(predict(subject.trained(), other, [masks]), clean):
            fail(
                "predictions change with what stands in hidden frames",
                expected="bit-identical predictions, whatever is hidden",
                mend="Read nothing but the batch: its features are zero where batch.observed is False.",
            )


@check("method", "labels never matter in a prediction", Subject)
def unlabelled(subject: Subject) -> None:
    """Targets of the test split are exchanged, and predictions stay bit-identical: else they are leaked."""
    where = subject.setting
    masks = subject.masks()
    clean = predict(subject.trained(), where.split("test"), masks)
    other = replace(made_up.copied(where.test), targets=np.roll(where.test.targets, 1, 0))
    if not identical(predict(subject.trained(), Split(other), masks), clean):
        fail(
            "predictions change with the labels of the test split",
            expected="bit-identical predictions, whatever the labels are",
            mend="Read nothing but the batch, whose targets are None in testing.",
        )


@check("method", "batch size never matters", Subject)
def batch_size(subject: Subject) -> None:
    """A sample asked alone gets what it gets among others, but for rounding in float32."""
    test, masks = subject.setting.split("test"), made_up.some_hidden(subject.setting.test.valid)
    rows = np.arange(len(test))
    together = ask(subject.trained(), test.batch(rows, masks))
    method = subject.trained()
    alone = [ask(method, test.batch(rows[i : i + 1], _rows(masks, [i]))) for i in rows]
    if (gap := differs(together, np.concatenate(alone))) > 1:
        fail(
            f"a sample predicted alone differs from the same one in a batch by {fixed(gap, 0)} times rounding",
            expected=f"the same within {CLOSE:g}",
            mend="Let no sample see another: e.g. no batch statistics outside of training.",
        )


@check("method", "order never matters", Subject)
def order(subject: Subject) -> None:
    """The test split in another order gives the same predictions, but for rounding in float32."""
    test, masks = subject.setting.split("test"), made_up.some_hidden(subject.setting.test.valid)
    rows = np.arange(len(test))[::-1].copy()
    straight = ask(subject.trained(), test.batch(np.sort(rows), masks))
    turned = ask(subject.trained(), test.batch(rows, _rows(masks, rows)))[::-1]
    if (gap := differs(straight, turned)) > 1:
        fail(
            f"predictions change by {fixed(gap, 0)} times rounding with the order of the samples",
            expected=f"the same within {CLOSE:g}",
            mend="Let a sample's place in the batch decide nothing.",
        )


def _rows(masks: Mapping[str, np.ndarray], rows: Any) -> dict[str, np.ndarray]:
    return {m: mask[rows] for m, mask in masks.items()}


@check("method", "a prediction leaves nothing behind", Subject)
def stateless(subject: Subject) -> None:
    """The second prediction of a split is the first one's bits, and no buffer moved: nothing learns from tests."""
    method, test, masks = subject.trained(), subject.setting.split("test"), subject.masks()
    before = copy.deepcopy(method)
    first, second = (predict(method, test, masks) for _ in range(2))
    same = identical(first, second)
    if not same or not same_state(method, before):
        what = "a buffer or parameter" if same else "the next prediction"
        fail(
            f"predicting changes {what}",
            expected="that predictions only read",
            mend="Update memories and statistics in a step's `after`; in testing self.training is False.",
        )


@check("method", "a batch is left as it was", Subject)
def unchanged(subject: Subject) -> None:
    """Steps and conditions share a batch's tensors: who writes into them changes what others see."""
    test = subject.setting.split("test")
    batch = test.batch(np.arange(len(test)), made_up.some_hidden(subject.setting.test.valid))
    kept = copy.deepcopy(batch)
    ask(subject.trained(), batch)
    for field in ("features", "observed", "valid"):
        for m, x in getattr(batch, field).items():
            if m not in getattr(kept, field) or not torch.equal(x, getattr(kept, field)[m]):
                fail(
                    f"forward writes into batch.{field}[{m!r}]",
                    expected="a batch that is only read",
                    mend="Write into a copy, e.g. x.clone(); functions that end in _ work in place.",
                )


@check("method", "any set of modalities gives finite predictions", Subject)
def each_missing(subject: Subject) -> None:
    """Every single missing modality, and every other set: one NaN fails the whole job."""
    where = subject.setting
    for subset in subsets(list(where.spec.modalities)):
        masks = {m: v & (m in subset) for m, v in where.test.valid.items()}
        some = np.any([mask.any(1) for mask in masks.values()], 0)
        outputs = predict(subject.trained(), where.split("test"), [masks])[0][some]
        if not np.isfinite(outputs).all():
            fail(
                f"predicts NaN or infinity where only {joined(subset)} is there",
                expected="finite numbers",
                mend="An absent modality has no valid frame: count at least one where you divide.",
            )


@check("method", "input of which all is missing gives one finite answer", Subject)
def all_missing(subject: Subject) -> None:
    """At p = 1 nothing is there to tell samples apart: whatever differs, was peeked at or is random."""
    where = subject.setting
    masks = made_up.nothing(where.test.valid)
    outputs = predict(subject.trained(), where.split("test"), [masks])[0]
    if not np.isfinite(outputs).all():
        fail(
            "predicts NaN or infinity for samples of which nothing is there",
            expected="finite numbers",
            mend="Count at least one frame where you divide, and let a softmax of nothing be zero.",
        )
    if (gap := differs(outputs, np.broadcast_to(outputs[:1], outputs.shape))) > 1:
        fail(
            f"samples of which nothing is there get answers that differ by {fixed(gap, 0)} times rounding",
            expected="one answer for all",
            mend="Let nothing but observed frames decide: no place in the batch, no random number.",
        )


@check("method", "what is not deployed never matters in a prediction", Subject)
def deployed(subject: Subject) -> None:
    """Tables count the parameters of deployed(): all others are NaN, and predictions stay bit-identical."""
    method, test, masks = subject.trained(), subject.setting.split("test"), subject.masks()
    clean = predict(subject.trained(), test, masks)
    kept = {parameter for module in method.deployed() for parameter in module.parameters()}
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter not in kept and parameter.is_floating_point():
                parameter.fill_(torch.nan)
    if not identical(predict(method, test, masks), clean):
        fail(
            "predictions read parameters that deployed() leaves out",
            expected="that deployed() gives every module which a prediction needs",
            mend="Add the missing modules to what deployed() returns.",
        )
