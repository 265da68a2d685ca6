"""The end of a process's share: what failed, what is left to others, tables, summary, manifest."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from memprobe.pipeline.manifest import describe_probes
from memprobe.pipeline.measure import measure, write_results
from memprobe.pipeline.planning import SequencePlan
from memprobe.pipeline.prepare import Prepared
from memprobe.tables.manifest import FailureEntry, LoadNoteEntry, Manifest
from memprobe.tables.store import RunStore

if TYPE_CHECKING:
    from memprobe.scoring.engine import ScoringReport

# What a manifest keeps when a command goes on with its run.
CARRIED = ("timings", "paths", "devices", "load_notes")


def finish(
    prepared: Prepared,
    report: "ScoringReport",
    store: RunStore,
    *,
    total_s: float,
    measuring: Callable[[], None],
) -> set[tuple[str, str]]:
    """Record the work of this process and, if it scored the last unit, build tables and summary.

    The caller holds the lock.

    Args:
        prepared: The question.
        report: What this process scored.
        store: The run directory.
        total_s: Seconds that this process worked.
        measuring: Called when tables are built.

    Returns:
        The units, (context, unit), that are neither there nor failed: others score them.

    Raises:
        BrokenUnitError: Units cannot be used, so that they have to be scored again.
        LostClaimError: Another process took over the lock while this one was stopped.
    """
    now = store.read_manifest()
    if now is None or now.stages != prepared.manifest.stages:
        # Another process added a probe meanwhile: it measures all stages when it ends.
        return set()
    missing = missing_units(prepared.plans, store)
    failures = _failures(prepared.plans, report, now.failures, missing)
    failed = {each.name for each in failures}
    left = {
        (target.context, unit)
        for plan in prepared.plans
        for target in plan.targets
        if (target.model, target.revision) not in failed
        for unit in plan.units
        if (target.context, unit) in missing
    }
    manifest = now.changed(failures=failures, **_spent(now, prepared, report, total_s))
    # The process that ended before this one may have built the same tables.
    if not left and (now.state == "scoring" or now.failures != failures):
        measuring()
        measured = measure(prepared.plans, now, store)
        digests = write_results(measured, store)
        manifest = manifest.changed(
            state="incomplete" if failures else "done",
            checks=measured.checks,
            warnings=tuple(measured.warnings),
            left_out=tuple(measured.left_out),
            probes=describe_probes(prepared.suite),
            tables={**now.tables, **digests},
        )
    store.write_lines("errors.jsonl", [each.to_json() for each in failures])
    store.write_manifest(manifest)
    return left


def missing_units(plans: Sequence[SequencePlan], store: RunStore) -> set[tuple[str, str]]:
    """Return the units, (context, unit), that are not there."""
    return {
        (target.context, unit)
        for plan in plans
        for target in plan.targets
        for unit in plan.units
        if not store.has_unit(target.context, unit)
    }


def _failures(
    plans: Sequence[SequencePlan],
    report: "ScoringReport",
    known: Sequence[FailureEntry],
    missing: set[tuple[str, str]],
) -> tuple[FailureEntry, ...]:
    """Return the checkpoints that failed here or elsewhere and of which units are missing."""
    errors = {each.name: each.error for each in known}
    errors |= {(each.checkpoint.model, each.checkpoint.revision): each.error for each in report.failures}
    contexts = {context for context, _ in missing}
    targets = [target for plan in plans for target in plan.targets if target.context in contexts]
    # Checkpoints with the same weights are scored once, so they fail together.
    by_context = {
        target.context: errors[target.model, target.revision]
        for target in targets
        if (target.model, target.revision) in errors
    }
    return tuple(
        FailureEntry(
            model=target.model,
            revision=target.revision,
            step=target.step,
            error=errors.get((target.model, target.revision), by_context[target.context]),
        )
        for target in targets
        if target.context in by_context
    )


def _spent(now: Manifest, prepared: Prepared, report: "ScoringReport", total_s: float) -> dict[str, Any]:
    """Add this process's seconds, paths and device to those of the others."""
    spent = {
        "load_s": report.load_s,
        "first_load_s": report.first_load_s,
        "score_s": report.score_s,
        "total_s": total_s,
    }
    return {
        "timings": {name: round(now.timings.get(name, 0.0) + value, 3) for name, value in spent.items()},
        "batch_tokens_at_end": report.batch_tokens,
        "paths": tuple(sorted(report.paths | set(now.paths))),
        "devices": tuple(sorted({prepared.options.device} | set(now.devices))),
        "load_notes": _load_notes(now, report),
    }


def _load_notes(now: Manifest, report: "ScoringReport") -> tuple[LoadNoteEntry, ...]:
    """Add what this process noted about loading to what others did, sentence by sentence."""
    noted = {each.text: set(each.checkpoints) for each in now.load_notes}
    for text, checkpoints in report.notes.items():
        noted.setdefault(text, set()).update(checkpoints)
    return tuple(LoadNoteEntry(text=text, checkpoints=tuple(sorted(noted[text]))) for text in sorted(noted))
