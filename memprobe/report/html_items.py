"""The items that a model remembers most, by probe: ids and lengths, and texts where they were asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.report.elements import Html, details, table, text, user_text
from memprobe.report.plain import short
from memprobe.report.results import Results

_SHOWN = 10
_TEXT_CHARS = 300
_TEXTS = ("prefix", "suffix", "text")


@dataclass(frozen=True, slots=True)
class _Order:
    """What puts the items of a table in order, and what is shown of them; the largest come first."""

    by: str
    shown: tuple[str, ...]


_ORDERS = {
    "recognition": _Order("margin_nats", ("margin_nats", "foil_kind")),
    "recall": _Order("min_margin_nats", ("exact", "lcp_tokens", "suffix_tokens", "min_margin_nats")),
    "extraction": _Order("logp_nats", ("scheme", "suffix_tokens", "logp_nats", "max_rank")),
    "coverage": _Order("coverage_frac", ("scheme", "tau", "coverage_frac", "longest_run_chars")),
    "compression": _Order("acr", ("target_tokens", "prompt_tokens", "acr")),
    "acquisition": _Order("effectivity_nats", ("injection", "injection_step", "effectivity_nats")),
    "forgetting": _Order("n_forgetting_events", ("n_learning_events", "n_forgetting_events", "state_last")),
    "sort": _Order("delta", ("condition", "mode", "distance_words", "delta")),
}
# Of what these tables say of an item, another probe's section says more.
_NOT_LISTED = ("retention", "profile", "stability", "forecast")


def worst_items(results: Results, probe: str, about: Mapping[str, Any], *, include_text: bool) -> list[Html]:
    """Return the items at the last step for which the probe finds most memory.

    Args:
        results: The run, read.
        probe: The probe's name; nothing is listed for one without a table of items.
        about: The manifest's description of it.
        include_text: Show their texts; the run must hold them.
    """
    name = next((each for each in about.get("tables", [probe]) if each in results.tables), None)
    if name is None or name in _NOT_LISTED:
        return []
    rows = results.read(name, True)
    order = _ORDERS.get(name) or _guessed(rows, about)
    if order is None or "item_id" not in rows.columns or order.by not in rows.columns:
        return []
    rows = rows.filter(pl.col(order.by).is_not_null())
    if "scheme" in order.shown and rows.height:
        rows = rows.filter(pl.col("scheme") == rows["scheme"][0])
    top = rows.sort(pl.col(order.by), "item_id", descending=[True, False]).head(_SHOWN)
    if top.is_empty():
        return []
    lengths = _about_items(results, include_text=include_text)
    top = top.join(lengths, on=["model", "item_id"], how="left", maintain_order="left")
    several = [each for each in ("model",) if rows[each].n_unique() > 1]
    kept = [*several, "group", "exposures", "n_tokens", *order.shown]
    columns = [each for each in kept if each in top.columns and top[each].null_count() < top.height]
    texts = [each for each in _TEXTS if include_text and each in top.columns]
    lines = [
        [user_text(row["item_id"]), *(_cell(row[each]) for each in columns), *_texts(row, texts)]
        for row in top.iter_rows(named=True)
    ]
    head = ["item", *columns, *(["text"] if texts else [])]
    title = "Most memorized items" if probe != "forgetting" else "Items most often forgotten"
    return [details(title, table(head, lines, f"By {order.by}, at the last step; the largest first."))]


def _guessed(rows: pl.DataFrame, about: Mapping[str, Any]) -> _Order | None:
    """Return the order of a table that we know nothing of: by the first metric that is a column."""
    for each in about["metrics"]:
        if each["name"] in rows.columns and each["more_is_memorized"]:
            return _Order(each["name"], (each["name"],))
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
