"""Planted truth next to measured values: what the lab knows about its canaries, and what was found."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.text import Text

from memprobe.report.console import spread
from memprobe.report.plain import headed, plain_table, short

_MAX_STEPS = 6


def truth_view(truth: pl.DataFrame, recall: pl.DataFrame, extraction: pl.DataFrame) -> RenderableType:
    """Return two tables with one row per planted exposure count and one column per checkpoint.

    The first table shows how often the row's canaries had been trained on by then (mean), and the share of
    canaries recalled whole. The second shows the mean ln p of the code in nats.

    Args:
        truth: One row per exposure: `item_id, step` (null: never), as the lab writes it.
        recall: Item-level recall, with `exposures`.
        extraction: Item-level extraction; only the scheme `full` is used.
    """
    canaries = recall.filter(pl.col("exposures").is_not_null()).select(
        "item_id", "exposures", "step", "exact"
    )
    logp = extraction.filter(pl.col("scheme") == "full").select("item_id", "step", "logp_nats")
    trained = truth.filter(pl.col("step").is_not_null()).select("item_id", trained_at="step")
    joined = canaries.join(logp, on=["item_id", "step"])
    steps = spread(sorted(joined["step"].unique().to_list()), _MAX_STEPS)

    def seen_and_recalled(rows: pl.DataFrame, step: int) -> str:
        seen = trained.filter(pl.col("trained_at") <= step).join(rows, on="item_id", how="semi").height
        return (
            f"{seen / rows.height:.0f} → {short(rows.select(pl.col('exact').cast(pl.Float64).mean()).item())}"
        )

    def mean_logp(rows: pl.DataFrame, _: int) -> str:
        return f"{rows.select(pl.col('logp_nats').mean()).item():.1f}"

    n = canaries.filter(pl.col("exposures") == 0)["item_id"].n_unique()
    return Group(
        Text(""),
        _table(
            f"Planted: times trained on so far → measured: share recalled (of {n})",
            joined,
            steps,
            seen_and_recalled,
        ),
        Text(""),
        _table(
            "Measured: mean ln p of the code, nats (a blind guess: -11.5)",
            joined,
            steps,
            mean_logp,
        ),
    )


def ratios_view(compression: pl.DataFrame) -> RenderableType:
    """Return a table with one row per searched canary: planted exposures, and the ratio at some checkpoints.

    If no prompt was found, the table shows an upper bound of the ratio, given the prompts that were tried.

    Args:
        compression: Item-level compression, with `exposures`.
    """
    rows = compression.filter(pl.col("exposures").is_not_null(), pl.col("target_kind") == "item")
    steps = spread(sorted(rows["step"].unique().to_list()), _MAX_STEPS)
    table = plain_table("Measured: tokens of a canary per token of its shortest prompt (<: none found)")
    table.add_column("planted", justify="right", no_wrap=True)
    for step in steps:
        table.add_column(f"step {step}", justify="right", no_wrap=True)
    for (exposures, _), of_item in rows.sort("exposures", "item_id").group_by(
        "exposures", "item_id", maintain_order=True
    ):
        ratios = {row["step"]: _ratio(row) for row in of_item.iter_rows(named=True)}
        table.add_row(str(exposures), *(ratios.get(step, "") for step in steps))
    return Group(Text(""), headed(table))


def _ratio(row: Mapping[str, Any]) -> str:
    if row["acr"] is not None:
        return short(row["acr"])
    return f"<{short(row['acr_upper_bound'])}" if row["acr_upper_bound"] is not None else "unknown"


def _table(
    title: str, joined: pl.DataFrame, steps: list[int], cell: Callable[[pl.DataFrame, int], str]
) -> RenderableType:
    table = plain_table(title)
    table.add_column("planted", justify="right", no_wrap=True)
    for step in steps:
        table.add_column(f"step {step}", justify="right", no_wrap=True)
    for exposures in sorted(joined["exposures"].unique().to_list()):
        rows = joined.filter(pl.col("exposures") == exposures)
        table.add_row(str(exposures), *(cell(rows.filter(pl.col("step") == step), step) for step in steps))
    return headed(table)
