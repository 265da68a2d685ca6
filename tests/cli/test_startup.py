"""What the quick commands import, and how long they take: they must not wait for torch.

Time is that of the processor, of the command and all its threads: a machine that has other things to do
makes a command wait. It makes it slower too, where another process shares its core: so the limits, in
seconds, are those of a machine on which the imports that no command can do without take `IMPORTS_S`, and
grow with what these imports take just before.
"""

import json
import resource
import shutil
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets", "scipy.stats", "altair", "tokenizers", "safetensors")
HELP_S, READ_S = 0.4, 0.8
IMPORTS = "import polars, rich.table, typer.main"
IMPORTS_S = 0.35
# The best of several: caches that others empty make a command slower, never faster.
TRIES = 12

_ASK = """
import sys
sys.argv = ["memprobe", *{args!r}]
from memprobe.cli import main
try:
    main()
except SystemExit as end:
    import json
    print(json.dumps([end.code, [name for name in {heavy!r} if name in sys.modules]]), file=sys.stderr)
"""


@pytest.fixture
def quick(finished, tmp_path):
    """Return the arguments of a quick command by its name."""
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\nid = "x"\nprobe = "recall"\nmetric = "exact_frac"\nmax = 0.9\nbound = "estimate"\n'
    )
    return {
        # A copy: the verdict is written into it.
        "gate": ["gate", str(shutil.copytree(finished, tmp_path / "copy")), "--rules", str(rules)],
        "help": ["--help"],
        "run-help": ["run", "--help"],
        "version": ["--version"],
        "probes": ["probes", "ls"],
        "describe": ["probes", "describe", "extraction"],
        "summary": ["summary", str(finished)],
        "summary-json": ["summary", str(finished), "--json"],
        "status": ["status", str(finished)],
        "init": ["init", str(tmp_path / "new")],
        "export": ["export", str(finished), "--to", "markdown", "-o", str(tmp_path / "x.md")],
    }


@pytest.mark.parametrize(
    "name",
    [
        "help",
        "run-help",
        "version",
        "probes",
        "describe",
        "summary",
        "summary-json",
        "status",
        "export",
        "gate",
        "init",
    ],
)
def test_quick_commands_import_nothing_heavy(name, quick):
    code = _ASK.format(args=quick[name], heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []]


@pytest.mark.parametrize(
    ("name", "limit_s"),
    [("help", HELP_S), ("summary", READ_S), ("status", READ_S), ("export", READ_S), ("gate", READ_S)],
)
def test_quick_commands_are_quick(name, limit_s, quick):
    beyond = float("inf")
    for _ in range(TRIES):
        imports_s = processor_s(["-c", IMPORTS])
        took_s = processor_s(["-m", "memprobe", *quick[name]])
        beyond = min(beyond, took_s / (limit_s * max(1.0, imports_s / IMPORTS_S)))
        if beyond < 1.0:
            break
    assert beyond < 1.0


def processor_s(arguments):
    """Seconds of the processor that Python takes with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_reading_a_finished_run_imports_no_part_of_the_pipeline(quick):
    """A summary is quick because it needs neither items nor probes nor statistics."""
    parts = ("memprobe.pipeline.measure", "memprobe.items", "memprobe.probes", "memprobe.stats", "numpy")
    code = _ASK.format(args=quick["summary-json"], heavy=parts)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []]


def test_importing_the_package_imports_nothing_of_others():
    code = "import sys; before = set(sys.modules); import memprobe; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours == {"memprobe", "memprobe._version"}
