"""Units of work: merged requests cut into parts, with keys that depend only on the question."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import polars as pl

from memprobe.checkpoints import Checkpoint, config_digest, tokenizer_digest
from memprobe.pipeline.plans import EntryPlan, SequencePlan
from memprobe.tables.requests import ALWAYS, Search, Statistic, Unit, merge_requests
from memprobe.tables.spans import unanswered


def cut_stages(
    stages: Sequence[Sequence[EntryPlan]], items: pl.DataFrame, always: Sequence[Sequence[str]] | None = None
) -> dict[str, Unit]:
    """Return the units of all stages by key; a stage asks only for what no earlier stage answers.

    Args:
        stages: The planned entries of each stage.
        items: The item table.
        always: For each stage, the names in `ALWAYS` that it is scored with even if no probe asks for them;
            None: no such names in any stage.
    """
    from memprobe.scoring.batch import cut_units

    units: dict[str, Unit] = {}
    searches = {search.key: search for stage in stages for each in stage for search in each.plan.searches}
    earlier: list[tuple[pl.DataFrame, frozenset[Statistic]]] = []
    hashes = dict(items.select("item_id", "content_hash").iter_rows())
    documents = dict(items.select("item_id", pl.coalesce("doc_id", "item_id")).iter_rows())
    for stage, names in zip(stages, always or [()] * len(stages), strict=True):
        asked = frozenset[Statistic]().union(*(each.plan.statistics for each in stage))
        statistics = asked | {ALWAYS[name] for name in names}
        requests = merge_requests(each.plan.requests for each in stage)
        held = [frame.with_columns(has_statistics=pl.lit(asked <= under)) for frame, under in earlier]
        if held:
            requests = unanswered(requests, pl.concat(held))
        for part in cut_units(requests, documents):
            unit = _unit(part, statistics, searches)
            units[_unit_key(unit, hashes)] = unit
        earlier.append((requests, statistics))
    return units


def _unit(part: pl.DataFrame, statistics: frozenset[Statistic], searches: Mapping[str, Search]) -> Unit:
    search = searches.get(part["detail"][0])
    # A search has no statistics, so that it stays done when a probe with further statistics is added.
    of_tokens = () if search else tuple(sorted(statistics, key=lambda each: each.name))
    return Unit(part, of_tokens, search)


def _unit_key(unit: Unit, hashes: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps([each.name for each in unit.statistics]).encode())
    for row in unit.requests.iter_rows():
        digest.update(json.dumps([hashes[row[0]], *row]).encode())
    return digest.hexdigest()[:24]


def befores(plans: Sequence[SequencePlan]) -> dict[str, tuple[str, int | None] | None]:
    """Return, by context, context and step of the checkpoint before; None for the first of a sequence.

    Checkpoints with the same weights share a context; the checkpoint before the first of them counts.
    """
    found: dict[str, tuple[str, int | None] | None] = {}
    for plan in plans:
        for before, target in zip((None, *plan.targets), plan.targets, strict=False):
            found.setdefault(target.context, None if before is None else (before.context, before.step))
    return found


def context_key(checkpoint: Checkpoint, weights: str, *, bos: str, dtype: str) -> str:
    """Return a key for everything that a score depends on except the item and the span."""
    tokenizer = tokenizer_digest(checkpoint.tokenizer_folder) if checkpoint.tokenizer_folder else "none"
    parts = ["units-v3", weights, config_digest(checkpoint), tokenizer, bos, dtype]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]
