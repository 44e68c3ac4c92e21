"""How far the estimates of `mmbench run --dry-run` are off, by leaving out what is estimated.

    python tests/plan_accuracy.py STORE

Each finished result of the store is estimated from the other seeds of its method on its data set, and from
results on other data sets alone. An error of 10 % is a factor of 1.1 either way.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from mmbench.data import Schedule
from mmbench.jobs import Job
from mmbench.plan import _brief, _work_done, closest, rates
from mmbench.store import Store


def errors(
    manifests: Iterable[Mapping[str, Any]],
) -> dict[str, list[tuple[str, str, float, float]]]:
    """By what was known: method, data set, and what was estimated over what was taken, seconds and MiB."""
    every = [_brief(m) for m in manifests if m["status"] == "finished"]
    found: dict[str, list[tuple[str, str, float, float]]] = {}
    for left_out in every:
        about = left_out["job"]
        names = about["method"], about["dataset"], about["seed"]
        job = Job(*names, (), "", "", Schedule(), changed=about["changed"], quick=about["quick"])
        known = {
            "other seeds": [
                m
                for m in every
                if (m["job"]["label"], m["job"]["dataset"]) == (job.label, job.dataset)
                and m is not left_out
            ],
            "other data sets": [m for m in every if m["job"]["dataset"] != job.dataset],
        }
        took = sum(left_out["seconds"].values()), left_out["peak_memory_mib"]
        work = _work_done(left_out)
        for what, others in known.items():
            if rate := closest(job, work, rates(others)):
                seconds, mib = rate.scaled(work)
                ratios = seconds / took[0], mib / took[1]
                found.setdefault(what, []).append((job.label, job.dataset, *ratios))
    return found


def main() -> None:
    for what, rows in errors(Store(Path(sys.argv[1])).each()).items():
        say(f"from {what}: {len(rows)} results")
        seconds, memory = [row[2] for row in rows], [row[3] for row in rows]
        for quantity, ratios in (("seconds", seconds), ("memory", memory)):
            off = sorted(max(ratio, 1 / ratio) for ratio in ratios)
            nine = off[int(0.9 * (len(off) - 1))]
            say(
                f"  {quantity}: off by a factor of {median(off):.2f} in the median, {nine:.2f} in nine of ten, {off[-1]:.2f} at most"
            )
        for name in sorted({row[:2] for row in rows}):
            own = [row for row in rows if row[:2] == name]
            took, held = median(row[2] for row in own), median(row[3] for row in own)
            say(f"    {name[0]} on {name[1]}: estimated over taken {took:.2f}, {held:.2f}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
