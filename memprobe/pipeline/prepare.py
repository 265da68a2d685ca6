"""Read, check and plan a question: everything that is known before a model is loaded."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from memprobe.checkpoints import (
    CheckpointSequence,
    check_supply,
    count_parameters,
    fetch,
    resolve,
    weights_digest,
)
from memprobe.errors import CheckpointError, ItemError, OutsideVocabularyError, Problem
from memprobe.items import ItemSet, copies, copy_notes, doubts, n_copies, read_items
from memprobe.options import RunOptions
from memprobe.pipeline.control import Models, add_control, refuse_other_tokens
from memprobe.pipeline.history import impossible
from memprobe.pipeline.limits import read_all_limits
from memprobe.pipeline.manifest import (
    describe_checkpoints,
    describe_items,
    entries_of,
    merge_stages,
    new_manifest,
    refuse_other_question,
)
from memprobe.pipeline.planning import (
    Lengths,
    SequencePlan,
    Target,
    context_key,
    plan_sequence,
    unfit_problems,
)
from memprobe.pipeline.question import Question
from memprobe.pipeline.suite import Entry, Suite
from memprobe.tables.manifest import Manifest, SequenceEntry
from memprobe.tables.store import RunStore
from memprobe.tables.views import View
from memprobe.wording import at_step

if TYPE_CHECKING:
    from memprobe.scoring.load import Limits
    from memprobe.scoring.tokenise import TokenisedItems

BATCH_TOKENS = {"cpu": 4_096, "other": 32_768}


class Notes(Protocol):
    """Receives what the user should know that is not an error."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def note(self, text: str) -> None:
        """Something is worth knowing."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """Passes notes on and keeps them, for the manifest."""

    listener: Notes
    kept: list[str] = field(default_factory=list)

    def stage(self, name: str) -> None:
        self.listener.stage(name)

    def note(self, text: str) -> None:
        if text not in self.kept:
            self.kept.append(text)
            self.listener.note(text)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question, ready to be scored.

    Attributes:
        suite: All probe entries of the run, those that it already held first.
        options: As asked, with device, dtype and batch size resolved.
        items: The checked items.
        sequences: The checkpoints; weights of the hub may still have to be fetched.
        tokenised: The items with their ids, for each sequence.
        plans: What is asked of each sequence.
        unfit: Items that a probe would measure and cannot: `item_id, probe, reason`.
        manifest: What the run directory will say was asked.
    """

    suite: Suite
    options: RunOptions
    items: ItemSet
    sequences: tuple[CheckpointSequence, ...]
    tokenised: "tuple[TokenisedItems, ...]"
    plans: tuple[SequencePlan, ...]
    unfit: pl.DataFrame
    manifest: Manifest


def prepare(question: Question, notes: Notes, *, fresh: bool = False) -> Prepared:
    """Read, check and plan everything, without loading a model.

    Args:
        question: What is asked.
        notes: Receives what is not an error.
        fresh: What the run directory holds will be removed, so it need not fit.

    Raises:
        InputError: The items, the checkpoints or the run directory do not fit the question.
        SafetyError: Something unsafe, or the network under `offline`, would be needed.
    """
    kept, foreign = _Kept(notes), _Foreign()
    while True:
        try:
            return _prepare(question, kept, foreign, fresh=fresh)
        except OutsideVocabularyError as error:
            if question.options.on_bad_item != "skip" or not foreign.add(error):
                raise


@dataclass(frozen=True, slots=True)
class _Foreign:
    """Items with ids that a model does not have, which tokenising found, to be left out."""

    reasons: dict[str, str] = field(default_factory=dict)
    column: dict[str, str] = field(default_factory=dict)

    def add(self, error: OutsideVocabularyError) -> bool:
        """Add the items of an error; returns whether any is new."""
        new = error.reasons.keys() - self.reasons.keys()
        self.reasons.update({item: error.reasons[item] for item in new})
        self.column.update({item: error.column[item] for item in new})
        return bool(new)


def _prepare(question: Question, notes: "_Kept", foreign: _Foreign, *, fresh: bool) -> Prepared:
    """Prepare a question from items that the models can read, as far as is known."""
    from memprobe.scoring.load import resolve_device

    options = question.options
    notes.stage("read")
    items = read_items(options.data, limit=options.limit, on_bad=options.on_bad_item, offline=options.offline)
    if foreign.reasons:
        items = items.without(foreign.reasons, foreign.column)
    for text in doubts(items.table):
        notes.note(text)
    models = read_models(options, items, notes)
    sequences = models.sequences
    largest = max(each.n_bytes for sequence in sequences for each in sequence.checkpoints)
    device = resolve_device(options.device, n_bytes=largest)
    limits = read_all_limits(sequences, notes, trust_remote_code=options.trust_remote_code)
    if options.on_bad_item == "skip":
        # Ids that a model does not have are found before the run directory is compared: it holds the rest.
        for sequence, each in zip(sequences, limits, strict=True):
            _tokenise(sequence, items, options, (), each, lambda _: None)
    store = RunStore(question.out)
    if fresh:
        store.check_emptiable()
    old = None if fresh else store.read_manifest()
    options = replace(
        options,
        device=device,
        dtype=_dtype(options.dtype, device, limits[0].stored_dtype),
        batch_tokens=options.batch_tokens or _batch_tokens(old, device),
    )
    contexts = _contexts(sequences, options, question.suite, notes)
    manifest = _manifest(question, options, models, items, contexts)
    if old is not None:
        refuse_other_question(old, manifest, str(question.out))
        manifest = manifest.changed(
            stages=merge_stages(old, manifest), probes={**old.probes, **manifest.probes}
        )
    notes.stage("plan")
    stages = [entries_of(stage) for stage in manifest.stages]
    views = {view for stage in stages for each in stage if (view := each.probe.view(each.settings))}
    read = [
        _tokenise(sequence, items, options, views, each, notes.note)
        for sequence, each in zip(sequences, limits, strict=True)
    ]
    tokenised = tuple(each for each, _, _ in read)
    refuse_other_tokens(models, tokenised)
    manifest = manifest.changed(sequences=tuple(about for _, _, about in read))
    same = copies(items.table, [each.contents() for each in tokenised])
    tables = [(_with_copies(each.table, same), windows) for each, windows, _ in read]
    for text in copy_notes(items.table.with_columns(same), items.given):
        notes.note(text)
    plans = plans_of(manifest, stages, tables)
    if problems := impossible(plans, manifest):
        raise ItemError(problems)
    unfit = pl.concat([plan.unfit for plan in plans]).unique(maintain_order=True)
    if unfit.height and options.on_bad_item == "error":
        raise ItemError(unfit_problems(unfit, items.table))
    described = describe_items(items).changed(n_unfit=unfit["item_id"].n_unique(), n_copies=n_copies(same))
    manifest = manifest.changed(items=described, notes=tuple(dict.fromkeys(notes.kept)))
    suite = replace(question.suite, entries=tuple(entry for stage in stages for entry in stage))
    return Prepared(suite, options, items, sequences, tokenised, plans, unfit, manifest)


def _with_copies(table: pl.DataFrame, same: pl.Series) -> pl.DataFrame:
    """Return an item table with the column COPIES, where there are copies."""
    return table.with_columns(same) if same.null_count() < len(same) else table


def plans_of(
    manifest: Manifest,
    stages: Sequence[Sequence[Entry]],
    tables: Sequence[tuple[pl.DataFrame, pl.DataFrame]],
) -> tuple[SequencePlan, ...]:
    """Plan each sequence from what the manifest says of it, its item table and its windows.

    Needs neither a model nor a tokenizer, so a run directory can be measured again anywhere.

    Raises:
        ItemError: A probe finds no item that it can measure.
    """
    plans = []
    for about, (table, windows) in zip(manifest.sequences, tables, strict=True):
        lengths = Lengths(table, about.n_front, about.context_tokens, manifest.given, windows)
        targets = [
            Target(each.model, each.revision, each.step, each.context, each.tokenizer_digest)
            for each in manifest.checkpoints
            if each.model == about.model
        ]
        plans.append(plan_sequence(stages, targets, lengths))
    return tuple(plans)


def read_models(options: RunOptions, items: ItemSet | None, notes: Notes) -> Models:
    """Resolve the model specs and that of the control; weights of the hub stay there until they are scored.

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
    """Fetch the bases of adapters, and count the parameters of checkpoints that are not here."""
    checkpoints = [
        each if each.base is None or each.problems else fetch(each, offline=options.offline)
        for each in sequence.checkpoints
    ]
    return replace(sequence, checkpoints=count_parameters(checkpoints, offline=options.offline))


def check_supplies(prepared: Prepared, store: RunStore | None) -> None:
    """Check that what is still to be scored and is not here can be fetched and has room on the disk.

    Args:
        prepared: The question.
        store: Where units may be already; None: nothing was scored yet.

    Raises:
        InputError: The hub does not answer, or the disk has too little room.
        SafetyError: A download is needed and the network may not be used.
    """
    needed = [
        checkpoint
        for sequence, plan in zip(prepared.sequences, prepared.plans, strict=True)
        for checkpoint, target in zip(sequence.checkpoints, plan.targets, strict=True)
        if store is None or not all(store.has_unit(target.context, unit) for unit in plan.units)
    ]
    options = prepared.options
    check_supply(needed, keep=options.keep_checkpoints, offline=options.offline)


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
    """Refuse folders whose names no file of a run could hold.

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
    if problems := [Problem(what, told, fix) for name, told in shown.items() if name != told]:
        raise CheckpointError(problems)


def _dtype(asked: str, device: str, stored: str) -> Any:  # noqa: ANN401
    if asked != "auto":
        return asked
    return "float32" if device == "cpu" else stored


def _batch_tokens(old: Manifest | None, device: str) -> int:
    """Choose the batch once: a run that goes on keeps what its manifest says."""
    if old is not None and old.batch_tokens is not None:
        return old.batch_tokens
    return BATCH_TOKENS["cpu" if device == "cpu" else "other"]


def _contexts(
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
    """Two steps with the same weights: an error for probes over time, else a note."""
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


def _manifest(
    question: Question,
    options: RunOptions,
    models: Models,
    items: ItemSet,
    contexts: Mapping[str, tuple[str, str]],
) -> Manifest:
    return new_manifest(question.suite, question.options).changed(
        device=options.device,
        dtype=options.dtype,
        bos=options.bos,
        seed=options.seed,
        include_text=options.include_text,
        batch_tokens=options.batch_tokens,
        items=describe_items(items),
        checkpoints=describe_checkpoints(models.sequences, contexts),
        control=models.control,
    )


def _tokenise(
    sequence: CheckpointSequence,
    items: ItemSet,
    options: RunOptions,
    views: Collection[View],
    limits: "Limits",
    note: Callable[[str], None],
) -> "tuple[TokenisedItems, pl.DataFrame, SequenceEntry]":
    """Tokenise the items for one sequence; returns them, their windows, and what the manifest keeps."""
    from memprobe.scoring.tokenise import texts_of, tokenise
    from memprobe.scoring.tokenizer import load_tokenizer
    from memprobe.scoring.windows import with_views

    folder = sequence.tokenizer_folder
    trust, texts = options.trust_remote_code, texts_of(items.table)
    try:
        tokenizer = (
            load_tokenizer(folder, trust_remote_code=trust, note=note, texts=texts) if folder else None
        )
    except CheckpointError as error:
        if texts:
            raise
        note(f"no tokenizer was used, and items of input_ids need none: {error.problems[0].what}")
        tokenizer = None
    tokenised = tokenise(items.table, tokenizer, bos=options.bos, limits=limits)
    tokenised, windows = with_views(
        tokenised, tokenizer, views, limits.vocabulary, context_tokens=limits.context_tokens
    )
    for text in tokenised.notes:
        note(text)
    about = SequenceEntry(
        model=sequence.model,
        n_front=tokenised.n_front,
        context_tokens=limits.context_tokens,
        vocabulary=limits.vocabulary,
    )
    return tokenised, windows, about
