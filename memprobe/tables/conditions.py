"""The `condition` of a summary row: `key=value` pairs joined by `;`, such as `scheme=top40;n=100;p=0.5`.

This module alone builds, reads and changes conditions. Keys go from the general to the particular: settings
that distinguish entries of one probe, then what the probe measures, then which items (`exposures=4`), then
what they are compared with (`control=never-trained`). A row without a condition has null, not "".
"""

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

COLUMN: Final = "condition"
OF_ITEMS: Final = ("exposures", "trained", "seen")
"""Keys that select some of the items."""
OF_COMPARISON: Final = ("trained", "control")
"""Keys of rows that stand beside another row: some of its items, or its excess over a control."""
NEVER_TRAINED: Final = "trained=false"
_SEPARATOR = ";"


# Single conditions


def build(**values: object) -> str | None:
    """Return the condition with these keys in this order; None if all values are None.

    Args:
        **values: Values by key; a key whose value is None is left out, a Boolean is written in lower case. A
            `;` within a value becomes a comma.
    """
    return join(*(f"{key}={_text(value)}" for key, value in values.items() if value is not None))


def _text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace(_SEPARATOR, ",")


def join(*conditions: str | None) -> str | None:
    """Return one condition made of all of these, in this order; None if all are None or empty."""
    return _SEPARATOR.join(each for each in conditions if each) or None


def pairs(condition: str | None) -> tuple[str, ...]:
    """Return the `key=value` pairs of a condition; empty if there is no condition."""
    return tuple(condition.split(_SEPARATOR)) if condition else ()


def parse(condition: str | None) -> dict[str, str]:
    """Return the values of a condition by key; a `;` within a value stays part of it."""
    values: dict[str, str] = {}
    last = ""
    for pair in pairs(condition):
        key, equals, value = pair.partition("=")
        if equals:
            values[key], last = value, key
        elif last:
            values[last] += _SEPARATOR + pair
    return values


def without_key(condition: str | None, key: str) -> str | None:
    """Return a condition without one key; None if it has no other key."""
    return join(*(pair for pair in pairs(condition) if not pair.startswith(f"{key}=")))


def readable(condition: str | None) -> str:
    """Return a condition for use in a sentence, like `scheme=top40, n=100`; empty if there is none."""
    return ", ".join(pairs(condition))


def one_pair_a_line(condition: str) -> str:
    """Return a condition with each pair on a line of its own, all but the first indented by two blanks."""
    return condition.replace(_SEPARATOR, f"{_SEPARATOR}\n  ")


def shared(conditions: Sequence[str | None]) -> tuple[str, ...]:
    """Return the pairs that two or more conditions all have; empty if there is only one, or one is None."""
    if len(conditions) < 2 or None in conditions:
        return ()
    others = [pairs(each) for each in conditions[1:]]
    return tuple(pair for pair in pairs(conditions[0]) if all(pair in other for other in others))


def broken_down(conditions: Sequence[str | None]) -> list[str | None]:
    """Return the conditions that others refine: another one has all their pairs and at least one more."""
    sets = [frozenset(pairs(each)) for each in conditions]
    return [
        each
        for each, own in zip(conditions, sets, strict=True)
        if each is not None and any(own < other for other in sets)
    ]


# Columns of conditions


def readable_column() -> pl.Expr:
    """Return the conditions for use in sentences; null if there is none."""
    return pl.col(COLUMN).str.replace_all(_SEPARATOR, ", ", literal=True)


def built(**values: Any) -> pl.Expr:  # noqa: ANN401
    """Return the column of conditions with these keys.

    Args:
        **values: For each key a column's name or an expression; null makes the condition null.
    """
    template = _SEPARATOR.join(f"{key}={{}}" for key in values)
    return pl.format(template, *values.values()).alias(COLUMN)


def joined(*parts: str | pl.Expr | None) -> pl.Expr:
    """Return the column of conditions made of all these parts; null if all are null or empty.

    Args:
        *parts: Each a condition, None, or an expression of conditions.
    """
    columns = [part if isinstance(part, pl.Expr) else pl.lit(part, dtype=pl.String) for part in parts]
    known = [pl.when(column != "").then(column) for column in columns]
    together = pl.concat_str(known, separator=_SEPARATOR, ignore_nulls=True)
    return pl.when(together != "").then(together).alias(COLUMN)


def has(*keys: str) -> pl.Expr:
    """Return whether the condition has one of these keys; false if there is no condition."""
    return pl.col(COLUMN).fill_null("").str.contains(_pattern(*keys))


def has_pair(pair: str) -> pl.Expr:
    """Return whether the condition has this pair; false if there is no condition."""
    return pl.col(COLUMN).fill_null("").str.split(_SEPARATOR).list.contains(pair)


def is_under(condition: str | None) -> pl.Expr:
    """Return whether a row's condition equals `condition` or begins with it; None: true for all rows."""
    if condition is None:
        return pl.lit(value=True)
    own = pl.col(COLUMN).fill_null("")
    return (own == condition) | own.str.starts_with(condition + _SEPARATOR)


def is_exactly(condition: str | None) -> pl.Expr:
    """Return whether a row's condition equals `condition`; None matches null."""
    return pl.col(COLUMN).eq_missing(pl.lit(condition, dtype=pl.String))


def value_of(key: str) -> pl.Expr:
    """Return the value of a key as text; null if the condition does not have the key."""
    return pl.col(COLUMN).str.extract(rf"(?:^|;){key}=([^;]*)")


def dropped(*keys: str) -> pl.Expr:
    """Return conditions without these keys; null if they have no other key."""
    rest = pl.col(COLUMN).str.replace_all(_pattern(*keys), "").str.strip_chars_start(_SEPARATOR)
    return pl.when(rest != "").then(rest).alias(COLUMN)


def _pattern(*keys: str) -> str:
    return rf"(^|;)({'|'.join(keys)})=[^;]*"
