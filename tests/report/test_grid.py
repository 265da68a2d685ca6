"""Grids on the terminal, as `sort` declares one: a line for each length, the readers, no grid of one line."""

from dataclasses import asdict

import polars as pl
import pytest
from rich.console import Console

from memprobe.probes.sort import PROBE
from memprobe.probes.sort.tables import SORT_ACCURACY
from memprobe.report.console import telling
from memprobe.report.grid import grid_table
from memprobe.tables.manifest import GridEntry


def cell(**given) -> dict[str, object]:
    base = {
        "model": "m",
        "revision": "r",
        "step": 9,
        "mode": "prompt",
        "condition": "parametric",
        "excerpt_words": 250,
        "segment_words": 20,
        "accuracy_frac": 0.5,
        "ci_low": 0.25,
        "ci_high": 0.75,
        "n_trials": 40,
        "n_clusters": 10,
    }
    return dict.fromkeys(SORT_ACCURACY.columns) | base | given


def shown(*rows: dict[str, object], **more) -> list[str]:
    schema = {name: column.dtype for name, column in SORT_ACCURACY.columns.items()} | more
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    for table in grid_table(GridEntry(**asdict(PROBE.grids[0])), frame, "m"):
        console.print(table)
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_each_length_has_its_accuracy_in_each_condition_and_the_readers() -> None:
    lines = shown(
        cell(segment_words=50, accuracy_frac=0.6, human_accuracy_frac=0.64),
        cell(segment_words=20, human_accuracy_frac=0.56),
        cell(segment_words=20, condition="in_context", accuracy_frac=0.9),
        # Other rows of the table: pooled, of one bin, of a group, of an earlier step.
        cell(segment_words=None, accuracy_frac=0.11),
        cell(distance_bin=0, accuracy_frac=0.11),
        cell(group="a", accuracy_frac=0.11),
        cell(step=3, accuracy_frac=0.11),
    )
    assert "excerpt segment in context from memory readers n" in lines
    assert "250 20 0.90 [0.25, 0.75] 0.50 [0.25, 0.75] 0.56 40" in lines
    assert "250 50 0.60 [0.25, 0.75] 0.64 40" in lines
    assert not [line for line in lines if "0.11" in line]


def test_without_segments_as_long_as_the_papers_there_are_no_readers() -> None:
    lines = shown(cell(segment_words=8), cell(segment_words=10))
    assert "excerpt segment from memory n" in lines


@pytest.mark.parametrize("rows", [[], [cell()], [cell(), cell(condition="in_context")]])
def test_one_cell_has_no_table_of_its_own(rows) -> None:
    assert shown(*rows) == []


def test_entries_of_one_probe_are_told_apart() -> None:
    rows = [cell(entry=entry, segment_words=n) for entry in ("shots=0", "shots=2") for n in (8, 10)]
    lines = shown(*rows, entry=pl.String)
    assert lines.index("shots=0") < lines.index("shots=2")
    assert len([line for line in lines if line.startswith("250 8")]) == 2


def test_of_many_conditions_those_are_shown_that_others_break_down() -> None:
    wholes = ["condition=in_context;mode=prompt", "condition=parametric;mode=prompt"]
    parts = [f"{whole};distance_bin={n}" for whole in wholes for n in range(4)]
    assert telling([*wholes, *parts]) == wholes
    assert telling([*wholes, parts[0]]) == [*wholes, parts[0]]
