"""What may go wrong with a job, through the command line: each failure is a row, and the rest goes on."""

import re


def test_every_kind_of_failure_is_a_row_with_its_reason_and_the_rest_goes_on(session):
    """And the same command begins only that again which a machine has lost."""
    die = session.folder / "die"
    die.touch()
    words = (
        *("--method", "dies,explodes,flaky", "--seeds", "1", "--jobs", "2"),
        *("--set", f"dies.wait={die}", "--set", f"flaky.wait={session.folder / 'once'}"),
        *("--format", "md,html"),
    )
    status, out = session.run(*words)
    assert status == 1 and re.search(r"^flaky.*: lost, its process ended.*begun again", out, re.M)
    kinds = {m["job"]["method"]: m.get("kind", m["status"]) for m in session.manifests().values()}
    assert kinds == {
        "dies": "lost",
        "explodes": "diverged",
        "flaky": "finished",
    }
    reasons = {
        r"dies\[wait=.*\]": r"lost: its process ended with exit code -9, killed.* \(3 times",
        "explodes": "diverged: train, epoch 1, sample 0: loss term task is nan",
    }
    pages = {
        suffix: (session.folder / "leaderboards" / f"small{suffix}").read_text()
        for suffix in (".md", ".html")
    }
    for method, reason in reasons.items():
        assert re.search(rf"^failed: {method} on small, seed 0: {reason}", out, re.M), method
        assert re.search(rf"^\| {method} +\| {reason}", pages[".md"], re.M), method
        assert re.search(reason.replace("-", "[-]"), pages[".html"]), method

    status, out = session.run(*words, "--dry-run")
    assert "1 of 3 jobs to do" in out
    left = dict(re.findall(r"^(\w+)\S* +small +1 +\d +\d +(\d)", out, re.M))
    assert left == {"dies": "1", "explodes": "0", "flaky": "0"}


def test_a_job_that_hangs_is_killed_and_not_begun_again_unless_asked_to(session):
    words = ("--method", "hangs", "--seeds", "1", "--time-limit", "0.1")
    status, out = session.run(*words)
    reason = "time limit: it took longer than the 0.1 minutes of --time-limit, and had to be killed"
    assert status == 1 and f"failed: hangs on small, seed 0: {reason}" in out
    status, out = session.run(*words)
    assert status == 1 and f"failed: hangs on small, seed 0: {reason}" in out
    assert "1 of them failed before, and were not tried again: --retry-failed does" in out
