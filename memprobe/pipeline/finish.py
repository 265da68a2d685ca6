"""End a process's share: record failures and time, and build tables and summary if nothing is left."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from memprobe.pipeline.again import write_results
from memprobe.pipeline.manifest import describe_probes
from memprobe.pipeline.measure import measure
from memprobe.pipeline.plans import SequencePlan
from memprobe.pipeline.prepare import Prepared
from memprobe.pipeline.record import failures_of, spent
from memprobe.tables.store import RunStore

if TYPE_CHECKING:
    from memprobe.scoring.job import ScoringReport


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
        report: Report of the scoring of this process.
        store: The run directory.
        total_s: Seconds that this process worked.
        measuring: Called when tables are built.

    Returns:
        The units, as (context, unit), that are neither there nor failed: other processes score them.

    Raises:
        BrokenUnitError: Units cannot be used and must be scored again.
        LostClaimError: Another process took over the lock while this one was stopped.
    """
    now = store.read_manifest()
    if now is None or now.stages != prepared.manifest.stages:
        # Another process added a probe meanwhile: it measures all stages when it ends.
        return set()
    missing = missing_units(prepared.plans, store)
    failures = failures_of(prepared.plans, report, now.failures, missing)
    failed = {each.name for each in failures}
    left = {
        (target.context, unit)
        for plan in prepared.plans
        for target in plan.targets
        if (target.model, target.revision) not in failed
        for unit in plan.units
        if (target.context, unit) in missing
    }
    manifest = now.changed(failures=failures, **spent(now, prepared, report, total_s))
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
    """Return the missing units, as (context, unit)."""
    return {
        (target.context, unit)
        for plan in plans
        for target in plan.targets
        for unit in plan.units
        if not store.has_unit(target.context, unit)
    }
