"""Items that a probe cannot measure, as problems."""

import polars as pl

from memprobe.errors import Problem
from memprobe.pipeline.plans import EntryPlan
from memprobe.pipeline.suite import Entry
from memprobe.wording import counted

_MAX_SHOWN = 10


def none_fits(planned: EntryPlan, n_candidates: int) -> Problem:
    """Return the problem that an entry can measure none of its candidate items."""
    unfit = planned.plan.unfit
    reasons = unfit["reason"].unique().sort().to_list() if unfit is not None else []
    return Problem(
        f"{planned.entry.probe.name}: none of {counted(n_candidates, 'item')} can be measured",
        f"the first item {reasons[0]}" if reasons else "",
        "give longer items, or lower the lengths",
    )


def nothing_to_measure(entry: Entry) -> Problem:
    """Return the problem that no item has the columns that an entry needs."""
    needs = ", ".join(entry.probe.needs)
    return Problem(
        f"{entry.probe.name} needs {needs}, which no item has",
        fix=f"add the column to the items, or name the other probes with -p to leave {entry.probe.name} out",
    )


def unfit_problems(unfit: pl.DataFrame, items: pl.DataFrame) -> list[Problem]:
    """Return the first unfit items as problems with file and line, and a last problem with the counts."""
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
