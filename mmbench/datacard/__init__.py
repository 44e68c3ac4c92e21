"""Data cards: what is in a data set, what is wrong with it, and what a constant prediction scores on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmbench.data import SPLITS, Data, Dataset
from mmbench.datacard import features, findings, samples
from mmbench.datacard.features import ModalityFacts
from mmbench.datacard.findings import Finding as Finding
from mmbench.datacard.samples import Groups, LabelFacts, Repeat
from mmbench.metrics import Metric, Scores, floor


@dataclass(frozen=True)
class DataCard:
    """The facts of a data set. Memory beside the data is a few times `features.CHUNK`."""

    name: str
    synthetic: bool
    task: Mapping[str, Any]
    sha256: str
    source: Mapping[str, str]
    sizes: Mapping[str, int]
    """Samples by split."""
    expected_sizes: Mapping[str, int] | None
    modalities: Mapping[str, ModalityFacts]
    labels: Mapping[str, LabelFacts]
    repeats: tuple[Repeat, ...]
    """Sets of samples that are the same."""
    groups: Groups
    empty: Mapping[str, int]
    """By split: samples with no valid frame of any modality."""
    headline: str
    metrics: Mapping[str, Mapping[str, Any]]
    """By name: what tables say of them."""
    floors: Scores
    """On the test split; the same under every condition, for a constant does not look at its input."""
    findings: tuple[Finding, ...]
    """The worst first."""

    @classmethod
    def of(cls, data: Data, dataset: Dataset, metrics: Sequence[Metric]) -> DataCard:
        """The card of `data`, which is that of `dataset`; the floors are those of `metrics`."""
        sizes = {split: len(data.splits[split]) for split in SPLITS}
        modalities, digests = features.measure(data)
        labels = samples.labels(data)
        repeats = samples.repeats(data, digests)
        groups = samples.groups(data, dataset.group_of)
        empty = {split: int((samples.present(data, split) == 0).sum()) for split in SPLITS}
        expected, not_finite = dataset.expected_sizes, data.source.get("not_finite")
        found = [
            *(f for m, facts in modalities.items() for f in findings.of_modality(m, facts, sizes)),
            *(
                f
                for name, facts in labels.items()
                for f in findings.of_label(name, facts, data.task)
            ),
            *findings.of_repeats(repeats, len(modalities)),
            *findings.of_splits(groups, empty, sizes, expected, not_finite),
        ]
        return cls(
            name=data.name,
            synthetic=data.synthetic,
            task=data.task.to_dict(),
            sha256=data.sha256,
            source=data.source,
            sizes=sizes,
            expected_sizes=expected,
            modalities=modalities,
            labels=labels,
            repeats=repeats,
            groups=groups,
            empty=empty,
            headline=data.task.headline,
            metrics={metric.name: metric.describe() for metric in metrics},
            floors=floor(data.task, metrics, data.splits["test"].targets),
            findings=findings.in_order(found),
        )

    @property
    def serious(self) -> bool:
        """Whether something makes results wrong."""
        return any(finding.level == "serious" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; numbers to six digits, so that machines which add in another order agree."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
