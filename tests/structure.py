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
entered, lines = set(), set()

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
print(json.dumps({"code": code, "entered": sorted(entered), "lines": len(lines)}))
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


def entered() -> tuple[list[Path], int]:
    """Return the files in which `memprobe run -p recall` calls a function, and the lines that it runs."""
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
    told = json.loads(done.stdout.splitlines()[-1])
    if told["code"] != 0:
        raise RuntimeError(done.stderr)
    return [Path(each) for each in told["entered"]], told["lines"]


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
    files, n_run = entered()
    n_all = sum(n_lines(file.read_text(encoding="utf-8")) for file in files)
    print(f"`run -p recall` enters {len(files)} files of {n_all:,} lines and runs {n_run:,} of them")


if __name__ == "__main__":
    main()
