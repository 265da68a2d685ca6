"""The law of the architecture: who may import whom, and that torch stays in its two rooms.

The table is checked against the syntax of every module, so an import inside a function or under
TYPE_CHECKING counts too; what is loaded at run time is checked in fresh processes.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

import memprobe
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY

PACKAGE = Path(memprobe.__file__).parent
TORCH_ROOMS = {"scoring", "lab"}
TORCH = {"torch", "transformers", "peft"}

# A room is a folder of the package or a module at its top; any may import those of FREE.
# A corridor is a folder in which every module is a room of its own.
CORRIDORS = {"pipeline", "bench"}
FREE = {"errors", "wording", "_version"}
# The life of a run in the order in which it is read: each module may import those before it.
ORDER = (
    *("suite", "manifest", "question", "listener", "limits", "control", "sweep"),
    *("plans", "unfit", "units", "planning"),
    *("contrast", "signature", "blocks", "estimate", "summarise", "history"),
    *("models", "tokens", "prepare", "dose", "shard", "supply", "dry_run"),
    *("item_tables", "measured", "measure", "again"),
    *("record", "finish", "score", "reading", "api", "worker"),
)
BELOW = {"options", "parsing", "shipped", "tables", "stats", "checkpoints", "items", "probes"}
PIPELINE = BELOW | set(ORDER) - {"api", "worker"}
EVERYTHING = PIPELINE | {
    "scoring",
    "fetching",
    "report",
    "lab",
    "api",
    "worker",
    "cli",
    "doctor",
    "escape",
    "figures",
    "templates",
    "gates",
    "page",
    "comparison",
    "exporting",
}
EVERYTHING |= {"documents", "datacheck", "datasplit", "datasort", "status"}
MAY_IMPORT: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "wording": set(),
    "parsing": set(),
    "options": {"parsing"},
    "shipped": set(),
    "tables": {"parsing", "shipped"},
    "escape": set(),
    "figures": {"escape"},
    "stats": set(),
    "checkpoints": {"tables"},
    "items": {"parsing", "probes", "tables"},
    "documents": {"items", "tables"},
    "scoring": {"checkpoints", "items", "tables"},
    "probes": {"figures", "stats", "tables"},
    "suite": {"probes", "options", "parsing", "tables", "shipped"},
    "report": {"escape", "figures", "probes", "stats", "tables"},
    "gates": {
        "comparison",
        "escape",
        "parsing",
        "probes",
        "reading",
        "report",
        "stats",
        "tables",
        "templates",
    },
    "comparison": {
        *("again", "blocks", "contrast", "estimate", "options", "probes", "reading", "signature", "stats"),
        *("suite", "summarise", "tables"),
    },
    "exporting": {"items", "probes", "reading", "report", "tables"},
    "lab": {"parsing", "scoring", "items", "tables"},
    "limits": {"checkpoints", "scoring"},
    "fetching": PIPELINE,
    "contrast": {"probes", "stats", "tables"},
    "control": {"checkpoints", "scoring", "tables"},
    "history": {"items", "probes", "stats", "tables"},
    "dose": {"probes", "stats", "tables"},
    "sweep": {"tables"},
    "status": {"reading", "tables"},
    "page": {"figures", "parsing", "reading", "report", "tables", "manifest", "again", "status", "suite"},
    "shard": {"planning"},
    "doctor": PIPELINE | {"scoring"},
    "datacheck": PIPELINE | {"scoring"},
    "datasplit": PIPELINE | {"scoring", "documents", "datacheck"},
    "datasort": {"documents", "stats"},
    "templates": {"shipped", "tables"},
    "api": EVERYTHING,
    "worker": EVERYTHING,
    "cli": EVERYTHING,
    "__init__": EVERYTHING,
    "pipeline": set(),
    "bench": set(),
    "__main__": {"cli"},
}
for place, name in enumerate(ORDER[:-2]):
    MAY_IMPORT.setdefault(name, BELOW | {"scoring"}).update(ORDER[:place])
# Rooms that a laptop without torch must be able to import: scoring only when it is called for.
LAZY = set(ORDER) | {
    "fetching",
    "status",
    "doctor",
    "datacheck",
    "datasplit",
    "datasort",
    "cli",
    "gates",
    "page",
    "comparison",
    "exporting",
    "__init__",
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return room(parts)


def room(parts: Sequence[str]) -> str:
    """Return the room of a dotted name without `memprobe`; in a corridor every module is a room."""
    inner = parts[0] in CORRIDORS and len(parts) > 1 and parts[1] != "__init__"
    return parts[1] if inner else parts[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def names_of(node: ast.AST) -> list[str]:
    """Dotted names that an import statement may load; `from memprobe import x` counts as memprobe.x."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return [f".{node.module or ''}"]
        if node.module in {"memprobe", *(f"memprobe.{corridor}" for corridor in CORRIDORS)}:
            return [f"{node.module}.{alias.name}" for alias in node.names]
        return [node.module or ""]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [
            arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
    return []


def imports(source: str) -> list[tuple[str, bool]]:
    """Every imported name, and whether it loads together with the module."""
    found: list[tuple[str, bool]] = []

    def walk(node: ast.AST, at_load: bool) -> None:
        found.extend((name, at_load) for name in names_of(node))
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_type_checking(
            node
        )
        for child in ast.iter_child_nodes(node):
            walk(child, at_load and not inside)

    walk(ast.parse(source), at_load=True)
    return found


def rooms_imported(source: str) -> set[tuple[str, bool]]:
    """Our rooms that a module imports, the free ones left out."""
    ours = {
        (room(name.split(".")[1:]), at_load)
        for name, at_load in imports(source)
        if name.startswith("memprobe.")
    }
    return {(name, at_load) for name, at_load in ours if name not in FREE}


def breaches(room: str, source: str) -> list[str]:
    """What a module of that room imports against the law."""
    used = rooms_imported(source)
    wrong = [
        f"imports {other}" for other, _ in sorted(used) if other != room and other not in MAY_IMPORT[room]
    ]
    if room in LAZY:
        wrong += [
            f"loads {other} at once" for other, at_load in sorted(used) if at_load and other in TORCH_ROOMS
        ]
    if room not in TORCH_ROOMS:
        wrong += [f"imports {name}" for name, _ in imports(source) if name.split(".")[0] in TORCH]
    return wrong + [f"imports {name} relatively" for name, _ in imports(source) if name.startswith(".")]


def test_the_order_of_the_pipeline_names_each_of_its_modules() -> None:
    assert sorted(ORDER) == sorted(file.stem for file in (PACKAGE / "pipeline").glob("[a-z]*.py"))


def test_difference_in_differences_has_one_door() -> None:
    inner = re.compile(r"memprobe\.stats\.did\.\w")
    inside = PACKAGE / "stats" / "did"
    found = [file for file in MODULES if inside not in file.parents and inner.search(file.read_text())]
    assert found == []


def test_every_room_has_its_law() -> None:
    rooms = {room_of(file) for file in MODULES}
    assert rooms - set(MAY_IMPORT) == set(), "write into MAY_IMPORT what the new room may import"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_room_may(file) -> None:
    assert breaches(room_of(file), file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source", "breach"),
    [
        ("probes", "from memprobe.scoring.load import Limits", "imports scoring"),
        ("probes", "from memprobe import scoring", "imports scoring"),
        ("tables", "import memprobe.items", "imports items"),
        ("stats", "def f():\n    from memprobe.tables import schema", "imports tables"),
        ("items", "if TYPE_CHECKING:\n    from memprobe.pipeline.suite import Entry", "imports suite"),
        ("report", "def f():\n    import torch", "imports torch"),
        ("summarise", "if typing.TYPE_CHECKING:\n    from torch.nn import Module", "imports torch.nn"),
        ("suite", "x = importlib.import_module('transformers')", "imports transformers"),
        ("planning", "from memprobe.scoring.batch import cut_units", "loads scoring at once"),
        ("cli", "import memprobe.lab.train", "loads lab at once"),
        ("planning", "from memprobe.pipeline.api import run", "imports api"),
        ("shard", "from memprobe.pipeline.measure import measure", "imports measure"),
        ("control", "from memprobe.pipeline import dose", "imports dose"),
        ("lab", "from memprobe.pipeline.api import run", "imports api"),
        ("probes", "from .base import Probe", "imports .base relatively"),
    ],
)
def test_a_breach_is_seen_wherever_it_hides(room, source, breach) -> None:
    assert breaches(room, source) == [breach]


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("scoring", "import torch"),
        ("planning", "def f():\n    from memprobe.scoring.batch import cut_units"),
        ("planning", "if TYPE_CHECKING:\n    from memprobe.scoring.load import Limits"),
        ("stats", "from memprobe.stats.intervals import wilson\nfrom memprobe.errors import Problem"),
        ("manifest", "from memprobe._version import __version__"),
    ],
)
def test_what_the_law_allows_passes(room, source) -> None:
    assert breaches(room, source) == []


# At run time

HEAVY = ("torch", "transformers", "datasets", "scipy.stats", "altair", "vl_convert")


def in_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "memprobe",
        "memprobe.pipeline.suite",
        "memprobe.pipeline.api",
        "memprobe.pipeline.summarise",
        "memprobe.cli",
        "memprobe.cli.app",
    ],
)
def test_importing_loads_nothing_heavy(module) -> None:
    loaded = in_fresh_process(
        f"import sys, json, importlib; importlib.import_module({module!r}); "
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert not set(HEAVY) & set(json.loads(loaded))


def test_importing_memprobe_loads_nothing_but_the_standard_library() -> None:
    loaded = json.loads(
        in_fresh_process(
            "import sys, json; before = set(sys.modules); import memprobe; "
            "print(json.dumps(sorted(set(sys.modules) - before)))"
        )
    )
    assert [name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names] == [
        "memprobe",
        "memprobe._version",
    ]


HIDDEN = """
import sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def test_a_finished_run_is_read_where_torch_is_not_installed(tmp_path) -> None:
    row = dict.fromkeys(SUMMARY.columns) | {
        **{"model": "m", "revision": "step10", "step": 10, "probe": "recall", "metric": "exact_frac"},
        **{"estimate": 0.25, "ci_low": 0.1, "ci_high": 0.5, "ci_level": 0.95, "ci_method": "wilson"},
        **{
            "n_items": 20,
            "n_clusters": 20,
            "n_missing": 0,
            "unit": "fraction",
            "version": 1,
            "signature": "s",
        },
    }
    summary = SUMMARY.conform(pl.DataFrame([row], schema=SUMMARY.empty().schema))
    RunStore(tmp_path).write_table("summary", summary)
    RunStore(tmp_path).write_table("recall", pl.DataFrame({"item_id": ["a"], "exact": [True]}))
    (tmp_path / "manifest.json").write_text('{"format": 1, "state": "done"}')
    out = in_fresh_process(
        HIDDEN
        + f"""
import memprobe
run = memprobe.open_run({str(tmp_path)!r})
print(run.manifest["state"], run.summary["estimate"].item(), run.table("recall").height, run.failures)
try:
    import torch
except ModuleNotFoundError:
    print("hidden")
"""
    )
    assert out.split("\n")[:2] == ["done 0.25 1 []", "hidden"]


def test_statistics_and_probes_work_where_torch_is_not_installed() -> None:
    out = in_fresh_process(
        HIDDEN
        + """
import memprobe
from memprobe.stats.ranking import paired_auc
import memprobe.pipeline.summarise, memprobe.pipeline.prepare, memprobe.pipeline.planning, memprobe.report
print(sorted(memprobe.probes()), memprobe.load_suite("quickstart").name)
"""
    )
    assert "recognition" in out
    assert "quickstart" in out
