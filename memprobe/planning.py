"""From suite, checkpoints and items to units of work: what is scored, with what, under which key.

A run that grows (`run -p X` on an existing directory) keeps its history as stages: what an earlier
stage scored is used again, and the units of a stage depend on the suite, the items and the scoring
options alone, never on what a killed run had finished.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from memprobe.checkpoints import Checkpoint, CheckpointSequence, config_digest, tokenizer_digest
from memprobe.errors import ItemError, Problem
from memprobe.items import ItemSet
from memprobe.suite import Entry
from memprobe.tables.requests import Plan, Scheme, Unit, merge_requests
from memprobe.tables.spans import unanswered

if TYPE_CHECKING:
    from memprobe.scoring.load import Limits
    from memprobe.scoring.tokenise import TokenisedItems

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
class SequencePlan:
    """All that is to be scored with one sequence of checkpoints.

    Attributes:
        sequence: The checkpoints, in order.
        tokenised: The items under this sequence's tokenizer.
        entries: The probe entries, in the suite's order.
        units: Unit key to unit of work; the same for every checkpoint.
    """

    sequence: CheckpointSequence
    tokenised: "TokenisedItems"
    entries: tuple[EntryPlan, ...]
    units: dict[str, Unit]


def plan_entries(
    entries: Sequence[Entry], items: ItemSet, tokenised: "TokenisedItems", limits: "Limits"
) -> tuple[tuple[EntryPlan, ...], pl.DataFrame]:
    """Plan every entry, and list the items that one of them would measure but cannot.

    Returns:
        The plans, and the unfit items: `item_id, probe, reason`.

    Raises:
        ItemError: A probe finds no item that it can measure.
    """
    plans, unfit, problems = [], [], []
    for entry in entries:
        candidates = _with_needs(tokenised.table, entry.probe.needs, items.given)
        if candidates.is_empty():
            problems.append(_nothing_to_measure(entry))
            continue
        planned = _plan_one(entry, candidates, tokenised.n_front, limits)
        plans.append(planned)
        if planned.plan.unfit is not None:
            unfit.append(
                planned.plan.unfit.select("item_id", probe=pl.lit(entry.probe.name), reason="reason")
            )
        if planned.n_items == 0:
            reasons = (
                planned.plan.unfit["reason"].unique().sort().to_list()
                if planned.plan.unfit is not None
                else []
            )
            problems.append(
                Problem(
                    f"{entry.probe.name}: none of {candidates.height} items can be measured",
                    f"the first item {reasons[0]}" if reasons else "",
                    "give longer items, or lower the lengths",
                )
            )
    if problems:
        raise ItemError(problems)
    schema = {"item_id": pl.String, "probe": pl.String, "reason": pl.String}
    return tuple(plans), pl.concat([pl.DataFrame(schema=schema), *unfit]).unique(maintain_order=True)


def _with_needs(table: pl.DataFrame, needs: tuple[str, ...], given: frozenset[str]) -> pl.DataFrame:
    if "first_step" in needs and "first_step" not in given:
        return table.clear()
    # A null first_step says "never trained on", which is a value; any other null says "not there".
    required = [pl.col(name).is_not_null() for name in needs if name != "first_step"]
    return table.filter(pl.all_horizontal(required)) if required else table


def _nothing_to_measure(entry: Entry) -> Problem:
    needs = ", ".join(entry.probe.needs)
    return Problem(
        f"{entry.probe.name} needs {needs}, which no item has",
        fix=f"add the column to the items, or name the other probes with -p to leave {entry.probe.name} out",
    )


def _plan_one(entry: Entry, candidates: pl.DataFrame, n_front: int, limits: "Limits") -> EntryPlan:
    plan = entry.probe.plan(candidates, entry.settings)
    too_long = plan.requests.clear()
    if limits.context_tokens is not None:
        # The last token is predicted, never read.
        read = pl.col("stop") - pl.col("start") + n_front - 1
        too_long = plan.requests.filter(read > limits.context_tokens)
    long_items = too_long.group_by("item_id", maintain_order=True).agg(
        n=(pl.col("stop") - pl.col("start")).max()
    )
    reasons = long_items.select(
        "item_id",
        reason=pl.format(
            "has {} tokens to read, the model's context holds {}",
            pl.col("n") + n_front - 1,
            pl.lit(limits.context_tokens),
        ),
    )
    unfit = pl.concat([frame for frame in (plan.unfit, reasons) if frame is not None])
    requests = plan.requests.join(reasons, on="item_id", how="anti", maintain_order="left")
    return EntryPlan(entry, replace(plan, requests=requests, unfit=unfit), requests["item_id"].n_unique())


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
        f"{rest}{unfit['item_id'].n_unique()} items cannot be measured",
        fix="change the lengths (--set PROBE.KEY=VALUE), or leave them out with --on-bad-item skip",
    )
    return [*problems, hint]


def cut_stages(stages: Sequence[Sequence[EntryPlan]], tokenised: "TokenisedItems") -> dict[str, Unit]:
    """Return the units of all stages by key; a stage asks only for what no earlier one answers."""
    from memprobe.scoring.batch import cut_units

    units: dict[str, Unit] = {}
    earlier: list[tuple[pl.DataFrame, frozenset[Scheme]]] = []
    hashes = dict(tokenised.table.select("item_id", "content_hash").iter_rows())
    for stage in stages:
        schemes = frozenset[Scheme]().union(*(each.plan.schemes for each in stage))
        requests = merge_requests(each.plan.requests for each in stage)
        held = [frame.with_columns(has_schemes=pl.lit(schemes <= under)) for frame, under in earlier]
        if held:
            requests = unanswered(requests, pl.concat(held))
        for part in cut_units(requests):
            unit = Unit(part, tuple(sorted(schemes, key=lambda scheme: scheme.name)))
            units[_unit_key(unit, hashes)] = unit
        earlier.append((requests, schemes))
    return units


def _unit_key(unit: Unit, hashes: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps([scheme.name for scheme in unit.schemes]).encode())
    for row in unit.requests.iter_rows():
        digest.update(json.dumps([hashes[row[0]], *row]).encode())
    return digest.hexdigest()[:24]


def context_key(checkpoint: Checkpoint, weights: str, *, bos: str, dtype: str) -> str:
    """Return the key of everything that a score depends on besides the item and the span."""
    tokenizer = tokenizer_digest(checkpoint.tokenizer_folder) if checkpoint.tokenizer_folder else "none"
    parts = ["units-v1", weights, config_digest(checkpoint), tokenizer, bos, dtype]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]
