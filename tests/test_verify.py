"""mmbench/verify.py: a store that is as it was made is clean, and whatever is altered in it is named."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench import predictions
from mmbench import verify as module
from mmbench.cli import main
from mmbench.findings import Report
from mmbench.manifests import LIMIT, MANIFEST
from mmbench.registry import Registry, discover
from mmbench.store import PREDICTIONS, Store

PLUGIN = '''
"""Two methods that cost nothing: one linear layer, and one that fails."""

import torch

import mmbench


class Linear(mmbench.Method):
    name = "linear"
    summary = "one layer on mean frames"
    privileges = ("none at all",)

    def __init__(self, spec, *, scale: float = 1.0):
        super().__init__(spec)
        self.head = torch.nn.Linear(sum(spec.widths.values()), spec.task.n_out)
        self.scale = scale

    def forward(self, batch):
        means = torch.cat([x.mean(1) for x in batch.features.values()], -1)
        return self.scale * self.head(means)


class Fails(Linear):
    name = "fails"

    def forward(self, batch):
        raise RuntimeError("this method always fails")


@mmbench.hookimpl
def mmbench_register_methods():
    return [Linear, Fails]
'''


REGISTRIES: dict[bool, Registry] = {}
"""With the plugin and without, found once."""


@pytest.fixture(autouse=True)
def code(monkeypatch):
    """The source of methods is read and hashed once."""
    monkeypatch.setattr(module, "code_sha256", code_sha256)


code_sha256 = lru_cache(maxsize=None)(module.code_sha256)


@pytest.fixture(scope="module")
def made(tmp_path_factory, session_cache):
    """A store of two seeds of a method and of one that fails, and its leaderboards; never altered."""
    root = tmp_path_factory.mktemp("verify")
    (root / "plugin.py").write_text(PLUGIN)
    words = "run --method linear,fails --dataset tiny --seeds 2 --quick --jobs 1"
    words += " --set linear.scale=2"
    places = ["--store", root / "runs", "--leaderboards", root / "boards"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setenv("MMBENCH_CACHE", str(session_cache))
        main([*words.split(), "--plugin", str(root / "plugin.py"), *map(str, places)])
    REGISTRIES.update({True: discover([root / "plugin.py"]), False: discover()})
    return root


@pytest.fixture
def place(made, tmp_path):
    """A copy of it that may be altered."""
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


@pytest.fixture
def alone(made, tmp_path):
    """A copy of one result that may be altered."""
    source = linear(made)
    shutil.copytree(source, tmp_path / "made" / source.relative_to(made))
    shutil.copy(made / "plugin.py", tmp_path / "made")
    return tmp_path / "made"


def check(place: Path, *, boards: bool = False, plugin: bool = True) -> Report:
    return module.verify(
        Store(place / "runs"), REGISTRIES[plugin], place / "boards" if boards else None
    )


def linear(place: Path, seed: int = 0) -> Path:
    (folder,) = place.glob(f"runs/tiny/linear/seed-{seed}-*")
    return folder


def alter(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest, indent=1))


def rewrite(
    folder: Path, change: Callable[[dict[str, np.ndarray]], object], *, hashed: bool
) -> None:
    """Alters predictions and, if `hashed`, the hash in the manifest as well."""
    path = folder / PREDICTIONS
    found = predictions.from_bytes(path.read_bytes(), path)
    change(found)
    path.write_bytes(predictions.to_bytes(found))
    if hashed:
        rehash(folder)


def remake(folder: Path, change: Callable[[h5py.File], object]) -> None:
    """Alters the file of predictions, and its hash."""
    with h5py.File(folder / PREDICTIONS, "r+") as file:
        change(file)
    rehash(folder)


def rehash(folder: Path) -> None:
    found = hashlib.sha256((folder / PREDICTIONS).read_bytes()).hexdigest()
    alter(folder, lambda m: m.update(predictions_sha256=found))


def told(report: Report) -> str:
    return "\n".join(f"{f.where}: {f.text}" for f in report.wrong)


def test_a_store_as_it_was_made_is_clean_and_so_are_its_leaderboards(made):
    report = check(made, boards=True)
    assert not report.findings
    assert report.results == 4 and report.boards == len(list((made / "boards").iterdir()))
    assert report.scores == 2 * 17 * 9  # results, conditions, metrics


def change(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Gives the value at a place of a manifest another value of its type."""

    def apply(manifest: dict[str, Any]) -> None:
        *way, last = path
        at: Any = manifest
        for step in way:
            at = at[step]
        value = at[last]
        kinds: dict[type, Callable[[Any], Any]] = {
            bool: lambda v: not v,
            int: lambda v: v + 1,
            float: lambda v: v + 1e-6,
            str: lambda v: ("0" if v[:1] != "0" else "1") + v[1:],
            list: lambda v: [*v, "more"],
        }
        at[last] = kinds[type(value)](value)

    return apply


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (["scores", 5, "value"], r"scores, inter/l/0, f1 of sentiment: says .* predictions give"),
        (["scores", -1, "value"], r"scores, intra/1\.0/0, mae of sentiment"),
        (["scores", 0, "mask_seed"], r"scores, inter/l/0, acc2 of sentiment: is missing"),
        (["scores", 0, "condition"], r"scores, inter/0/0, acc2 of .*: there are no predictions"),
        (["scores", 0, "metric"], r"scores, inter/l/0, 0cc2 of sentiment: there are no pred"),
        (["averages", 0, "value"], r"averages, inter/average/0, acc2 of sentiment: says"),
        (["averages", 0, "protocol"], r"averages, 0nter/average/0, acc2 .*: there are no pred"),
        (["floor", "mae", "sentiment"], r"floor, mae, sentiment: says .*, the targets give"),
        (["key"], r"key: says .*, its job gives"),
        (["config"], r"config: says .*, its job gives"),
        (["job", "seed"], r"key: .*\n.*config|job: stands in the folder of another job"),
        (["job", "dataset"], r"job: stands in the folder of another job, its own is 0iny/linear"),
        (["job", "method"], r"job: stands in the folder of another job, its own is tiny/0inear"),
        (
            ["job", "label"],
            r"job, label: says \"0inear\[scale=2\.0\] \(quick\)\", its settings give",
        ),
        (["job", "code_sha256"], r"key: says .*, its job gives"),
        (["job", "data_sha256"], r"data, sha256: says .*, its job says"),
        (["job", "protocols", 0], r"protocols, 0: says \"inter@1\", its job has|protocols, 1"),
        (["job", "schedule", "learning_rate"], r"key: says .*, its job gives"),
        (["job", "schedule", "epochs"], r"key: says .*, its job gives"),
        (["job", "sampler"], r"key: says .*, its job gives"),
        (
            ["job", "quick"],
            r"job, label: says .*its settings give \"linear\[scale=2\.0\]\"",
        ),
        (["job", "changed", "scale"], r"job, label: says .*, its settings give"),
        (["job", "versions", "f1"], r"metrics, f1, id: says \"f1@1\", its job has \"f1@2\""),
        (["job", "hyperparameters", "scale"], r"job, hyperparameters, scale: says 2\.000001"),
        (["data", "name"], r"data, name: says \"0iny\""),
        (["data", "sha256"], r"data, sha256: says .*, its job says"),
        (["data", "synthetic"], r"data, synthetic: says false, the data set here says true"),
        (["data", "source", "generator"], r"data, source, generator: says \"0iny@2\""),
        (["data", "modalities", "a", "width"], r"data, modalities, a, width: says 6, .* has 5"),
        (["data", "splits", "test"], r"data, splits, test: says 41, the data set here has 40"),
        (["method", "privileges"], r"method, privileges: says .*, the method here says"),
        (["method", "competes"], r"method, competes: says false, the method here says true"),
        (["protocols", "inter", "id"], r"protocols, 0: says \"0nter@1\""),
        (
            ["protocols", "intra", "sha256"],
            r"protocols, intra, sha256: says .*, the protocol gives",
        ),
        (
            ["protocols", "intra", "mask_seeds"],
            r"protocols, intra, mask_seeds: says \d, the protocol gives",
        ),
        (["protocols", "inter", "average_formula"], r"protocols, inter, average_formula: says"),
        (["protocols", "inter", "conditions", 3, "title"], r"inter, conditions, 3, title: says"),
        (["protocols", "inter", "conditions", 6, "complete"], r"inter, conditions, 6, complete"),
        (["protocols", "intra", "effective_rate", "0.3", "a"], r"effective_rate, 0\.3, a: says"),
        (["metrics", "f1", "id"], r"metrics, f1, id: says \"01@1\", its job has \"f1@1\""),
        (["metrics", "mae", "higher_is_better"], r"metrics, mae, higher_is_better: says true"),
        (["headline"], r"headline: says \"01\", the task has \"f1\""),
        (["labels", 0], r"labels, 0: says \"0entiment\""),
        (["status"], r"status: says \"0inished\""),
        (["schema"], r"schema 2, expected 1"),
        (["predictions_sha256"], r"predictions\.h5: has SHA-256 .*: one of them was altered"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else "",
)
def test_one_altered_value_of_a_manifest_is_named(alone, path, named):
    folder = linear(alone)
    alter(folder, change(*path))
    text = told(check(alone))
    assert re.search(named, text), text
    assert all(line.startswith(f"tiny/linear/{folder.name}/") for line in text.splitlines())


@pytest.mark.parametrize("part", ["scores", "averages"])
def test_a_row_that_is_missing_or_stands_twice_is_named(place, part):
    alter(linear(place, 0), lambda m: m[part].pop(0))
    alter(linear(place, 1), lambda m: m[part].append(m[part][0]))
    first, second = check(place).wrong
    column = "l" if part == "scores" else "average"
    assert f"{part}, inter/{column}/0, acc2 of sentiment" in first.where
    assert first.text.startswith("is missing") and second.text == "stands there twice"


def test_a_metric_that_was_left_out_is_named(alone):
    def leave_out(m):
        del m["metrics"]["mae"], m["floor"]["mae"]
        for part in ("scores", "averages"):
            m[part] = [row for row in m[part] if row["metric"] != "mae"]

    alter(linear(alone), leave_out)
    (only,) = check(alone).wrong
    assert only.where.endswith("metrics, mae") and only.text == "is missing, its job has it"


@pytest.mark.parametrize("hashed", [False, True])
def test_one_altered_prediction_is_named_by_its_hash_or_by_what_it_scores(alone, hashed):
    def nudge(found):
        found["inter/la/0"][7] += 0.01

    rewrite(linear(alone), nudge, hashed=hashed)
    text = told(check(alone))
    assert ("has SHA-256" in text) is not hashed
    assert "scores, inter/la/0, mae of sentiment: says" in text
    assert "averages, inter/average/0, mae of sentiment: says" in text
    assert "inter/l/0" not in text and "intra" not in text


def test_an_altered_target_is_named_even_if_all_scores_were_made_to_fit(alone):
    def nudge(found):
        found["targets"][3] = -found["targets"][3] + 1

    rewrite(linear(alone), nudge, hashed=True)
    assert f"{PREDICTIONS}, targets, row 3: says" in told(check(alone))


def test_an_altered_id_is_named(alone):
    def rename(found):
        found["ids"][4] = "somebody"

    rewrite(linear(alone), rename, hashed=True)
    (only,) = check(alone).wrong
    assert only.where.endswith(f"{PREDICTIONS}, ids, row 4") and "'somebody'" in only.text


def test_swapped_predictions_are_named(place):
    a, b = (linear(place, seed) / PREDICTIONS for seed in (0, 1))
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    text = told(check(place))
    for seed in (0, 1):
        where = f"tiny/linear/{linear(place, seed).name}/"
        assert f"{where}{PREDICTIONS}: has SHA-256" in text
        assert f"{where}{MANIFEST}, scores, inter/lav/0, mae of sentiment" in text


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda path: path.unlink(), f"{PREDICTIONS}: is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), f"{PREDICTIONS}: has SHA-256"),
        (lambda path: path.write_bytes(b""), "no HDF5 file"),
        (lambda path: path.with_name(MANIFEST).unlink(), f"{MANIFEST}: there is no such file"),
        (lambda path: path.with_name(MANIFEST).write_text('{"schema": 1'), "not JSON"),
        (
            lambda path: path.with_name(MANIFEST).write_text("[" * 10**5),
            "more than 32 lists and objects",
        ),
        (lambda path: alter(path.parent, lambda m: m.pop("scores")), "KeyError: 'scores'"),
        (lambda path: alter(path.parent, lambda m: m.update(scores=3)), "is not laid out"),
        (lambda path: path.parent.rename(path.parent.with_name("seed-7-0")), "another job"),
    ],
)
def test_a_file_that_is_damaged_or_missing_is_named_and_the_others_are_checked(
    place, damage, named
):
    damage(linear(place) / PREDICTIONS)
    report = check(place)
    assert named in told(report)
    assert report.results == 4 and report.scores >= 17 * 9


@pytest.mark.parametrize(
    ("alteration", "named"),
    [
        (lambda found: found.pop("inter/a/0"), "inter/a/0: is missing"),
        (lambda found: found.update({"inter/x/0": found["inter/a/0"]}), "inter/x/0: no condition"),
        (lambda found: found["inter/a/0"].fill(np.nan), "has NaN"),
        (
            lambda found: found.update({"inter/a/0": np.zeros((40, 2))}),
            "has float64 (40, 2), expected float32 (40, 1)",
        ),
    ],
)
def test_predictions_that_cannot_be_scored_are_named(alone, alteration, named):
    rewrite(linear(alone), alteration, hashed=True)
    assert named in told(check(alone))


def test_a_number_that_json_has_not_is_refused(alone):
    path = linear(alone) / MANIFEST
    path.write_text(path.read_text().replace('"seed": 0', '"seed": NaN'))
    assert "NaN, which is no number" in told(check(alone))


def test_a_manifest_of_any_size_is_not_read_to_its_end(alone):
    with (linear(alone) / MANIFEST).open("r+b") as file:
        file.truncate(LIMIT + 1)
    assert f"refused, it has more than {LIMIT} bytes" in told(check(alone))


def test_predictions_that_unpack_to_more_than_the_file_are_refused(alone):
    def swell(file):
        zeros = np.zeros(10**6, "f4")
        file.create_dataset("zeros", data=zeros, chunks=(1000,), compression="gzip")

    remake(linear(alone), swell)
    assert "refused, with it the datasets claim 4" in told(check(alone))


@pytest.mark.parametrize(
    "link",
    [
        lambda file: h5py.ExternalLink("/etc/other.h5", "/x"),
        lambda file: h5py.SoftLink("/ids"),
        lambda file: h5py.SoftLink("/nowhere"),
        lambda file: file["trials"],  # a second name of one array
    ],
    ids=["external", "soft", "dangling", "hard"],
)
@pytest.mark.parametrize("name", ["targets", "outputs"])
def test_predictions_that_are_links_are_refused(alone, link, name):
    def alter_file(file):
        del file[name]
        file[name] = link(file)

    remake(linear(alone), alter_file)
    report = check(alone)
    assert "refused" in told(report) and report.scores == 0


def test_a_condition_that_was_removed_from_everything_is_named(alone):
    """From the predictions, from what was tested, and from the scores."""
    rewrite(linear(alone), lambda found: found.pop("inter/a/0"), hashed=True)

    def forget(manifest):
        inter = manifest["protocols"]["inter"]
        inter["conditions"] = [c for c in inter["conditions"] if c["name"] != "a"]
        inter["effective_rate"].pop("a")
        manifest["scores"] = [s for s in manifest["scores"] if s["condition"] != "a"]

    alter(linear(alone), forget)
    text = told(check(alone))
    assert f"{MANIFEST}, protocols, inter, conditions" in text
    assert "averages, inter/average/0, mae of sentiment" in text


def test_a_success_made_a_failure_is_named(alone):
    alter(linear(alone), lambda m: m.update(status="failed"))
    text = told(check(alone))
    assert 'status: says "failed", yet there are scores' in text and "reason: is missing" in text


def test_a_kind_of_failure_that_there_is_not_is_named_and_none_is_an_old_ones(place):
    (folder,) = place.glob("runs/tiny/fails/seed-0-*")
    alter(folder, lambda m: m.update(kind="bad luck"))
    assert 'kind: says "bad luck", expected one of exception, ' in told(check(place))
    alter(folder, lambda m: (m.pop("kind"), m.pop("sha256")))  # a store of before
    assert "kind" not in told(check(place))


def test_a_failure_made_a_success_is_named(place):
    (folder,) = place.glob("runs/tiny/fails/seed-0-*")
    alter(folder, lambda m: m.update(status="finished"))
    assert f"{MANIFEST}, status" in told(check(place))


@settings(max_examples=10)
@given(
    at=st.integers(0, 152),
    seed=st.integers(0, 1),
    by=st.floats(1e-8, 1e3) | st.floats(-1e3, -1e-8),
)
def test_any_altered_score_is_found(made, tmp_path_factory, at, seed, by):
    place = tmp_path_factory.mktemp("altered")
    source = linear(made, seed)
    folder = place / "runs" / source.relative_to(made / "runs")
    shutil.copytree(source, folder)
    shutil.copy(made / "plugin.py", place)
    rows: list[dict[str, Any]] = []
    alter(folder, lambda m: rows.append(m["scores"][at]) or change_by(m["scores"][at], by))
    (only,) = check(place).wrong
    row = rows[0]
    key = f"{row['protocol']}/{row['condition']}/0, {row['metric']} of sentiment"
    assert only.where == f"tiny/linear/{folder.name}/{MANIFEST}, scores, {key}"


def change_by(row: dict[str, Any], by: float) -> None:
    row["value"] += by


# -- What cannot be checked --------------------------------------------------------------------------


def test_a_plugin_that_is_not_here_is_told_and_scores_are_checked_all_the_same(place):
    alter(linear(place), change("scores", 5, "value"))
    report = check(place, plugin=False)
    (only,) = report.wrong
    assert "f1 of sentiment" in only.where
    texts = {finding.text for finding in report.unchecked}
    assert len(texts) == 1 and "method 'linear' is not here" in texts.pop()


def test_data_that_is_another_here_is_told_and_scores_are_checked_all_the_same(place, monkeypatch):
    other = type("Other", (module.Data,), {})("tiny", None, {}, True, {}, "f" * 64)
    monkeypatch.setattr("mmbench.datafile.obtain", lambda _: other)
    report = check(place)
    assert not report.wrong and report.scores == 2 * 17 * 9
    assert any("and here ffffffffffff: data, ids, targets" in f.text for f in report.unchecked)


def test_a_data_set_that_nobody_knows_leaves_its_scores_unchecked(place):
    registry = discover([place / "plugin.py"])
    del registry.classes["dataset"]["tiny"]
    report = module.verify(Store(place / "runs"), registry)
    assert report.scores == 0 and not report.wrong
    assert "dataset 'tiny' is not here" in report.unchecked[0].text


@pytest.mark.parametrize("kind, name", [("protocol", "intra"), ("metric", "f1")])
def test_what_is_here_in_another_version_is_told_and_not_wrong(place, kind, name):
    registry = discover([place / "plugin.py"])
    cls = registry.classes[kind][name].cls
    newer = type(cls.__name__, (cls,), {"version": 2})
    registry.classes[kind][name] = type(registry.classes[kind][name])(newer, None)
    report = module.verify(Store(place / "runs"), registry)
    assert not report.wrong
    assert any(f"{kind} {name}@1 is not here, but {name}@2" in f.text for f in report.unchecked)


# -- Leaderboards ------------------------------------------------------------------------------------


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_an_altered_cell_of_a_leaderboard_is_named(place):
    lines = (place / "boards" / "tiny.csv").read_text().split("\n")
    number, line = next((n, x) for n, x in enumerate(lines) if ",linear" in x and ",mae," in x)
    mean = line.split(",")[lines[0].split(",").index("mean")]
    edit(place / "boards" / "tiny.csv", line, line.replace(mean, "0.000001"))
    (only,) = check(place, boards=True).wrong
    assert only.where.startswith(f"tiny.csv, line {number + 1} (") and "linear" in only.where
    assert only.where.endswith("), mean")
    assert only.text == f'says "0.000001", the store gives "{mean}"'


def test_an_altered_cell_of_markdown_is_named(place):
    path = place / "boards" / "tiny.md"
    line = next(x for x in path.read_text().split("\n") if x.startswith("| ") and "linear" in x)
    cell = next(c.strip() for c in line.split("|") if "." in c)
    edit(path, line, line.replace(cell, "99.99", 1))
    (only,) = check(place, boards=True).wrong
    assert only.where.startswith("tiny.md, line ") and "linear" in only.where
    assert only.text.startswith('says "99.99')


def test_a_line_more_or_less_in_a_leaderboard_is_named(place):
    edit(place / "boards" / "tiny.md", "# tiny\n", "# tiny\nThe best of all.\n")
    csv = place / "boards" / "tiny.csv"
    csv.write_text("\n".join(csv.read_text().split("\n")[:-2]) + "\n")
    text = told(check(place, boards=True))
    assert 'tiny.md, line 2: says "The best of all.", the store gives no such line' in text
    assert "tiny.csv, line" in text and "says no such line, the store gives" in text


def test_a_result_that_was_removed_shows_in_the_leaderboard(place):
    shutil.rmtree(linear(place, 1))
    assert not check(place).wrong
    assert "tiny.csv" in told(check(place, boards=True))


def test_a_name_of_several_lines_is_told_in_one(alone):
    name, value = "a\nwrong: b\x1b[2J", "\u202eb"
    alter(linear(alone), lambda m: m["job"]["hyperparameters"].update({name: value}))
    (found,) = [f for f in check(alone).wrong if "hyperparameters" in f.where]
    assert found.where.endswith("hyperparameters, a\ufffdwrong: b\ufffd[2J")
    assert found.text.startswith('says "\ufffdb"')


def test_a_leaderboard_of_which_only_one_side_is_there_is_told(place):
    for path in (place / "boards").glob("tiny.*"):
        path.unlink()
    (place / "boards" / "mosi-twin.csv").write_text("dataset\n")
    report = check(place, boards=True)
    assert not report.wrong
    assert {f.where for f in report.unchecked} == {"tiny", "mosi-twin.csv"}


# -- The command -------------------------------------------------------------------------------------


@pytest.fixture
def mmbench(place, monkeypatch, capsys):
    """Runs `mmbench verify` beside the store; gives (exit status, output, errors)."""
    monkeypatch.chdir(place)

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            main(["verify", *words])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_the_command_tells_that_all_agree(mmbench):
    status, out, err = mmbench("--plugin", "plugin.py", "--leaderboards", "boards")
    assert status == 0 and not err
    assert out.startswith("runs: 4 results, 306 scores worked out again, ")
    assert "rendered again: all agree.\nTaken on trust: training logs" in out


def test_the_command_fails_where_something_disagrees_and_groups_what_it_could_not_check(
    mmbench, place
):
    alter(linear(place), change("scores", 5, "value"))
    status, out, _ = mmbench()
    assert status == 1 and "wrong: tiny/linear" in out and "1 place disagrees." in out
    assert out.count("not checked: ") == 1 and "and 1 more: method 'linear' is not here" in out


@pytest.mark.parametrize("suffix", ["csv", "html", "json", "md"])
def test_the_command_fails_where_one_character_of_a_published_leaderboard_differs(
    mmbench, place, suffix
):
    words = ("--plugin", "plugin.py", "--leaderboards", "boards")
    path = place / "boards" / f"tiny.{suffix}"
    text = path.read_text()
    at = text.rindex("linear")
    path.write_text(text[:at] + "L" + text[at + 1 :])
    status, out, _ = mmbench(*words)
    assert status == 1 and f"wrong: tiny.{suffix}, line " in out and "1 place disagrees." in out
    assert mmbench(*words[:2])[0] == 0  # nobody asked


def test_the_command_fails_where_a_prediction_is_no_number(mmbench, place):
    rewrite(linear(place), lambda found: found["inter/a/0"].fill(np.nan), hashed=True)
    status, out, _ = mmbench("--plugin", "plugin.py")
    assert status == 1 and "inter/a/0: has NaN or infinity" in out


def test_the_command_gives_json(mmbench, place):
    alter(linear(place), change("scores", 5, "value"))
    status, out, _ = mmbench("runs", "--format", "json", "--plugin", "plugin.py")
    facts = json.loads(out)
    assert status == 1 and facts["results"] == 4 and facts["scores"] == 306
    assert [set(finding) for finding in facts["wrong"]] == [{"where", "text"}]


def test_what_a_stranger_wrote_does_not_reach_the_terminal_as_commands(mmbench, place):
    alter(linear(place), lambda m: m.update(headline="\x1b[2J"))
    _, out, _ = mmbench("--plugin", "plugin.py")
    assert "headline" in out and "\x1b[2J" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: a folder without results, or none; expected a store"),
        (["boards"], "boards: a folder without results, or none; expected a store"),
        (["--leaderboards", "nowhere"], "nowhere: there is no such folder"),
        (["--plugin", "nowhere.py"], "there is no such file"),
    ],
)
def test_a_mistake_is_told_in_one_message(mmbench, words, message):
    status, out, err = mmbench(*words)
    assert status == 2 and message in err and not out
