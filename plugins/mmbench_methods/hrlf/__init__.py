"""HRLF: a student learns from a complete-data teacher, factorised and aligned at three scales.

*Toward Robust Incomplete Multimodal Sentiment Analysis via Hierarchical Representation Learning*,
Mingcheng Li, Dingkang Yang, Yang Liu, Shunli Wang, Jiawei Chen, Shuaibing Wang, Jinjie Wei,
Yue Jiang, Qingyao Xu, Xiaolu Hou, Mingyang Sun, Ziyun Qian, Dongliang Kou, Lihua Zhang;
NeurIPS 2024, https://arxiv.org/abs/2411.02793.

The text leaves much open. `HRLF.deviations` lists every decision with its reason; those that the text
makes doubtful have a switch among the hyper-parameters. Letters: B samples, M modalities, d = `width`.

    network.py  the teacher and the student: front end, factorisation (FRF), scales, head
    losses.py   the equations, one function each
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

import mmbench
from mmbench.methods import Plateau
from mmbench.nn import mlp, mutual_information
from mmbench.randomness import Random
from mmbench_methods.hrlf import losses
from mmbench_methods.hrlf.network import Network, View, bounded_mlp, scale_widths


class Lesson(NamedTuple):
    """What the student learns from its teacher."""

    scales: tuple[Tensor, Tensor, Tensor]
    logits: Tensor


class HRLF(mmbench.Method):
    """Teacher on complete data, then a student on incomplete data against discriminators."""

    name = "hrlf"
    summary = "distils a complete-data teacher at three scales: factorisation, mutual information, adversary"
    paper = (
        "Li et al., Toward Robust Incomplete Multimodal Sentiment Analysis via Hierarchical "
        "Representation Learning, NeurIPS 2024, https://arxiv.org/abs/2411.02793"
    )
    privileges = ("complete training samples, through a teacher",)
    deviations = (
        "Q and U have width d/2: the only reading in which [Q; U] of all modalities has the declared 3d.",
        "The fully-connected chain is 3d-2d-d-2d-3d with ReLU between and none at its end.",
        "E_1 = [H; H~] and E_2 = [I_1; I_3] are concatenated as the text says, so 6d and 4d wide; the "
        "first layer of T and D brings them to the 3d and 2d that the text declares (switch `scales`).",
        "One decoder D_r for all pairs: its symbol has no modality index; U carries the modality.",
        "Norms are Euclidean over the features and not squared, as printed, with 1e-12 under the root "
        "because a norm has no gradient at 0.",
        "The reconstruction compares Q_ba with Q_a for all n^2 pairs, equal ones included, as printed.",
        "L_FRF takes Z as given: it trains E^S, E^M and D_r and sends no gradient to the front end, nor to "
        "the Q that a reconstruction is compared with. The text does not say; with gradient L_FRF is smallest "
        "where every Z is the same, and training ends there, at the constant predictor's validation loss "
        "(switch `stop_gradient`).",
        "FRF trains both networks: the teacher on complete data, the student on incomplete data.",
        "The teacher is frozen and without dropout while it teaches.",
        "The student starts as a copy of the teacher, one reading of 'initialized student network'. A fresh one "
        "is told apart at once, and the adversary's gradient drowns the task's: at IEMOCAP's learning rate its "
        "validation loss never leaves the constant predictor's (switch `student_init`).",
        "Discriminators maximise L_HAL by an Adam of their own, one step before each of the student's; "
        "the student minimises it with the discriminators held.",
        "log(1 - D) is unbounded below: a student that enlarges its features wins without end, and its task loss "
        "explodes. The discriminators' layers are therefore divided by their largest singular value (Miyato et "
        "al., ICLR 2018), so that no feature earns more than it grows; this adds no parameter (switch "
        "`spectral_norm`). Selection does not look at L_HAL (switch `saturating`).",
        "One discriminator and one statistics network per scale, since widths differ; each has one "
        "hidden layer as wide as the scale, with ReLU.",
        "Mutual information is maximised, as the formula says; the sentence on minimising the "
        "divergence is taken for a slip.",
        "Negatives of HMI pair a teacher's sample with the student's of another one: the batch rolled "
        "by a random non-zero shift, so that no positive is counted as a negative. A batch of one has none.",
        "The statistics networks learn together with the student, as in Deep InfoMax.",
        "For a regression L_KL is half the squared difference, the KL of unit Gaussians: a softmax over "
        "one logit would always give 0. For labels it is KL(teacher || student), temperature 1.",
        "Modalities go missing by msm@1: available ones uniform over the non-empty subsets, of each of "
        "their frames a share from 0, 0.1, ..., 0.9 (`p_complete` keeps that share of samples complete).",
        "'Last element' is the last frame that is not padding. Attention skips padding, not hidden "
        "frames. How long an entirely hidden sequence is stays hidden too.",
        "Positions are fixed sinusoids, added without scaling. Kernel '3 x 3' is a kernel of 3 over time.",
        "4 pre-norm Transformer layers, feed-forward 4d, no causal mask; depth, dropouts and clipping are "
        "MulT's, from which the declared hyper-parameters come.",
        "E^S, E^M and D_r have one hidden layer of width d. The head is one linear layer (switch `head`).",
        "Linear layers start by He et al. 2015. The text names no start; from torch's own the teacher "
        "stays at the constant predictor on real MOSI, for the task's gradient fades in the chain and "
        "L_FRF, left alone, makes every Z the same.",
        "IEMOCAP is one model with two logits for each of four emotions.",
        "Selection is by the lowest validation task loss: complete data for the teacher, the mean over "
        "all available sets with frames missing by msm@1 for the student.",
        "The teacher trains for as many epochs as the student. The learning rate is constant "
        "(switch `plateau`), without weight decay.",
        "Without FRF (`frf=False`) C_m = Z_m, so that widths stay.",
        "Any number of modalities from two up: 3d above reads M d.",
    )

    def __init__(
        self,
        spec: mmbench.DataSpec,
        *,
        width: int = 40,
        depth: int = 4,
        head: Literal["linear", "mlp"] = "linear",
        scales: Literal["concat", "sum"] = "concat",
        frf: bool = True,
        hmi: bool = True,
        hal: bool = True,
        saturating: bool = True,
        spectral_norm: bool = True,
        stop_gradient: bool = True,
        student_init: Literal["fresh", "teacher"] = "teacher",
        plateau: bool = False,
        p_complete: float = 0.0,
    ) -> None:
        super().__init__(spec)
        self.hmi, self.hal, self.saturating = hmi, hal, saturating
        self.stop_gradient, self.student_init = stop_gradient, student_init
        self.plateau = Plateau() if plateau else None
        self.sampler_settings = {"p_complete": p_complete}
        network = partial(
            Network, spec, width=width, depth=depth, head=head, scales=scales, frf=frf
        )
        self.teacher, self.student = network(), network()
        inner, outer = scale_widths(len(spec.modalities) * width, width, scales)
        self.statistics = nn.ModuleList(
            mlp(2 * wide, narrow, 1) for wide, narrow in zip(outer, inner, strict=True)
        )
        discriminator = bounded_mlp if spectral_norm else mlp
        self.discriminators = nn.ModuleList(
            discriminator(wide, narrow, 1) for wide, narrow in zip(outer, inner, strict=True)
        )

    @classmethod
    def supports(cls, spec: mmbench.DataSpec) -> str | None:
        """Translation between modalities needs two of them."""
        if len(spec.modalities) < 2:
            return "translates between modalities and needs at least two"
        return None

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """The student's logits (B, n_out)."""
        return self.student(batch).logits

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """The student's joint representation H~ (B, M d)."""
        return self.student(batch).joint

    def deployed(self) -> Sequence[nn.Module]:
        """Only the student predicts."""
        return [self.student]

    def stages(self) -> Sequence[mmbench.Stage]:
        """The teacher on complete data, then the student on pairs of incomplete and complete."""
        teach = mmbench.Step(self.teacher_loss, updates=[self.teacher], plateau=self.plateau)
        learn = mmbench.Step(
            self.student_loss, updates=[self.student, self.statistics], plateau=self.plateau
        )
        tell_apart = mmbench.Step(self.discriminator_loss, updates=[self.discriminators])
        return [
            mmbench.Stage(
                "teacher",
                data="complete",
                forward=self.teacher,
                predict=lambda batch: self.teacher(batch).logits,
                steps=[teach],
            ),
            mmbench.Stage(
                "student",
                data="incomplete",
                prepare=self.start_student,
                given=self.teach,
                forward=self.student,
                steps=[tell_apart, learn] if self.hal else [learn],
            ),
        ]

    def start_student(self, _: object) -> None:
        """Copies the teacher, if so set."""
        if self.student_init == "teacher":
            self.student.load_state_dict(self.teacher.state_dict())

    def teach(self, batch: mmbench.Batch) -> Lesson:
        """What the frozen teacher makes of complete samples."""
        view = self.teacher(batch)
        return Lesson(view.scales, view.logits)

    def teacher_loss(self, view: View, batch: mmbench.Batch, rng: Random) -> dict[str, Tensor]:
        """L_task + L_FRF."""
        return self._supervised(self.teacher, view, batch)

    def student_loss(self, student: View, batch: mmbench.Batch, rng: Random) -> dict[str, Tensor]:
        """L_task + L_FRF + L_HMI + L_HAL + L_KL, all weights 1."""
        teacher: Lesson = batch.given
        terms = self._supervised(self.student, student, batch)
        if self.hmi:
            terms["hmi"] = mutual_information(self.statistics, teacher.scales, student.scales, rng)
        if self.hal:
            terms["hal"] = losses.adversarial(
                self.discriminators, teacher.scales, student.scales, saturating=self.saturating
            )
        terms["kl"] = self.spec.task.divergence(teacher.logits, student.logits)
        return terms

    def discriminator_loss(
        self, student: View, batch: mmbench.Batch, rng: Random
    ) -> dict[str, Tensor]:
        """-L_HAL, with the student held: the discriminators' cross-entropy."""
        teacher: Lesson = batch.given
        fixed = [scale.detach() for scale in student.scales]
        return {"discriminators": -losses.adversarial(self.discriminators, teacher.scales, fixed)}

    def _supervised(self, network: Network, view: View, batch: mmbench.Batch) -> dict[str, Tensor]:
        terms = {"task": self.spec.task.loss(view.logits, batch.truth)}
        if network.factorise is not None:
            terms["translation"], terms["reconstruction"] = losses.factorisation(
                network.factorise, view, stop_gradient=self.stop_gradient
            )
        return terms


class WithoutFRF(HRLF):
    """Table 3, "w/o FRF": no L_FRF, and C_m = Z_m."""

    name = "hrlf-no-frf"
    summary = "HRLF without fine-grained representation factorisation"
    ablates = "hrlf"

    def __init__(self, spec: mmbench.DataSpec, *, frf: bool = False, **others: Any) -> None:
        super().__init__(spec, frf=frf, **others)


class WithoutHMI(HRLF):
    """Table 3, "w/o HMI": no L_HMI."""

    name = "hrlf-no-hmi"
    summary = "HRLF without hierarchical mutual information maximisation"
    ablates = "hrlf"

    def __init__(self, spec: mmbench.DataSpec, *, hmi: bool = False, **others: Any) -> None:
        super().__init__(spec, hmi=hmi, **others)


class WithoutHAL(HRLF):
    """Table 3, "w/o HAL": no L_HAL, and no discriminator learns."""

    name = "hrlf-no-hal"
    summary = "HRLF without hierarchical adversarial learning"
    ablates = "hrlf"

    def __init__(self, spec: mmbench.DataSpec, *, hal: bool = False, **others: Any) -> None:
        super().__init__(spec, hal=hal, **others)


@mmbench.hookimpl
def mmbench_register_methods() -> Iterable[type[mmbench.Method]]:
    """HRLF, and the three of its table 3 that lack a part."""
    return HRLF, WithoutFRF, WithoutHMI, WithoutHAL
