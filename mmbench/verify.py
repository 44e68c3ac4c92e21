"""Checks a store: every score again from what was predicted, every hash from what it is of.

Nothing in a store is run or believed, and what cannot be checked is told, with the reason. Values that
no one can work out without training anew are taken on trust: `TRUSTED`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import arrays as files
from mmbench import datafile, manifests, predictions
from mmbench.data import SPLITS, Data, Dataset, DataSpec
from mmbench.errors import DataError, MmbenchError, UsageError
from mmbench.evaluation import averages, describe, trials
from mmbench.findings import Finding, Report, brief, differences, guarded
from mmbench.jobs import KINDS, digest, label
from mmbench.manifests import MANIFEST
from mmbench.metrics import Metric, floor, score
from mmbench.missingness import MissingnessProtocol
from mmbench.registry import Registry
from mmbench.rendered import leaderboards as check_leaderboards
from mmbench.settings import hyperparameters
from mmbench.sources import code_sha256
from mmbench.store import PREDICTIONS, REPRESENTATIONS, Store
from mmbench.tasks import Task

TRUSTED = (
    "training logs, times, dates, memory, counts of parameters, versions of libraries, commits, reasons of "
    "failures; that training made the predictions; that no result was left out"
)
"""What a manifest says that is not checked."""
MODALITIES = 12
"""More of them than any data set has would have more subsets than there is time for."""
ADDED = ("label", "hyperparameters")
"""Fields of a manifest's job that do not enter its key."""


def verify(
    store: Store,
    registry: Registry,
    leaderboards: Path | None = None,
    show: Callable[[float, str], None] = lambda share, doing: None,
) -> Report:
    """Checks every result and, where a folder of them is given, every leaderboard of the store.

    UsageError if there is no store or no such folder; whatever the files hold is a finding.
    """
    folders = [path for path in store.folders() if path.is_dir()]
    if not folders:
        raise UsageError(f"{store.root}: a folder without results, or none; expected a store")
    if leaderboards is not None and not leaderboards.is_dir():
        raise UsageError(f"{leaderboards}: there is no such folder; expected one of leaderboards")
    here, found = _Here(registry), Report()
    for number, folder in enumerate(folders):
        show(number / len(folders), folder.relative_to(store.root).as_posix())
        result = _Result(store, folder, here)
        found.add(guarded(result.where, result.check()))
        found.results += 1
        found.scores += result.scores
    if leaderboards is not None:
        show(1.0, "leaderboards")
        found.add(check_leaderboards(store, leaderboards, registry, found))
    return found


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))


class _Here:
    """What this machine has to check against; each thing is made once."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.data = lru_cache(maxsize=1)(self._data)  # results come data set by data set
        self.code: Callable[..., str] = lru_cache(maxsize=None)(code_sha256)
        self.masks: Callable[..., Any] = lru_cache(maxsize=None)(self._masks)

    def find(self, kind: str, name: str) -> type[Any] | str:
        """A class of that name and version, or why there is none."""
        try:
            return self.registry.find(kind, name)
        except UsageError:
            plain = name.partition("@")[0]
            there = self.registry.classes[kind].get(plain)
            if there is not None:
                return f"{kind} {name} is not here, but {plain}@{there.cls.version}"
            return f"{kind} {plain!r} is not here; --plugin FILE brings one"

    def _data(self, cls: type[Dataset]) -> Data | str:
        try:
            return datafile.obtain(cls())
        except MmbenchError as error:
            return f"the data is not on this machine: {error}"

    def _masks(self, protocol: type[MissingnessProtocol], data: type[Dataset]) -> Any:
        """What the protocol is on the data set, which is on this machine."""
        found = self.data(data)
        assert isinstance(found, Data)
        spec = DataSpec(found.name, found.modalities(), found.task)
        return _plain(describe(protocol(), found.splits["test"], spec))


class _Result:
    """The check of one result."""

    def __init__(self, store: Store, folder: Path, here: _Here) -> None:
        self.store, self.folder, self.here = store, folder, here
        self.name = folder.relative_to(store.root).as_posix()
        self.where, self.file = f"{self.name}/{MANIFEST}", f"{self.name}/{PREDICTIONS}"
        self.scores = 0

    def check(self) -> Iterator[Finding]:
        """All of it; that a manifest was altered is told where nothing else tells of it."""
        told = False
        for finding in guarded(self.where, self._parts()):
            told = told or finding.wrong
            yield finding
        if not told:
            manifests.read(self.folder / MANIFEST)

    def _parts(self) -> Iterator[Finding]:
        """A part that cannot be read does not keep the others from being checked."""
        self.manifest = manifests.read(self.folder / MANIFEST, sealed=False)
        self.job = self.manifest["job"]
        yield from self._part("job", self._job())
        status = self.manifest.get("status")
        if status == "failed":
            yield from self._failure()
            return
        if status != "finished" or "reason" in self.manifest:
            yield self._wrong("status", f"says {brief(status)}, expected that of a finished result")
        dataset = self.here.find("dataset", self.job["dataset"])
        self.data: Data | None = None
        if isinstance(dataset, str):
            self.task: Task | None = None
            yield self._unchecked(f"{dataset}: data, masks, scores and floors")
        else:
            self.task = dataset.task
            yield from self._part("data", self._same_data(dataset))
        yield from self._part("method", self._method())
        yield from self._part("protocols", self._protocols(dataset))
        yield from self._part("metrics", self._metrics())
        arrays: dict[str, np.ndarray] = {}
        yield from guarded(self.file, self._predictions(arrays))
        if arrays and self.task is not None:
            yield from guarded(self.file, self._samples(arrays))
            yield from self._part("scores", self._scores(arrays, self.task))
        yield from self._part("representations", self._representations())

    def _part(self, part: str, findings: Iterator[Finding]) -> Iterator[Finding]:
        return guarded(f"{self.where}, {part}", findings)

    def _wrong(self, part: str, text: str) -> Finding:
        return Finding(f"{self.where}, {part}", text)

    def _unchecked(self, text: str) -> Finding:
        return Finding(self.name, text, wrong=False)

    def _differences(self, part: str, said: Any, true: Any, gives: str) -> Iterator[Finding]:
        return differences(f"{self.where}, {part}", said, _plain(true), gives)

    # -- What was done -------------------------------------------------------------------------------

    def _job(self) -> Iterator[Finding]:
        job = self.job
        described = {name: value for name, value in job.items() if name not in ADDED}
        for part, without in (("key", ()), ("config", ("seed",))):
            true = digest(described, *without)
            yield from self._differences(part, self.manifest[part], true, "its job gives")
        true = label(job["method"], job["changed"], job["quick"])
        yield from self._differences("job, label", job["label"], true, "its settings give")
        expected = self.store.folder(job, digest(described))
        if expected != self.folder:
            name = expected.relative_to(self.store.root).as_posix()
            yield self._wrong("job", f"stands in the folder of another job, its own is {name}")

    def _failure(self) -> Iterator[Finding]:
        if not isinstance(self.manifest.get("reason"), str):
            yield self._wrong("reason", "is missing, and a failure has one")
        kind = self.manifest.get("kind", KINDS[0])  # old ones have none
        if kind not in KINDS:
            yield self._wrong("kind", f"says {brief(kind)}, expected one of {', '.join(KINDS)}")
        for part in ("scores", "averages", "predictions_sha256"):
            if part in self.manifest:
                yield self._wrong("status", f'says "failed", yet there are {part}')
        if (self.folder / PREDICTIONS).exists():
            yield self._wrong("status", f'says "failed", yet there is {PREDICTIONS}')

    def _method(self) -> Iterator[Finding]:
        """What the method's class says of itself, if its code is the same here."""
        job = self.job
        cls, dataset = (self.here.find(kind, job[kind]) for kind in ("method", "dataset"))
        if isinstance(cls, str):
            yield self._unchecked(f"{cls}: code, defaults, privileges")
            return
        code = self.here.code(cls, None if isinstance(dataset, str) else dataset)
        if code != job["code_sha256"]:
            yield self._unchecked(
                "the method's code differs from what is here: defaults, privileges"
            )
        else:
            here = "the method here says"
            defaults = {name: p.default for name, p in hyperparameters(cls).items()}
            settings = {**defaults, **job["changed"]}
            said = job["hyperparameters"]
            yield from self._differences("job, hyperparameters", said, settings, here)
            told = ("summary", "paper", "deviations", "privileges", "competes")
            true = {name: getattr(cls, name) for name in told}
            claimed = dict(self.manifest["method"])
            claimed.pop("plugin", None)  # the same code may be installed here from elsewhere
            yield from self._differences("method", claimed, true, here)

    def _same_data(self, cls: type[Dataset]) -> Iterator[Finding]:
        """Sets `data` if the data set here is the one that was used."""
        said, task = self.manifest["data"], cls.task
        claimed = self.job["data_sha256"]
        yield from self._differences("data, sha256", said["sha256"], claimed, "its job says")
        yield from self._differences("data, name", said["name"], cls.name, "its job says")
        for part in ("labels", "headline"):
            own = getattr(task, part)
            yield from self._differences(part, self.manifest[part], own, "the task has")
        yield from self._differences(
            "data, synthetic", said["synthetic"], cls.synthetic, "the data set here says"
        )
        data = self.here.data(cls)
        if isinstance(data, str):
            yield self._unchecked(f"{data}: data, ids, targets and masks")
        elif data.sha256 != said["sha256"]:
            yield self._unchecked(
                f"the data is {claimed[:12]}, made from {brief(said['source'])}, and here "
                f"{data.sha256[:12]}: data, ids, targets and masks"
            )
        else:
            self.data = data
            true = {
                "modalities": {m: asdict(shape) for m, shape in data.modalities().items()},
                "splits": {name: len(data.splits[name]) for name in SPLITS},
            } | ({"source": dict(data.source)} if data.synthetic else {})
            same = {name: said[name] for name in true}  # real data may come from other files
            yield from self._differences("data", same, true, "the data set here has")

    # -- What was hidden, and how it was judged ------------------------------------------------------

    def _protocols(self, dataset: type[Dataset] | str) -> Iterator[Finding]:
        said, gives = self.manifest["protocols"], "the protocol gives"
        ids = sorted(about["id"] for about in said.values())
        yield from self._differences("protocols", ids, sorted(self.job["protocols"]), "its job has")
        for name, about in said.items():
            cls = self.here.find("protocol", about["id"])
            if isinstance(cls, str):
                yield self._unchecked(f"{cls}: masks, conditions and averages")
                continue
            yield from self._differences(f"protocols, {name}", name, cls.name, "its id has")
            if self.data is not None:
                true, known = self.here.masks(cls, dataset), about
            else:
                true = {
                    "id": cls().id,
                    "mask_seeds": cls.mask_seeds,
                    "average": cls.average,
                    "average_formula": cls.average_formula,
                    "conditions": [asdict(c) for c in cls().conditions(self._modalities())],
                }
                known = {k: v for k, v in about.items() if k not in ("sha256", "effective_rate")}
            yield from self._differences(f"protocols, {name}", known, true, gives)

    def _modalities(self) -> list[str]:
        if self.data is not None:
            return list(self.data.modalities())
        found = list(self.manifest["data"]["modalities"])
        if len(found) > MODALITIES:
            raise DataError(f"refused, it claims {len(found)} modalities")
        return found

    def _metrics(self) -> Iterator[Finding]:
        said, versions = self.manifest["metrics"], self.job["versions"]
        for name, about in said.items():
            expected = f"{name}@{versions[name]}" if name in versions else "no such metric"
            yield from self._differences(
                f"metrics, {name}, id", about["id"], expected, "its job has"
            )
            cls = self.here.find("metric", about["id"])
            if isinstance(cls, str):
                yield self._unchecked(f"{cls}: its scores and floors")
            else:
                true = cls.describe()
                yield from self._differences(
                    f"metrics, {name}", about, true, "the metric here says"
                )
        if self.task is not None:
            for name, version in versions.items():
                cls = self.here.find("metric", f"{name}@{version}")
                if (
                    name not in said
                    and not isinstance(cls, str)
                    and isinstance(self.task, cls.tasks)
                ):
                    yield self._wrong(f"metrics, {name}", "is missing, its job has it")

    def _usable(self) -> list[Metric]:
        """The metrics that are here in the version that was used."""
        found = [self.here.find("metric", a["id"]) for a in self.manifest["metrics"].values()]
        return [cls() for cls in found if not isinstance(cls, str)]

    # -- What was predicted, and what it scored ------------------------------------------------------

    def _predictions(self, arrays: dict[str, np.ndarray]) -> Iterator[Finding]:
        """Fills `arrays`, by their name in the file."""
        path = self.folder / PREDICTIONS
        if not path.is_file():
            yield Finding(self.file, "is missing")
            return
        found = files.content(path)
        claimed, true = self.manifest.get("predictions_sha256"), files.sha256(found)
        if claimed != true:
            text = f"has SHA-256 {true}, {MANIFEST} says {brief(claimed)}: one of them was altered"
            yield Finding(self.file, text)
        arrays |= predictions.from_bytes(found, path)
        for name in ("ids", "targets"):
            if name not in arrays:
                yield Finding(f"{self.file}, {name}", "is missing")

    def _representations(self) -> Iterator[Finding]:
        claimed = self.manifest.get("representations", {}).get("sha256")
        path = self.folder / REPRESENTATIONS
        if claimed is not None and (
            not path.is_file() or files.sha256(files.content(path)) != claimed
        ):
            text = f"is missing, or is not what {MANIFEST} says: one of them was altered"
            yield Finding(f"{self.name}/{REPRESENTATIONS}", text)

    def _samples(self, arrays: Mapping[str, np.ndarray]) -> Iterator[Finding]:
        """Ids and targets against those of the data set."""
        ids, targets = arrays["ids"], arrays["targets"]
        if len(set(ids)) != len(targets):
            yield Finding(
                f"{self.file}, ids", f"{len(set(ids))} different ones of {len(targets)} targets"
            )
        if self.data is None:
            return
        test = self.data.splits["test"]
        for name, said, true in (
            ("ids", ids, np.array(test.ids)),
            ("targets", targets, test.targets),
        ):
            if said.shape != true.shape:
                text = f"has shape {said.shape}, the data set {true.shape}"
                yield Finding(f"{self.file}, {name}", text)
                continue
            for row in np.flatnonzero((said != true).reshape(len(true), -1).any(1)):
                here, there = (np.asarray(values[row]).tolist() for values in (said, true))
                text = f"says {here!r}, the data set has {there!r}"
                yield Finding(f"{self.file}, {name}, row {row}", text)

    def _scores(self, arrays: Mapping[str, np.ndarray], task: Task) -> Iterator[Finding]:
        """Scores, averages and floors again, from the predictions."""
        targets, metrics, quick = task.check(arrays["targets"]), self._usable(), self.job["quick"]
        modalities = self._modalities()
        known = [self.here.find("protocol", a["id"]) for a in self.manifest["protocols"].values()]
        protocols = [cls() for cls in known if not isinstance(cls, str)]
        absent = set(self.manifest["protocols"]) - {protocol.name for protocol in protocols}
        expected = [trial.key for trial in trials(protocols, modalities, quick=quick)]
        for name in sorted(set(arrays) - {"ids", "targets", *expected}):
            if name.partition("/")[0] in absent:
                expected.append(name)
            else:
                yield Finding(f"{self.file}, {name}", "no condition of the result's protocols")
        rows: list[dict[str, Any]] = []
        unscored = set()
        for key in expected:
            protocol, condition, mask_seed = key.split("/")
            if problem := _problem(arrays.get(key), (len(targets), task.n_out)):
                yield Finding(f"{self.file}, {key}", problem)
                unscored.add((protocol, int(mask_seed)))
                continue
            result = score(task, metrics, targets, task.decide(arrays[key]))
            at = {"protocol": protocol, "condition": condition, "mask_seed": int(mask_seed)}
            rows += [
                {**at, "metric": metric, "label": name, "value": value}
                for metric, by_label in result.items()
                for name, value in by_label.items()
            ]
        self.scores = len(rows)
        yield from self._rows("scores", rows, metrics, set())
        whole = [
            row
            for row in rows
            if row["protocol"] not in absent and (row["protocol"], row["mask_seed"]) not in unscored
        ]
        summaries = averages(protocols, modalities, whole)
        yield from self._rows("averages", summaries, metrics, absent)
        said, true = self.manifest["floor"], floor(task, metrics, targets)
        own = set(self.manifest["metrics"]) - set(true)  # of metrics that are not here
        said = {name: value for name, value in said.items() if name not in own}
        yield from self._differences("floor", said, true, "the targets give")

    def _rows(
        self,
        part: str,
        rows: Sequence[Mapping[str, Any]],
        metrics: Sequence[Metric],
        absent: Container[str],
    ) -> Iterator[Finding]:
        """Scores or averages that are said against those computed again, but for `absent` protocols."""
        judged = {metric.name for metric in metrics}
        said: dict[str, Any] = {}
        for row in self.manifest[part]:
            if row["metric"] in judged or row["metric"] not in self.manifest["metrics"]:
                if _place(row) in said:
                    yield self._wrong(f"{part}, {_place(row)}", "stands there twice")
                said[_place(row)] = row["value"]
        for row in rows:
            place, gives = f"{part}, {_place(row)}", "the predictions give"
            if _place(row) in said:
                value = said.pop(_place(row))
                yield from self._differences(place, value, float(row["value"]), gives)
            else:
                yield self._wrong(place, f"is missing, {gives} {brief(row['value'])}")
        for place in said:
            if place.partition("/")[0] not in absent:
                yield self._wrong(
                    f"{part}, {place}", "there are no predictions that it can be from"
                )


def _place(row: Mapping[str, Any]) -> str:
    """A score's or an average's, e.g. "inter/la/0, f1 of sentiment"."""
    column = row.get("condition", "average")
    return f"{row['protocol']}/{column}/{row['mask_seed']}, {row['metric']} of {row['label']}"


def _problem(outputs: np.ndarray | None, shape: tuple[int, int]) -> str | None:
    """Why outputs cannot be scored."""
    if outputs is None:
        return "is missing"
    if outputs.dtype != np.float32 or outputs.shape != shape:
        return f"has {outputs.dtype} {outputs.shape}, expected float32 {shape}"
    return None if np.isfinite(outputs).all() else "has NaN or infinity"
