"""What is wrong in a data set, from the facts of its card. Serious is what makes a result wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mmbench.data import SPLITS
from mmbench.datacard.features import LARGE, SPARSE, ModalityFacts
from mmbench.datacard.samples import Groups, LabelFacts, Repeat
from mmbench.numbers import fixed
from mmbench.tasks import MultiClass, Regression, Task

Level = Literal["serious", "warning", "note"]
LEVELS: tuple[Level, ...] = ("serious", "warning", "note")
OFTEN = 0.05
"""What more than this share of samples lack, or of frames are, is a warning."""
DRIFT = 0.15
"""Total variation distance beyond which two splits differ in their labels."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong or odd, and what to do about it."""

    level: Level
    where: str
    text: str


def of_modality(m: str, facts: ModalityFacts, sizes: Mapping[str, int]) -> Iterator[Finding]:
    """Of one modality `m`; `sizes` are samples by split."""
    if facts.not_finite:
        yield Finding(
            "serious",
            m,
            f"{facts.not_finite} values are NaN or infinite; replace them and import it again",
        )
    for split, lengths in facts.lengths.items():
        where, share = f"{split}, {m}", lengths.without / sizes[split]
        if share == 1:
            yield Finding(
                "serious",
                where,
                "no sample has a valid frame; leave the modality out, or look for its features",
            )
        elif share:
            yield Finding(
                "warning" if share > OFTEN else "note",
                where,
                f"{lengths.without} samples ({share:.1%}) do not have it: conditions that show it hide it "
                "there; look whether its extraction failed",
            )
    if facts.large:
        yield Finding(
            "warning",
            m,
            f"{facts.large} values are beyond {LARGE:g}, up to {max(-facts.low, facts.high):.3g}: "
            "unscaled features drown the others; scale them before the import",
        )
    if facts.zero_frames > OFTEN:
        yield Finding(
            "warning",
            m,
            f"{facts.zero_frames:.1%} of the valid frames are all zero, as if they were missing; "
            "look for words without a vector or faces not found",
        )
    if facts.constant:
        yield Finding(
            "warning",
            f"train, {m}",
            f"{len(facts.constant)} of {facts.width} columns are constant and say nothing: "
            f"{_some(facts.constant)}; look whether their extraction failed, or drop them",
        )
    if facts.duplicate:
        sets = [" = ".join(map(str, same)) for same in facts.duplicate]
        yield Finding(
            "warning",
            f"train, {m}",
            f"columns are the same throughout: {_some(sets)}; drop all but one",
        )
    if facts.sparse:
        yield Finding(
            "note",
            f"train, {m}",
            f"{len(facts.sparse)} columns are zero in more than {SPARSE:.0%} of the frames: "
            f"{_some(facts.sparse)}; little can be learned from them",
        )
    if facts.side == "mixed":
        yield Finding(
            "warning",
            m,
            "padding is on both sides, or between frames; pad one side, for some methods look at the last frame",
        )


def of_label(label: str, facts: LabelFacts, task: Task) -> Iterator[Finding]:
    """Of one column of the targets."""
    for split in facts.constant:
        if isinstance(task, Regression) or split == "train":
            what = f"every target is the same (mean {facts.means[split]:g}): nothing can be learned or judged"
            yield Finding("serious", f"{split}, {label}", f"{what}; check the labels' source")
        else:
            yield Finding(
                "warning",
                f"{split}, {label}",
                "every target is the same: a constant prediction is perfect here; ignore its scores",
            )
    if isinstance(task, MultiClass) and "train" not in facts.constant:
        never = [name for name, n in zip(facts.bins, facts.counts["train"], strict=True) if not n]
        if never:
            yield Finding(
                "serious",
                f"train, {label}",
                f"no sample is of class {_some(never)}: it cannot be learned; check the labels' order",
            )
    if facts.drift > DRIFT:
        first, second = facts.drifted
        yield Finding(
            "warning",
            label,
            f"the shares of {first} and {second} differ by {fixed(facts.drift, 2)} in total variation "
            f"(over {DRIFT:g}): what is best on one is not on the other; compare with the floor of test",
        )


def of_repeats(repeats: Iterable[Repeat], modalities: int) -> Iterator[Finding]:
    """Of samples that are the same; `modalities` is how many the data set has.

    Where only one of several modalities is there, as of a single word without sound, two samples may be
    the same by chance: that is no leak.
    """
    across = [r for r in repeats if r.across]
    leaks = [r for r in across if r.modalities >= min(2, modalities)]
    yield from _told(
        "serious",
        leaks,
        "stand in more than one split, so training sees what is tested; remove them from train",
    )
    yield from _told(
        "warning",
        [r for r in across if r not in leaks],
        "of one modality only stand in more than one split; look whether they are one recording",
    )
    yield from _told(
        "warning", [r for r in repeats if not r.across], "stand in one split; keep one of each"
    )
    yield from _told(
        "warning",
        [r for r in repeats if r.contradict],
        "have different targets, which no method can tell apart; find the right one",
    )


def _told(level: Level, repeats: Sequence[Repeat], what: str) -> Iterator[Finding]:
    if repeats:
        sets = [" = ".join(f"{s}:{i}" for s, i in r.samples[:3]) for r in repeats]
        count = sum(len(r.samples) for r in repeats)
        yield Finding(
            level,
            "samples",
            f"{count} samples in {len(repeats)} set{'s' * (len(repeats) > 1)} of equal features {what}: {_some(sets, 3)}",
        )


def of_splits(
    groups: Groups,
    empty: Mapping[str, int],
    sizes: Mapping[str, int],
    expected: Mapping[str, int] | None,
    not_finite: str | None,
) -> Iterator[Finding]:
    """Of groups that splits share, of samples without anything, of sizes, and of what the source says."""
    if groups.shared:
        told = [f"{group} in {' and '.join(splits)}" for group, splits in groups.shared.items()]
        yield Finding(
            "serious",
            "ids",
            f"{len(told)} of {groups.count} videos or speakers stand in more than one split, so a model may "
            f"know them by voice or face: {_some(told)}; split by group or, if ids mean something else, "
            "override the data set's group_of",
        )
    for split, count in empty.items():
        if count:
            yield Finding(
                "warning",
                split,
                f"{count} samples have no valid frame of any modality: all that is left is the prior; "
                "look whether their extraction failed",
            )
    if any(sizes[split] != size for split, size in (expected or {}).items() if split in sizes):
        yield Finding(
            "note",
            "splits",
            f"{_sizes(sizes)} samples, the published data has {_sizes(expected or {})}: another split or a rebuild; "
            "say so when you compare with papers",
        )
    if not_finite:
        yield Finding(
            "warning",
            "source",
            f"{not_finite} values were NaN or infinite in the file and are 0 here; look which features they are",
        )


def _sizes(sizes: Mapping[str, int]) -> str:
    return "/".join(str(sizes.get(split, "?")) for split in SPLITS)


def _some(items: Sequence[object], most: int = 8) -> str:
    """The first of them."""
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; otherwise as they came."""
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))
