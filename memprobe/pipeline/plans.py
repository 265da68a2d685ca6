"""Plans: the requests of each probe entry, and the units of work of each sequence."""

from dataclasses import dataclass, field

import polars as pl

from memprobe.pipeline.suite import Entry
from memprobe.probes.contract import Offered
from memprobe.tables.requests import Plan, Unit
from memprobe.tables.views import WINDOWS


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """One probe entry planned for one sequence.

    Attributes:
        entry: The probe and its settings.
        plan: Requests of the probe, without those of unfit items.
        n_items: Number of items that it measures.
    """

    entry: Entry
    plan: Plan
    n_items: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """The items for planning: lengths under one tokenizer, without text or ids.

    Attributes:
        table: The item table with `n_tokens, n_prefix_tokens, n_foil_tokens`.
        n_front: Largest number of tokens in front of an item.
        context_tokens: Longest input of the model, BOS included; None if no limit is known.
        given: Columns that an item file gave, even if only nulls.
        windows: Rows of `WINDOWS` for every view that an entry asks for.
    """

    table: pl.DataFrame
    n_front: int
    context_tokens: int | None
    given: frozenset[str]
    windows: pl.DataFrame = field(default_factory=WINDOWS.empty)

    def seen_by(self, entry: Entry) -> pl.DataFrame | None:
        """Return the windows of an entry's view; None if it reads the items as they are."""
        view = entry.probe.view(entry.settings)
        return None if view is None else self.windows.filter(pl.col("view") == view.name)

    def offered_to(self, entry: Entry) -> Offered:
        """Return the items from which an entry takes its candidates."""
        return Offered(self.table, self.given, self.seen_by(entry))


@dataclass(frozen=True, slots=True)
class Target:
    """One checkpoint, as named in results.

    Attributes:
        model: Hub id or name of the sequence.
        revision: Git revision or name of the checkpoint's folder.
        step: Training step; None if the checkpoint has none.
        context: Key of the scores: weights, tokenizer and scoring options.
        tokenizer: Digest of the tokenizer; None if there is none.
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
    """The plan of one sequence of checkpoints.

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
