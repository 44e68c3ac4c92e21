"""Data sets: named splits of modality sequences, their targets and ids, and a task.

Letters: N samples, T[m] frames and D[m] features of modality m, L labels. A frame is *valid* if it is
not padding. A sample that lacks a modality has no valid frame of it.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmbench.tasks import Task

if TYPE_CHECKING:
    from mmbench.oracle import Oracle

SPLITS = ("train", "valid", "test")
SEGMENT = re.compile(
    r"(.+?)(?:\$_\$\d+|\[\d+]|_\d+(?:\.\d+)?_\d+\.\d+|_\d+\.\d+_\d+|_\d+)(?:#\d+)?"
)
"""An id that ends in a segment of something: see `Dataset.group_of`."""


@dataclass(frozen=True)
class Schedule:
    """How every method trains on a data set, so that two methods differ in what their papers differ in."""

    learning_rate: float = 1e-3
    """Of Adam, constant."""
    batch_size: int = 32
    """Samples between two updates."""
    epochs: int = 20
    """Passes over the training split, for each stage of a method."""
    clip: float = 1.0
    """Largest norm of the gradient of one update."""
    heads: int = 8
    """Attention heads of every Transformer."""
    attention_dropout: float = 0.1
    """Share of attention weights dropped."""
    output_dropout: float = 0.1
    """Share of the joint representation dropped before the head."""
    input_dropout: Mapping[str, float] = field(default_factory=dict)
    """Share of input features dropped, by modality; none where a modality is not named."""


@dataclass(frozen=True)
class ModalitySpec:
    """The shape of one modality: `length` frames of `width` features."""

    length: int
    width: int


@dataclass(frozen=True)
class DataSpec:
    """What a method is told of a data set before it sees a sample."""

    name: str
    modalities: Mapping[str, ModalitySpec]
    """In the data set's order, e.g. l a v."""
    task: Task
    schedule: Schedule = field(default_factory=Schedule)
    n_train: int = 0
    """Samples in the training split, for methods that remember something of each."""

    @property
    def widths(self) -> dict[str, int]:
        """Features per frame, by modality."""
        return {name: modality.width for name, modality in self.modalities.items()}

    @property
    def lengths(self) -> dict[str, int]:
        """Frames, by modality."""
        return {name: modality.length for name, modality in self.modalities.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return {**asdict(self), "task": self.task.to_dict()}


@dataclass(frozen=True)
class Samples:
    """One split. Padding frames are zero in `features` and False in `valid`."""

    ids: tuple[str, ...]
    features: Mapping[str, np.ndarray]
    """By modality: float32 (N, T[m], D[m]), finite."""
    valid: Mapping[str, np.ndarray]
    """By modality: bool (N, T[m])."""
    targets: np.ndarray
    """Float32 (N, 1) or int64 (N, L), as the task's `check` returns them."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, count: int) -> Samples:
        """The first `count` samples."""
        return Samples(
            self.ids[:count],
            {m: x[:count] for m, x in self.features.items()},
            {m: v[:count] for m, v in self.valid.items()},
            self.targets[:count],
        )


@dataclass(frozen=True)
class Data:
    """A data set in memory, as it lies in its HDF5 file."""

    name: str
    task: Task
    splits: Mapping[str, Samples]
    synthetic: bool
    source: Mapping[str, str]
    """Where it came from: file names and their SHA-256, or the generator and its version. `not_finite`, if
    there, is how many values were NaN or infinite in the file, and are 0 here."""
    sha256: str = ""
    """Of the content of all splits; set when it is written or read."""

    def modalities(self) -> dict[str, ModalitySpec]:
        """Shapes, read from the arrays themselves."""
        features = self.splits["train"].features
        return {m: ModalitySpec(x.shape[1], x.shape[2]) for m, x in features.items()}


@dataclass(frozen=True)
class Notice:
    """Something that a person should read, e.g. that 12 values were not finite."""

    text: str


class Dataset(ABC):
    """A data set that mmbench can find, make or import. Subclass and register it as a plugin."""

    name: ClassVar[str]
    summary: ClassVar[str]
    task: ClassVar[Task]
    schedule: ClassVar[Schedule] = Schedule()
    synthetic: ClassVar[bool] = False
    stand_in: ClassVar[str | None] = None
    """Name of the synthetic twin to use where the real data has not been imported."""
    expected_sizes: ClassVar[Mapping[str, int] | None] = None
    """By split: the samples that the published data has. Others may be imported, and are pointed out."""
    version: ClassVar[int] = 1
    first_try: ClassVar[bool] = False
    """Whether it is so small that anything can be trained on it in seconds; the conformance kit does."""
    from_card: ClassVar[bool] = False
    """Whether a person described it by a card. It gives way to a plugin's of the same name."""

    def make(self) -> Data | None:
        """The data, made from nothing; None if it has to be imported."""
        return None

    def oracle(self) -> Oracle | None:
        """What its generator knows of it; None for real data."""
        return None

    def group_of(self, sample_id: str) -> str | None:
        """The video or speaker of a sample, no two splits of which share one; None if its id does not say.

        The rule is that an id ends in a segment of a video: `video$_$3`, `video[3]`, `video_3`, or start
        and end in seconds, `video_0.5_1.5`; the `#2` of an id that was repeated does not count. A data
        set with other ids, or that is not split by such groups, overrides it.
        """
        match = SEGMENT.fullmatch(sample_id)
        return match[1] if match else None
