"""Sequences to vectors: temporal convolution, Transformer, read at the last valid frame.

Letters: B samples, M modalities, T[m] frames, D[m] input features, d embedding size, h heads; N tokens
and S sequences of a `Pack`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmbench.batching import Batch
from mmbench.data import DataSpec
from mmbench.nn import kernels
from mmbench.nn.attention import Encoder
from mmbench.nn.basic import positional_encoding
from mmbench.nn.packing import Pack, pack
from mmbench.nn.products import on_cpu
from mmbench.randomness import current, keep


class Embedding(nn.Module):
    """A convolution over time of kernel 3 for each modality, (T[m], D[m]) to (T[m], d), plus positions.

    Each observed frame is multiplied once with the three taps, and each token adds up what its neighbours
    and itself gave it: the same numbers as a `nn.Conv1d` with padding 1, without work on zeros.
    """

    positions: Tensor

    def __init__(self, spec: DataSpec, width: int) -> None:
        super().__init__()
        self.dropout = [spec.schedule.input_dropout.get(name, 0.0) for name in spec.modalities]
        # A linear layer over three frames has the fan-in of a Conv1d, and so its start.
        starts = [nn.Linear(3 * wide, width) for wide in spec.widths.values()]
        self.taps = nn.ParameterList(  # (1, 3, d, D[m])
            nn.Parameter(start.weight.detach().view(width, 3, -1).transpose(0, 1)[None].clone())
            for start in starts
        )
        self.bias = nn.Parameter(torch.stack([start.bias.detach() for start in starts]))
        longest = max(spec.lengths.values())
        self.register_buffer("positions", positional_encoding(longest, width), persistent=False)

    def forward(self, features: Sequence[Tensor], laid: Pack) -> Tensor:
        """features (R, B, T[m], D[m]) to (N, d)."""
        parts = []
        for m, (x, taps, p) in enumerate(zip(features, self.taps, self.dropout, strict=True)):
            sizes = laid.frames[m]
            frames = x.flatten(0, 2).index_select(0, laid.observed[m])  # (O[m], D[m])
            if self.training and p:
                shapes = [(size, x.shape[3]) for size in sizes]
                frames = frames * keep(torch.cat(current().noise(shapes, x.device)), p)
            for own, tap in zip(torch.split(frames, sizes), taps, strict=True):  # of each run
                parts.append(own @ tap.flatten(0, 1).t())  # (O[m], 3 d)
        taken = torch.cat(parts).view(-1, *self.taps[0].shape[1:3])  # (O, 3, d)
        places = self.positions.index_select(0, laid.time)
        return _Convolved.apply(taken, self.bias, places, laid.sources, laid.targets)  # type: ignore[no-untyped-call]


class _Convolved(torch.autograd.Function):
    """y[n] = sum over k = 0, 1, 2 of x[sources[k, n], k], plus its group's bias and its place; an index of O adds 0."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor, places: Tensor, sources: Tensor, targets: Tensor
    ) -> Tensor:
        """x (O, 3, d), what each observed frame gives the token after, at and before it; y (N, d)."""
        ctx.groups = len(bias)
        ctx.save_for_backward(targets)
        if on_cpu(x):
            y = places.clone()
            kernels.add_neighbours(x.numpy(), sources.numpy(), bias.numpy(), y.numpy())
            return y
        x = torch.cat([x, x.new_zeros(1, *x.shape[1:])])  # (O + 1, 3, d)
        y = sum((x[own, k] for k, own in enumerate(sources)), places)
        return (y.view(len(bias), -1, y.shape[1]) + bias[:, None]).view(y.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """A frame's three parts went to three tokens, whence their gradients come."""
        (targets,) = ctx.saved_tensors
        d_bias = dy.view(ctx.groups, -1, dy.shape[1]).sum(1)
        if on_cpu(dy):
            dx = dy.new_empty(targets.shape[1], 3, dy.shape[1])
            kernels.add_neighbours_backward(dy.numpy(), targets.numpy(), dx.numpy())
        else:
            padded = torch.cat([dy, dy.new_zeros(1, dy.shape[1])])  # (N + 1, d)
            dx = padded[targets.t()]
        return dx, d_bias, None, None, None


class FrontEnd(nn.Module):
    """Each modality's sequence to one vector by an encoder of its own, all of them side by side.

    Padding is not attended to; hidden frames, zeros, are. A modality that is absent is one empty frame.
    Heads and dropouts are the data set's.
    """

    def __init__(self, spec: DataSpec, width: int, depth: int) -> None:
        super().__init__()
        self.embedding = Embedding(spec, width)
        self.encoder = Encoder(
            len(spec.modalities),
            width,
            depth=depth,
            heads=spec.schedule.heads,
            dropout=spec.schedule.attention_dropout,
            start=nn.Linear,
        )

    def forward(self, batch: Batch) -> Tensor:
        """(B, M, d), the modalities in the data set's order, each read at its last valid frame."""
        (read,) = self._encode(batch, only_last=True)
        return read

    def sequences(self, batch: Batch) -> dict[str, Tensor]:
        """By modality (B, T[m], d), each position's encoding; zero at padding."""
        return dict(zip(batch.valid, self._encode(batch, only_last=False), strict=True))

    def _encode(self, batch: Batch, *, only_last: bool) -> tuple[Tensor, ...]:
        inputs = [*batch.features.values(), *batch.valid.values(), *batch.observed.values()]
        if current().together:
            names, parameters = zip(*self.named_parameters(), strict=True)
            return _Together.apply(self, only_last, names, *inputs, *parameters)  # type: ignore[no-untyped-call]
        encoded = self._encode_runs(_thirds([x[None] for x in inputs]), only_last=only_last)
        return tuple(x.squeeze(0) for x in encoded)

    def _encode_runs(
        self, inputs: Sequence[Sequence[Tensor]], *, only_last: bool
    ) -> tuple[Tensor, ...]:
        """Of features, valid, observed (R, B, T[m], ...): (R, B, M, d), or by modality (R, B, T[m], d)."""
        features, valid, observed = inputs
        laid = pack(valid, observed)
        x = self.encoder(self.embedding(features, laid), laid, only_last=only_last)
        if only_last:
            return (x.view(-1, laid.runs, laid.samples, x.shape[1]).permute(1, 2, 0, 3),)
        whole = laid.spread(x)
        whole = whole.view(-1, laid.runs, *whole.shape[1:])  # (M, R, B, T, d)
        return tuple(y[:, :, : mask.shape[2]] for y, mask in zip(whole, valid, strict=True))


class _Together(torch.autograd.Function):
    """A front end inside vmap: all seeds' sequences in one pack, each group with its own parameters.

    vmap hands the whole batch of seeds to `vmap` below, where plain differentiable code may do with it
    what it likes; that code is the front end's own, with a group for each modality and seed.
    """

    @staticmethod
    def forward(front: FrontEnd, only_last: bool, names: Any, *tensors: Tensor) -> Any:
        raise RuntimeError("seeds are side by side, and yet this front end is not inside vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing: gradients flow through what `vmap` does."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, front: FrontEnd, only_last: bool, names: Any, *tensors: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Inputs (R, B, ...), parameters (R, M, ...) that become (M R, ...)."""
        whole = [
            x.expand(info.batch_size, *x.shape) if axis is None else x.movedim(axis, 0)
            for x, axis in zip(tensors, in_dims[3:], strict=True)
        ]
        inputs, parameters = whole[: -len(names)], whole[-len(names) :]
        grouped = {
            name: value.transpose(0, 1).flatten(0, 1)
            for name, value in zip(names, parameters, strict=True)
        }
        call = (_thirds(inputs),)
        encoded = torch.func.functional_call(
            _Encode(front, only_last), {f"front.{k}": v for k, v in grouped.items()}, call
        )
        return encoded, (0,) * len(encoded)


class _Encode(nn.Module):
    """A front end as a module whose forward is `_encode_runs`, for `functional_call`."""

    def __init__(self, front: FrontEnd, only_last: bool) -> None:
        super().__init__()
        self.front, self.only_last = front, only_last

    def forward(self, inputs: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
        return self.front._encode_runs(inputs, only_last=self.only_last)


def _thirds(inputs: Sequence[Tensor]) -> tuple[Sequence[Tensor], ...]:
    """Features, valid, observed."""
    third = len(inputs) // 3
    return inputs[:third], inputs[third : 2 * third], inputs[2 * third :]
