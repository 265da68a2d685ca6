"""Nothing outside `memprobe/probes` names a probe, one of its tables, settings or columns.

What other rooms know of a probe, it declares: see docs/extending.md. Names that other rooms have for
themselves (columns of items, spans and the summary, words of the language) are no secrets of a probe.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

import memprobe
from memprobe.items import ITEMS
from memprobe.probes.discovery import built_in
from memprobe.tables.differences import DIFFERENCES
from memprobe.tables.requests import Search
from memprobe.tables.spans import FOUND, SPANS
from memprobe.tables.summary import DOSE_RESPONSE, SUMMARY
from memprobe.tables.views import WINDOWS

PACKAGE = Path(memprobe.__file__).parent
# The lab plants what the demo asks about, so what trains it and shows it names what it asks; statistics know
# no tables and have names for their own results.
FREE = ("probes/", "lab/", "cli/lab.py", "cli/examples.py", "report/truth.py", "stats/")
SHARED = {
    *(
        name
        for table in (ITEMS, SPANS, WINDOWS, SUMMARY, DOSE_RESPONSE, DIFFERENCES)
        for name in table.columns
    ),
    *(each.name for kind in (FOUND, WINDOWS.columns["trial"].dtype) for each in kind.fields),
    *(each.name for each in fields(Search)),
}
# Words that other rooms use for something of their own.
OWN = {
    "acc": "a word in names of checkpoints",
    "auc": "a kind of summary",
    "base_step": "no item column may have this name",
    "cohort_step": "no item column may have this name",
    "n_candidates": "pairs of segments that are drawn",
    "n_cells": "lengths and distances of trials",
    "n_checkpoints": "of a sequence",
    "n_trials": "trials that are made",
    "n_windows": "windows that a document is cut into",
    "sort": "the command that makes trials",
}


@cache
def secrets() -> frozenset[str]:
    """Return the names that only probes may know; a setting or column of one word means other things too."""
    found = set()
    for probe in built_in().values():
        found |= {probe.name, *(schema.name for schema in probe.schemas)}
        found |= {name for schema in (probe.table, *probe.schemas) for name in schema.columns if "_" in name}
        found |= {each.name for each in fields(probe.settings) if "_" in each.name}
        found |= {metric.name for metric in probe.all_metrics}
    return frozenset(found - SHARED - set(OWN))


def named(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string that is not a docstring."""
    tree = ast.parse(source)
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


# A command in a message that names a probe.
_AS_FLAG = re.compile(r"-p (\w+)")

MODULES = [
    file for file in sorted(PACKAGE.rglob("*.py")) if not str(file.relative_to(PACKAGE)).startswith(FREE)
]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_names_no_probe(file) -> None:
    known = secrets()
    found = [
        f"line {line}: {text}"
        for line, text in named(file.read_text(encoding="utf-8"))
        if text in known or built_in().keys() & set(_AS_FLAG.findall(text))
    ]
    assert found == []
