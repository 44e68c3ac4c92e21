"""tests/simulated_grid.py: the book-keeping of a full grid takes seconds, and a laptop's memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CODE = """
import json, sys
sys.path.insert(0, {folder!r})
import simulated_grid as grid
found = grid.measure(*{arguments!r})
sys.stdout.write(json.dumps([list(found), [*grid.counted(found), grid.yardstick()]]))
"""


def measured(*arguments: int) -> tuple[list[str], list[float]]:
    """In a process of its own, whose memory is its own."""
    code = CODE.format(folder=str(HERE), arguments=arguments)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def test_a_simulated_data_set_is_planned_stored_aggregated_and_rendered():
    stages, (_, seconds, mib, _) = measured(60, 1)
    assert {"planned", "stored", "aggregated", "rendered"} < set(stages)
    assert seconds < 20 and mib < 1024


@pytest.mark.benchmark(
    group="a grid of 9 methods, 10 data sets, 5 seeds, 17 conditions and 5 masks"
)
def test_the_full_grid_takes_less_than_1_gib_and_seconds(benchmark, summary):
    _, (seconds, own, mib, yardstick) = benchmark.pedantic(measured, rounds=1)
    summary.append(
        f"simulated grid: {seconds:.1f} s, {own:.1f} s of the processor, {mib:.0f} MiB, "
        f"{seconds / yardstick:.0f} times the yardstick's {yardstick:.3f} s"
    )
    assert mib < 1024
    assert own < 20  # 10 on a machine of its own; others share this one's caches
