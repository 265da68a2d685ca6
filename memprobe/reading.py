"""Run directories, read: manifest, summary, tables; no model, no torch, and quick to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from memprobe.errors import InvalidRunError
from memprobe.tables.store import RunStore


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory; reading it needs no model.

    Example:
        run = memprobe.open_run("reports/mine")
        run.summary.filter(pl.col("metric") == "exact_frac").select("step", "estimate", "ci_low", "ci_high")
        run.table("recall")

    Attributes:
        path: The directory.
    """

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """What was asked and done.

        Raises:
            InvalidRunError: There is no run in the directory.
        """
        manifest = RunStore(self.path).read_manifest()
        if manifest is None:
            raise InvalidRunError(
                "there is no run here: manifest.json is missing",
                where=str(self.path),
                fix="name the directory that `memprobe run` printed",
            )
        return manifest

    @property
    def finished(self) -> bool:
        """Whether all that was asked was scored or failed, and measured."""
        return bool(self.manifest["state"] != "scoring")

    @property
    def summary(self) -> pl.DataFrame:
        """One row per estimate, schema `SUMMARY`; of an unfinished run, as far as its units reach."""
        if self.finished:
            return self.table("summary")
        from memprobe.pipeline.measure import measure_again

        return measure_again(RunStore(self.path)).summary

    @property
    def doses(self) -> pl.DataFrame:
        """How rates grow with exposures, context and model size, schema `DOSE_RESPONSE`.

        No row where the items have no such doses, and for an unfinished run.
        """
        from memprobe.tables.catalogue import DOSE_RESPONSE

        there = self.finished and DOSE_RESPONSE.name in RunStore(self.path).table_names()
        return self.table(DOSE_RESPONSE.name) if there else DOSE_RESPONSE.empty()

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Checkpoints that could not be scored, with their errors."""
        return list(self.manifest.get("failures", []))

    def table(self, name: str) -> pl.DataFrame:
        """Return a table by its name, like `recall`, `extraction`, `items` or `summary`.

        Raises:
            InvalidRunError: The run has no such table.
        """
        return RunStore(self.path).read_table(name)


def open_run(path: str | Path) -> Run:
    """Open a run directory.

    Example:
        run = memprobe.open_run("reports/mine")
        print(run.manifest["state"], run.summary.height)

    Raises:
        InvalidRunError: There is no run in it.
    """
    opened = Run(Path(path))
    _ = opened.manifest
    return opened
