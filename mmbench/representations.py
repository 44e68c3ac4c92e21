"""What a trained method makes of test samples of which little is there, kept for figures.

As in HRLF's figure 6: of the first modality, language, half of the frames are there, and nothing of any
other. It is no condition of a protocol and scores nothing.
"""

from __future__ import annotations

import json
from functools import singledispatch

import numpy as np
import torch

from mmbench.batching import Split
from mmbench.methods import Method
from mmbench.missingness import hashed_priority, hide
from mmbench.tasks import MultiBinary, MultiClass, Regression, Task
from mmbench.training import stacked

RATE = 0.5
"""Share of the first modality's frames that is hidden."""
KEY = "representations@1"
"""What the masks are drawn from, beside data set and sample; another draw is another number."""


class Unrepresented(Exception):
    """Why a method has no representations."""


def represent(method: Method, test: Split) -> dict[str, np.ndarray]:
    """values float32 (N, k), and groups (N,), the name of each sample's group, "" for those in none.

    Unrepresented if the method has no `represent`, or that does not give (B, k) finite numbers.
    """
    method.eval()
    parts = []
    with torch.no_grad():
        for batch, _ in stacked(test, [masks(method, test)]):
            part = method.represent(batch)
            if part is None:
                raise Unrepresented("it does not define represent(batch) -> (B, k)")
            expected = len(next(iter(batch.features.values())))
            if part.ndim != 2 or len(part) != expected:
                raise Unrepresented(
                    f"represent(batch) gave {tuple(part.shape)}, expected ({expected}, k)"
                )
            parts.append(part.detach().float().cpu())
    values = torch.cat(parts).numpy()
    if not np.isfinite(values).all():
        raise Unrepresented("represent(batch) gave NaN or infinity")
    return {"values": values, "groups": groups(method.spec.task, test.samples.targets)}


def condition(method: Method) -> str:
    """As a figure names it, e.g. "{l}, p=0.5"."""
    return f"{{{next(iter(method.spec.modalities))}}}, p={RATE}"


def masks(method: Method, test: Split) -> dict[str, np.ndarray]:
    """What is observed: by modality bool (N, T[m]), the same for every method and seed."""
    first, *others = method.spec.modalities
    valid = test.samples.valid
    keys = [json.dumps([KEY, method.spec.name, i, first]) for i in test.samples.ids]
    seen = hide(valid[first], hashed_priority(valid[first], keys), RATE)
    return {first: seen, **{m: np.zeros_like(valid[m]) for m in others}}


@singledispatch
def groups(task: Task, targets: np.ndarray) -> np.ndarray:
    """The name of the group, text (N,), that each sample belongs to; "" if to none."""
    raise Unrepresented(f"samples of a {type(task).__name__} cannot be told apart in groups")


@groups.register
def _(task: Regression, targets: np.ndarray) -> np.ndarray:
    middle = (task.low + task.high) / 2
    below, above = f"below {middle:g}", f"above {middle:g}"
    scores = targets[:, 0]
    return np.where(scores < middle, below, np.where(scores > middle, above, ""))


@groups.register
def _(task: MultiBinary, targets: np.ndarray) -> np.ndarray:
    only = np.array(task.labels)[targets.argmax(1)]
    return np.where(targets.sum(1) == 1, only, "")


@groups.register
def _(task: MultiClass, targets: np.ndarray) -> np.ndarray:
    return np.array(task.classes)[targets[:, 0]]
