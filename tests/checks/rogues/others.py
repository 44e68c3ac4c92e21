"""Executors, reporters and importers with one thing wrong."""

from __future__ import annotations

import time
import zipfile

import mmbench
from mmbench.jobs import Progress
from tests.checks.rogues.table import rogue


class Here(mmbench.Executor):
    """The honest one: one group after the other, in this process."""

    name, summary = "here", "in this process"

    def run(self, jobs, work, report):
        for group in self.groups(jobs):

            def told(progress, group=group):
                for job in group:
                    report(job.key, progress)

            yield from zip(group, work(group, told), strict=True)


@rogue("each job is done once, and its outcome is its own")
class LosesTheLast(Here):
    """Stops one job before the end."""

    def run(self, jobs, work, report):
        yield from list(super().run(jobs, work, report))[:-1]


@rogue("each job is done once, and its outcome is its own")
class MixesThemUp(Here):
    """Yields the outcomes in another order than their jobs."""

    def run(self, jobs, work, report):
        done = list(super().run(jobs, work, report))
        yield from zip((j for j, _ in done), (o for _, o in reversed(done)), strict=True)


@rogue(
    "jobs that differ in more than their seed are done apart",
    also={"each job is done for itself where that is asked for": "it has one group only"},
)
class AllTogether(Here):
    """Takes all jobs for one group."""

    def groups(self, jobs):
        return [tuple(jobs)] if jobs else []


@rogue("each job is done for itself where that is asked for")
class NeverAlone(Here):
    """Groups the seeds of a method, whatever it was asked for."""

    def groups(self, jobs):
        alike = {}
        for job in jobs:
            alike.setdefault(job.config, []).append(job)
        return list(alike.values())


@rogue("progress is told of its own jobs")
class SaysNothing(Here):
    """Reports no progress."""

    def run(self, jobs, work, report):
        return super().run(jobs, work, lambda *told: None)


@rogue("no job is no outcome")
class NeedsAJob(Here):
    """Looks at the first job before it asks whether there is one."""

    def run(self, jobs, work, report):
        report(jobs[0].key, Progress(0.0, "starting"))
        yield from super().run(jobs, work, report)


class Lines(mmbench.Reporter):
    """The honest one: a line for each row."""

    name, summary, suffix = "lines", "a line for each row", ".txt"

    def render(self, leaderboard):
        rows = [row.label for section in leaderboard.sections for row in section.rows]
        return "\n".join([*rows, "synthetic" if leaderboard.synthetic else "real"])


@rogue("the same leaderboard gives the same bytes")
class StampsTheTime(Lines):
    """Writes when it was rendered."""

    def render(self, leaderboard):
        return super().render(leaderboard) + f"\n{time.time_ns()}"


@rogue("every method is named")
class ShowsTheFirst(Lines):
    """Writes two lines at most."""

    def render(self, leaderboard):
        first, *_, last = ["", *super().render(leaderboard).splitlines()][-3:]
        return f"{first}\n{last}"


@rogue("made-up data is told as such")
class HidesTheTwin(Lines):
    """Says nothing of synthetic data."""

    def render(self, leaderboard):
        return super().render(leaderboard).rpartition("\n")[0]


@rogue("a leaderboard without results is text, too")
class NeedsASection(Lines):
    """Looks at the first section before it asks whether there is one."""

    def render(self, leaderboard):
        return f"{len(leaderboard.sections[0].rows)} rows\n" + super().render(leaderboard)


class Nothing(mmbench.Importer):
    """The honest one: recognises nothing and refuses everything."""

    name, summary = "nothing", "no file"

    def recognises(self, paths):
        return False

    def read(self, paths, dataset):
        raise mmbench.DataError(f"{paths[0]}: no file of mine")


@rogue("a look at any file raises nothing")
class TripsOverOthers(Nothing):
    """Opens every file as an archive to see what it is."""

    def recognises(self, paths):
        return bool(zipfile.ZipFile(paths[0]).namelist())


@rogue("a damaged file is a DataError")
class LetsItThrough(Nothing):
    """Lets whatever reading raises through to the user."""

    def read(self, paths, dataset):
        return zipfile.ZipFile(paths[0]).namelist()
