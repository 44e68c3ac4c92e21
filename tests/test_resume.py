"""What decides a number decides whether a result is used again: each part of a job's key, end to end.

A plugin has everything that a job is made of. It is changed in one place, and the same run planned again.
"""

from pathlib import Path

import pytest

from mmbench import datafile, sources
from mmbench.cli import main
from mmbench.registry import discover
from mmbench.runner import Grid, expand, survey
from mmbench.store import Store
from mmbench.work import do

PLUGINS = {
    "data": '''
"""All that a job is made of: its data."""

import numpy as np

import mmbench


class Parts(mmbench.Dataset):
    name = "parts"
    version = 1
    summary = "20 samples"
    task = mmbench.Regression(-3, 3)
    schedule = mmbench.Schedule(heads=2, epochs=1, batch_size=10)
    synthetic = True

    def make(self):
        rng = np.random.default_rng(0)

        def split(name, n):
            x = {m: rng.standard_normal((n, 4, 3), dtype=np.float32) for m in "la"}
            y = np.clip(x["l"].mean((1, 2)), -3, 3)[:, None]
            valid = {m: np.ones((n, 4), bool) for m in x}
            return mmbench.Samples(tuple(f"{name}{i}" for i in range(n)), x, valid, self.task.check(y))

        splits = {name: split(name, 20) for name in ("train", "valid", "test")}
        return mmbench.Data(self.name, self.task, splits, True, {})

    def ceiling(self):
        return 1.0


@mmbench.hookimpl
def mmbench_register_datasets():
    return Parts
''',
    "half": """
import numpy as np

import mmbench
from mmbench.missingness import Condition


class Half(mmbench.MissingnessProtocol):
    name, version, summary = "half", 1, "every other frame"
    average, average_formula = "it", "it"

    def conditions(self, modalities):
        return (Condition("half", "half", tuple(modalities), 0.5),)

    def masks(self, condition, valid, *, ids, dataset, split, mask_seed):
        return {m: v & (np.arange(v.shape[1]) % 2 == 0) for m, v in valid.items()}

    def summarise(self, scores, conditions):
        return scores["half"]


@mmbench.hookimpl
def mmbench_register_missingness():
    return Half
""",
    "odd": """
import numpy as np

import mmbench


class Odd(mmbench.MissingnessSampler):
    name, version, summary = "odd", 1, "the other ones"

    def draw(self, valid, rng):
        return {m: v & (np.arange(v.shape[1]) % 2 == 1) for m, v in valid.items()}

    def sweep(self, valid, rng):
        yield self.draw(valid, rng)


@mmbench.hookimpl
def mmbench_register_missingness():
    return Odd
""",
    "error": """
import numpy as np

import mmbench


class Error(mmbench.Metric):
    name, title, formula, version = "error", "error", "e", 1
    tasks = (mmbench.Regression,)
    vectors = ()

    def score(self, truth, prediction):
        return float(np.abs(truth - prediction).mean())


@mmbench.hookimpl
def mmbench_register_metrics():
    return Error
""",
    "linear": '''
"""Methods."""

from pathlib import Path

import torch

import mmbench


class Linear(mmbench.Method):
    name = "counted"
    sampler = "odd"

    def __init__(self, spec, *, scale: float = 1.0):
        super().__init__(spec)
        self.scale = scale
        self.head = torch.nn.Linear(3, 1)

    def stages(self):
        with Path("trainings").open("a") as file:
            file.write(f"{self.scale}\\n")
        return super().stages()

    def forward(self, batch):
        return self.head(self.scale * batch.features["l"].mean(1))


class Asking(Linear):
    name = "asking"
    asks_dataset = True


@mmbench.hookimpl
def mmbench_register_methods():
    return [Linear, Asking]
''',
}
"""A file each, so that what is changed is in no file of another."""


def written(folder, changes=(), more=()):
    """The files, changed in places."""
    folder.mkdir(exist_ok=True)
    texts = {**PLUGINS, **dict(more)}
    for old, new in changes:
        (name,) = [name for name, text in texts.items() if old in text]
        texts[name] = texts[name].replace(old, new)
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return [folder / f"{name}.py" for name in texts]


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A store with a result of the plugin as it stands, and the cache of its data."""
    folder = tmp_path_factory.mktemp("there")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMBENCH_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        files = written(folder / "plugins")
        store = Store(folder / "runs")
        store.check_writable()
        for job in jobs_of(files, method="counted,asking"):
            (outcome,) = do([job], lambda told: None)
            assert outcome.manifest["status"] == "finished", outcome.manifest["reason"]
            store.save(outcome)
    return folder


def jobs_of(files, *, method="counted", protocol="half@1", seeds=1, changed=None, **more):
    """What a run would have to do if the store were empty."""
    registry = discover(files)
    data = {"parts": datafile.obtain(registry.find("dataset", "parts")())}
    grid = Grid(
        *(method.split(","), ["parts"], protocol.split(","), range(seeds), changed or {}),
        plugin_files=tuple(map(str, files)),
        **more,
    )
    return expand(grid, registry, data)


@pytest.fixture
def left(there, tmp_path, monkeypatch):
    """Plans the run of a plugin that is changed in places; what it has to do, as (method, seed)."""
    monkeypatch.setenv("MMBENCH_CACHE", str(there / "cache"))

    def plan(*changes, folder="plugins", more=(), **grid):
        files = written(tmp_path / folder, changes, more)
        found = survey(jobs_of(files, **grid), Store(there / "runs"))
        return [(job.method, job.seed) for job in found.todo]

    return plan


MORE = """
import mmbench


class Share(mmbench.Metric):
    name, title, formula, version = "share", "share", "s", 1
    tasks = (mmbench.MultiClass,)
    vectors = ()

    def score(self, truth, prediction):
        return 0.0


@mmbench.hookimpl
def mmbench_register_metrics():
    return Share
"""


@pytest.mark.parametrize(
    ("changes", "grid"),
    [
        ([], {}),
        ([('"""Methods."""', '"""Other words."""  # and a comment')], {}),
        ([], {"folder": "elsewhere"}),
        ([], {"device": "cuda"}),
        ([], {"profile": "traces"}),
        ([], {"time_limit": 60.0}),
        ([], {"more": [("share", MORE)]}),
        ([("return 1.0", "return 2.0")], {}),
    ],
    ids=[
        *("nothing", "prose", "place of the plugin", "device", "traces", "time limit"),
        *("metric of another task", "data set's code, not its content"),
    ],
)
def test_what_decides_no_number_trains_nothing_again(left, changes, grid):
    assert left(*changes, **grid) == []


@pytest.mark.parametrize(
    ("changes", "grid"),
    [
        ([("self.scale * batch", "self.scale + batch")], {}),
        ([("scale: float = 1.0", "scale: float = 3.0")], {}),
        ([], {"changed": {"counted": {"scale": 2.0}}}),
        ([("version = 1\n    summary", "version = 2\n    summary"), ("rng(0)", "rng(1)")], {}),
        ([('"half", 1', '"half", 2')], {"protocol": "half@2"}),
        ([("% 2 == 0", "% 3 == 0")], {}),
        ([('"odd", 1', '"odd", 2')], {}),
        ([("% 2 == 1", "% 3 == 1")], {}),
        ([('"e", 1', '"e", 2')], {}),
        ([("np.abs(truth - prediction).mean", "np.abs(truth - prediction).max")], {}),
        ([("epochs=1", "epochs=2")], {}),
        ([("batch_size=10", "batch_size=20")], {}),
        ([], {"protocol": "half@1,inter@1"}),
        ([], {"quick": True}),
    ],
    ids=[
        *("method", "default", "setting", "data", "protocol's version", "protocol's code"),
        *("sampler's version", "sampler's code", "metric's version", "metric's code"),
        *("schedule, epochs", "schedule, batch", "another protocol", "quick"),
    ],
)
def test_whatever_decides_a_number_makes_the_result_anew(left, changes, grid):
    assert left(*changes, **grid) == [("counted", 0)]


def test_another_seed_is_trained_beside_the_one_that_is_there(left):
    assert left(seeds=3) == [("counted", 1), ("counted", 2)]


def test_data_of_other_content_makes_the_result_anew(left, tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))  # as after an import
    assert left() == []
    datafile.path_of(
        discover([tmp_path / "plugins" / "data.py"]).find("dataset", "parts")()
    ).unlink()
    assert left(("rng(0)", "rng(1)")) == [("counted", 0)]


def test_the_data_sets_code_counts_for_a_method_that_asks_it(left):
    both = {"method": "counted,asking"}
    assert left(**both) == []
    assert left(("return 1.0", "return 2.0"), **both) == [("asking", 0)]


DECISIVE = (
    *("batching", "methods", "nn", "randomness", "seeds", "start", "streams", "tasks", "training"),
    *("evaluation", "metrics", "missingness"),
)


@pytest.mark.parametrize("name", [*DECISIVE, "leaderboard", "work"])
def test_a_change_of_the_harness_makes_results_anew_where_it_decides_numbers(
    left, name, monkeypatch
):
    place = Path(sources.__file__).with_name(name)
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    read = sources._text
    monkeypatch.setattr(sources, "_text", lambda path: read(path) + "\n1\n" * (path.samefile(file)))
    assert left() == [("counted", 0)] * (name in DECISIVE)


def test_nothing_is_trained_twice_and_nothing_stale_is_used(tmp_path, monkeypatch, capsys):
    """Each training writes a line. Code that is taken back finds its old result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    words = ["run", "--method", "counted", "--dataset", "parts", "--protocol", "half"]
    words += ["--seeds", "2", "--jobs", "1", "--format", "csv"]
    trainings = []
    for changes, more in (
        ([], ()),
        ([], ()),
        ([('l"].mean(1)', 'l"].sum(1)')], ()),
        ([], ()),
        ([], ("--set", "counted.scale=2")),
        ([], ("--seeds", "3")),
        ([], ("--retry-failed",)),
        ([], ("--force",)),
    ):
        files = written(tmp_path / "plugins", changes)
        with pytest.raises(SystemExit) as ended:
            main([*words, *more, *(w for file in files for w in ("--plugin", str(file)))])
        assert ended.value.code == 0
        trainings.append(len(Path("trainings").read_text().splitlines()))
    assert trainings == [2, 2, 4, 4, 6, 7, 7, 9]
