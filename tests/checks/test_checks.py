"""mmbench/checks: how a check ends, and who is told what."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import mmbench
from mmbench.checks import CheckFailed, NotApplicable, checks_of, parametrize, reference, run_checks
from mmbench.errors import UsageError
from tests.checks.rogues.methods import LooksAtNeighbours, Mean
from tests.checks.rogues.metrics import AnotherFormula, Error
from tests.checks.rogues.missingness import Steps

BUG = {"its vectors come out": "the formula is being discussed"}


def check_of(cls, name):
    (found,) = [check for check in checks_of(cls) if check.name == name]
    return found


def test_names_are_facts_that_are_unique_in_their_kind_and_have_a_reason():
    told = [(kind, name) for kind, name, _ in reference()]
    assert len(set(told)) == len(told) > 40
    for _, name, why in reference():
        assert name[0].islower() and not name.endswith(".")
        assert len(why) > 30 and why.endswith(".")


def test_a_failure_names_the_culprit_what_was_found_what_was_expected_and_the_mend():
    with pytest.raises(CheckFailed) as caught:
        check_of(LooksAtNeighbours, "order never matters").run(LooksAtNeighbours)
    assert str(caught.value).startswith(
        "method 'looks-at-neighbours': predictions change by "
    ) and str(caught.value).endswith(
        "expected the same within 0.0001. Let a sample's place in the batch decide nothing."
    )


def test_an_expected_failure_is_no_failure():
    (result,) = [r for r in run_checks([AnotherFormula], BUG) if r.check.name in BUG]
    assert (result.status, result.reason) == ("expected", BUG["its vectors come out"])


def test_an_expected_failure_that_does_not_fail_is_one():
    (result,) = [r for r in run_checks([Error], BUG) if r.status == "failed"]
    assert result.check.name in BUG and result.reason.endswith("and passed")
    name = "drawn anew, samples score as if repeated"
    (result,) = [r for r in run_checks([Error], {name: "slow"}) if r.status == "failed"]
    assert "did not apply: it has no way of its own" in result.reason


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"its vector come out": "x"}, "did you mean 'its vectors come out'?"),
        ({"its vectors come out": " "}, "has no reason; say why it fails"),
    ],
)
def test_an_expected_failure_needs_a_name_that_is_known_and_a_reason(expected, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        run_checks([Error], expected)


def test_whatever_a_plugin_raises_is_a_failure_that_says_where():
    class Raises(Error):
        def score(self, truth, prediction):
            raise KeyError("nobody knows")

    results = [r for r in run_checks([Raises]) if r.status != "not applicable"]
    assert {r.status for r in results} == {"failed"}
    assert all("KeyError: 'nobody knows' (line " in r.reason for r in results)
    assert all(" of test_checks.py)" in r.reason for r in results)


def test_what_cannot_be_trained_fails_once_and_not_in_every_check():
    class Raises(Mean):
        def forward(self, batch):
            raise RuntimeError("boom")

    failed = [r for r in run_checks([Raises]) if r.status == "failed"]
    assert [r.check.name for r in failed] == ["it trains and then predicts finite numbers"]
    assert "RuntimeError: boom (line " in failed[0].reason


def test_a_check_leaves_global_generators_and_threads_as_they_were():
    class Stirs(Steps):
        def masks(self, condition, valid, **names):
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            torch.manual_seed(0)
            return super().masks(condition, valid, **names)

    def states():
        numpys = np.random.get_state(legacy=True)[1]  # noqa: NPY002
        return random.getstate(), list(numpys), torch.get_rng_state().tolist()

    before, threads = states(), torch.get_num_threads()
    run_checks([Stirs])
    assert states() == before and torch.get_num_threads() == threads


def test_progress_is_told_check_by_check():
    told = []
    results = run_checks([Error], report=lambda share, doing: told.append(share))
    assert told == [n / len(results) for n in range(len(results) + 1)]


def test_what_is_no_plugin_is_refused():
    with pytest.raises(UsageError, match=r"it extends none of mmbench\.Dataset, "):
        checks_of(int)


def test_parametrize_makes_xfails_that_are_strict_and_skips_with_the_reason(pytestconfig):
    mark = parametrize(AnotherFormula, expected_failures=BUG)
    cases = {case.id: case for case in mark.mark.args[1]}
    known = cases["metric another-formula: its vectors come out"]
    (xfail,) = known.marks
    assert (
        xfail.name == "xfail" and xfail.kwargs["strict"] and xfail.kwargs["raises"] is CheckFailed
    )
    with pytest.raises(CheckFailed):
        known.values[0]()
    with pytest.raises(pytest.skip.Exception, match="no way of its own"):
        cases["metric another-formula: drawn anew, samples score as if repeated"].values[0]()


def test_what_does_not_apply_is_told_with_the_reason():
    with pytest.raises(NotApplicable, match="no two conditions differ in their rate alone"):
        cls = mmbench.checks.core.installed().find("protocol", "inter")
        check_of(cls, "a higher rate hides the same frames and more").run(cls)


def test_the_kit_needs_no_pytest():
    code = "import sys; sys.modules['pytest'] = None; import mmbench.checks; mmbench.checks.reference()"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
