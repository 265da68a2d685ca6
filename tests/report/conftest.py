"""A run in memory, small enough to be read at a glance, and texts that would do harm where they could."""

from collections.abc import Callable
from typing import Any, ClassVar

import polars as pl
import pytest

from memprobe.pipeline.manifest import describe_probes
from memprobe.pipeline.suite import Entry, Suite
from memprobe.probes.discovery import find
from memprobe.report.papers import PaperTable, Style, paper_tables
from memprobe.report.results import Results
from memprobe.tables.summary import SUMMARY
from tests.manifests import manifest_of

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd()",
    "{{ constructor }}",
    "${alert(1)}",
    "left\u202egnp.exe",
    "a\x00b\x1b[31mc\x08",
    "x" * 10_000,
    "</svg><style>*{display:none}</style>",
    "' onload='alert(1)",
]


def summary_rows(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of SUMMARY; what is not given is that of a rate of 0.5 of 20 items at step 10 of model `m`."""
    usual = {
        **dict.fromkeys(SUMMARY.columns),
        **{"model": "m", "revision": "step10", "step": 10, "probe": "recall", "metric": "exact_frac"},
        **{"estimate": 0.5, "ci_low": 0.3, "ci_high": 0.7, "ci_level": 0.95, "ci_method": "wilson"},
        **{
            "n_items": 20,
            "n_clusters": 20,
            "n_missing": 0,
            "unit": "fraction",
            "version": 1,
            "signature": "s",
        },
    }
    return SUMMARY.conform(pl.DataFrame([usual | row for row in rows], schema=SUMMARY.empty().schema))


@pytest.fixture
def results_of() -> Callable[..., Results]:
    """Return a maker of runs: results_of(summary, probes, tables, **changes of the manifest)."""

    def make(
        summary: pl.DataFrame,
        probes: tuple[str, ...] = ("recall",),
        tables: dict[str, pl.DataFrame] | None = None,
        *,
        gate: dict[str, Any] | None = None,
        gate_is_old: bool = False,
        missing: tuple[str, ...] = (),
        skipped: tuple[dict[str, Any], ...] = (),
        **changes: Any,
    ) -> Results:
        entries = tuple(Entry(find(name), find(name).settings()) for name in probes)
        described = describe_probes(Suite("mine", "", "", entries))
        steps = summary["step"].drop_nulls().unique().sort().to_list()
        manifest = {
            "state": "done",
            "suite": {"name": "mine", "title": "", "source": ""},
            "stages": [[{"probe": name, "version": 1, "settings": {"align": "start"}} for name in probes]],
            "flags": {},
            "versions": {"polars": "2"},
            **{"device": "cpu", "dtype": "float32", "bos": "default", "seed": 0},
            "items": {"files": [], "n_items": 20, "n_skipped": 0, "n_unfit": 0},
            "checkpoints": [{"model": "m", "revision": f"step{step}", "step": step} for step in steps],
            "failures": [],
            "warnings": [],
        } | changes
        frames = {"summary": summary, **(tables or {})}
        return Results(
            name="run",
            manifest=manifest_of(**manifest).changed(probes=described),
            summary=summary,
            tables=list(frames),
            read=lambda name, _: frames[name],
            skipped=skipped,
            gate=gate,
            gate_is_old=gate_is_old,
            missing=missing,
        )

    return make


class PaperRows:
    """Rows of a summary to be laid out: `row(...)`, `steps(0.25, 0.5)`, `tables(style, *rows)`."""

    up: ClassVar = {("recall", "exact_frac"): True, ("recall", "cost"): False, ("recall", "bias"): None}

    def row(self, **changes: Any) -> dict[str, Any]:
        about = {
            **{"model": "main", "revision": "r", "step": 0, "probe": "recall", "metric": "exact_frac"},
            **{"group": None, "condition": None, "estimate": 0.25, "ci_low": 0.125, "ci_high": 0.5},
            **{"ci_level": 0.95, "ci_method": "wilson", "n_items": 12, "n_clusters": 12, "n_missing": 0},
            **{"unit": "fraction", "version": 1, "signature": "s"},
        }
        return about | changes

    def steps(self, *estimates: float, **changes: Any) -> list[dict[str, Any]]:
        return [self.row(step=10 * place, estimate=each, **changes) for place, each in enumerate(estimates)]

    def tables(self, style: Style, *rows: dict[str, Any]) -> list[PaperTable]:
        frame = pl.DataFrame(rows, schema=SUMMARY.empty().schema, orient="row")
        return paper_tables(SUMMARY.conform(frame), self.up, style)


@pytest.fixture(scope="session")
def papers() -> PaperRows:
    """Return a maker of rows and of the tables that papers print of them."""
    return PaperRows()
