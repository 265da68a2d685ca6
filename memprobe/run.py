"""The pipeline: plan, score, measure, summarise. Everything else is called from here.

`run` answers a question about checkpoints and leaves a run directory; `open_run` reads one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from memprobe.checkpoints import config_digest
from memprobe.errors import InvalidRunError
from memprobe.manifest import merge_stages
from memprobe.measure import item_tables, measure, measure_again, write_results
from memprobe.prepare import Prepared, prepare
from memprobe.question import Question, ask
from memprobe.suite import Suite, write_suite
from memprobe.tables.store import RunStore

if TYPE_CHECKING:
    from memprobe.scoring.engine import Failure, ScoringProgress, ScoringReport


class Listener(Protocol):
    """Hears how a run goes on; a command line shows it."""

    def stage(self, name: str) -> None:
        """A stage begins: read, plan, score, measure."""

    def note(self, text: str) -> None:
        """Something the user should know that is no error."""

    def scoring(self, progress: "ScoringProgress") -> None:
        """A batch or a unit is done."""


class Silence:
    """Hears everything and says nothing."""

    def stage(self, name: str) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def scoring(self, progress: "ScoringProgress") -> None:
        """Ignore it."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory; reading it needs no model.

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
        return measure_again(RunStore(self.path)).summary

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Checkpoints that could not be scored, with their errors."""
        return list(self.manifest.get("failures", []))

    def table(self, name: str) -> pl.DataFrame:
        """Return a table by its name.

        Raises:
            InvalidRunError: The run has no such table.
        """
        return RunStore(self.path).read_table(name)


def open_run(path: str | Path) -> Run:
    """Open a run directory.

    Raises:
        InvalidRunError: There is no run in it.
    """
    opened = Run(Path(path))
    _ = opened.manifest
    return opened


def run(
    suite: str | Path | Suite | None = None,
    *,
    probes: Sequence[str] = (),
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    fresh: bool = False,
    listener: Listener | None = None,
    **options: object,
) -> Run:
    """Answer a question about checkpoints.

    Args:
        suite: A suite, the name of one that ships, or a path ending in `.toml`; None: the probes.
        probes: Keep only these, or measure these where there is no suite.
        settings: `PROBE.KEY=VALUE`.
        out: The run directory; None: under `reports/`, named after the question.
        fresh: Start over: empty the directory first, if it holds a run.
        listener: Hears how it goes on.
        options: The fields of `RunOptions`: `model`, `data`, `steps`, `device` and so on; one model or
            file may stand without a list.

    Returns:
        The run; `failures` lists checkpoints that could not be scored.

    Raises:
        InputError: Something about the question is wrong; nothing was done.
        SafetyError: Something unsafe, or the network under `offline`, was needed.
    """
    given = {name: _listed(value) if name in ("model", "data") else value for name, value in options.items()}
    question = ask(suite, probes=probes, settings=settings, out=out, options=given)
    return answer_question(question, fresh=fresh, listener=listener or Silence())


def _listed(value: object) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str | Path) else tuple(map(str, value))  # type: ignore[call-overload]


def answer_question(question: Question, *, fresh: bool, listener: Listener) -> Run:
    """Prepare, score, measure and summarise one question."""
    store = RunStore(question.out, private=question.options.include_text)
    started = time.perf_counter()
    try:
        prepared, before = _begin(question, store, listener, fresh=fresh)
        listener.stage("score")
        report = _score(prepared, store, listener)
        listener.stage("measure")
        with store.lock():
            now = store.read_manifest() or {}
            if now.get("stages") == prepared.manifest["stages"]:
                _finish(prepared, before, report, store, started)
            # Else another process added a probe meanwhile: it measures all stages when it ends.
    finally:
        store.release()
    return Run(question.out)


def _begin(
    question: Question, store: RunStore, listener: Listener, *, fresh: bool
) -> tuple[Prepared, dict[str, Any]]:
    """Prepare the question and write down what is asked; returns it and the manifest before."""
    # A question that cannot be asked must not cost the run that is there.
    prepared = prepare(question, listener, fresh=fresh)
    if fresh:
        store.empty()
    store.create()
    while True:
        with store.lock():
            before = store.read_manifest()
            if before is None or merge_stages(before, prepared.manifest) == prepared.manifest["stages"]:
                store.write_json("manifest.json", prepared.manifest)
                store.write_text("suite.toml", write_suite(prepared.suite, question.options))
                store.write_lines("skipped.jsonl", _skipped(prepared))
                tables = item_tables(prepared.plans, include_text=prepared.options.include_text)
                store.write_table("items", tables)
                return prepared, before or {}
        # Another process added a probe between our look at the directory and now.
        prepared = prepare(question, listener)


def _finish(
    prepared: Prepared, before: Mapping[str, Any], report: "ScoringReport", store: RunStore, started: float
) -> None:
    """Build tables, summary and manifest; the caller holds the lock."""
    measured = measure(prepared.plans, prepared.manifest, store)
    write_results(measured, store)
    failures = [_failure(each) for each in report.failures]
    store.write_lines("errors.jsonl", failures)
    finished = _finished(prepared, measured.checks, failures)
    _add_timings(finished, before, report, time.perf_counter() - started)
    store.write_json("manifest.json", finished)


def _score(prepared: Prepared, store: RunStore, listener: Listener) -> "ScoringReport":
    """Make one pass over each sequence's checkpoints, where units are missing."""
    from memprobe.scoring.engine import EngineOptions, Job, ScoringReport, score
    from memprobe.scoring.load import LoadOptions

    options = prepared.options
    load = LoadOptions(options.device, options.dtype, options.trust_remote_code, options.allow_pickle)
    total = ScoringReport(batch_tokens=options.batch_tokens or 0)
    for sequence, tokenised, plan in zip(prepared.sequences, prepared.tokenised, prepared.plans, strict=True):
        engine = EngineOptions(load, total.batch_tokens, options.threads, options.include_text)
        jobs = [
            Job(checkpoint, target.context, plan.units, config_digest(checkpoint))
            for checkpoint, target in zip(sequence.checkpoints, plan.targets, strict=True)
        ]
        total.add(score(jobs, tokenised, engine, store, listener.scoring))
    return total


def _failure(failure: "Failure") -> dict[str, Any]:
    checkpoint = failure.checkpoint
    return {
        "model": checkpoint.model,
        "revision": checkpoint.revision,
        "step": checkpoint.step,
        "error": failure.error,
    }


def _skipped(prepared: Prepared) -> list[dict[str, Any]]:
    """Return the items left out: bad ones, and those that a probe cannot measure."""
    bad = [{**row, "probe": None} for row in prepared.items.skipped.iter_rows(named=True)]
    places = prepared.items.table.select("item_id", file="source_file", line="source_line")
    unfit = prepared.unfit.join(places, on="item_id", maintain_order="left")
    return [*bad, *({**row, "column": None} for row in unfit.iter_rows(named=True))]


def _finished(prepared: Prepared, checks: dict[str, int], failures: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **prepared.manifest,
        "state": "incomplete" if failures else "done",
        "flags": asdict(prepared.options),
        "checks": checks,
        "failures": failures,
        "probes": {
            entry.probe.name: {
                "version": entry.probe.version,
                "source": entry.probe.source,
                "metrics": [
                    {
                        "name": metric.name,
                        "unit": metric.unit,
                        "more_means": metric.more_means,
                        "summary": metric.summary,
                        "more_is_memorized": metric.more_is_memorized,
                    }
                    for metric in entry.probe.metrics
                ],
            }
            for entry in prepared.suite.entries
        },
    }


def _add_timings(
    manifest: dict[str, Any], before: Mapping[str, Any], report: "ScoringReport", total_s: float
) -> None:
    """Add this process's seconds and paths to those of the processes before it."""
    spent = {
        "load_s": report.load_s,
        "first_load_s": report.first_load_s,
        "score_s": report.score_s,
        "total_s": total_s,
    }
    was = before.get("timings", {})
    manifest["timings"] = {name: round(was.get(name, 0.0) + value, 3) for name, value in spent.items()}
    manifest["batch_tokens_at_end"] = report.batch_tokens
    manifest["paths"] = sorted(report.paths | set(before.get("paths", ())))
