"""Contradictions between the columns about an item's training, and values that are probably a mistake.

`memprobe.tables.facts` derives one answer from these columns; items whose columns contradict each other are
refused here.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import polars as pl

from memprobe.items.raw import Fault
from memprobe.wording import counted

_SHOWN = 3
_TIMES = ("first_step", "last_step", "exposure_steps")


def contradictions(known: Mapping[str, Any], refused: Collection[str]) -> list[Fault]:
    """Return the contradictions between the training columns of one item, each with the column to change.

    Args:
        known: Typed values of the columns that memprobe knows; a missing key means null.
        refused: Columns whose value could not be read. If a training column is among them, nothing is
            returned, since further faults would only confuse.
    """
    if {"exposures", "trained", *_TIMES} & set(refused):
        return []
    return [*_never_but_when(known), *_counts(known), *_trained(known), *_order(known), *_steps(known)]


def _never_but_when(known: Mapping[str, Any]) -> Iterator[Fault]:
    if known.get("exposures") != 0:
        return
    for name in _TIMES:
        if name in known:
            value = known[name] if name != "exposure_steps" else f"holds {len(known[name])}"
            what = f"{name} {value}, but exposures is 0: never trained on"
            fix = "leave the step null for a control, or give the number of exposures"
            yield Fault(name, what, fix, sort=f"{name} given, but exposures is 0")
            return


def _counts(known: Mapping[str, Any]) -> Iterator[Fault]:
    first, last = known.get("first_step"), known.get("last_step")
    if known.get("exposures") == 1 and first is not None and last is not None and first < last:
        what = f"exposures is 1, but first_step {first} and last_step {last} are two times"
        fix = "an item seen once has one step; give the number of exposures"
        yield Fault("exposures", what, fix, sort="exposures is 1, but first_step and last_step differ")


def _trained(known: Mapping[str, Any]) -> Iterator[Fault]:
    if "trained" not in known:
        return
    exposures = known.get("exposures")
    if exposures is not None and (exposures > 0) != known["trained"]:
        said = str(known["trained"]).lower()
        what = f"trained is {said}, but exposures is {exposures}"
        fix = "exposures 0 is trained = false, any other count trained = true; leave one of them out"
        yield Fault("trained", what, fix, sort="trained and exposures differ")
    if not known["trained"]:
        for name in _TIMES:
            if name in known:
                fix = "leave the step null for a control, or say trained = true"
                yield Fault(
                    "trained",
                    f"trained is false, but {name} is given",
                    fix,
                    sort=f"trained and {name} differ",
                )
                return


def _order(known: Mapping[str, Any]) -> Iterator[Fault]:
    first, last = known.get("first_step"), known.get("last_step")
    if last is None:
        return
    if first is None:
        fix = "null first_step says that the item was never trained on"
        yield Fault(
            "last_step", f"last_step {last} without first_step", fix, sort="last_step without first_step"
        )
    elif first > last:
        what = f"last_step {last} comes before first_step {first}"
        yield Fault("last_step", what, "first_step <= last_step", sort="last_step before first_step")


def _steps(known: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield the contradictions between exposure_steps and first_step, last_step or exposures."""
    steps: list[int] | None = known.get("exposure_steps")
    if steps is None:
        return
    if "first_step" not in known:
        what, fix = "exposure_steps without first_step", "first_step is the first of exposure_steps"
        yield Fault("exposure_steps", what, fix, sort=what)
        return
    shown = (
        ("first_step", steps[0], f"begins at {steps[0]}"),
        ("last_step", steps[-1], f"ends at {steps[-1]}"),
        ("exposures", len(steps), f"holds {len(steps)}"),
    )
    for name, value, says in shown:
        # `_never_but_when` already reports a step next to exposures of 0.
        if known.get(name, value) != value and not (name == "exposures" and known[name] == 0):
            yield Fault(
                "exposure_steps",
                f"{says}, but {name} is {known[name]}",
                "first_step is its first, last_step its last, exposures its length",
                sort=f"exposure_steps and {name} differ",
            )


def doubts(items: pl.DataFrame) -> list[str]:
    """Return notes on values that are allowed but probably a mistake.

    Args:
        items: Sound items, schema ITEMS.
    """
    at_zero = items.filter(pl.col("first_step") == 0)
    if at_zero.is_empty():
        return []
    names = ", ".join(at_zero["item_id"].head(_SHOWN))
    more = ", ..." if at_zero.height > _SHOWN else ""
    return [
        f"{counted(at_zero.height, 'item')} of first_step 0 ({names}{more}) count as trained on before "
        "the first update, so that no checkpoint is from before: null says never trained on"
    ]
