"""One method from one seed or from several: how the loop runs a model that may be many.

Small networks cost less in arithmetic than in the many calls that ask for it. Seeds of a method make the
same calls, so several are run as one: parameters get a first axis of R seeds, and `torch.func.vmap` runs
code written for one. Losses of different seeds share nothing, so the gradient of their sum is each one's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import register_pytree_node, tree_flatten, tree_map, tree_unflatten

from mmbench.batching import Batch
from mmbench.methods import Method
from mmbench.randomness import Random

register_pytree_node(
    Batch,
    lambda batch: (list(vars(batch).values()), None),
    lambda values, _: Batch(*values),
)


class NotStackable(Exception):
    """A method cannot be run for several seeds at once, and why; one by one it can."""


class Alone:
    """One seed: plain calls."""

    def __init__(self, methods: Sequence[Method], randoms: Sequence[Random]) -> None:
        (self.method,) = methods

    def flatten(self, modules: Sequence[nn.Module]) -> tuple[nn.Parameter, list[Tensor]]:
        """All parameters of some modules as one row (1, P), and each as a view of it."""
        own = list(dict.fromkeys(p for module in modules for p in module.parameters()))
        row = nn.Parameter(torch.cat([p.detach().flatten() for p in own])[None])
        sizes = [p.numel() for p in own]
        for parameter, part in zip(own, torch.split(row.detach()[0], sizes), strict=True):
            parameter.data = part.view_as(parameter)
        return row, list(own)

    def laid(self, batch: Batch) -> Batch:
        """A batch with an axis of seeds as `call` takes it: without."""
        return tree_map(lambda x: x[0] if isinstance(x, Tensor) else x, batch)

    def call(self, function: Callable[..., Any], *args: Any, shared: Sequence[Any] = ()) -> Any:
        """What `function` gives."""
        return function(*args, *shared)

    def each(self, function: Callable[[Batch], Tensor], batch: Batch) -> list[Tensor]:
        """What each seed makes of the same batch."""
        return [function(batch)]

    def snapshot(self, seeds: Sequence[int], into: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """A copy of its state."""
        return {name: value.clone() for name, value in self.method.state_dict().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Back to a snapshot."""
        self.method.load_state_dict(state)

    def restore(self) -> None:
        """In evaluation."""
        self.method.eval()


class SideBySide:
    """Several seeds: the first one's method runs with the parameters of all."""

    def __init__(self, methods: Sequence[Method], randoms: Sequence[Random]) -> None:
        self.methods, self.method, self.randoms = methods, methods[0], randoms
        for module in self.method.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                raise NotStackable(
                    "nn.Dropout draws from one generator; mmbench.nn.Dropout does not"
                )
        # Buffers that are not part of the state are constants, the same for every seed.
        tensors = [method.state_dict() for method in methods]
        self.state = {name: torch.stack([own[name] for own in tensors]) for name in tensors[0]}
        self.names = {parameter: name for name, parameter in self.method.named_parameters()}
        self.holder = _Holder(self.method)
        device = next((value.device for value in self.state.values()), torch.device("cpu"))
        self.anchor = torch.arange(len(methods), device=device)

    def flatten(self, modules: Sequence[nn.Module]) -> tuple[nn.Parameter, list[Tensor]]:
        """All seeds' parameters of some modules as rows (R, P), and each parameter (R, ...) as a view."""
        own = dict.fromkeys(self.names[p] for module in modules for p in module.parameters())
        runs = len(self.methods)
        rows = nn.Parameter(torch.cat([self.state[name].reshape(runs, -1) for name in own], 1))
        sizes = [self.state[name][0].numel() for name in own]
        for name, part in zip(own, torch.split(rows.detach(), sizes, 1), strict=True):
            self.state[name] = part.view(self.state[name].shape).requires_grad_()
        return rows, [self.state[name] for name in own]

    def laid(self, batch: Batch) -> Batch:
        """A batch with an axis of seeds as `call` takes it: with."""
        return batch

    def call(self, function: Callable[..., Any], *args: Any, shared: Sequence[Any] = ()) -> Any:
        """What `function` gives for each seed; tensors of `args` and of the result have an axis of seeds."""
        return self._run(function, args, shared)

    def each(self, function: Callable[[Batch], Tensor], batch: Batch) -> list[Tensor]:
        """What each seed makes of the same batch."""
        return list(self._run(function, (), (batch,)).unbind())

    def snapshot(self, seeds: Sequence[int], into: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """The state of some seeds, the others' as they are in `into`."""
        if into is None:
            into = {name: value.detach().clone() for name, value in self.state.items()}
        at = torch.tensor(seeds, device=self.anchor.device)
        for name, value in self.state.items():
            into[name][at] = value.detach()[at]
        return into

    def load(self, state: dict[str, Tensor]) -> None:
        """Back to a snapshot."""
        self.state = state

    def restore(self) -> None:
        """Gives every method its seed's state, and leaves it in evaluation."""
        for number, method in enumerate(self.methods):
            method.load_state_dict({name: value[number] for name, value in self.state.items()})
            method.eval()

    def _run(self, function: Callable[..., Any], args: Any, shared: Sequence[Any]) -> Any:
        leaves, shape = tree_flatten(args)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        made: dict[str, Any] = {}

        def one(state: dict[str, Tensor], anchor: Tensor, *own: Tensor) -> tuple[Tensor, ...]:
            for random in self.randoms:
                random.anchor = anchor
            mine = iter(own)
            filled = [next(mine) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            inputs = (*tree_unflatten(filled, shape), *shared)
            result = functional_call(self.holder, state, (function, *inputs))
            made["leaves"], made["shape"] = tree_flatten(result)
            return (anchor, *(leaf for leaf in made["leaves"] if isinstance(leaf, Tensor)))

        state = {f"method.{name}": value for name, value in self.state.items()}
        try:
            with (
                warnings.catch_warnings()
            ):  # that an operation is done seed by seed is no news to a user
                warnings.filterwarnings("ignore", "There is a performance drop")
                _, *found = vmap(one)(state, self.anchor, *tensors)
        except RuntimeError as error:
            raise NotStackable(f"it cannot be run under vmap: {error}") from error
        finally:
            for random in self.randoms:
                random.anchor = None
        results = iter(found)
        whole = [next(results) if isinstance(leaf, Tensor) else leaf for leaf in made["leaves"]]
        return tree_unflatten(whole, made["shape"])


class _Holder(nn.Module):
    """Lets `functional_call` call any function of a method."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, function: Callable[..., Any], *args: Any) -> Any:
        buffers = dict(self.method.named_buffers())
        result = function(*args)
        for name, buffer in self.method.named_buffers():
            if buffer is not buffers.get(name):
                raise NotStackable(f"it replaces its buffer {name}; copy into it instead")
        return result
