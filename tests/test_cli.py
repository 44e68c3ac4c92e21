"""mmbench/cli: what people type, what they are told, and how it ends."""

import re
import subprocess
import sys
import time

import pytest

from mmbench.cli import main
from mmbench.jobs import Outcome
from mmbench.store import Store


@pytest.fixture
def mmbench(tmp_path, monkeypatch, capsys):
    """Runs the command line in an empty folder; gives (exit status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_list_shows_every_kind(mmbench):
    status, out, _ = mmbench("list")
    assert status == 0
    for name in (
        "hrlf",
        "late-fusion",
        "constant",
        "iemocap-twin",
        "inter@1",
        "intra@1",
        "msm@1",
        "mae@1",
    ):
        assert name in out


def test_list_plugins_names_distributions(mmbench):
    status, out, _ = mmbench("list", "plugins")
    assert status == 0 and re.search(r"hrlf +mmbench \d.* method hrlf", out)


def test_list_plugins_names_what_is_broken_and_why(mmbench, tmp_path, monkeypatch):
    info = tmp_path / "stranger-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[mmbench]\nodd = not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    status, out, _ = mmbench("list", "plugins")
    assert status == 0 and re.search(r"odd +stranger 2\.0 +ModuleNotFoundError: No module", out)
    assert re.search(r"hrlf +mmbench \d.* method hrlf", out)
    monkeypatch.setenv("MMBENCH_DISABLE_PLUGINS", "odd")
    assert "stranger" not in mmbench("list", "plugins")[1]


def test_list_plugins_tells_who_hears_of_a_run(mmbench):
    assert re.search(r" log +mmbench \d.* epoch_finished", mmbench("list", "plugins")[1])


def paragraphs(text):
    """By its first line, each paragraph with its words one space apart."""
    return {p.split("\n")[0]: " ".join(p.split()) for p in text.split("\n\n")}


def test_list_long_tells_all_of_a_method_in_80_columns(mmbench, monkeypatch):
    from mmbench_methods.hrlf import HRLF

    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = mmbench("list", "methods", "--long")
    assert status == 0 and max(map(len, out.splitlines())) <= 80
    told = paragraphs(out)
    assert {
        "hrlf",
        "mctn",
        "transm",
        "smil",
        "gcnet",
        "corrkd",
        "self-mm",
        "cubemlp",
        "dmd",
    } <= set(told)
    for fact in (HRLF.summary, HRLF.paper, *HRLF.privileges, "depth=4, head='linear'"):
        assert " ".join(fact.split()) in told["hrlf"], fact
    for number, deviation in enumerate(HRLF.deviations, 1):
        assert f" {number}. {deviation} " in told["hrlf"], deviation
    assert " from plugin hrlf of mmbench" in told["hrlf"]
    ablation = told["hrlf-no-hal"]
    assert "ablation of hrlf" in ablation and "hal=False" in ablation
    assert "deviations those of hrlf" in ablation


def test_list_long_tells_of_other_kinds_what_there_is(mmbench):
    told = paragraphs(mmbench("list", "metrics", "--long")[1])
    assert "better lower" in told["mae@1"] and "unit" not in told["mae@1"]
    assert "unit %" in told["f1@1"] and "better higher" in told["f1@1"]
    told = paragraphs(mmbench("list", "datasets", "--long")[1])
    assert "synthetic twin iemocap-twin" in told["iemocap@1"]
    whole = mmbench("list", "--long")[1]
    assert all(name in whole for name in ("hrlf\n", "mae@1\n", "inter@1\n", "local\n"))


def test_all_is_without_ablations_and_twins(mmbench):
    words = ("run", "--dataset", "tiny", "--quick", "--dry-run", "--method")
    _, out, _ = mmbench(*words, "all")
    planned = set(re.findall(r"^(\S+) \(quick\)", out, re.M))
    assert {"hrlf", "late-fusion", "self-mm", "oracle"} <= planned
    assert not any(name.startswith("hrlf-no") for name in planned)
    _, out, _ = mmbench(
        *words, "hrlf-no-frf,hrlf-no-hmi,hrlf-no-hal", "--set", "hrlf-no-hal.head=mlp"
    )
    assert "3 of 3 jobs to do" in out and "hrlf-no-hal[head=mlp] (quick)" in out


def test_leaderboard_shows_what_the_paper_reports(mmbench):
    status, out, _ = mmbench("leaderboard", "mosei", "--store", "paper")
    assert status == 0 and out.startswith("# mosei, as the paper reports it\n\n")
    assert "| HRLF     | hrlf    | sentiment | 82.05 |" in out


def test_listing_does_not_import_torch(tmp_path):
    code = "import sys, mmbench.cli as c\ntry: c.main(['list'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    for _ in range(2):  # the first one may have to make the catalogue
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr


def test_help_answers_at_once(tmp_path):
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "mmbench", "--help"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        times.append(time.perf_counter() - started)
    bare = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    bare = time.perf_counter() - bare
    assert min(times) < 0.3 + bare


RUN = ("run", "--method", "constant", "--dataset", "mosi", "--quick")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("run", "--method", "hrfl", "--dataset", "mosi"),
            "unknown method 'hrfl'; did you mean 'hrlf'?",
        ),
        (
            ("run", "--method", "hrlf", "--dataset", "mossi"),
            "unknown dataset 'mossi'; did you mean 'mosi'?",
        ),
        ((*RUN, "--protocol", "iner"), "unknown protocol 'iner'; did you mean 'inter'?"),
        ((*RUN, "--protocol", "inter@9"), "version 1, not '9'"),
        ((*RUN, "--executor", "lokal"), "unknown executor 'lokal'; did you mean 'local'?"),
        ((*RUN, "--set", "constant.depth=2"), "unknown setting of constant 'depth'"),
        ((*RUN, "--set", "hrlf.depth=2"), "unknown method or executor in this run 'hrlf'"),
        ((*RUN, "--set", "depth"), "expected METHOD.NAME=VALUE"),
        (
            ("run", "--method", "hrlf", "--dataset", "mosi", "--set", "hrlf.depth=x"),
            "expected int, got 'x'",
        ),
        ((*RUN, "--device", "gpu"), "--device gpu"),
        ((*RUN, "--plugin", "nothing.py"), "there is no such file"),
        ((*RUN, "--format", "md,mad"), "unknown reporter 'mad'"),
        ((*RUN, "--format", ""), "--format is empty"),
        ((*RUN, "--seeds", "0"), "0 is not in the range"),
        ((*RUN, "--seeds", "many"), "'many' is not a valid integer"),
        (("run", "--dataset", "mosi"), "Missing option '--method'"),
        (("run", "--method", "", "--dataset", "mosi"), "--method is empty"),
        (("fly",), "No such command 'fly'"),
        (("list", "method"), "is not one of"),
        (("list", "plugins", "--long"), "there is no more to tell; --long goes with methods"),
        (("leaderboard", "iemocap-twin", "--store", "paper"), "did you mean 'iemocap'?"),
        (
            ("leaderboard", "mosi", "--store", "paper", "--format", "csv"),
            "the paper's tables come as md",
        ),
        (("leaderboard", "mosi"), "unknown data set 'mosi'"),
        (("leaderboard", "mosi", "--format", "mad"), "unknown reporter 'mad'"),
        (("data", "check", "mossi"), "did you mean 'mosi'"),
        (("data", "import", "mosi", "nothing.pkl"), "nothing.pkl"),
        (("data", "import", "mosi-twin", "nothing.pkl"), "made by mmbench and cannot be imported"),
        (("protocol", "show", "intr", "--dataset", "mosi"), "unknown protocol 'intr'"),
    ],
)
def test_a_mistake_is_told_in_one_message(mmbench, words, message):
    status, _, err = mmbench(*words)
    assert status == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize("option", ["--store", "--leaderboards"])
def test_a_folder_that_cannot_be_written_is_told_before_training(mmbench, tmp_path, option):
    (tmp_path / "file").write_text("in the way")
    status, _, err = mmbench(*RUN, option, "file/below")
    assert status == 2 and "file/below" in err
    assert not (tmp_path / "runs" / "mosi-twin").exists()


def test_debug_shows_the_traceback(mmbench):
    status, _, err = mmbench("--debug", "data", "check", "mossi")
    assert status == 2 and "Traceback" in err


def test_dry_run_trains_nothing(mmbench, tmp_path):
    status, out, _ = mmbench(*RUN, "--seeds", "2", "--dry-run")
    assert status == 0 and "2 of 2 jobs to do" in out
    assert not list(tmp_path.glob("runs/*/*")) and not list(tmp_path.glob("leaderboards/*"))
    assert "synthetic" in out  # a twin stands in, and every surface says so


def test_data_list_tells_what_is_here(mmbench):
    status, out, _ = mmbench("data", "list")
    assert status == 0 and re.search(r"mosi +real +not imported; mosi-twin stands in", out)


def test_protocol_show_gives_effective_rates(mmbench):
    status, out, _ = mmbench("protocol", "show", "intra", "--dataset", "mosi")
    assert status == 0 and re.search(r"1\.0 +p=1\.0 +1\.0000 +1\.0000 +1\.0000", out)
    assert "intra@1 on mosi-twin" in out and "SHA-256" in out


def test_a_damaged_result_is_named_not_passed_over(mmbench, tmp_path):
    damaged = tmp_path / "runs" / "mosi-twin" / "constant" / "seed-0-abc" / "manifest.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    for words in ((*RUN, "--dry-run"), ("leaderboard", "mosi-twin")):
        _, _, err = mmbench(*words)
        assert str(damaged.relative_to(tmp_path)) in err and "left out" in err
        assert "warning" in err


def test_a_place_where_nothing_can_be_written_is_told_before_anything_is_done(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["run", "--method", "constant", "--dataset", "tiny", "--store", str(tmp_path / "runs")]
    for option, what in (("--leaderboards", "tables"), ("--profile", "traces")):
        rest = {"--leaderboards": str(tmp_path / "boards"), option: str(tmp_path / "file")}
        with pytest.raises(SystemExit) as ended:
            main([*words, *(word for pair in rest.items() for word in pair)])
        said = " ".join(capsys.readouterr().err.split())
        assert ended.value.code == 2 and f"cannot write {what} to" in said
        assert f"choose another {option}" in said


def test_a_leaderboards_file_renders_as_its_store_does(mmbench, tmp_path, make_manifest):
    store = Store(tmp_path / "runs")
    store.check_writable()
    store.save(Outcome(make_manifest()))
    file = tmp_path / "small.json"
    where = ("--store", str(store.root))
    file.write_text(mmbench("leaderboard", "small", *where, "--format", "json")[1])
    for suffix in ("md", "csv", "json"):
        printed = [
            mmbench("leaderboard", *words, "--format", suffix)
            for words in (("small", *where), (str(file),))
        ]
        assert printed[0] == printed[1] and printed[0][0] == 0


def test_a_file_that_is_no_leaderboard_exits_2(mmbench, tmp_path):
    (tmp_path / "x.json").write_text("[]")
    status, _, err = mmbench("leaderboard", str(tmp_path / "x.json"))
    assert status == 2 and "x.json: it: expected an object, got []" in err


def test_figures_are_drawn_of_a_file_whatever_there_can_be(mmbench, make_manifest, tmp_path):
    from mmbench import board
    from mmbench.leaderboard import Leaderboard

    made = Leaderboard.from_manifests("small", [make_manifest()])
    (tmp_path / "small.json").write_text(board.write(made))
    status, out, err = mmbench("figures", "small.json", "--out", "here")
    assert status == 0, err
    assert {p.name for p in (tmp_path / "here").iterdir()} == {"small-cost.svg", "small-cost.png"}
    assert "wrote here/small-cost.svg" in out
    for kind in ("curves", "critical-difference", "embedding"):
        assert f"no {kind}: " in err
    status, _, err = mmbench("figures", "small.json", "--kind", "curves")
    assert status == 2 and "small has no curves" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "curve"), "unknown kind of figure 'curve'; did you mean 'curves'?"),
        (("--format", "pdf"), "unknown format of figures 'pdf'"),
        (("--store", "nowhere"), "unknown data set 'tiny'"),
    ],
)
def test_mistakes_in_figures_name_the_mend(mmbench, words, message):
    status, _, err = mmbench("figures", "tiny", *words)
    assert status == 2 and message in err


def test_a_command_that_draws_nothing_does_not_import_matplotlib(tmp_path):
    code = (
        "import sys, mmbench.cli as c, mmbench.figures, mmbench.leaderboard, mmbench.work\n"
        "assert 'matplotlib' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
