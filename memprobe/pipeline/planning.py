"""From suite, checkpoints and items to units of work: what is scored, with what, under which key.

A run that grows (`run -p X` on an existing directory) keeps its history as stages: what an earlier
stage scored is used again, and the units of a stage depend on the suite, the items and the scoring
options alone, never on what a killed run had finished.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from memprobe.checkpoints import Checkpoint, config_digest, tokenizer_digest
from memprobe.errors import ItemError, Problem
from memprobe.pipeline.suite import Entry
from memprobe.pipeline.sweep import with_common_items
from memprobe.probes.contract import Offered
from memprobe.probes.placement import tokens_shown
from memprobe.tables.requests import Plan, Scheme, Search, Unit, is_search, merge_requests
from memprobe.tables.spans import unanswered
from memprobe.tables.views import CHAT_PART, WINDOWS
from memprobe.wording import counted

_MAX_SHOWN = 10


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """One probe entry planned for one sequence.

    Attributes:
        entry: The probe and its settings.
        plan: Its requests, those of unfit items left out.
        n_items: Items that it measures.
    """

    entry: Entry
    plan: Plan
    n_items: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """The items as planning sees them: lengths under one tokenizer, without text or ids.

    Attributes:
        table: The item table with `n_tokens, n_prefix_tokens, n_foil_tokens`.
        n_front: Tokens in front of an item, at most.
        context_tokens: Longest input of the model, BOS included; None: no limit is known.
        given: Columns that an item file gave, even if only nulls.
        windows: Rows of `WINDOWS` for every view that an entry asks for.
    """

    table: pl.DataFrame
    n_front: int
    context_tokens: int | None
    given: frozenset[str]
    windows: pl.DataFrame = field(default_factory=WINDOWS.empty)

    def seen_by(self, entry: Entry) -> pl.DataFrame | None:
        """Return the windows of an entry's view; None where it reads the items as they are."""
        view = entry.probe.view(entry.settings)
        return None if view is None else self.windows.filter(pl.col("view") == view.name)

    def offered_to(self, entry: Entry) -> Offered:
        """Return the items from which an entry takes its candidates."""
        return Offered(self.table, self.given, self.seen_by(entry))


@dataclass(frozen=True, slots=True)
class Target:
    """One checkpoint as results know it.

    Attributes:
        model: Hub id or name of the sequence.
        revision: Git revision or name of the checkpoint's folder.
        step: Training step; None where the checkpoint has none.
        context: Key of its scores: weights, tokenizer and scoring options.
        tokenizer: Digest of its tokenizer, None where there is none.
    """

    model: str
    revision: str
    step: int | None
    context: str
    tokenizer: str | None

    @property
    def label(self) -> str:
        """`model@revision`."""
        return f"{self.model}@{self.revision}"


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """All that is asked of one sequence of checkpoints.

    Attributes:
        targets: The checkpoints, in order.
        lengths: The items under this sequence's tokenizer.
        entries: The probe entries, in the suite's order.
        unfit: Items that an entry would measure and cannot: `item_id, probe, reason`.
        units: Unit key to unit of work; the same for every checkpoint.
    """

    targets: tuple[Target, ...]
    lengths: Lengths
    entries: tuple[EntryPlan, ...]
    unfit: pl.DataFrame
    units: dict[str, Unit]


def plan_sequence(
    stages: Sequence[Sequence[Entry]], targets: Sequence[Target], lengths: Lengths
) -> SequencePlan:
    """Plan everything that is asked of one sequence.

    Raises:
        ItemError: A probe finds no item that it can measure.
    """
    planned = [plan_entries(stage, lengths) for stage in stages]
    return SequencePlan(
        targets=tuple(targets),
        lengths=lengths,
        entries=tuple(each for plans, _ in planned for each in plans),
        unfit=pl.concat([unfit for _, unfit in planned]).unique(maintain_order=True),
        units=cut_stages([plans for plans, _ in planned], lengths.table),
    )


def plan_entries(entries: Sequence[Entry], lengths: Lengths) -> tuple[tuple[EntryPlan, ...], pl.DataFrame]:
    """Plan every entry, and list the items that one of them would measure but cannot.

    Entries that differ in nothing but their probe's swept setting measure the same items.

    Returns:
        The plans, and the unfit items: `item_id, probe, reason`.

    Raises:
        ItemError: A probe finds no item that it can measure.
    """
    plans, problems = [], []
    for entry in entries:
        candidates = entry.probe.candidates.select(lengths.offered_to(entry))
        if candidates.is_empty():
            problems.append(_nothing_to_measure(entry))
            continue
        planned = _plan_one(entry, candidates, lengths)
        plans.append(planned)
        if planned.n_items == 0:
            problems.append(_none_fits(planned, candidates.height))
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


def _none_fits(planned: EntryPlan, n_candidates: int) -> Problem:
    unfit = planned.plan.unfit
    reasons = unfit["reason"].unique().sort().to_list() if unfit is not None else []
    return Problem(
        f"{planned.entry.probe.name}: none of {counted(n_candidates, 'item')} can be measured",
        f"the first item {reasons[0]}" if reasons else "",
        "give longer items, or lower the lengths",
    )


def _nothing_to_measure(entry: Entry) -> Problem:
    needs = ", ".join(entry.probe.needs)
    return Problem(
        f"{entry.probe.name} needs {needs}, which no item has",
        fix=f"add the column to the items, or name the other probes with -p to leave {entry.probe.name} out",
    )


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
    """Return the tokens that a request reads: the last one is predicted, never read.

    Behind a choice comes a label, so all of it is read. A search reads what stands before `start` too, and
    at least one token of a prompt. A chat template has put its own tokens in front.
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


def unfit_problems(unfit: pl.DataFrame, items: pl.DataFrame) -> list[Problem]:
    """Return the first unfit items as problems with file and line, and a last one that counts the rest."""
    placed = unfit.join(
        items.select("item_id", "source_file", "source_line"), on="item_id", maintain_order="left"
    )
    problems = [
        Problem(
            f"{row['probe']}: item {row['item_id']} {row['reason']}",
            f"{row['source_file']}, line {row['source_line']}",
        )
        for row in placed.head(_MAX_SHOWN).iter_rows(named=True)
    ]
    rest = f"and {unfit.height - _MAX_SHOWN} more; " if unfit.height > _MAX_SHOWN else ""
    hint = Problem(
        f"{rest}{counted(unfit['item_id'].n_unique(), 'item')} cannot be measured",
        fix="change the lengths (--set PROBE.KEY=VALUE), or leave them out with --on-bad-item skip",
    )
    return [*problems, hint]


def cut_stages(stages: Sequence[Sequence[EntryPlan]], items: pl.DataFrame) -> dict[str, Unit]:
    """Return the units of all stages by key; a stage asks only for what no earlier one answers."""
    from memprobe.scoring.batch import cut_units

    units: dict[str, Unit] = {}
    searches = {search.key: search for stage in stages for each in stage for search in each.plan.searches}
    earlier: list[tuple[pl.DataFrame, frozenset[Scheme]]] = []
    hashes = dict(items.select("item_id", "content_hash").iter_rows())
    documents = dict(items.select("item_id", pl.coalesce("doc_id", "item_id")).iter_rows())
    for stage in stages:
        schemes = frozenset[Scheme]().union(*(each.plan.schemes for each in stage))
        requests = merge_requests(each.plan.requests for each in stage)
        held = [frame.with_columns(has_schemes=pl.lit(schemes <= under)) for frame, under in earlier]
        if held:
            requests = unanswered(requests, pl.concat(held))
        for part in cut_units(requests, documents):
            unit = _unit(part, schemes, searches)
            units[_unit_key(unit, hashes)] = unit
        earlier.append((requests, schemes))
    return units


def _unit(part: pl.DataFrame, schemes: frozenset[Scheme], searches: Mapping[str, Search]) -> Unit:
    search = searches.get(part["detail"][0])
    # Schemes say nothing of a search, so that it stays done when a probe with others is added.
    under = () if search else tuple(sorted(schemes, key=lambda scheme: scheme.name))
    return Unit(part, under, search)


def _unit_key(unit: Unit, hashes: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps([scheme.name for scheme in unit.schemes]).encode())
    for row in unit.requests.iter_rows():
        digest.update(json.dumps([hashes[row[0]], *row]).encode())
    return digest.hexdigest()[:24]


def befores(plans: Sequence[SequencePlan]) -> dict[str, tuple[str, int | None] | None]:
    """Return context and step of the checkpoint before each, by context; None for the first of a sequence.

    Checkpoints with the same weights have one context: what comes before the first of them counts.
    """
    found: dict[str, tuple[str, int | None] | None] = {}
    for plan in plans:
        for before, target in zip((None, *plan.targets), plan.targets, strict=False):
            found.setdefault(target.context, None if before is None else (before.context, before.step))
    return found


def context_key(checkpoint: Checkpoint, weights: str, *, bos: str, dtype: str) -> str:
    """Return the key of everything that a score depends on besides the item and the span."""
    tokenizer = tokenizer_digest(checkpoint.tokenizer_folder) if checkpoint.tokenizer_folder else "none"
    parts = ["units-v3", weights, config_digest(checkpoint), tokenizer, bos, dtype]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]
