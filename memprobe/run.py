"""The pipeline: plan, score, measure, summarise. Everything else is called from here.

`run` answers a question about checkpoints and leaves a run directory; `open_run` reads one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from memprobe.checkpoints import Checkpoint
from memprobe.errors import InvalidRunError
from memprobe.items import CONTENT, ITEMS
from memprobe.planning import EntryPlan, SequencePlan
from memprobe.prepare import Prepared, prepare
from memprobe.probes.base import Scores
from memprobe.question import Question, ask
from memprobe.suite import Suite, write_suite
from memprobe.summarise import Context, condition_prefixes, item_values, summarise
from memprobe.tables.catalogue import ITEM_KEYS, SUMMARY
from memprobe.tables.spans import answer
from memprobe.tables.store import RunStore

if TYPE_CHECKING:
    from memprobe.scoring.engine import ScoringProgress, ScoringReport


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
    def summary(self) -> pl.DataFrame:
        """One row per estimate, schema `SUMMARY`."""
        return self.table("summary")

    @property
    def has_summary(self) -> bool:
        """Whether the run got as far as its first summary."""
        return "summary" in RunStore(self.path).table_names()

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
    # A question that cannot be asked must not cost the run that is there.
    prepared = prepare(question, listener, fresh=fresh)
    if fresh:
        store.empty()
    before = store.read_manifest() or {}
    store.create()
    with store.lock():
        store.write_json("manifest.json", prepared.manifest)
        store.write_text("suite.toml", write_suite(prepared.suite, question.options))
        store.write_lines("skipped.jsonl", _skipped(prepared))
    listener.stage("score")
    report = _score(prepared, store, listener)
    listener.stage("measure")
    with store.lock():
        checks = measure(prepared, store, {failure.checkpoint.label for failure in report.failures})
        failures = [
            {
                "model": each.checkpoint.model,
                "revision": each.checkpoint.revision,
                "step": each.checkpoint.step,
                "error": each.error,
            }
            for each in report.failures
        ]
        store.write_lines("errors.jsonl", failures)
        finished = _finished(prepared, report, checks, failures)
        _add_timings(finished, before, report, time.perf_counter() - started)
        store.write_json("manifest.json", finished)
    return Run(question.out)


def _score(prepared: Prepared, store: RunStore, listener: Listener) -> "ScoringReport":
    """Make one pass over each sequence's checkpoints, where units are missing."""
    from memprobe.scoring.engine import EngineOptions, Job, ScoringReport, score
    from memprobe.scoring.load import LoadOptions

    options = prepared.options
    load = LoadOptions(options.device, options.dtype, options.trust_remote_code, options.allow_pickle)
    total = ScoringReport(batch_tokens=options.batch_tokens or 0)
    for plan in prepared.plans:
        engine = EngineOptions(load, total.batch_tokens, options.threads, options.include_text)
        jobs = [
            Job(each, prepared.contexts[each.label], plan.units, prepared.same_shape(each))
            for each in plan.sequence.checkpoints
        ]
        total.add(score(jobs, plan.tokenised, engine, store, listener.scoring))
    return total


def measure(prepared: Prepared, store: RunStore, failed: set[str]) -> dict[str, int]:
    """Build all tables and the summary from the units; returns the checks' counts.

    One checkpoint is read at a time, so memory does not grow with the sequence.
    """
    tables: dict[str, list[pl.DataFrame]] = {}
    summaries = [SUMMARY.empty()]
    checks: dict[str, int] = {}
    for plan in prepared.plans:
        first: list[Mapping[str, pl.DataFrame]] | None = None
        for checkpoint in plan.sequence.checkpoints:
            if checkpoint.label in failed:
                continue
            held = store.read_units(prepared.contexts[checkpoint.label], plan.units)
            values: list[Mapping[str, pl.DataFrame]] = []
            for number, each in enumerate(plan.entries):
                spans = answer(each.plan.requests, held, each.plan.schemes)
                table = _item_table(each, spans, plan, checkpoint, include_text=prepared.options.include_text)
                tables.setdefault(each.entry.probe.name, []).append(table)
                values.append(item_values(each.entry, table))
                for name, count in each.entry.probe.checks(spans).items():
                    checks[name] = checks.get(name, 0) + count
                summaries.append(
                    summarise(
                        each.entry,
                        values[-1],
                        first[number] if first else None,
                        plan.tokenised.table,
                        _context(prepared, checkpoint),
                        _prefixes(plan)[number],
                    )
                )
            first = first or values
    for name, frames in tables.items():
        store.write_table(name, pl.concat(frames, how="diagonal").unique(maintain_order=True))
    store.write_table("items", _items_table(prepared))
    summary = pl.concat(summaries)
    SUMMARY.check(summary)
    store.write_table("summary", summary)
    store.write_csv("summary.csv", summary)
    return checks


def _item_table(
    each: EntryPlan, spans: pl.DataFrame, plan: SequencePlan, checkpoint: Checkpoint, *, include_text: bool
) -> pl.DataFrame:
    """Return a probe's rows for one checkpoint: keys, exposures, the user's columns, the probe's own."""
    probe = each.entry.probe
    items = plan.tokenised.table.drop(CONTENT)
    measured = probe.measure(Scores(spans, items), each.entry.settings)
    further = [name for name in items.columns if name not in ITEMS.columns and name not in _LENGTHS]
    texts = [name for name in CONTENT if include_text]
    carried = plan.tokenised.table.select("item_id", "group", "exposures", *further, *texts)
    keyed = measured.join(carried, on="item_id", maintain_order="left").with_columns(
        model=pl.lit(checkpoint.model),
        revision=pl.lit(checkpoint.revision),
        step=pl.lit(checkpoint.step, pl.Int64),
    )
    table = probe.table.conform(keyed)
    own = [name for name in table.columns if name not in ITEM_KEYS and name not in further]
    return table.select(*ITEM_KEYS, *further, *own).sort(probe.table.key)


_LENGTHS = ("n_tokens", "n_prefix_tokens", "n_foil_tokens", "boundary_shift")


def _items_table(prepared: Prepared) -> pl.DataFrame:
    """Return the items under each sequence's tokenizer, without their text."""
    return pl.concat(
        [
            plan.tokenised.table.drop(CONTENT).select(pl.lit(plan.sequence.model).alias("model"), pl.all())
            for plan in prepared.plans
        ]
    )


def _context(prepared: Prepared, checkpoint: Checkpoint) -> Context:
    tokenizer = next(
        each["tokenizer_digest"]
        for each in prepared.manifest["checkpoints"]
        if (each["model"], each["revision"]) == (checkpoint.model, checkpoint.revision)
    )
    options = prepared.options
    scoring = f"bos:{options.bos}|{options.dtype}|tok:{(tokenizer or 'none')[:12]}"
    return Context(checkpoint.model, checkpoint.revision, checkpoint.step, options.seed, scoring)


def _prefixes(plan: SequencePlan) -> list[str | None]:
    return condition_prefixes(tuple(each.entry for each in plan.entries))


def _skipped(prepared: Prepared) -> list[dict[str, Any]]:
    """Return the items left out: bad ones, and those that a probe cannot measure."""
    bad = [{**row, "probe": None} for row in prepared.items.skipped.iter_rows(named=True)]
    places = prepared.items.table.select("item_id", file="source_file", line="source_line")
    unfit = prepared.unfit.join(places, on="item_id", maintain_order="left")
    return [*bad, *({**row, "column": None} for row in unfit.iter_rows(named=True))]


def _finished(
    prepared: Prepared, report: "ScoringReport", checks: dict[str, int], failures: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        **prepared.manifest,
        "state": "incomplete" if failures else "done",
        "flags": asdict(prepared.options),
        "batch_tokens_at_end": report.batch_tokens,
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
    manifest["paths"] = sorted(report.paths | set(before.get("paths", ())))
