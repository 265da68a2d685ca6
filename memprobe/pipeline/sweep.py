"""Entries of one probe that differ in one setting only, such as contexts of several lengths.

Their rates are compared with each other, so they must be about the same items and, if the same suffix is
scored after each context, about the same tokens.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from memprobe.pipeline.suite import Entry, settings_table
from memprobe.tables.requests import Plan

_SUFFIX = ["item_id", "part", "score_from", "stop"]


def swept_value(entry: Entry) -> int | None:
    """Return an entry's value of its probe's swept setting; None if that is not a whole number."""
    value = getattr(entry.settings, entry.probe.swept) if entry.probe.swept else None
    return value if isinstance(value, int) else None


def sweeps(entries: Sequence[Entry]) -> list[list[int]]:
    """Return lists of places of entries that differ only in their probe's swept setting, sorted by it.

    An entry without such a partner is in none of the lists.
    """
    found: dict[str, list[int]] = {}
    for place, entry in enumerate(entries):
        if swept_value(entry) is not None:
            found.setdefault(f"{entry.probe.name} {rest(entry)}", []).append(place)
    return [
        sorted(places, key=lambda place: swept_value(entries[place]) or 0)
        for places in found.values()
        if len(places) > 1
    ]


def rest(entry: Entry) -> dict[str, Any]:
    """Return an entry's settings without the swept one."""
    return {
        name: value for name, value in settings_table(entry.settings).items() if name != entry.probe.swept
    }


def with_common_items(entries: Sequence[Entry], plans: Sequence[Plan]) -> list[Plan]:
    """Return the plans; all plans of a sweep lose the items that one of them cannot measure.

    Such an item is listed as unfit in each of them with the same reason: that of the largest value, which is
    the length to lower.
    """
    result = list(plans)
    for places in sweeps(entries):
        frames = [unfit for place in reversed(places) if (unfit := plans[place].unfit) is not None]
        if not frames:
            continue
        unfit = pl.concat(frames).unique("item_id", keep="first", maintain_order=True)
        for place in places:
            requests = plans[place].requests.join(unfit, on="item_id", how="anti", maintain_order="left")
            result[place] = replace(plans[place], requests=requests, unfit=unfit)
    return result


def score_one_suffix(plans: Sequence[Plan]) -> bool:
    """Return whether all plans score the same tokens of the same items, whatever context they read."""
    suffixes = [
        plan.requests.filter(pl.col("detail") == "tokens").select(_SUFFIX).unique().sort(_SUFFIX)
        for plan in plans
    ]
    return all(each.equals(suffixes[0]) for each in suffixes[1:])
