"""The items that a model remembers most, by probe: ids and lengths, and texts if requested."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from memprobe.report.elements import Html, details, table, text, user_text
from memprobe.report.plain import short
from memprobe.report.results import Results
from memprobe.tables.manifest import ProbeEntry, RankingEntry

_SHOWN = 10
_TEXT_CHARS = 300
_TEXTS = ("prefix", "suffix", "text")


def worst_items(results: Results, about: ProbeEntry, *, include_text: bool) -> list[Html]:
    """Return a table of the items that the probe finds most memorized at the last step.

    Args:
        results: Contents of the run.
        about: The manifest's description of the probe.
        include_text: Show the items' texts, which the run must hold.
    """
    ranking = _ranking(results, about)
    if ranking is None:
        return []
    rows = results.read(ranking.table, True)
    if not {"item_id", ranking.by} <= set(rows.columns):
        return []
    rows = rows.filter(pl.col(ranking.by).is_not_null())
    if "scheme" in ranking.shown and rows.height:
        rows = rows.filter(pl.col("scheme") == rows["scheme"][0])
    top = rows.sort(pl.col(ranking.by), "item_id", descending=[True, False]).head(_SHOWN)
    if top.is_empty():
        return []
    lengths = _about_items(results, include_text=include_text)
    top = top.join(lengths, on=["model", "item_id"], how="left", maintain_order="left")
    several = [each for each in ("model",) if rows[each].n_unique() > 1]
    kept = [*several, "group", "exposures", "n_tokens", *ranking.shown]
    columns = [each for each in kept if each in top.columns and top[each].null_count() < top.height]
    texts = [each for each in _TEXTS if include_text and each in top.columns]
    lines = [
        [user_text(row["item_id"]), *(_cell(row[each]) for each in columns), *_texts(row, texts)]
        for row in top.iter_rows(named=True)
    ]
    head = ["item", *columns, *(["text"] if texts else [])]
    note = f"By {ranking.by}, at the last step; the largest first."
    return [details(ranking.title, table(head, lines, note))]


def _ranking(results: Results, about: ProbeEntry) -> RankingEntry | None:
    """Return the probe's ranking of items; if it declares none, by its first metric that is a column."""
    if about.rankings is not None:
        return next((each for each in about.rankings if each.table in results.tables), None)
    name = next((each for each in about.tables if each in results.tables), None)
    if name is None:
        return None
    columns = results.read(name, True).columns
    for each in about.metrics:
        if each.name in columns and each.more_is_memorized:
            return RankingEntry(table=name, by=each.name, shown=(each.name,))
    return None


def _about_items(results: Results, *, include_text: bool) -> pl.DataFrame:
    items = results.read("items", False) if "items" in results.tables else pl.DataFrame()
    wanted = ["model", "item_id", "n_tokens", *(_TEXTS if include_text else ())]
    if not {"model", "item_id"} <= set(items.columns):
        return pl.DataFrame(schema={"model": pl.String, "item_id": pl.String})
    return items.select(each for each in wanted if each in items.columns)


def _cell(value: object) -> Html:
    if value is None:
        return text("")
    if isinstance(value, bool):
        return text(str(value).lower())
    if isinstance(value, float):
        return text(short(value))
    return text(f"{value:,}") if isinstance(value, int) else user_text(value)


def _texts(row: Mapping[str, Any], columns: Sequence[str]) -> list[Html]:
    if not columns:
        return []
    return [user_text(" ¦ ".join(str(row[each]) for each in columns if row[each] is not None), _TEXT_CHARS)]
