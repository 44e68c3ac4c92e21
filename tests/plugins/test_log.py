"""plugins/mmbench_loggers/log.py: a CSV file for each job, if asked for."""

import csv
from dataclasses import replace

import pytest

from mmbench.data import Schedule
from mmbench.jobs import Epoch, Job
from mmbench_loggers import log

JOB = Job("m", "d", 3, ("inter@1",), "0", "0", Schedule())
TEACHER = Epoch("teacher", 1, {"task": 0.5}, 0.25, 2.00049)
STUDENT = Epoch("student", 1, {"task": 0.25, "kl": 1e-7}, 0.125, 3.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMBENCH_LOG", "logs")
    return tmp_path


def tell(job, *epochs):
    log.mmbench_run_started([job])
    log.mmbench_job_started(job)
    for epoch in epochs:
        log.mmbench_epoch_finished(job, epoch)


def rows(folder, job=JOB):
    file = folder / "logs" / "d" / "m" / f"seed-3-{job.key}.csv"
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_an_epoch_is_a_row_and_a_stage_may_add_columns(folder):
    tell(JOB, TEACHER, STUDENT)
    same = {"epoch": "1", "loss.kl": ""}
    assert rows(folder) == [
        {**same, "stage": "teacher", "seconds": "2.0", "valid": "0.25", "loss.task": "0.5"},
        {
            **same,
            **{"stage": "student", "seconds": "3.0", "valid": "0.125", "loss.task": "0.25"},
            "loss.kl": "1e-07",
        },
    ]


def test_other_settings_are_another_file_and_the_same_job_begins_anew(folder):
    tell(JOB, TEACHER, STUDENT)
    other = replace(JOB, changed={"depth": 2})
    tell(other, TEACHER)
    tell(JOB, STUDENT)
    assert [len(rows(folder, job)) for job in (JOB, other)] == [1, 1]
    assert not list(folder.rglob("*.tmp"))


def test_nothing_is_written_unless_asked_for(folder, monkeypatch):
    monkeypatch.delenv("MMBENCH_LOG")
    tell(JOB, TEACHER)
    assert not list(folder.iterdir())
