"""Tables and summary of 16,000 items x 154 checkpoints from finished units, then the commands that read them.

What it prints is processor time, so that other work on the machine counts for little. To compare two
versions, run it in both and set the lines side by side; N_STEPS may be lowered for a quick look.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.scored_run import KINDS, write_scored_run

pytestmark = pytest.mark.benchmark

N_ITEMS, N_STEPS = 16_000, int(os.environ.get("MEMPROBE_BENCH_STEPS", "154"))
MOST_BYTES_IN_MEMORY = 8 * 2**30
WRITE = """
import sys
from pathlib import Path
from memprobe.pipeline.measure import measure_again, write_results
from memprobe.tables.store import RunStore
store = RunStore(Path(sys.argv[1]))
measured = measure_again(store)
with store.lock():
    tables = write_results(measured, store)
    about = store.read_manifest()
    told = {"checks": measured.checks, "warnings": measured.warnings, "left_out": measured.left_out}
    store.write_manifest(about.changed(**told, state="done", tables={**about.tables, **tables}))
"""
MEASURED = """
import json, resource, sys
sys.argv = sys.argv[1:]
try:
    exec(compile(sys.argv[0], "work", "exec"))
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss, which begins at what the process that started this one had.
    (peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(json.dumps([used.ru_utime + used.ru_stime, int(peak) * 1024]), file=sys.stderr)
"""
COMMAND = "from memprobe.cli import main; main()"
RULES = """
[[rule]]
id = "recalled"
why = "a bound on what is recalled"
probe = "{probe}"
metric = "{metric}"
where = {{ {where} }}
max = 0.99
"""


def spent(program: str, *arguments: str) -> tuple[float, int]:
    """Run a program in a fresh process; returns its processor time in seconds and peak memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1, 3), done.stderr
    seconds, peak = json.loads(done.stderr.splitlines()[-1])
    return seconds, peak


@pytest.mark.parametrize("kind", KINDS)
def test_summary_of_a_large_run(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_scored_run(tmp_path / "run", kind, n_items=N_ITEMS, n_steps=N_STEPS)
    rules = tmp_path / "rules.toml"
    over_time = kind == "lags"
    probe, metric = ("forgetting", "never_learned_frac") if over_time else ("recall", "exact_frac")
    where = 'group = "group-0"' if over_time else 'group = "group-0", step = "last"'
    rules.write_text(RULES.format(probe=probe, metric=metric, where=where))
    times = {"tables and summary": spent(WRITE, str(run))}
    times["memprobe summary"] = spent(COMMAND, "summary", str(run))
    times["memprobe gate"] = spent(COMMAND, "gate", str(run), "--rules", str(rules))
    with capsys.disabled():
        print(f"\n{kind}, {N_ITEMS:,} items x {N_STEPS} checkpoints ({', '.join(KINDS[kind][0])}):")
        for name, (seconds, peak) in times.items():
            print(f"  {name}: {seconds:.2f} s of processor time, {peak / 2**30:.2f} GiB")
    assert max(peak for _, peak in times.values()) < MOST_BYTES_IN_MEMORY
