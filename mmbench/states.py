"""All that training knows between two epochs, as tensors and plain values, and how it is put back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mmbench.methods import Method
from mmbench.seeds import Alone
from mmbench.training import Diverged, StageLog, StageLoop


def of(loop: StageLoop) -> dict[str, Any]:
    """All that one stage knows; tensors as they are, to be written at once."""
    streams = [rng.bit_generator.state for rng in (*loop.orders, *loop.missing)]
    return {
        "now": _tensors(loop),
        "best": loop.best_state,
        "optimisers": [update.optimiser.state_dict() for update in loop.updates],
        "plateaus": [plateau and plateau.state_dict() for plateau in _plateaus(loop)],
        "generators": [generator.get_state() for generator in _generators(loop)],
        "streams": json.dumps(streams, default=lambda array: array.tolist()),
        "log": json.dumps(asdict(loop.log)),
        "histories": json.dumps(loop.histories),
        "validated": [[float(best) for best in loop.best], loop.best_epoch],
        "failed": {i: str(error) for i, error in loop.failed.items()},
    }


def restore(loop: StageLoop, state: Mapping[str, Any]) -> None:
    """Into a loop that has just begun; in place, for its optimisers have views of the same memory."""
    if isinstance(loop.seeds, Alone):
        loop.seeds.method.load_state_dict(state["now"])
    else:
        for name, value in _tensors(loop).items():
            value.copy_(state["now"][name])
    loop.best_state = state["best"]
    for update, optimiser in zip(loop.updates, state["optimisers"], strict=True):
        update.optimiser.load_state_dict(optimiser)
    for plateau, kept in zip(_plateaus(loop), state["plateaus"], strict=True):
        if plateau:
            plateau.load_state_dict(kept)
    for generator, kept in zip(_generators(loop), state["generators"], strict=True):
        generator.set_state(kept.cpu())
    streams = json.loads(state["streams"])
    for rng, kept in zip((*loop.orders, *loop.missing), streams, strict=True):
        rng.bit_generator.state = kept
    loop.log = StageLog(**json.loads(state["log"]))
    loop.histories = json.loads(state["histories"])
    loop.best, loop.best_epoch = state["validated"]
    loop.failed = {i: Diverged(why) for i, why in state["failed"].items()}


def aside(methods: Sequence[Method]) -> list[dict[str, torch.Tensor]]:
    """Buffers that are in no state_dict(), by name: memories of the training split, say."""
    return [
        {
            f"{path}.{name}".lstrip("."): module._buffers[name]
            for path, module in method.named_modules()
            for name in sorted(module._non_persistent_buffers_set)
            if module._buffers.get(name) is not None
        }
        for method in methods
    ]


@torch.no_grad()
def fill(methods: Sequence[Method], aside: Sequence[Mapping[str, torch.Tensor]]) -> None:
    """Puts such buffers back."""
    for method, kept in zip(methods, aside, strict=True):
        for name, value in kept.items():
            method.get_buffer(name).copy_(value)


def random(device: torch.device) -> list[torch.Tensor]:
    """Of torch's own generators, which layers such as nn.Dropout draw from."""
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *own]


def draw_from(states: Sequence[torch.Tensor], device: torch.device) -> None:
    """Puts torch's own generators back."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1].cpu(), device)


def told(result: list[StageLog] | Diverged) -> Any:
    """What training has found of a seed, in plain values."""
    return str(result) if isinstance(result, Diverged) else [asdict(log) for log in result]


def result(told: Any) -> list[StageLog] | Diverged:
    """The same, back."""
    return Diverged(told) if isinstance(told, str) else [StageLog(**log) for log in told]


def _tensors(loop: StageLoop) -> dict[str, Any]:
    seeds = loop.seeds
    state = seeds.method.state_dict() if isinstance(seeds, Alone) else seeds.state
    return {name: value.detach() for name, value in state.items()}


def _plateaus(loop: StageLoop) -> list[ReduceLROnPlateau | None]:
    found = [update.plateau for update in loop.updates]
    return [plateau if isinstance(plateau, ReduceLROnPlateau) else None for plateau in found]


def _generators(loop: StageLoop) -> Iterator[torch.Generator]:
    for random in (loop.dropout, loop.rng):
        yield from (generator for generator in random.generators if generator is not None)
