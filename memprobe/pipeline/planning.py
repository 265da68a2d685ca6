"""Plan a run: from suite, checkpoints and items to units of work, each under its key.

A run that grows (`run -p X` on an existing directory) keeps its history as stages: scores of an earlier
stage are used again, and the units of a stage depend on the suite, the items and the scoring
options alone, never on what a killed run had finished.
"""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from memprobe.errors import ItemError
from memprobe.pipeline.plans import EntryPlan, Lengths, SequencePlan, Target
from memprobe.pipeline.suite import Entry
from memprobe.pipeline.sweep import with_common_items
from memprobe.pipeline.unfit import none_fits, nothing_to_measure
from memprobe.pipeline.units import cut_stages
from memprobe.probes.placement import tokens_shown
from memprobe.tables.manifest import Manifest
from memprobe.tables.requests import is_search
from memprobe.tables.views import CHAT_PART


def plan_sequence(
    stages: Sequence[Sequence[Entry]],
    targets: Sequence[Target],
    lengths: Lengths,
    always: Sequence[Sequence[str]] | None = None,
) -> SequencePlan:
    """Plan everything that is asked of one sequence.

    Args:
        stages: The probe entries of each stage, in the order in which they were asked.
        targets: The checkpoints.
        lengths: The items under the sequence's tokenizer.
        always: See `cut_stages`.

    Raises:
        ItemError: A probe finds no item that it can measure.
    """
    planned = [plan_entries(stage, lengths) for stage in stages]
    return SequencePlan(
        targets=tuple(targets),
        lengths=lengths,
        entries=tuple(each for plans, _ in planned for each in plans),
        unfit=pl.concat([unfit for _, unfit in planned]).unique(maintain_order=True),
        units=cut_stages([plans for plans, _ in planned], lengths.table, always),
    )


def plan_entries(entries: Sequence[Entry], lengths: Lengths) -> tuple[tuple[EntryPlan, ...], pl.DataFrame]:
    """Plan every entry, and list the items that one of them would measure but cannot.

    Entries that differ only in their probe's swept setting measure the same items.

    Returns:
        The plans, and the unfit items: `item_id, probe, reason`.

    Raises:
        ItemError: A probe finds no item that it can measure.
    """
    plans, problems = [], []
    for entry in entries:
        candidates = entry.probe.candidates.select(lengths.offered_to(entry))
        if candidates.is_empty():
            problems.append(nothing_to_measure(entry))
            continue
        planned = _plan_one(entry, candidates, lengths)
        plans.append(planned)
        if planned.n_items == 0:
            problems.append(none_fits(planned, candidates.height))
    if problems:
        raise ItemError(problems)
    measured = [each.entry for each in plans]
    common = with_common_items(measured, [each.plan for each in plans])
    fitting = tuple(
        EntryPlan(entry, plan, plan.requests["item_id"].n_unique())
        for entry, plan in zip(measured, common, strict=True)
    )
    schema = {"item_id": pl.String, "probe": pl.String, "reason": pl.String}
    unfit = [
        each.plan.unfit.select("item_id", probe=pl.lit(each.entry.probe.name), reason="reason")
        for each in fitting
        if each.plan.unfit is not None
    ]
    return fitting, pl.concat([pl.DataFrame(schema=schema), *unfit]).unique(maintain_order=True)


def _plan_one(entry: Entry, candidates: pl.DataFrame, lengths: Lengths) -> EntryPlan:
    windows = lengths.seen_by(entry)
    # An item without a window keeps one row, with nulls, so that the probe can say why.
    seen = candidates if windows is None else candidates.join(windows, on="item_id", how="left")
    plan = entry.probe.plan(seen, entry.settings)
    too_long = plan.requests.clear().with_columns(n=pl.lit(0))
    if lengths.context_tokens is not None:
        too_long = plan.requests.with_columns(n=_n_read(lengths.n_front)).filter(
            pl.col("n") > lengths.context_tokens
        )
    long_items = too_long.group_by("item_id", maintain_order=True).agg(pl.col("n").max())
    reasons = long_items.select(
        "item_id",
        reason=pl.format(
            "has {} to read, the model's context holds {}",
            tokens_shown(pl.col("n")),
            pl.lit(lengths.context_tokens),
        ),
    )
    unfit = pl.concat([frame for frame in (plan.unfit, reasons) if frame is not None])
    requests = plan.requests.join(reasons, on="item_id", how="anti", maintain_order="left")
    return EntryPlan(entry, replace(plan, requests=requests, unfit=unfit), requests["item_id"].n_unique())


def _n_read(n_front: int) -> pl.Expr:
    """Return the number of tokens that a request reads; the last token is predicted, not read.

    A choice is followed by a label, so all of it is read. A search also reads the tokens before `start`, and
    at least one token of a prompt. With a chat template, the front tokens are part of the string.
    """
    front = pl.when(pl.col("part").str.starts_with(CHAT_PART)).then(0).otherwise(n_front)
    scored = pl.col("stop") - pl.col("start") + front - 1
    return (
        pl.when(is_search())
        .then(pl.col("stop") + n_front)
        .when(pl.col("detail") == "choice")
        .then(scored + 1)
        .otherwise(scored)
    )


def plans_of(
    manifest: Manifest,
    stages: Sequence[Sequence[Entry]],
    tables: Sequence[tuple[pl.DataFrame, pl.DataFrame]],
) -> tuple[SequencePlan, ...]:
    """Plan each sequence from its manifest entry, its item table and its windows.

    Needs neither a model nor a tokenizer, so a run directory can be measured again anywhere.

    Raises:
        ItemError: A probe finds no item that it can measure.
    """
    plans = []
    # All entries of a stage are of one version.
    always = [stage[0].statistics if stage else () for stage in manifest.stages]
    for about, (table, windows) in zip(manifest.sequences, tables, strict=True):
        lengths = Lengths(table, about.n_front, about.context_tokens, manifest.given, windows)
        targets = [
            Target(each.model, each.revision, each.step, each.context, each.tokenizer_digest)
            for each in manifest.checkpoints
            if each.model == about.model
        ]
        plans.append(plan_sequence(stages, targets, lengths, always))
    return tuple(plans)
