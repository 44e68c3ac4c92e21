"""MCTN: what a sequence-to-sequence translator from one modality to the others and back has learnt.

*Found in Translation: Learning Robust Joint Representations by Cyclic Translations Between Modalities*,
Hai Pham, Paul Pu Liang, Thomas Manzini, Louis-Philippe Morency, Barnabás Póczos; AAAI 2019,
https://arxiv.org/abs/1812.07809.

A source is translated to a first target and back by the same translator; its encoder's states are
translated to the next target by another one; a regressor reads the top encoder. A prediction needs the
source alone. Letters: B samples, T frames, D features, S sources, h = `width`.

    network.py  encoder, decoder and regressor, and the chain of them from one source
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

import mmbench
from mmbench.nn import linear, valid_first
from mmbench_methods._scale import Scale
from mmbench_methods.mctn.network import Chain, Padding, Translations, error


class MCTN(mmbench.Method):
    """A chain from each source (`source_bank`), or from one alone (`language_only`)."""

    name = "mctn"
    summary = "translates a modality to the others and back, and reads the translator's encoder"
    paper = (
        "Pham et al., Found in Translation: Learning Robust Joint Representations by Cyclic Translations "
        "Between Modalities, AAAI 2019, https://arxiv.org/abs/1812.07809"
    )
    privileges = ("complete training samples",)
    deviations = (
        "Equations, sizes and weights are those of the authors' released code; what is said of the paper's text "
        "was recalled, not read again.",
        "The paper's model reads one source, language, and is undefined without it. By default there is one for "
        "each modality, and the prediction is the mean of the outputs of those that are there (switch `mode`; "
        "`language_only` is the paper's model, its source the data set's first modality or `source`).",
        "Each source has its own loss, of which the mean is taken, since each must predict alone.",
        "The first modality is translated to the last one first, then backwards, as language to vision to "
        "acoustics; any other one to the others in the data set's order. Of two modalities there is no second "
        "level, as in the paper; of four there is a third, like the second.",
        "So that one translator reads and writes two modalities, the paper pads features with zeros to the largest "
        "width. `language_only` does; in the bank a linear layer brings each modality to the width `common`, and "
        "another one a decoder's states to its features, both shared by the sources: 0.22 M parameters, not 0.42 M.",
        "The attention's score w [e_i; c] adds the same to all i for its part c, which softmax takes away again: "
        "every step of a decoder reads the same mean. It is computed once, without that part of w.",
        "The LSTM has a forget gate of its own; in the released code that gate repeats the input gate by a slip.",
        "The decoder's output is linear, not tanh: features do not lie in [-1, 1].",
        "The paper divides facial features by their largest size in training. Here every feature is divided by "
        "its root mean square, so that no modality's squared error drowns the others and the task.",
        "Squared errors are means over frames that are not padding. A target that a sample lacks is not compared.",
        "Sentences are not cut at 20 words, and padding may be at either side; a translation starts with the "
        "first valid frame.",
        "The output's loss is the task's, as for every method: the squared error where the paper has the absolute "
        "one, the cross-entropy for labels.",
        "The data set's dropout of input and output is applied; the paper has none.",
        "Training, and so selection, sees complete data, as the paper's; selection looks at the task's loss alone, "
        "not at the translations'.",
        "Where a modality has no frame its states are 0 and its output its head's bias; of nothing at all the "
        "mean of these is given.",
    )

    def __init__(
        self,
        spec: mmbench.DataSpec,
        *,
        mode: Literal["source_bank", "language_only"] = "source_bank",
        source: str = "",
        width: int = 32,
        common: int = 40,
        translation: float = 0.1,
        cycle: float = 0.1,
        second: float = 0.1,
        penalty: float = 0.01,
    ) -> None:
        super().__init__(spec)
        self.weights = {"translation": translation, "cycle": cycle, "second": second}
        self.penalty = penalty
        self.scale = Scale(spec)
        names, widths = list(spec.widths), spec.widths
        source = source or names[0]
        if source not in names:
            raise mmbench.UsageError(f"mctn.source is one of {', '.join(names)}, got {source!r}")
        enter: dict[str, nn.Module]
        leave: dict[str, nn.Module]
        if mode == "source_bank":
            enter = {m: linear(widths[m], common) for m in names}
            leave = {m: linear(width, widths[m]) for m in names}
        else:
            common = max(widths.values())
            enter = dict.fromkeys(names, Padding(common))
            leave = dict.fromkeys(names, linear(width, common))
        self.chains = nn.ModuleList(
            Chain(spec, m, _targets(m, names), enter, leave, common=common, width=width)
            for m in (names if mode == "source_bank" else [source])
        )

    @classmethod
    def supports(cls, spec: mmbench.DataSpec) -> str | None:
        """Translation needs a target."""
        if len(spec.modalities) < 2:
            return "translates between modalities and needs at least two"
        return None

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """The mean output (B, n_out) of the sources that are there; of all, if none is."""
        pairs = zip(self.bank(), self._pooled(batch), strict=True)
        outputs = torch.stack([chain.regressor(pooled) for chain, pooled in pairs], 1)
        seen = torch.stack([batch.observed[chain.source].any(1) for chain in self.bank()], 1)
        seen = seen | ~seen.any(1, keepdim=True)  # (B, S)
        return (outputs * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """What each source's regressor reads, side by side (B, S h); 0 for a source that is not there."""
        return torch.cat(self._pooled(batch), -1)

    def deployed(self) -> Sequence[nn.Module]:
        """Encoders and regressors; no decoder."""
        return [
            module
            for chain in self.bank()
            for module in (chain.enter[chain.source], chain.encoders, chain.regressor)
        ]

    def stages(self) -> Sequence[mmbench.Stage]:
        """One, on complete data."""
        return [
            mmbench.Stage(
                "train",
                data="complete",
                prepare=self.scale.measure,
                forward=self.translate,
                steps=[mmbench.Step(self.loss, updates=[self])],
            )
        ]

    def bank(self) -> list[Chain]:
        """The chains, in the order of their sources."""
        return cast("list[Chain]", list(self.chains))

    def translate(self, batch: mmbench.Batch) -> list[Translations]:
        """What each source gives."""
        features, valid = self.scale(batch.features), batch.valid
        started = {m: v.sort(1, descending=True).values for m, v in valid.items()}
        return [
            chain(features[chain.source], valid[chain.source], started) for chain in self.bank()
        ]

    def loss(
        self, outputs: list[Translations], batch: mmbench.Batch, rng: mmbench.Random
    ) -> dict[str, Tensor]:
        """L_task + 0.1 (L_t + L_c + L_t2 + ...) + 0.01 |W|^2 with the head's W; mean over the sources."""
        features = self.scale(batch.features)
        # Frame k of what was made stands for the k-th valid frame.
        truths = {m: valid_first(features[m], valid) for m, valid in batch.valid.items()}
        pairs = zip(self.bank(), outputs, strict=True)
        terms = [self._terms(chain, made, truths, batch) for chain, made in pairs]
        return {name: torch.stack([t[name] for t in terms]).mean() for name in terms[0]}

    def _terms(
        self,
        chain: Chain,
        made: Translations,
        truths: Mapping[str, tuple[Tensor, Tensor]],
        batch: mmbench.Batch,
    ) -> dict[str, Tensor]:
        source, started = truths[chain.source]
        first = truths[chain.first]
        # What never was in the first target has not come back from it.
        returns = started & first[1].any(1, keepdim=True)
        terms = {
            "task": self.spec.task.loss(made.output, batch.truth),
            "translation": error(made.there, *first),
            "cycle": error(made.back, source, returns),
        }
        if chain.later:
            later = zip(chain.later, made.later, strict=True)
            terms["second"] = torch.stack([error(x, *truths[m]) for m, x in later]).sum()
        terms = {name: self.weights.get(name, 1.0) * term for name, term in terms.items()}
        terms["penalty"] = self.penalty * chain.regressor.head.weight.square().sum()
        return terms

    def _pooled(self, batch: mmbench.Batch) -> list[Tensor]:
        """What the regressor of each source reads, (B, h)."""
        features, valid = self.scale(batch.features), batch.valid
        return [
            chain.pool(
                chain.encode(features[chain.source], valid[chain.source]), valid[chain.source]
            )
            for chain in self.bank()
        ]


def _targets(source: str, names: Sequence[str]) -> list[str]:
    """What a source is translated to, in order."""
    order = reversed(names) if source == names[0] else names
    return [m for m in order if m != source]


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """MCTN."""
    return MCTN
