"""mmbench/cli/check.py: what `mmbench plugin check` says, and how it ends."""

import json
import textwrap

import pytest

from mmbench.cli import main

HEAD = """
import mmbench


class Mine(mmbench.Metric):
    name, title, formula = "{name}", "Mine", "mean error"
    tasks, higher_is_better = (mmbench.Regression,), False
    vectors = (mmbench.Vector((1, 3), (0, 0), 2),)

    def score(self, truth, prediction):
        {body}


@mmbench.hookimpl
def mmbench_register_metrics():
    return Mine
"""
RIGHT = "return float(abs(truth - prediction).mean())"


@pytest.fixture
def check(capsys, tmp_path, monkeypatch):
    """Runs the command in a folder of its own: status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words, name="mine", body=RIGHT):
        (tmp_path / "mine.py").write_text(textwrap.dedent(HEAD).format(name=name, body=body))
        with pytest.raises(SystemExit) as ended:
            main(["plugin", "check", *words])
        return ended.value.code, *capsys.readouterr()

    return run


def test_a_file_that_keeps_its_contract_ends_with_0(check):
    status, out, _ = check("mine.py")
    assert status == 0 and "metric mine" in out and "6 passed, 1 not applicable." in out


def test_a_failure_is_told_with_the_mend_and_ends_with_1(check):
    status, out, _ = check("mine.py", body="return -float(abs(truth - prediction).mean())")
    assert status == 1 and "failed: its vectors come out" in out
    assert "score -2; expected 2, as its vector says." in out
    assert "Mend: Mend the formula, or the vector if it is wrong." in out


def test_what_a_plugin_raises_is_told_without_a_traceback_but_for_debug(check):
    status, out, err = check("mine.py", body="return truth.mode()")
    assert status == 1 and "AttributeError" in out and "of mine.py)" in out
    assert "Traceback" not in out + err
    status, out, err = check("mine.py", "--debug", body="return truth.mode()")
    assert status == 1 and "Traceback" in err


def test_a_name_stands_for_a_class_and_else_for_all_that_a_plugin_registers(check):
    status, out, _ = check("corr")
    assert status == 0 and out.count("metric ") == 1
    status, out, _ = check("classification")
    assert status == 0 and "metric accuracy" in out and "metric weighted_f1" in out


def test_json_has_every_check_of_the_kind(check):
    from mmbench.checks import reference

    status, out, _ = check("intra", "--kind", "protocol", "--format", "json")
    told = json.loads(out)
    assert status == 0 and {entry["status"] for entry in told} == {"passed"}
    assert [e["check"] for e in told] == [
        name for kind, name, _ in reference() if kind == "protocol"
    ]


def test_a_name_of_two_kinds_is_asked_for(check, monkeypatch):
    from mmbench import registry
    from tests.checks.rogues.metrics import Error

    found = registry.discover()
    found.classes["metric"]["inter"] = registry.Registered(Error, found.sources[0])
    monkeypatch.setattr(registry, "discover", lambda files=(): found)
    status, _, err = check("inter")
    assert status == 2 and "'inter' is the name of a protocol and of a metric" in err
    assert "say which: --kind protocol" in err
    assert check("inter", "--kind", "metric")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("hrfl",), "did you mean 'hrlf'?"),
        (("corr", "--kind", "method"), "unknown method 'corr'"),
        (("nothing.py",), "there is no such file"),
        (("mine.py", "--kind", "method"), "mine.py registers no method"),
    ],
)
def test_a_mistake_is_one_message_and_ends_with_2(check, words, message):
    status, out, err = check(*words)
    assert status == 2 and message in err and not out
