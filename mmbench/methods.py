"""Methods: a model, and how it learns as stages of alternating steps.

The smallest method is a module with `__init__(spec, *, hyper-parameters with defaults)` and
`forward(batch)`; it then learns by the task's loss on incomplete data. The harness owns the loops: a
method never sees the test split while it learns, nor targets or hidden frames while it predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from mmbench.batching import Batch
from mmbench.data import DataSpec
from mmbench.randomness import Random

Terms = Mapping[str, Tensor]
"""Named scalars that add up to a loss and are logged one by one."""


@dataclass(frozen=True)
class Plateau:
    """Multiplies a learning rate by `factor` when validation has not improved for `patience` epochs."""

    factor: float = 0.1
    patience: int = 20


@dataclass(frozen=True)
class Step:
    """One update: the gradient of a loss with respect to some parameters, by an Adam of its own."""

    loss: Callable[[Any, Batch, Random], Terms]
    """Terms from what the stage's `forward` returned, the batch and a random stream, and from nothing
    else but parameters: that is what lets the engine train many seeds at once."""
    updates: Sequence[nn.Module]
    """The modules whose parameters move. All others are held constant."""
    learning_rate: float | None = None
    """None for the data set's."""
    weight_decay: float = 0.0
    """How much of each parameter is added to its gradient, after clipping."""
    plateau: Plateau | None = None
    """None for a constant learning rate."""
    after: Callable[[Any, Batch], None] | None = None
    """Called without gradient after the update, with the same outputs and batch: for memories."""


@dataclass(frozen=True)
class Stage:
    """Several epochs of the same steps on every batch, then back to the epoch that validated best."""

    name: str
    data: Literal["complete", "incomplete", "paired"]
    """Samples with nothing hidden; with frames hidden by the sampler; or the latter, each with its
    complete form in `batch.complete`."""
    steps: Sequence[Step]
    forward: Callable[[Batch], Any] | None = None
    """Runs once per batch; the losses of all steps share what it returns. None for the method's own."""
    predict: Callable[[Batch], Tensor] | None = None
    """Gives the outputs (B, n_out) that selection validates. None for the method's own forward."""
    epochs: int | None = None
    """None for the data set's."""
    prepare: Callable[[Iterable[Batch]], None] | None = None
    """Called once before the first epoch, without gradient, with the complete training batches."""
    given: Callable[[Batch], Any] | None = None
    """What a frozen module, a teacher say, makes of complete training batches: tensors (B, ...) in any
    nest of tuples, lists and dicts. Computed once for each sample after `prepare`, in evaluation and
    without gradient; a batch finds its rows in `batch.given`."""


class Method(nn.Module):
    """A model under test. Subclass, implement `forward`, and register it as a plugin."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    """Title, authors, venue, address."""
    deviations: ClassVar[tuple[str, ...]] = ()
    """Where this differs from the paper, or decides what the paper leaves open, and why."""
    privileges: ClassVar[tuple[str, ...]] = ()
    """What it sees in training beyond incomplete samples and their targets."""
    competes: ClassVar[bool] = True
    """Whether it may be the best of a column; not what others are only measured by."""
    ablates: ClassVar[str] = ""
    """Name of the method that this is without one of its parts. It runs by its name, not as one of "all"."""
    asks_dataset: ClassVar[bool] = False
    """Whether it asks the data set's class itself, by `spec.name`: that class's code then counts as its own."""
    sampler: ClassVar[str] = "msm"
    """What goes missing in its training."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec
        self.sampler_settings: dict[str, Any] = {}

    @classmethod
    def supports(cls, spec: DataSpec) -> str | None:
        """None, or the reason why it cannot be used on such data."""
        return None

    def forward(self, batch: Batch) -> Tensor:
        """Raw outputs (B, n_out), as the task describes them."""
        raise NotImplementedError(f"{type(self).__name__} needs forward(batch) -> (B, n_out)")

    def loss(self, outputs: Any, batch: Batch, rng: Random) -> Terms:
        """The loss of the default stage: the task's."""
        return {"task": self.spec.task.loss(outputs, batch.truth)}

    def stages(self) -> Sequence[Stage]:
        """How it learns. Default: one stage on incomplete data."""
        return [Stage("train", data="incomplete", steps=[Step(self.loss, updates=[self])])]

    def deployed(self) -> Sequence[nn.Module]:
        """What a prediction needs, for the count of parameters. Default: everything."""
        return [self]

    def represent(self, batch: Batch) -> Tensor | None:
        """The joint representation (B, k) behind the outputs, for figures; None if there is none."""
        return None
