"""Read, check and plan a question: everything that needs no loaded model."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from memprobe.checkpoints import (
    CheckpointSequence,
)
from memprobe.errors import ItemError, OutsideVocabularyError
from memprobe.items import ItemSet, copies, copy_notes, doubts, n_copies, read_items
from memprobe.options import RunOptions
from memprobe.pipeline.control import Models, refuse_other_tokens
from memprobe.pipeline.history import impossible
from memprobe.pipeline.limits import read_all_limits
from memprobe.pipeline.listener import Notes
from memprobe.pipeline.manifest import (
    describe_checkpoints,
    describe_items,
    entries_of,
    merge_stages,
    new_manifest,
    refuse_other_question,
)
from memprobe.pipeline.models import read_models, score_keys
from memprobe.pipeline.planning import plans_of
from memprobe.pipeline.plans import SequencePlan
from memprobe.pipeline.question import Question
from memprobe.pipeline.suite import Suite
from memprobe.pipeline.tokens import tokenise_for, with_copies
from memprobe.pipeline.unfit import unfit_problems
from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore

if TYPE_CHECKING:
    from memprobe.scoring.tokenise import TokenisedItems

BATCH_TOKENS = {"cpu": 4_096, "other": 32_768}


@dataclass(frozen=True, slots=True)
class _Kept:
    """Passes notes on and keeps them for the manifest."""

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
        suite: All probe entries of the run; those of an existing run come first.
        options: The options as given, with device, dtype and batch size resolved.
        items: The checked items.
        sequences: The checkpoints; weights on the hub may still have to be fetched.
        tokenised: The items with their token ids, for each sequence.
        plans: The plan of each sequence.
        unfit: Items that a probe should measure but cannot: `item_id, probe, reason`.
        manifest: Manifest with the question, for the run directory.
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
        question: The question.
        notes: Receives notes that are not errors.
        fresh: The contents of the run directory will be removed, so they need not fit the question.

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
    """Items to leave out because they have token ids that a model lacks, as found by tokenising."""

    reasons: dict[str, str] = field(default_factory=dict)
    column: dict[str, str] = field(default_factory=dict)

    def add(self, error: OutsideVocabularyError) -> bool:
        """Add the items of an error; returns whether any is new."""
        new = error.reasons.keys() - self.reasons.keys()
        self.reasons.update({item: error.reasons[item] for item in new})
        self.column.update({item: error.column[item] for item in new})
        return bool(new)


def _prepare(question: Question, notes: "_Kept", foreign: _Foreign, *, fresh: bool) -> Prepared:
    """Prepare a question without the items in `foreign`, which a model cannot read."""
    from memprobe.scoring.load import resolve_device

    options = question.options
    notes.stage("read")
    items = read_items(
        options.data,
        limit=options.limit,
        on_bad=options.on_bad_item,
        offline=options.offline,
        mapping=options.map,
    )
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
        # Items with ids that a model lacks are found before the comparison with the run directory, which
        # holds the other items.
        for sequence, each in zip(sequences, limits, strict=True):
            tokenise_for(sequence, items, options, (), each, lambda _: None)
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
    contexts = score_keys(sequences, options, question.suite, notes)
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
        tokenise_for(sequence, items, options, views, each, notes.note)
        for sequence, each in zip(sequences, limits, strict=True)
    ]
    tokenised = tuple(each for each, _, _ in read)
    refuse_other_tokens(models, tokenised)
    manifest = manifest.changed(sequences=tuple(about for _, _, about in read))
    same = copies(items.table, [each.contents() for each in tokenised])
    tables = [(with_copies(each.table, same), windows) for each, windows, _ in read]
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


def _dtype(asked: str, device: str, stored: str) -> Any:  # noqa: ANN401
    if asked != "auto":
        return asked
    return "float32" if device == "cpu" else stored


def _batch_tokens(old: Manifest | None, device: str) -> int:
    """Return the tokens of a batch; a run that continues keeps the number in its manifest."""
    if old is not None and old.batch_tokens is not None:
        return old.batch_tokens
    return BATCH_TOKENS["cpu" if device == "cpu" else "other"]


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
