"""CorrKD: a student learns how a complete-data teacher relates samples, categories and responses.

*Correlation-Decoupled Knowledge Distillation for Multimodal Sentiment Analysis with Incomplete
Modalities*, Mingcheng Li, Dingkang Yang, Xiao Zhao, Shuaibing Wang, Yan Wang, Kun Yang, Mingyang Sun,
Dongliang Kou, Ziyun Qian, Lihua Zhang; CVPR 2024, https://arxiv.org/abs/2404.16456.

Three losses tie the student, which sees incomplete samples, to a frozen teacher, which sees complete
ones: samples repel each other across the networks (SCD), both networks place a sample alike among the
prototypes of the categories (CPD), and the probabilities of the true category and of the others share
information (RCD). Letters: B samples, M modalities, T[m] frames, d = `width`, K categories.

    losses.py  the equations, one function each, and the categories
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mmbench
from mmbench.nn import Dropout, FrontEnd, mlp, mutual_information
from mmbench_methods.corrkd import losses


class View(NamedTuple):
    """What a network makes of a batch."""

    joint: Tensor
    """H (B, M d)."""
    logits: Tensor
    """(B, n_out)."""
    responses: Tensor
    """Logits of the categories (B, K)."""


class Network(nn.Module):
    """Front end, mean over time, heads: the same for teacher and student."""

    def __init__(self, spec: mmbench.DataSpec, width: int, depth: int, categories: int) -> None:
        super().__init__()
        full = len(spec.modalities) * width
        self.front = FrontEnd(spec, width, depth)
        self.dropout = Dropout(spec.schedule.output_dropout)
        self.head = mlp(full, spec.task.n_out)
        # Where the task's outputs are the categories' logits already, they need no head of their own.
        one_of_k = isinstance(spec.task, mmbench.MultiClass)
        self.response_head = None if one_of_k else mlp(full, categories)

    def joint(self, batch: mmbench.Batch) -> Tensor:
        """H (B, M d): the mean of each modality's encodings over its valid positions."""
        means = []
        for name, sequence in self.front.sequences(batch).items():  # (B, T, d), zero at padding
            # A modality of which nothing is seen is encoded as one empty frame.
            count = batch.valid[name].sum(1, keepdim=True).clamp(min=1)
            means.append(sequence.sum(1) / count)
        return torch.cat(means, -1)

    def forward(self, batch: mmbench.Batch) -> View:
        """Everything that the losses need."""
        joint = self.joint(batch)
        kept = self.dropout(joint)
        logits = self.head(kept)
        responses = logits if self.response_head is None else self.response_head(kept)
        return View(joint, logits, responses)


class CorrKD(mmbench.Method):
    """Teacher on complete data, then a student that keeps the teacher's correlations."""

    name = "corrkd"
    summary = (
        "distils a complete-data teacher's relations between samples, prototypes and responses"
    )
    paper = (
        "Li et al., Correlation-Decoupled Knowledge Distillation for Multimodal Sentiment Analysis with "
        "Incomplete Modalities, CVPR 2024, https://arxiv.org/abs/2404.16456"
    )
    privileges = ("complete training samples, through a teacher",)
    deviations = (
        "No code is published. The three losses are written from a third party's summary and from memory of "
        "the paper; their exact forms, margins and norms are not verified.",
        "SCD divides the positives by N and the negatives by N(N-1), so that its size does not grow with the "
        "batch; recalled is a plain sum (switch `scd_reduction`).",
        "The margin is 1.2 for every data set; recalled are 1.2, 1.0 and 1.4 for MOSI, MOSEI and IEMOCAP "
        "(`margin`). Few other samples come that near in M d dimensions, so SCD is nearly its positives alone.",
        "The gradient of CPD passes through the student's prototypes, too. A category without a sample in the "
        "batch is left out of its mean.",
        "RCD has HRLF's estimate of mutual information, by the same group: the Jensen-Shannon bound, negatives "
        "from the batch rolled by a random non-zero shift. Each of its two statistics networks has one hidden "
        "layer of width d and learns with the student. The others' probabilities are not normalised again.",
        "The paper classifies. A regression keeps its squared error; its categories are the score rounded to "
        "`levels` even steps (7: whole scores in [-3, 3]). Yes-or-no labels keep their two logits each; a "
        "sample's category is its first label that holds, or one more, 'none' (no sample of IEMOCAP's).",
        "Where the task is not to name one of K classes, a linear head beside the task's gives RCD its "
        "responses. It learns by cross-entropy with weight 1, in both networks, and is not used in a "
        "prediction.",
        "All losses have weight 1, as in the paper.",
        "The global average is taken over each modality's frames that are not padding; a modality of which "
        "nothing is seen is one empty frame. Streams may differ in length.",
        "Modalities go missing by msm@1 where the paper has Modality Random Missing.",
        "Front end, depth, starts and dropouts are HRLF's, so that the two differ in their losses and in "
        "factorisation; the paper's front end is the same to the letter.",
        "The teacher learns the task alone, for as many epochs as the student, and is frozen and without "
        "dropout while it teaches. The student starts afresh.",
        "Selection is by the lowest validation task loss: complete data for the teacher, the mean over "
        "all available sets with frames missing by msm@1 for the student.",
    )

    def __init__(
        self,
        spec: mmbench.DataSpec,
        *,
        width: int = 40,
        depth: int = 4,
        margin: float = 1.2,
        scd_reduction: Literal["mean", "sum"] = "mean",
        levels: int = 7,
        scd: bool = True,
        cpd: bool = True,
        rcd: bool = True,
    ) -> None:
        super().__init__(spec)
        self.margin, self.levels = margin, levels
        self.scd_reduction: Literal["mean", "sum"] = scd_reduction
        self.scd, self.cpd, self.rcd = scd, cpd, rcd
        self.categories = losses.category_count(spec.task, levels)
        self.teacher = Network(spec, width, depth, self.categories)
        self.student = Network(spec, width, depth, self.categories)
        self.statistics = nn.ModuleList(
            [mlp(2, width, 1), mlp(2 * (self.categories - 1), width, 1)]
        )

    def forward(self, batch: mmbench.Batch) -> Tensor:
        """The student's logits (B, n_out)."""
        return self.student.head(self.student.dropout(self.student.joint(batch)))

    def represent(self, batch: mmbench.Batch) -> Tensor:
        """The student's joint representation H (B, M d)."""
        return self.student.joint(batch)

    def deployed(self) -> Sequence[nn.Module]:
        """Only the student predicts, and without its responses."""
        return [self.student.front, self.student.head]

    def stages(self) -> Sequence[mmbench.Stage]:
        """The teacher on complete data, then the student on incomplete data."""
        return [
            mmbench.Stage(
                "teacher",
                data="complete",
                forward=self.teacher,
                predict=lambda batch: self.teacher(batch).logits,
                steps=[mmbench.Step(self.task_loss, updates=[self.teacher])],
            ),
            mmbench.Stage(
                "student",
                data="incomplete",
                given=self.teacher,
                forward=self.student,
                steps=[mmbench.Step(self.student_loss, updates=[self.student, self.statistics])],
            ),
        ]

    def task_loss(self, view: View, batch: mmbench.Batch, rng: mmbench.Random) -> dict[str, Tensor]:
        """L_task, and the cross-entropy of the responses where they have a head of their own."""
        task = self.spec.task
        terms = {"task": task.loss(view.logits, batch.truth)}
        if self.student.response_head is not None:
            category = losses.categorise(task, batch.truth, self.levels)
            terms["category"] = F.cross_entropy(view.responses, category)
        return terms

    def student_loss(
        self, student: View, batch: mmbench.Batch, rng: mmbench.Random
    ) -> dict[str, Tensor]:
        """L_task + L_SCD + L_CPD + L_RCD."""
        teacher: View = batch.given
        category = losses.categorise(self.spec.task, batch.truth, self.levels)  # (B,)
        terms = self.task_loss(student, batch, rng)
        if self.scd:
            terms["scd"] = losses.sample_contrast(
                student.joint, teacher.joint, self.margin, self.scd_reduction
            )
        if self.cpd:
            members = F.one_hot(category, self.categories).to(student.joint.dtype)  # (B, K)
            terms["cpd"] = losses.prototype_distance(student.joint, teacher.joint, members)
        if self.rcd:
            terms["rcd"] = mutual_information(
                self.statistics,
                losses.decouple(teacher.responses, category),
                losses.decouple(student.responses, category),
                rng,
            )
        return terms


@mmbench.hookimpl
def mmbench_register_methods() -> type[mmbench.Method]:
    """CorrKD."""
    return CorrKD
