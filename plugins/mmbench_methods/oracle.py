"""The oracle: the best possible predictor, for data whose generator is known.

No paper. It learns nothing: it computes the posterior of the label given what is observed, with the
generator's own constants. Its row is the ceiling of a table of synthetic data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import mmbench
from mmbench.registry import discover


class Oracle(mmbench.Method):
    """Asks the data set itself."""

    name = "oracle"
    summary = "the ceiling: the generator's own posterior; synthetic data only"
    competes = False
    asks_dataset = True
    privileges = ("the generator of the data", "the label shares of the test split")

    def __init__(self, spec: mmbench.DataSpec) -> None:
        super().__init__(spec)
        oracle = _oracle(spec)
        if oracle is None:
            raise mmbench.UsageError(str(self.supports(spec)))
        self.oracle = oracle

    @classmethod
    def supports(cls, spec: mmbench.DataSpec) -> str | None:
        """Real data has no generator."""
        return None if _oracle(spec) else "only synthetic data has a generator that can be asked"

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """(B, n_out)."""
        features = {m: x.cpu().numpy() for m, x in batch.features.items()}
        observed = {m: x.cpu().numpy() for m, x in batch.observed.items()}
        outputs = self.oracle.outputs(self.oracle.posterior(features, observed))
        return torch.from_numpy(outputs).to(batch.device, torch.float32)

    def stages(self) -> Sequence[mmbench.Stage]:
        """None: it has nothing to learn."""
        return []

    def deployed(self) -> Sequence[nn.Module]:
        """Nothing."""
        return []


def _oracle(spec: mmbench.DataSpec) -> mmbench.Oracle | None:
    found = discover().classes["dataset"].get(spec.name)
    return found.cls().oracle() if found else None


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """The oracle."""
    return Oracle
