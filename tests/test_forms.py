"""mmbench/forms.py: what a leaderboard may be made of. Files of leaderboards: tests/test_board.py."""

import re

import pytest

from mmbench.errors import DataError
from mmbench.jobs import Outcome
from mmbench.leaderboard import Leaderboard
from mmbench.store import Store


@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (
            lambda m: m["scores"][-1].update(protocol="x"),  # of a metric that is not the headline
            'protocol: expected one of the leaderboard\'s own, got "x"',
        ),
        (
            lambda m: m["scores"][0].update(condition="x"),
            'column: expected a condition of its protocol, got "x"',
        ),
        (
            lambda m: m["scores"][0].update(label="x"),
            "KeyError",  # there is no floor to compare it with
        ),
        (
            lambda m: m["job"].pop("code_sha256"),
            "finished[0].job: expected a part 'code_sha256'",
        ),
        (
            lambda m: m["job"].update(hyperparameters=[1]),
            "finished[0].job.hyperparameters: expected an object, got [1]",
        ),
        (
            lambda m: m["protocols"]["inter"]["effective_rate"].pop("la"),
            "effective_rate: expected a part 'la'",
        ),
    ],
)
def test_results_whose_parts_are_not_of_each_other_are_refused_in_one_line(
    tmp_path, make_manifest, alter, told
):
    store = Store(tmp_path / "runs")
    store.check_writable()
    manifest = make_manifest()
    alter(manifest)
    store.save(Outcome(manifest))
    with pytest.raises(DataError, match=re.escape(told)) as refused:
        Leaderboard.from_store(store, "small")
    assert "mmbench verify" in str(refused.value) and len(str(refused.value).splitlines()) == 1
