"""Every method of an interval is named in one place, and has a row of coverage or says it has no interval."""

import ast
import re
from pathlib import Path

import pytest

import memprobe
from memprobe.stats.methods import IN_TABLES, MEASURED, WITHOUT, parts

PACKAGE = Path(memprobe.__file__).parent
PAGES = PACKAGE.parent / "docs" / "validation"
ROW = re.compile(r"^\| ([a-z][^|]*?) \|", re.MULTILINE)
# What a page says of which all rows are of one method.
WHOLE_PAGE = re.compile(r"The method is `([^`]+)`")
# Where methods are made; tables, reports and gates read them.
MAKERS = ("stats", "probes", "pipeline", "comparison")


def is_named(name: str) -> bool:
    """Whether all that a name is made of is known; `*` stands for what a module puts in."""
    known = {*MEASURED, *WITHOUT, *IN_TABLES}
    return all(
        each in known
        or ("*" in each and any(re.fullmatch(each.replace("*", ".+"), other) for other in known))
        for each in parts(name)
    )


def rows_of_pages() -> set[str]:
    """Return the methods that rows of coverage tables are of, taken apart."""
    tables = [page for page in PAGES.glob("*.md") if page.name != "coverage.md"]
    texts = [page.read_text(encoding="utf-8") for page in tables]
    names = [name for text in texts for name in (*ROW.findall(text), *WHOLE_PAGE.findall(text))]
    return {part for name in names for part in parts(name)}


def literals(node: ast.expr) -> list[str]:
    """Return the strings that a value may be, with the variable parts of formatted ones as `*`."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        pieces = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values]
        return ["".join(pieces)]
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    if isinstance(node, ast.Tuple):
        return [text for each in node.elts for text in literals(each)]
    return []


def names_in(source: str) -> set[str]:
    """Return the method names that a module writes out."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name == "Interval" and len(node.args) > 3:
                found += literals(node.args[3])
            if name in ("Interval", "replace", "Survival", "Median"):
                found += [t for each in node.keywords if each.arg == "method" for t in literals(each.value)]
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and str(key.value).endswith("ci_method"):
                    found += literals(value)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            wanted = re.compile(r"(.*_)?method|METHOD|.*_METHOD|_BASIC|FEW|kind", re.IGNORECASE)
            named = [each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
            if any(wanted.fullmatch(each.id) for each in named):
                found += literals(node.value)
    return set(found)


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_every_method_has_a_row_of_measured_coverage(name) -> None:
    assert name in rows_of_pages()


def test_a_method_is_measured_or_says_that_it_has_no_interval() -> None:
    assert not set(MEASURED) & set(WITHOUT)
    assert all(name.startswith("none:") for name in WITHOUT)


def test_no_module_writes_out_a_method_that_is_not_named() -> None:
    unknown = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for folder in MAKERS
        for path in sorted((PACKAGE / folder).glob("*.py"))
        for name in names_in(path.read_text(encoding="utf-8"))
        if re.fullmatch(r"[a-z*][a-z-]*[-*][a-z*()-]+.*|t|wilson|bootstrap", name) and not is_named(name)
    }
    assert unknown == set()


def test_the_search_sees_what_would_be_a_new_method() -> None:
    source = 'x = Interval(0, 1, level, "new-one")\nrow = {"ci_method": "other-one" if y else None}\n'
    source += 'method = "third-one"\nz = replace(x, method=f"{x.method}-fourth")\n'
    found = names_in(source)
    assert found == {"new-one", "other-one", "third-one", "*-fourth"}
    assert not any(is_named(name) for name in found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wilson", {"wilson"}),
        ("pseudo-document-few", {"pseudo-document"}),
        ("pseudo-document-few-paired", {"pseudo-document-paired"}),
        ("square-and-add (wilson, pseudo-document-few)", {"square-and-add", "wilson", "pseudo-document"}),
    ],
)
def test_names_are_taken_apart(name, expected) -> None:
    assert parts(name) == expected
    assert is_named(name)


def test_what_is_not_named_is_seen() -> None:
    assert not is_named("wilson-stand-in")
    assert not is_named("square-and-add (wilson, something)")
    assert is_named("none:biased")
