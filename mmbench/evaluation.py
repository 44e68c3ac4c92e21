"""A trained method under every condition: predictions, scores, floors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmbench.batching import Split, in_order
from mmbench.data import DataSpec, Samples
from mmbench.jobs import Progress
from mmbench.methods import Method
from mmbench.metrics import Metric, score
from mmbench.missingness import Condition, MissingnessProtocol
from mmbench.training import predict

TOGETHER = 8
"""Trials whose samples are predicted in one pass: more of them would take memory and save nothing."""


@dataclass(frozen=True)
class Trial:
    """One protocol under one condition with one mask seed."""

    protocol: MissingnessProtocol
    condition: Condition
    mask_seed: int

    @property
    def key(self) -> str:
        """As predictions are filed, e.g. "inter/la/0"."""
        return f"{self.protocol.name}/{self.condition.name}/{self.mask_seed}"

    def masks(self, samples: Samples, dataset: str, split: str = "test") -> dict[str, np.ndarray]:
        """What is observed: by modality bool (N, T[m])."""
        return self.protocol.masks(
            self.condition,
            samples.valid,
            ids=samples.ids,
            dataset=dataset,
            split=split,
            mask_seed=self.mask_seed,
        )


def trials(
    protocols: Sequence[MissingnessProtocol], modalities: Sequence[str], *, quick: bool = False
) -> Iterator[Trial]:
    """Every condition with every mask seed; one mask seed if `quick`."""
    for protocol in protocols:
        for seed in range(1 if quick else protocol.mask_seeds):
            for condition in protocol.conditions(modalities):
                yield Trial(protocol, condition, seed)


@dataclass
class Evaluation:
    """What a method predicted and what it scored."""

    predictions: dict[str, np.ndarray]
    """By trial key: raw outputs float32 (N, n_out)."""
    scores: list[dict[str, Any]]
    averages: list[dict[str, Any]]
    protocols: dict[str, dict[str, Any]]
    """What each protocol was: id, hash of its masks, conditions, effective rates."""


def evaluate(
    method: Method,
    test: Split,
    protocols: Sequence[MissingnessProtocol],
    metrics: Sequence[Metric],
    *,
    quick: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Evaluation:
    """Predicts the test split under every condition, and scores the predictions."""
    spec, samples = method.spec, test.samples
    modalities = list(spec.modalities)
    every = list(trials(protocols, modalities, quick=quick))
    predictions: dict[str, np.ndarray] = {}
    scores: list[dict[str, Any]] = []
    outputs_of: list[tuple[Trial, np.ndarray]] = []
    for at in in_order(len(every), TOGETHER):
        doing = f"testing {every[at][0].condition.title}"
        report(Progress(at.start / len(every), doing))
        masks = [trial.masks(samples, spec.name) for trial in every[at]]
        outputs_of += zip(every[at], predict(method, test, masks), strict=True)
    for trial, outputs in outputs_of:
        predictions[trial.key] = outputs
        if not np.isfinite(outputs).all():
            raise FloatingPointError(f"{trial.key}: the method predicts NaN or infinity")
        result = score(spec.task, metrics, samples.targets, spec.task.decide(outputs))
        scores += [
            {
                "protocol": trial.protocol.name,
                "condition": trial.condition.name,
                "mask_seed": trial.mask_seed,
                "metric": metric,
                "label": label,
                "value": value,
            }
            for metric, by_label in result.items()
            for label, value in by_label.items()
        ]
    return Evaluation(
        predictions,
        scores,
        averages(protocols, modalities, scores),
        {protocol.name: describe(protocol, samples, spec) for protocol in protocols},
    )


def averages(
    protocols: Sequence[MissingnessProtocol],
    modalities: Sequence[str],
    scores: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The summary column of each protocol, for each mask seed, metric and label."""
    by_name = {protocol.name: protocol for protocol in protocols}
    table: dict[tuple[str, int, str, str], dict[str, float]] = {}
    for row in scores:
        key = (row["protocol"], row["mask_seed"], row["metric"], row["label"])
        table.setdefault(key, {})[row["condition"]] = row["value"]
    return [
        {
            "protocol": name,
            "mask_seed": mask_seed,
            "metric": metric,
            "label": label,
            "value": by_name[name].summarise(values, by_name[name].conditions(modalities)),
        }
        for (name, mask_seed, metric, label), values in table.items()
    ]


def describe(protocol: MissingnessProtocol, samples: Samples, spec: DataSpec) -> dict[str, Any]:
    """What a protocol is on a test split: id, SHA-256 of all its masks, conditions, effective rates."""
    modalities = list(spec.modalities)
    frames = {m: max(int(v.sum()), 1) for m, v in samples.valid.items()}
    digest = hashlib.sha256()
    hidden: dict[str, dict[str, float]] = {}
    for trial in trials([protocol], modalities):
        masks = trial.masks(samples, spec.name)
        digest.update(trial.key.encode())
        rates = hidden.setdefault(trial.condition.name, dict.fromkeys(modalities, 0.0))
        for m in modalities:
            digest.update(np.packbits(masks[m]).tobytes())
            missing = int(samples.valid[m].sum()) - int(masks[m].sum())
            rates[m] += missing / frames[m] / protocol.mask_seeds
    return {
        "id": protocol.id,
        "sha256": digest.hexdigest(),
        "mask_seeds": protocol.mask_seeds,
        "average": protocol.average,
        "average_formula": protocol.average_formula,
        "conditions": [asdict(c) for c in protocol.conditions(modalities)],
        "effective_rate": hidden,
    }
