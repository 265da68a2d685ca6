"""SORT trials among the items: checks of rows with segments, and values derived from their texts.

A trial is an excerpt (`text`) and two segments of it, the earlier one first; Pink et al. 2024,
arXiv:2410.08133, section 3.
"""

import hashlib
from typing import Any

from memprobe.items.raw import Fault
from memprobe.items.schema import SEGMENTS


def is_trial(known: dict[str, Any]) -> bool:
    """Return whether an item gives a segment."""
    return any(name in known for name in SEGMENTS)


def trial_faults(known: dict[str, Any]) -> list[Fault]:
    """Return the faults of an item's segments; empty if it has none."""
    if not is_trial(known):
        return []
    lacking = [name for name in SEGMENTS if name not in known]
    if lacking:
        given = SEGMENTS[1 - SEGMENTS.index(lacking[0])]
        fix = "a SORT trial has both: segment_1, the earlier, and segment_2"
        return [Fault(lacking[0], f"{given} without {lacking[0]}", fix)]
    if "text" not in known:
        return [Fault("text", "segments without text", "the text of a SORT trial is its excerpt")]
    first, second = (known[name] for name in SEGMENTS)
    if first == second:
        return [Fault("segment_2", "the same text as segment_1", "remove the trial: it has no answer")]
    places = _places(known["text"], first, second)
    if places is not None and places[0] > places[1]:
        return [Fault("segment_1", "comes behind segment_2 in the text", "segment_1 is the earlier one")]
    return []


def complete(known: dict[str, Any]) -> None:
    """Add values that a sound trial does not give: names, lengths, split, cluster and distance."""
    if not is_trial(known):
        return
    text, first, second = known["text"], known["segment_1"], known["segment_2"]
    if not {"source_id", "excerpt_id"} <= known.keys():
        made = hashlib.sha256(text.encode()).hexdigest()[:12]
        known.setdefault("source_id", known.get("doc_id", f"sha-{made}"))
        known.setdefault("excerpt_id", made)
    # Texts are long and shared by many trials: words are counted only if the length is not given.
    for name, counted in (("excerpt_words", text), ("segment_words", first)):
        if name not in known:
            known[name] = len(counted.split())
    known.setdefault("split", "test")
    known.setdefault("doc_id", f"{known['source_id']}/{known['excerpt_words']}/{known['excerpt_id']}")
    if "distance_words" not in known and (places := _places(text, first, second)) is not None:
        known["distance_words"] = len(text[: places[1]].split()) - len(text[: places[0]].split())


def _places(text: str, first: str, second: str) -> tuple[int, int] | None:
    """Return the offsets at which the segments begin; None unless each occurs once in the text."""
    places = text.find(first), text.find(second)
    again = text.find(first, places[0] + 1), text.find(second, places[1] + 1)
    return places if min(places) >= 0 and max(again) < 0 else None
