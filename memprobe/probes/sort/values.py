"""Values of the metrics of `sort`, computed from trials: for all trials, and for each breakdown."""

from typing import Any

import polars as pl

from memprobe.probes.sort.trials import right
from memprobe.tables.conditions import built, has, has_pair, joined
from memprobe.wording import counted

BY_LIKELIHOOD = "mode=likelihood"
"""The part of a condition under which accuracy also measures coherence."""

# Breakdowns of accuracy and gap: name, and expression for a trial's value.
BREAKDOWNS = {
    "excerpt_words": pl.col("excerpt_words"),
    "segment_words": pl.col("segment_words"),
    "distance_bin": pl.col("distance_bin"),
    # The last quarter includes 1, where only an empty excerpt can begin.
    "position": (pl.col("excerpt_start_frac") * 4).floor().clip(0, 3).cast(pl.Int64) + 1,
}
# A model that answers puts most of its mass on the labels; one that does not answer, some thousandths.
LEAST_MASS = 0.1
_OF = built(condition="condition", mode="mode")


def correct(table: pl.DataFrame, _: Any) -> pl.DataFrame:  # noqa: ANN401
    """Return whether each trial is right, by condition and mode, and also by each breakdown."""
    return _broken_down(table.with_columns(of=_OF, value="correct"), ["value"])


def gap(table: pl.DataFrame, _: Any) -> pl.DataFrame:  # noqa: ANN401
    """Return whether each trial is right in context (`value`), and whether it is from memory (`other`).

    Trials that were not asked in context have no row; `other` is null if a trial was not asked from memory.
    """
    asked = table.filter(pl.col("mode") == "prompt")
    in_context = asked.filter(pl.col("condition") == "in_context").with_columns(value="correct")
    other = asked.filter(pl.col("condition") == "parametric").select("item_id", other="correct")
    pairs = in_context.join(other, on="item_id", maintain_order="left")
    return _broken_down(pairs.with_columns(of=built(mode="mode")), ["value", "other"])


def position_bias(table: pl.DataFrame, _: Any) -> pl.DataFrame:  # noqa: ANN401
    """Return the share of the two presentations answered with the first label; `other`: with the second."""
    # In order AB the log-odds of the first label are bias + delta, in order BA bias - delta.
    bias, delta = pl.col("position_bias"), pl.col("delta")
    return (
        table.filter(pl.col("mode") == "prompt")
        .with_columns(ab=(bias + delta).fill_nan(None), ba=(bias - delta).fill_nan(None))
        .with_columns(value=(right("ab") + right("ba")) / 2)
        .select("item_id", condition=_OF, value="value", other=1 - pl.col("value"))
    )


def mass(table: pl.DataFrame, _: Any) -> pl.DataFrame:  # noqa: ANN401
    """Return the probability that the next token is one of the labels."""
    asked = table.filter(pl.col("mode") == "prompt")
    return asked.select("item_id", condition=_OF, value="label_mass")


def _broken_down(rows: pl.DataFrame, values: list[str]) -> pl.DataFrame:
    """Return values with the condition `of`, and again with `of` and each breakdown that a trial has."""
    frames = [rows.select("item_id", pl.col("of").alias("condition"), *values)]
    for name, part in BREAKDOWNS.items():
        known = rows.with_columns(part=part).filter(pl.col("part").is_not_null())
        condition = joined(pl.col("of"), built(**{name: "part"}))
        frames.append(known.select("item_id", condition, *values))
    return pl.concat(frames)


def doubts(summary: pl.DataFrame, settings: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Return the reasons to doubt the estimates of one model.

    Args:
        summary: The probe's summary rows of the model.
        settings: Settings of the probe.
    """
    found = []
    excess = summary.filter(pl.col("metric") == "accuracy_excess_frac", has_pair(BY_LIKELIHOOD))
    if settings.mode != "prompt" and excess.is_empty():
        found.append(
            "likelihood mode is not in the summary: it also measures coherence, so it needs trials of "
            "documents never trained on (exposures 0) beside trained ones, or --control MODEL"
        )
    of_all = pl.col("group").is_null() & ~has("exposures")
    masses = summary.filter(pl.col("metric") == "label_mass", of_all)
    for (condition,), rows in masses.group_by("condition", maintain_order=True):
        low = rows["estimate"].filter(rows["estimate"] < LEAST_MASS).to_list()
        if low:
            found.append(
                f"{condition}: the labels hold {min(low):.2g} of the next token's probability at the least, "
                f"below {LEAST_MASS} at {len(low)} of {counted(rows.height, 'checkpoint')}: "
                "there the model does not answer"
            )
    return tuple(found)
