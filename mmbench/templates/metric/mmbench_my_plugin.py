"""The metric my-plugin: the root of the mean squared error."""

from __future__ import annotations

import mmbench
import numpy as np

mmbench_interface = 1  # the version of mmbench's hooks that this is written for


class MyPlugin(mmbench.Metric):
    """Of a sentiment score; lower is better."""

    name = "my-plugin"
    version = 1  # a change of any value is a new version
    title = "my-plugin"
    formula = "square root of the mean of (truth - prediction)^2"
    higher_is_better = False
    in_tables = True
    tasks = (mmbench.Regression,)
    vectors = (  # cases whose value is known without this code
        mmbench.Vector((1.0, -1.0), (1.0, -1.0), 0.0),
        mmbench.Vector((0.0, 0.0), (3.0, 4.0), 12.5**0.5),
    )

    def score(self, truth: np.ndarray, prediction: np.ndarray) -> float:
        """The value, always finite, for truth (N,) and prediction (N,)."""
        return float(np.sqrt(np.mean((truth - prediction) ** 2)))


@mmbench.hookimpl
def mmbench_register_metrics() -> type[mmbench.Metric]:
    """Tells mmbench of it."""
    return MyPlugin
