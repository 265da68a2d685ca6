"""Find the checkpoints of a run, compare their weights, and give each the key of its scores."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from memprobe.checkpoints import (
    CheckpointSequence,
    count_parameters,
    fetch,
    resolve,
    weights_digest,
)
from memprobe.errors import CheckpointError, Problem
from memprobe.items import ItemSet
from memprobe.options import RunOptions
from memprobe.pipeline.control import Models, add_control
from memprobe.pipeline.listener import Notes
from memprobe.pipeline.suite import Suite
from memprobe.pipeline.units import context_key
from memprobe.wording import at_step


def read_models(options: RunOptions, items: ItemSet | None, notes: Notes) -> Models:
    """Resolve the specs of models and control; weights on the hub are fetched later, for scoring.

    Raises:
        CheckpointError: A spec, a folder or a revision cannot be used.
        SafetyError: Pickle, remote code or the network would be needed.
    """
    models = Models(_resolved(options.model, options, items, notes))
    if options.control is not None:
        alone = replace(options, steps=None)
        (found,) = _resolved((options.control,), alone, items, notes, is_control=True)
        models = add_control(models.sequences, found, notes.note)
    return replace(models, sequences=tuple(_described(each, options) for each in models.sequences))


def _described(sequence: CheckpointSequence, options: RunOptions) -> CheckpointSequence:
    """Fetch the bases of adapters, and count the parameters of checkpoints that are not on this machine."""
    checkpoints = [
        each if each.base is None or each.problems else fetch(each, offline=options.offline)
        for each in sequence.checkpoints
    ]
    return replace(sequence, checkpoints=count_parameters(checkpoints, offline=options.offline))


def _resolved(
    specs: Sequence[str],
    options: RunOptions,
    items: ItemSet | None,
    notes: Notes,
    *,
    is_control: bool = False,
) -> tuple[CheckpointSequence, ...]:
    sequences = resolve(
        specs,
        steps=options.steps,
        stages=options.stages,
        any_stages=is_control,
        tokenizer=options.tokenizer,
        offline=options.offline,
        allow_pickle=options.allow_pickle,
        trust_remote_code=options.trust_remote_code,
        needs_tokenizer=items is None or items.table["input_ids"].null_count() > 0 or "foil" in items.given,
    )
    _refuse_unwritable(sequences)
    for sequence in sequences:
        for text in sequence.notes:
            notes.note(text)
    return sequences


def _refuse_unwritable(sequences: Sequence[CheckpointSequence]) -> None:
    """Refuse folders whose names cannot be written to the files of a run.

    Raises:
        CheckpointError: A name is not UTF-8.
    """
    folders = {
        str(folder)
        for sequence in sequences
        for each in sequence.checkpoints
        for folder in (each.folder, each.tokenizer_folder)
        if folder is not None
    }
    shown = {name: name.encode("utf-8", "backslashreplace").decode() for name in sorted(folders)}
    what, fix = "the folder's name is not UTF-8, and cannot be written to the files of a run", "rename it"
    if problems := [Problem(what, safe, fix) for name, safe in shown.items() if name != safe]:
        raise CheckpointError(problems)


def score_keys(
    sequences: Sequence[CheckpointSequence], options: RunOptions, suite: Suite, notes: Notes
) -> dict[str, tuple[str, str]]:
    """Return weights digest and score key of each checkpoint, by `model@revision`."""
    checkpoints = [each for sequence in sequences for each in sequence.checkpoints]
    with ThreadPoolExecutor(max_workers=2) as pool:
        digests = list(pool.map(weights_digest, checkpoints))
    _same_weights(
        sequences, dict(zip([each.label for each in checkpoints], digests, strict=True)), suite, notes
    )
    return {
        each.label: (digest, context_key(each, digest, bos=options.bos, dtype=options.dtype))
        for each, digest in zip(checkpoints, digests, strict=True)
    }


def _same_weights(
    sequences: Sequence[CheckpointSequence], digests: Mapping[str, str], suite: Suite, notes: Notes
) -> None:
    """Check for steps with the same weights: an error for probes over time, else a note."""
    problems = []
    for sequence in sequences:
        steps: dict[str, list[str]] = {}
        for each in sequence.checkpoints:
            steps.setdefault(digests[each.label], []).append(f"{each.revision} ({at_step(each.step)})")
        problems += [
            Problem(
                f"{' and '.join(same)} hold the same weights", sequence.model, "leave one out with --steps"
            )
            for same in steps.values()
            if len(same) > 1
        ]
    over_time = dict.fromkeys(entry.probe.name for entry in suite.entries if entry.probe.over_time)
    if problems and over_time:
        why = f", which {' and '.join(over_time)} would mistake for perfect retention"
        raise CheckpointError([replace(each, what=each.what + why) for each in problems])
    for problem in problems:
        notes.note(f"{problem.where}: {problem.what}")
