"""Makes the samples of a data set from files that are open: words, features, labels and folds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmbench.data import SPLITS, Dataset, Samples
from mmbench.errors import DataError
from mmbench_importers.csd import sequences
from mmbench_importers.csd.align import Intervals, means
from mmbench_importers.csd.folds import read_folds
from mmbench_importers.csd.glove import read_vectors

MODALITIES = {"l": "text", "a": "audio", "v": "vision"}


class Segment(NamedTuple):
    """An opinion: a row of a video's labels, and its last words, as rows of the video's words."""

    row: int
    words: np.ndarray
    """At most as many as a sample has frames."""
    dropped: int
    """Words before them."""
    score: float


@dataclass
class Source:
    """The files, by what they hold; any but `labels` and `folds` may be None."""

    labels: sequences.Sequence
    folds: Path
    words: sequences.Sequence | None
    vectors: sequences.Sequence | None
    glove: Path | None
    others: Mapping[str, sequences.Sequence]
    """Audio and vision, as far as they are there."""


def cut(words: np.ndarray, labels: sequences.Rows, length: int) -> list[Segment]:
    """One video's segments; of the words (n, 2) that overlap one, the last `length`."""
    rows, segments = Intervals(words), []
    for row, (start, end) in enumerate(labels.intervals):
        found = rows.overlapping(start, end)
        score = float(labels.features[row, 0])
        segments.append(Segment(row, found[-length:], max(0, len(found) - length), score))
    return segments


class Reader:
    """Makes the samples, in two passes: first what they consist of, then their features."""

    def __init__(self, source: Source, dataset: Dataset, length: int) -> None:
        self.source, self.task, self.length = source, dataset.task, length
        self.notices: list[str] = []
        self.vectors: dict[str, np.ndarray] = {}

    def splits(self, paths: Sequence[Path]) -> dict[str, Samples]:
        """The samples of every split."""
        source, folds = self.source, read_folds(self.source.folds)
        videos = [video for split in SPLITS for video in folds[split]]
        self._told_of_videos(videos)
        if source.glove is not None:
            self._read_glove(source.glove, videos)
        segments = {video: self._segments(video) for video in videos}
        self._leave_out_empty(segments)
        widths = {m: self._width(m, videos) for m in ("l", *source.others)}
        self._check_size(sum(map(len, segments.values())), sum(widths.values()), paths)
        splits = {s: self._samples(s, folds[s], segments, widths) for s in SPLITS}
        for m in widths:
            without = sum(int((~samples.valid[m].any(1)).sum()) for samples in splits.values())
            if without:
                self.notices.append(
                    f"{without} samples have no {MODALITIES[m]}, it is zero throughout"
                )
        for sequence in (source.vectors, *source.others.values()):
            if sequence is not None and sequence.not_finite:
                self.notices.append(
                    f"{sequence.path.name}: {sequence.not_finite} values were not finite, now 0"
                )
        return splits

    def _told_of_videos(self, videos: Sequence[str]) -> None:
        source, known = self.source, set(videos)
        used = (source.labels, source.words, source.vectors, *source.others.values())
        for sequence in used:
            if sequence is None:
                continue
            absent = [video for video in videos if video not in sequence.videos]
            if len(absent) == len(videos):
                raise DataError(
                    f"{sequence.path}: has no video of {source.folds}; it has "
                    f"{_some(sorted(sequence.videos))}"
                )
            if absent:
                self.notices.append(
                    f"{sequence.path.name}: {len(absent)} videos of the folds are not in it: "
                    f"{_some(absent)}"
                )
        foldless = sorted(source.labels.videos - known)
        if foldless:
            self.notices.append(
                f"{source.labels.path.name}: {len(foldless)} videos are in no fold and left out: "
                f"{_some(foldless)}"
            )

    def _read_glove(self, glove: Path, videos: Iterable[str]) -> None:
        assert self.source.words is not None
        wanted: dict[str, None] = {}
        for video in videos:
            words = self.source.words.words(video)
            wanted.update(dict.fromkeys(words.text if words else []))
        self.vectors = read_vectors(glove, wanted.keys())
        without = [word for word in wanted if word not in self.vectors]
        if without:
            self.notices.append(
                f"{glove.name}: {len(without)} of {len(wanted)} words are not in it, their vectors "
                f"are zero: {_some(without)}"
            )

    def _words(self, video: str) -> np.ndarray:
        """Intervals (n, 2) of the words of one video, as many as `_features` has rows."""
        if self.source.words is not None:
            words = self.source.words.words(video)
            return words.intervals if words else np.empty((0, 2))
        assert self.source.vectors is not None
        rows = self.source.vectors.rows(video)
        return rows.intervals if rows else np.empty((0, 2))

    def _segments(self, video: str) -> list[Segment]:
        labels = self.source.labels.rows(video)
        if labels is None:
            return []
        if labels.features.dtype.kind == "S":
            raise DataError(f"{self.source.labels.path}: {video!r}: expected numbers, got text")
        return cut(self._words(video), labels, self.length)

    def _leave_out_empty(self, segments: dict[str, list[Segment]]) -> None:
        count = 0
        for video, some in segments.items():
            segments[video] = [segment for segment in some if len(segment.words)]
            count += len(some) - len(segments[video])
        if count:
            self.notices.append(f"{count} segments have no word and are left out")
        cut_short = sum(segment.dropped > 0 for some in segments.values() for segment in some)
        if cut_short:
            self.notices.append(
                f"{cut_short} segments have more than {self.length} words and keep their last"
            )

    def _sequence(self, m: str) -> sequences.Sequence | None:
        return self.source.vectors if m == "l" else self.source.others[m]

    def _width(self, m: str, videos: Iterable[str]) -> int:
        sequence = self._sequence(m)
        if sequence is None:
            return len(next(iter(self.vectors.values())))
        video = next(video for video in videos if video in sequence.videos)
        rows = sequence.rows(video)
        assert rows is not None
        return rows.features.shape[1]

    def _check_size(self, samples: int, width: int, paths: Sequence[Path]) -> None:
        """Bounds the memory by the files' size: one word may be asked for in any number of segments."""
        needed, size = samples * self.length * width * 4, sum(p.stat().st_size for p in paths)
        if needed > max(1 << 30, 16 * size):
            raise DataError(
                f"{self.source.labels.path}: refused, {samples} segments of {self.length} x {width} "
                f"values take {needed} bytes, and the files have {size}"
            )

    def _samples(
        self,
        split: str,
        videos: Sequence[str],
        segments: Mapping[str, list[Segment]],
        widths: Mapping[str, int],
    ) -> Samples:
        n, t = sum(len(segments[video]) for video in videos), self.length
        if not n:
            raise DataError(f"{self.source.folds}: {split}: no segment of its videos has a word")
        words = np.zeros((n, t), bool)
        features = {m: np.zeros((n, t, width), np.float32) for m, width in widths.items()}
        ids: list[str] = []
        scores: list[float] = []
        for video in videos:
            rows = {m: self._features(m, video, widths[m]) for m in widths if segments[video]}
            for segment in segments[video]:
                at, first = len(ids), t - len(segment.words)
                words[at, first:] = True
                for m, x in rows.items():
                    features[m][at, first:] = x[segment.words]
                ids.append(f"{video}[{segment.row}]")
                scores.append(segment.score)
        valid = {m: words & np.asarray(x.any((1, 2)))[:, None] for m, x in features.items()}
        try:
            with np.errstate(over="ignore"):
                targets = self.task.check(np.array(scores, np.float32))
        except DataError as error:
            raise DataError(f"{self.source.labels.path}: {split}: {error}") from None
        return Samples(tuple(ids), features, valid, targets)

    def _features(self, m: str, video: str, width: int) -> np.ndarray:
        """One modality of a video's words: float32 (n, D)."""
        sequence, words = self._sequence(m), self._words(video)
        if sequence is None:
            assert self.source.words is not None
            found = self.source.words.words(video)
            zero = np.zeros(width, np.float32)
            return np.array([self.vectors.get(word, zero) for word in found.text] if found else [])
        rows = sequence.numbers(video)
        if rows is None:
            return np.zeros((len(words), width), np.float32)
        if rows.features.shape[1] != width:
            raise DataError(
                f"{sequence.path}: {video!r}: {rows.features.shape[1]} features a row, but {width} "
                "in the videos before"
            )
        if m == "l" and self.source.words is None:
            return rows.features
        return means(rows.features, rows.intervals, words)


def _some(names: Sequence[str]) -> str:
    """The first few names."""
    more = ", ..." if len(names) > 5 else ""
    return ", ".join(name[:40] for name in islice(names, 5)) + more
