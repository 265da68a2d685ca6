"""Print the numbers by which the structure is judged: `python tests/structure.py`.

What `memprobe run -p recall` enters on a small model, import cycles, lines per folder, and how many modules
know how a condition is written or what a manifest holds.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "memprobe"
# Cuts, searches or joins of a text that is a condition.
_CONDITION = re.compile(
    r"\.(split|partition)\([\"']?[;=]|str\.(contains|extract|replace|split)|[\"'];[\"']|;\w+="
)

_ENTERED = """
import inspect, json, sys, threading
package, command = sys.argv[1], sys.argv[2:]
entered, called, lines = set(), set(), set()

def local(frame, event, _):
    if event == "line":
        lines.add((frame.f_code.co_filename, frame.f_lineno))
    return local

def follow(frame, event, _):
    code = frame.f_code
    if not code.co_filename.startswith(package):
        return None
    # Bodies of modules and classes run when they are imported; functions alone are optimized code.
    if code.co_flags & inspect.CO_OPTIMIZED:
        entered.add(code.co_filename)
        called.add((code.co_filename, code.co_qualname))
        return local
    return None

from memprobe.cli import main
threading.settrace(follow)
sys.settrace(follow)
sys.argv = ["memprobe", *command]
try:
    main()
except SystemExit as end:
    code = end.code
sys.settrace(None)
print(json.dumps({"code": code, "entered": sorted(entered), "called": sorted(called), "lines": len(lines)}))
"""


def modules() -> Iterator[tuple[str, str]]:
    """Yield name and source of each module of the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, file.read_text(encoding="utf-8")


def n_lines(source: str) -> int:
    """Return the number of lines of a module, empty ones and comments counted."""
    return len(source.splitlines())


def imports(name: str, source: str, known: frozenset[str]) -> set[str]:
    """Return the modules that a module imports when it is loaded; imports within functions do not count."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            submodules = {f"{node.module}.{each.name}" for each in node.names} & known
            # What is not a submodule is a name of the package itself.
            found |= submodules if len(submodules) == len(node.names) else {node.module, *submodules}
    return (found & known) - {name}


def reads_manifest_by_key(source: str) -> bool:
    """Return whether a module takes a value out of something called `manifest` by its key."""
    taken = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "get")
    ]
    return any(ast.unparse(each).split(".")[-1] == "manifest" for each in taken)


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other in a circle (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


@dataclass(frozen=True)
class Trace:
    """What `memprobe run -p recall` does.

    Attributes:
        files: The files of which it calls a function.
        called: File and qualified name of each function that it calls.
        n_lines: The number of different lines that it runs.
    """

    files: tuple[Path, ...]
    called: frozenset[tuple[Path, str]]
    n_lines: int


def skeleton() -> dict[Path, list[str]]:
    """Return the functions that docs/design.md lists as the shortest path, by module."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\d+\. `(memprobe/[\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", text, re.MULTILINE)
    return {ROOT / file: re.findall(r"\w+", names) for file, names in listed}


def lengths(source: str) -> dict[str, int]:
    """Return the lines of each top-level definition of a module, by its name."""
    found = {}
    for node in ast.parse(source).body:
        n = (node.end_lineno or node.lineno) - node.lineno + 1
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = n
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = n
    return found


def trace() -> Trace:
    """Run `memprobe run -p recall` on a small model and note what it calls."""
    sys.path.insert(0, str(ROOT))
    from tests.conftest import item_rows, make_tokenizer, save_sequence, write_rows

    with tempfile.TemporaryDirectory() as folder:
        model = save_sequence(Path(folder) / "main", (0, 10, 20), tokenizer=make_tokenizer())
        items = write_rows(Path(folder) / "items.jsonl", item_rows(24))
        command = ["run", "-p", "recall", "-m", str(model), "-d", str(items), "-o", f"{folder}/run"]
        done = subprocess.run(
            [sys.executable, "-c", _ENTERED, str(PACKAGE), *command],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
    traced = json.loads(done.stdout.splitlines()[-1])
    if traced["code"] != 0:
        raise RuntimeError(done.stderr)
    called = frozenset((Path(file), name) for file, name in traced["called"])
    return Trace(tuple(Path(each) for each in traced["entered"]), called, traced["lines"])


def main() -> None:
    """Print all numbers."""
    sources = dict(modules())
    known = frozenset(sources)
    print(f"package: {len(sources)} modules, {sum(map(n_lines, sources.values())):,} lines")
    rooms: Counter[str] = Counter()
    for name, source in sources.items():
        rooms[[*name.split("."), ""][1] or "(top)"] += n_lines(source)
    for room, n in rooms.most_common():
        print(f"  {room:12} {n:6,}")
    graph = {name: imports(name, source, known) for name, source in sources.items()}
    found = cycles(graph)
    print(f"import cycles: {len(found)}")
    for group in found:
        print(f"  {' <-> '.join(group)}")
    n_apart = sum(
        any(_CONDITION.search(line) for line in source.splitlines() if "condition" in line)
        for source in sources.values()
    )
    print(f"modules that take conditions apart: {n_apart}")
    print(f"modules that read the manifest by key: {sum(map(reads_manifest_by_key, sources.values()))}")
    traced = trace()
    n_all = sum(n_lines(file.read_text(encoding="utf-8")) for file in traced.files)
    n_files = len(traced.files)
    print(f"`run -p recall` enters {n_files} files of {n_all:,} lines and runs {traced.n_lines:,} of them")
    path = skeleton()
    texts = {file: file.read_text(encoding="utf-8") for file in path}
    n_whole = sum(map(n_lines, texts.values()))
    n_named = sum(lengths(texts[file])[name] for file, names in path.items() for name in names)
    print(f"shortest path: functions of {n_named:,} lines in {len(path)} modules of {n_whole:,} lines")


if __name__ == "__main__":
    main()
