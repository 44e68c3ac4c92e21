"""What a method holds beside its parameters and buffers: whether training has changed it.

A checkpoint keeps the values of parameters and buffers, and whatever `get_extra_state` gives. What stands in other attributes, in
closures of stages or in a sampler would be lost with the process, so it is watched.
"""

from __future__ import annotations

import hashlib
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmbench.methods import Method, Stage
from mmbench.missingness import MissingnessSampler

_TORCHS = {*vars(nn.Module()), "_non_persistent_buffers_set"}
_PLAIN = (type(None), bool, int, float, complex, str)


def digests(
    methods: Sequence[Method], plans: Sequence[Sequence[Stage]], sampler: MissingnessSampler
) -> dict[str, str]:
    """By place a hash of what stands there: the same in any process, another one if it has changed."""
    found = {}
    for number, (method, plan) in enumerate(zip(methods, plans, strict=True)):
        walk = _Walk(method)
        for name, value in _attributes(method):
            found[f"{number}: {type(method).__name__}{name}"] = walk.of(value)
        found[f"{number}: the stages of {type(method).__name__}"] = walk.of(list(plan))
    found[f"the sampler {sampler.id}"] = _Walk(nn.Module()).of(sampler)
    return found


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    """The first place that differs, as people read it."""
    for place in (*before, *after):
        if before.get(place) != after.get(place):
            return place.partition(": ")[2] or place
    return None


def _attributes(method: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in method.named_modules():
        prefix = f".{path}" if path else ""
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                described = [str(tensor.dtype), *tensor.shape, tensor.requires_grad]
                yield f"{prefix}.{name}", described
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            continue  # it says itself what it holds
        for name, value in vars(module).items():
            if name not in _TORCHS:
                yield f"{prefix}.{name}", value


class _Walk:
    """Goes through nests of objects. What a checkpoint keeps is only named."""

    def __init__(self, method: nn.Module) -> None:
        self.kept = {id(module): name for name, module in method.named_modules()}
        self.kept |= {id(tensor): name for name, tensor in method.named_parameters()}
        self.kept |= {id(tensor): name for name, tensor in method.named_buffers()}
        self.seen: dict[int, tuple[int, Any]] = {}

    def of(self, value: Any) -> str:
        """A hash of a value, and of all that it refers to."""
        self.seen.clear()
        return self._of(value)

    def _of(self, value: Any) -> str:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, bytes):
            return _hash(kind, hashlib.blake2b(value).hexdigest())
        if isinstance(value, _PLAIN):
            return _hash(kind, repr(value))
        if id(value) in self.kept:
            return _hash("kept", self.kept[id(value)])
        if id(value) in self.seen:
            return _hash("seen", str(self.seen[id(value)][0]))
        self.seen[id(value)] = len(self.seen), value  # kept alive, so that no other has its id
        if isinstance(value, Mapping):
            return _hash(kind, *(self._of(part) for item in value.items() for part in item))
        if isinstance(value, list | tuple):
            return _hash(kind, *map(self._of, value))
        if isinstance(value, set | frozenset):
            return _hash(kind, *sorted(map(self._of, value)))
        return _hash(kind, *(self._of(part) for part in self._parts(value)))

    def _parts(self, value: Any) -> Sequence[Any]:
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            shape = [str(value.dtype), str(value.device), *value.shape, value.requires_grad]
            return [*shape, plain.flatten().view(torch.uint8).numpy().tobytes()]
        if isinstance(value, torch.Generator):
            return [value.get_state()]
        if isinstance(value, types.FunctionType):
            cells = [_content(cell) for cell in value.__closure__ or ()]
            return [value.__module__, value.__qualname__, value.__defaults__, cells, vars(value)]
        if isinstance(value, types.MethodType):
            return [value.__func__, value.__self__]
        if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
            return [value.__name__]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reduced = value.__reduce_ex__(4)
        except Exception:  # a lock, a file, a running generator: nothing that could be looked into
            return []
        return [list(part) if isinstance(part, Iterator) else part for part in _parted(reduced)]


def _parted(reduced: Any) -> Sequence[Any]:
    return reduced if isinstance(reduced, tuple) else [reduced]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _hash(*parts: str) -> str:
    told = hashlib.blake2b(digest_size=16)
    for part in parts:
        told.update(f"{len(part)}:{part}".encode("utf-8", "surrogatepass"))
    return told.hexdigest()
