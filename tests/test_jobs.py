"""mmbench/jobs.py: a key is of all that decides a number, and of nothing else."""

from dataclasses import replace

import pytest

from mmbench.data import Schedule
from mmbench.jobs import WHERE, Job, lost

JOB = Job("m", "d", 0, ("inter@1",), "data", "code", Schedule(), changed={"depth": 2, "frf": False})


@pytest.mark.parametrize(
    "change",
    [
        {"method": "n"},
        {"dataset": "e"},
        {"seed": 1},
        {"protocols": ("inter@2",)},
        {"protocols": ("inter@1", "intra@1")},
        {"data_sha256": "other"},
        {"code_sha256": "other"},
        {"schedule": Schedule(epochs=21)},
        {"schedule": Schedule(input_dropout={"l": 0.1})},
        {"changed": {"depth": 3, "frf": False}},
        {"quick": True},
        {"versions": {"f1": 2}},
        {"sampler": "msm@2"},
        {"rules_sha256": "other"},
    ],
)
def test_whatever_decides_a_number_changes_the_key(change):
    changed = replace(JOB, **change)
    assert changed.key != JOB.key
    assert (changed.config == JOB.config) is ("seed" in change)


@pytest.mark.parametrize(
    "change",
    [
        {"plugin_files": ("mine.py",)},
        {"device": "cuda"},
        {"profile": "traces"},
        {"embeddings": True},
        {"time_limit": 60.0},
        {"changed": {"frf": False, "depth": 2}},  # in another order
    ],
)
def test_nothing_else_does(change):
    assert replace(JOB, **change).key == JOB.key


def test_a_label_tells_settings_and_quickness():
    assert JOB.label == "m[depth=2,frf=False]"
    assert replace(JOB, changed={}, quick=True).label == "m (quick)"


def test_a_lost_job_is_a_failure_with_its_reason():
    manifest = lost(JOB, "killed").manifest
    assert (manifest["status"], manifest["kind"]) == ("failed", "lost")
    assert manifest["reason"] == "killed"
    assert manifest["key"] == JOB.key and manifest["job"]["label"] == JOB.label


def test_every_field_of_a_job_is_known_to_decide_numbers_or_not():
    """A new one has to be put to one of the two tests above."""
    decides = set(JOB.__dataclass_fields__) - set(WHERE)
    assert decides == {
        *("method", "dataset", "seed", "protocols", "data_sha256", "code_sha256", "schedule"),
        *("changed", "quick", "versions", "sampler", "rules_sha256"),
    }
