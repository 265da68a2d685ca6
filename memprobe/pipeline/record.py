"""The parts of the manifest that record the work of processes: failures, time, paths and notes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memprobe.pipeline.plans import SequencePlan
from memprobe.pipeline.prepare import Prepared
from memprobe.tables.manifest import FailureEntry, LoadNoteEntry, Manifest

if TYPE_CHECKING:
    from memprobe.scoring.job import ScoringReport


# Keys that a manifest keeps when a command continues its run.
CARRIED = ("timings", "paths", "devices", "load_notes")


def failures_of(
    plans: Sequence[SequencePlan],
    report: "ScoringReport",
    known: Sequence[FailureEntry],
    missing: set[tuple[str, str]],
) -> tuple[FailureEntry, ...]:
    """Return the checkpoints that failed, in this process or another, and that have missing units."""
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


def spent(now: Manifest, prepared: Prepared, report: "ScoringReport", total_s: float) -> dict[str, Any]:
    """Return the manifest's seconds, paths and devices with those of this process added."""
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
    """Return the notes about loading, those of this process added; each text occurs once."""
    noted = {each.text: set(each.checkpoints) for each in now.load_notes}
    for text, checkpoints in report.notes.items():
        noted.setdefault(text, set()).update(checkpoints)
    return tuple(LoadNoteEntry(text=text, checkpoints=tuple(sorted(noted[text]))) for text in sorted(noted))
