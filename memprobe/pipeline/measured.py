"""The results of a run while they are collected."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from memprobe.pipeline.history import EntryResult
from memprobe.tables.manifest import LeftOutEntry
from memprobe.tables.summary import DOSE_RESPONSE, SUMMARY


@dataclass(slots=True)
class Measured:
    """Results of a run, from the units that are there.

    Attributes:
        tables: Name to item-level table, and `dose_response`.
        summary: Rows of `SUMMARY`.
        checks: Counts for the manifest.
        warnings: Reasons to doubt numbers.
        unmeasured: Checkpoints, as `model@revision`, with missing units.
        left_out: Counts of items that are in no estimate of a probe.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    summary: pl.DataFrame = field(default_factory=SUMMARY.empty)
    checks: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)
    left_out: list[LeftOutEntry] = field(default_factory=list)

    def add(self, table: pl.DataFrame, name: str) -> None:
        """Add the rows of a checkpoint to a table."""
        self.tables[name] = (
            pl.concat([self.tables[name], table], how="diagonal") if name in self.tables else table
        )

    def add_sequence_results(self, said: Iterable[EntryResult]) -> None:
        """Add the results of probes over time."""
        for each in said:
            result = each.result
            for name, rows in result.tables.items():
                self.add(rows, name)
            self.summary = pl.concat([self.summary, result.estimates])
            self.warnings += result.warnings
            for reason, n_items in result.left_out.items():
                self.add_left_out(each.model, each.probe, each.entry, reason, n_items)

    def add_left_out(self, model: str, probe: str, entry: str | None, reason: str, n_items: int) -> None:
        """Count items that are in no estimate of a probe; makes no entry if there are none."""
        if n_items:
            found = LeftOutEntry(model=model, probe=probe, entry=entry, reason=reason, n_items=n_items)
            self.left_out.append(found)

    def add_doses(self, rows: pl.DataFrame) -> None:
        """Add rows of `DOSE_RESPONSE`; a run without a dose has no such table."""
        if rows.height:
            self.add(rows, DOSE_RESPONSE.name)
