"""The data set my-plugin: say where it comes from, and its licence."""

from __future__ import annotations

import mmbench
import numpy as np

mmbench_interface = 1  # the version of mmbench's hooks that this is written for

FRAMES = 6
WIDTHS = {"l": 5, "a": 4, "v": 3}


class MyPlugin(mmbench.Dataset):
    """Made up, so that it runs. Read yours in `make`, and set synthetic to False."""

    name = "my-plugin"
    summary = "synthetic: 160 samples of three modalities"
    task = mmbench.Regression(-3, 3)
    schedule = mmbench.Schedule(batch_size=16, epochs=10, heads=1)
    synthetic = True
    version = 1  # a change of any number is a new version

    def make(self) -> mmbench.Data:
        """The splits. A sample or speaker stands in one of them only."""
        rng = np.random.default_rng(0)
        sizes = {"train": 80, "valid": 40, "test": 40}
        splits = {name: self._split(name, size, rng) for name, size in sizes.items()}
        # Where it comes from: the file and its SHA-256 or, as here, what made it.
        source = {"generator": "mmbench-my-plugin"}
        return mmbench.Data(self.name, self.task, splits, self.synthetic, source)

    def _split(self, name: str, size: int, rng: np.random.Generator) -> mmbench.Samples:
        # Padding is False in `valid`, and zero in the features: here there is none.
        valid = {m: np.ones((size, FRAMES), bool) for m in WIDTHS}
        score = rng.uniform(-3, 3, (size, 1))
        features = {}
        for m, width in WIDTHS.items():
            noise = rng.standard_normal((size, FRAMES, width))
            features[m] = (score[:, :, None] + noise).astype(np.float32)
        ids = tuple(f"{name}-{number}" for number in range(size))
        return mmbench.Samples(ids, features, valid, self.task.check(score))


@mmbench.hookimpl
def mmbench_register_datasets() -> type[mmbench.Dataset]:
    """Tells mmbench of it."""
    return MyPlugin
