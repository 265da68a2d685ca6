"""Read run directories: manifest, summary and tables, without a model or torch; quick to import."""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from memprobe.errors import InputError, InvalidRunError
from memprobe.tables.manifest import Manifest
from memprobe.tables.schema import TableSchema
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
        """The manifest: the question, and the work that was done.

        Raises:
            InvalidRunError: There is no run in the directory.
        """
        return self.about.to_json()

    @property
    def about(self) -> Manifest:
        """The manifest, typed.

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
        """Whether everything that was asked has been scored or has failed, and is measured."""
        return self.about.state != "scoring"

    @property
    def summary(self) -> pl.DataFrame:
        """One row per estimate, schema `SUMMARY`; for an unfinished run, from the units that are there."""
        if self.finished:
            return self.table("summary")
        from memprobe.pipeline.again import measure_again

        return measure_again(RunStore(self.path)).summary

    @property
    def summary_digest(self) -> str | None:
        """SHA-256 of the bytes of summary.parquet; None if the file does not exist yet."""
        file = self.path / "summary.parquet"
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None

    @property
    def doses(self) -> pl.DataFrame:
        """Growth of rates with exposures, context and model size, schema `DOSE_RESPONSE`.

        Empty if the items have no such doses, and for an unfinished run.
        """
        from memprobe.tables.summary import DOSE_RESPONSE

        return self._if_there(DOSE_RESPONSE)

    @property
    def cells(self) -> pl.DataFrame:
        """Accuracy of SORT in each cell, schema `SORT_ACCURACY`.

        Empty if the run does not measure it, and for an unfinished run.
        """
        from memprobe.probes.sort.tables import SORT_ACCURACY

        return self._if_there(SORT_ACCURACY)

    @property
    def grids(self) -> dict[str, pl.DataFrame]:
        """The tables that the summary shows as grids, by name; empty for an unfinished run."""
        grids = [grid for probe in self.about.probes.values() for grid in probe.grids]
        there = {grid.table for grid in grids} & set(self.table_names if self.finished else ())
        return {name: self.table(name) for name in sorted(there)}

    def _if_there(self, schema: TableSchema) -> pl.DataFrame:
        there = self.finished and schema.name in RunStore(self.path).table_names()
        return self.table(schema.name) if there else schema.empty()

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Checkpoints that could not be scored, with their errors."""
        return [each.to_json() for each in self.about.failures]

    @property
    def table_names(self) -> list[str]:
        """Names of the run's tables, the summary first."""
        return RunStore(self.path).table_names()

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
        InvalidRunError: There is no run in the directory.
    """
    opened = Run(Path(path))
    _ = opened.about
    return opened


def choose_steps(wanted: str | Collection[int], there: Iterable[int]) -> list[int]:
    """Return the wanted steps in ascending order; all steps if `wanted` is empty.

    Args:
        wanted: Steps, or a text as for `--steps`: `0,1000..143000:1000`.
        there: The available steps.

    Raises:
        CheckpointError: The text is not a list of steps.
        InputError: A step that is named singly, not in a range, is not available, or no wanted step is.
    """
    from memprobe.checkpoints.spec import parse_steps

    known = sorted(set(there))
    if not wanted:
        return known
    selection = parse_steps(wanted) if isinstance(wanted, str) else frozenset(wanted)
    named = selection if isinstance(selection, frozenset) else selection.singles()
    missing = sorted(step for step in named if step not in known)
    chosen = [step for step in known if step in selection]
    if missing or not chosen:
        what = (
            f"step {', '.join(map(str, missing))} is not there"
            if missing
            else f"no step of {wanted} is there"
        )
        raise InputError(what, fix=f"steps are {', '.join(map(str, known)) or 'none'}")
    return chosen
