"""Input of pages and figures: all contents of a run directory that a reader may see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.tables.manifest import Manifest, ProbeEntry


@dataclass(frozen=True, slots=True)
class Results:
    """Contents of a run; nothing here needs a model.

    Attributes:
        name: Name of the run directory.
        manifest: The run's manifest: what was asked and done.
        summary: Rows of `SUMMARY`; for an unfinished run, from the units scored so far.
        tables: Names of the run's tables, including `summary`.
        read: Returns the rows of a table, given its name and whether only each model's last step is wanted.
        skipped: Items left out, as in `skipped.jsonl`.
        gate: Result of the gate, as in `gate.json`; None: the gate did not run.
        gate_is_old: Whether the gate judged a different summary from the one that the run holds now.
        missing: Description of each missing part; empty for a finished run.
    """

    name: str
    manifest: Manifest
    summary: pl.DataFrame
    tables: Sequence[str]
    read: Callable[[str, bool], pl.DataFrame]
    skipped: Sequence[Mapping[str, Any]] = ()
    gate: Mapping[str, Any] | None = None
    gate_is_old: bool = False
    missing: Sequence[str] = ()

    @property
    def probes(self) -> Mapping[str, ProbeEntry]:
        """The manifest's description of each probe that was asked for."""
        return self.manifest.probes

    @property
    def metrics(self) -> dict[str, list[str]]:
        """Names of the metrics of each probe, the main one first."""
        return {probe: [each.name for each in about.metrics] for probe, about in self.probes.items()}
