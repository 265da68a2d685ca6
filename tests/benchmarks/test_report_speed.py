"""The report of a large run: 16,000 items x 154 checkpoints x 3 probes, in bounded time, memory and size."""

import json
import subprocess
import sys

import pytest

from tests.report.big_run import write_big_run

pytestmark = pytest.mark.benchmark

MOST_S, MOST_BYTES_IN_MEMORY, MOST_BYTES_OF_PAGE = 60, 4 * 2**30, 5_000_000
CHILD = """
import json, resource, sys, time
from pathlib import Path
from memprobe.bench.page import write_report
started = time.perf_counter()
file = write_report(Path(sys.argv[1]))
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([seconds, peak, file.stat().st_size]))
"""


def test_a_large_run_reports_in_a_minute_and_four_gigabytes(tmp_path) -> None:
    run = write_big_run(tmp_path / "run", n_items=16_000, n_steps=154)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(run)], capture_output=True, text=True, check=True, timeout=600
    )
    seconds, peak, size = json.loads(done.stdout.splitlines()[-1])
    said = f"{seconds:.1f} s, {peak / 2**30:.2f} GiB, {size:,} bytes"
    print(f"\nreport of 16,000 items x 154 checkpoints x 3 probes: {said}")
    assert seconds < MOST_S
    assert peak < MOST_BYTES_IN_MEMORY
    assert size < MOST_BYTES_OF_PAGE
