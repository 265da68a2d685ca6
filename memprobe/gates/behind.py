"""Count the items behind a row: those never or not yet trained on, and placeholders of a template.

A row does not pass a limit on memorization if the model could not have learned any of its items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.pipeline.reading import Run
from memprobe.tables.conditions import parse
from memprobe.tables.facts import TRAINED, is_control, is_timed, with_trained

_COLUMNS = ("model", "group", "exposures", "first_step", TRAINED, "content_hash")
NO_ITEMS = "the run's table of items is missing, so it is not known what was measured"


@dataclass(frozen=True, slots=True)
class Behind:
    """Counts of the items behind a row.

    Attributes:
        n: Items of the row's model, group, exposure count and part.
        n_never: Items never trained on.
        n_later: Items trained on after the row's checkpoint.
        n_placeholders: Unchanged placeholder items of a template of `memprobe init`.
    """

    n: int = 0
    n_never: int = 0
    n_later: int = 0
    n_placeholders: int = 0

    @property
    def n_unlearned(self) -> int:
        """Number of items that the checkpoint cannot have learned."""
        return self.n_never + self.n_later

    @property
    def is_unlearned(self) -> bool:
        """Return whether there are items and none can have been learned."""
        return 0 < self.n == self.n_unlearned


@dataclass(frozen=True, slots=True)
class RunItems:
    """The items of a run.

    Attributes:
        table: `model, group, exposures, first_step, trained, is_placeholder`; None if there is no table.
        last: The last step of each model; None if it has no step.
        control: The control model, which trained on none of the items; None if there is no control.
        reason: Why the items are unknown although they should be known; else empty.
    """

    table: pl.DataFrame | None
    last: Mapping[str, int | None]
    control: str | None
    reason: str = ""

    def of(self, row: Mapping[str, Any]) -> Behind:
        """Return the counts behind a row of a summary or a comparison."""
        if self.table is None:
            return Behind()
        part = parse(row["condition"])
        chosen = self.table.filter(pl.col("model") == row["model"])
        if row["group"] is not None:
            chosen = chosen.filter(pl.col("group") == row["group"])
        if part.get("exposures", "").isdigit():
            chosen = chosen.filter(pl.col("exposures") == int(part["exposures"]))
        if part.get(TRAINED) in ("true", "false"):
            chosen = chosen.filter(pl.col(TRAINED) == (part[TRAINED] == "true"))
        step = row["step"] if row["step"] is not None else self.last.get(row["model"])
        later = is_timed() & (pl.col("first_step") > step) if step is not None else pl.lit(value=False)
        never = pl.lit(value=True) if row["model"] == self.control else is_control()
        counts = chosen.select(
            n=pl.len(),
            n_never=never.sum() if row["model"] != self.control else pl.len(),
            n_later=(later & never.not_()).sum() if row["model"] != self.control else pl.lit(0),
            n_placeholders=pl.col("is_placeholder").sum(),
        )
        return Behind(**{name: int(value or 0) for name, value in counts.row(0, named=True).items()})


def items_of(run: Run, steps: Mapping[str, tuple[int | None, ...]]) -> RunItems:
    """Read the facts of a run's items.

    Args:
        run: The run.
        steps: Steps of each model's checkpoints, ascending; None for a checkpoint without a step.
    """
    about = run.about
    control = about.control.model if about.control else None
    last = {model: found[-1] if found else None for model, found in steps.items()}
    if about.items is None:
        return RunItems(None, last, control)
    if "items" not in run.table_names:
        return RunItems(None, last, control, NO_ITEMS)
    from memprobe.bench.templates import placeholder_hashes

    items = run.table("items")
    missing = [pl.lit(None, dtype=pl.Int64).alias("first_step")] if "first_step" not in items.columns else []
    items = with_trained(items.with_columns(missing), about.given).select(_COLUMNS)
    placeholder = pl.col("content_hash").is_in(list(placeholder_hashes()))
    return RunItems(items.with_columns(is_placeholder=placeholder).drop("content_hash"), last, control)
