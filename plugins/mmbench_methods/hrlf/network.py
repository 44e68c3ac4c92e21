"""HRLF's network, the same for teacher and student (section "Methodology", figure 2).

Letters: B samples, T[m] frames, M modalities, d embedding size, k = d/2, scales i = 1, 2, 3.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as linear_function
from torch.nn.functional import normalize

from mmbench.batching import Batch
from mmbench.data import DataSpec
from mmbench.nn import Dropout, FrontEnd, GroupedFeedForward, linear, mlp

Scales = Literal["concat", "sum"]


class View(NamedTuple):
    """What a network makes of a batch."""

    modality: Tensor
    """Z (B, M, d): each modality's last element."""
    sentiment: Tensor | None
    """Q (B, M, k): sentiment-relevant; None without factorisation."""
    specific: Tensor | None
    """U (B, M, k): modality-specific; None without factorisation."""
    joint: Tensor
    """H~ (B, M d): the fully-connected layers' output."""
    scales: tuple[Tensor, Tensor, Tensor]
    """E_1 of (H, H~), E_2 of (I_1, I_3), E_3 = I_2."""
    logits: Tensor
    """(B, n_out)."""


class Factorisation(nn.Module):
    """FRF: two encoders per modality and one decoder for all pairs."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.sentiment = GroupedFeedForward(modalities, width, width, half)  # E^S
        self.specific = GroupedFeedForward(modalities, width, width, half)  # E^M
        self.decoder = mlp(2 * half, width, width)  # D_r

    def forward(self, modality: Tensor) -> tuple[Tensor, Tensor]:
        """Z (B, M, d) to Q and U, each (B, M, k)."""
        b, modalities, _ = modality.shape
        z = modality.transpose(0, 1).flatten(0, 1)  # (M B, d)
        parts = (encode(z).view(modalities, b, -1) for encode in (self.sentiment, self.specific))
        q, u = (part.transpose(0, 1) for part in parts)
        return q, u

    def translate(self, sentiment: Tensor, specific: Tensor) -> Tensor:
        """Every pair's Zbar_ab = D_r(Q_a, U_b): (B, M, k) twice to (B, M, M, d), a before b."""
        modalities = sentiment.shape[1]
        a = sentiment[:, :, None].expand(-1, -1, modalities, -1)  # (B, M, M, k)
        b = specific[:, None].expand(-1, modalities, -1, -1)  # (B, M, M, k)
        return self.decoder(torch.cat([a, b], -1))

    def reconstruct(self, translated: Tensor) -> Tensor:
        """Every pair's Qbar_ba = E^S_a(Zbar_ba): (B, M, M, d), b before a, to (B, M, M, k)."""
        b, modalities = translated.shape[:2]
        z = translated.permute(2, 0, 1, 3).flatten(0, 2)  # (M B M, d)
        made = self.sentiment(z)  # (M B M, k)
        return made.view(modalities, b, modalities, -1).permute(1, 2, 0, 3)


class Network(nn.Module):
    """Front end, factorisation, hourglass of fully-connected layers, head."""

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: int,
        depth: int,
        head: Literal["linear", "mlp"],
        scales: Scales,
        frf: bool,
    ) -> None:
        super().__init__()
        self.scales = scales
        self.front = FrontEnd(spec, width, depth)
        full = len(spec.modalities) * width
        self.factorise = Factorisation(len(spec.modalities), width) if frf else None
        self.layers = nn.ModuleList(
            [
                linear(full, 2 * width, relu=True),
                linear(2 * width, width, relu=True),
                linear(width, 2 * width, relu=True),
                linear(2 * width, full),
            ]
        )
        self.dropout = Dropout(spec.schedule.output_dropout)
        self.head = (
            mlp(full, spec.task.n_out) if head == "linear" else mlp(full, width, spec.task.n_out)
        )

    def forward(self, batch: Batch) -> View:
        """Everything that the losses and the prediction need."""
        modality = self.front(batch)  # (B, M, d)
        if self.factorise is None:
            sentiment = specific = None
            whole = modality.flatten(1)  # H (B, M d)
        else:
            sentiment, specific = self.factorise(modality)
            whole = torch.cat([sentiment, specific], -1).flatten(1)
        first, second, third, fourth = self.layers
        i_1 = first(whole).relu()  # (B, 2 d)
        i_2 = second(i_1).relu()  # (B, d)
        i_3 = third(i_2).relu()  # (B, 2 d)
        joint = fourth(i_3)  # (B, M d)
        return View(
            modality,
            sentiment,
            specific,
            joint,
            (self._merge(whole, joint), self._merge(i_1, i_3), i_2),
            self.head(self.dropout(joint)),
        )

    def _merge(self, before: Tensor, after: Tensor) -> Tensor:
        return torch.cat([before, after], -1) if self.scales == "concat" else before + after


def scale_widths(full: int, width: int, scales: Scales) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The declared widths of E_1, E_2, E_3 and the real ones, which concatenation doubles for two."""
    declared = (full, 2 * width, width)
    factor = 2 if scales == "concat" else 1
    return declared, (factor * full, factor * 2 * width, width)


class SpectralNorm(nn.Module):
    """A linear layer whose weight is divided by its largest singular value (Miyato et al., ICLR 2018).

    The value is followed by one round of power iteration at each use in training.
    """

    left: Tensor
    right: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        width_out, width_in = layer.weight.shape
        self.register_buffer("left", torch.zeros(width_out))
        self.register_buffer("right", normalize(torch.randn(width_in), dim=0))
        for _ in range(15):
            self._iterate()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) to (B, out)."""
        left, right = self._iterate() if self.training else (self.left, self.right)
        largest = left @ (self.layer.weight @ right)
        return linear_function(x, self.layer.weight / largest, self.layer.bias)

    @torch.no_grad()
    def _iterate(self) -> tuple[Tensor, Tensor]:
        """One round; gives copies of the vectors, which the next round will change."""
        weight = self.layer.weight
        left = weight @ self.right
        left /= left.norm()
        right = left @ weight
        right /= right.norm()
        self.left.copy_(left)
        self.right.copy_(right)
        return left, right


def bounded_mlp(*widths: int) -> nn.Sequential:
    """`mlp` with each layer's spectral norm held at 1."""
    return nn.Sequential(
        *(SpectralNorm(part) if isinstance(part, nn.Linear) else part for part in mlp(*widths))
    )
