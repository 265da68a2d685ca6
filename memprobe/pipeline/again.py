"""Write what a run directory needs to be measured again without a model, and measure it again."""

from collections.abc import Sequence

import polars as pl

from memprobe.errors import InvalidRunError
from memprobe.items import CONTENT
from memprobe.pipeline.manifest import entries_of
from memprobe.pipeline.measure import measure
from memprobe.pipeline.measured import Measured
from memprobe.pipeline.planning import plans_of
from memprobe.pipeline.plans import SequencePlan
from memprobe.tables.store import RunStore
from memprobe.tables.views import WINDOWS


def write_items(plans: Sequence[SequencePlan], store: RunStore, *, include_text: bool) -> dict[str, str]:
    """Write the items of every sequence, and their windows if there are any, for `measure_again`.

    Returns:
        The SHA-256 of each table, by its name.
    """
    hidden = () if include_text else CONTENT
    items = [plan.lengths.table.drop(hidden, strict=False) for plan in plans]
    tables = {"items": _by_model(plans, items)}
    windows = _by_model(plans, [plan.lengths.windows for plan in plans])
    if windows.height:
        tables["windows"] = windows
    return {name: store.write_table(name, table) for name, table in tables.items()}


def _by_model(plans: Sequence[SequencePlan], tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    named = [
        table.select(pl.lit(plan.targets[0].model).alias("model"), pl.all())
        for plan, table in zip(plans, tables, strict=True)
    ]
    return pl.concat(named)


def measure_again(store: RunStore) -> Measured:
    """Measure a run directory again from the units that are there.

    Raises:
        InvalidRunError: There is no run in the directory, or scoring has not begun.
    """
    manifest = store.read_manifest()
    if manifest is None or "items" not in store.table_names():
        raise InvalidRunError("there is no run here that could be measured", where=str(store.path))
    items = store.read_table("items")
    windows = store.read_table("windows") if "windows" in store.table_names() else None
    tables = [
        (
            _of_model(items, about.model),
            WINDOWS.empty() if windows is None else _of_model(windows, about.model),
        )
        for about in manifest.sequences
    ]
    stages = [entries_of(stage) for stage in manifest.stages]
    return measure(plans_of(manifest, stages, tables), manifest, store)


def _of_model(table: pl.DataFrame, model: str) -> pl.DataFrame:
    return table.filter(pl.col("model") == model).drop("model")


def write_results(measured: Measured, store: RunStore) -> dict[str, str]:
    """Write tables and summary of a measured run; returns the SHA-256 of each, by its name."""
    tables = {**measured.tables, "summary": measured.summary}
    digests = {name: store.write_table(name, table) for name, table in tables.items()}
    store.write_csv("summary.csv", measured.summary)
    return digests
