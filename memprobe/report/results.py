"""What a page or a figure is made from: all of a run directory that a reader may see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.tables.manifest import Manifest, ProbeEntry


@dataclass(frozen=True, slots=True)
class Results:
    """A run, read; nothing here needs a model.

    Attributes:
        name: Of the run directory.
        manifest: What was asked and done.
        summary: Rows of `SUMMARY`; of an unfinished run as far as its units reach.
        tables: Names of the tables that there are, `summary` among them.
        read: From a table's name, and whether only each model's last step is wanted, to its rows.
        skipped: Items left out, as in `skipped.jsonl`.
        gate: What the gate said, as in `gate.json`; None: it did not run.
        gate_is_old: What it judged is not the summary that the run holds now.
        missing: What is not there yet, in words; empty for a finished run.
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
        """Names of the metrics of each probe, the telling one first."""
        return {probe: [each.name for each in about.metrics] for probe, about in self.probes.items()}
