"""Modules do not import each other in circles, and the shortest path to a number is short."""

import pytest

from tests.structure import cycles, imports, lengths, modules, reads_manifest_by_key, skeleton, trace


def test_no_modules_import_each_other_in_a_circle() -> None:
    sources = dict(modules())
    known = frozenset(sources)
    assert cycles({name: imports(name, source, known) for name, source in sources.items()}) == []


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": {"d"}}, [["a", "b", "c"], ["d", "e"]]),
    ],
)
def test_circles_are_found(graph, found) -> None:
    assert cycles(graph) == found


def test_imports_within_functions_do_not_count() -> None:
    known = frozenset({"p", "p.a", "p.b"})
    source = "from p import a\nfrom p.b import name\n\ndef f():\n    import p\n"
    assert imports("p.c", source, known) == {"p.a", "p.b"}
    assert imports("p.c", "from p import name", known) == {"p"}


def test_one_module_reads_the_manifest_by_key() -> None:
    found = [name for name, source in modules() if reads_manifest_by_key(source)]
    assert found == ["memprobe.tables.manifest"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("state = run.manifest['state']", True),
        ("seed = manifest.get('seed', 0)", True),
        ("prepared.manifest['notes'] = []", True),
        ("state = run.about.state", False),
        ("digest = manifest.tables['summary']", False),
        ('"Example: run.manifest[name]"', False),
    ],
)
def test_readers_by_key_are_found(source, found) -> None:
    assert reads_manifest_by_key(source) == found


def test_the_shortest_path_of_the_docs_is_called_and_short() -> None:
    path = skeleton()
    assert len(path) > 10
    found = {file: lengths(file.read_text(encoding="utf-8")) for file in path}
    assert sum(found[file][name] for file, names in path.items() for name in names) < 1500
    called = trace().called
    # A probe is declared and not called; of a class, a method is.
    not_called = [
        f"{file.name}: {name}"
        for file, names in path.items()
        for name in names
        if name != "PROBE" and not any(at == file and each.split(".")[0] == name for at, each in called)
    ]
    assert not_called == []
