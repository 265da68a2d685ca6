"""How numbers, sizes, times, names and steps are written in messages: one function for each."""

import difflib
from collections.abc import Iterable, Sequence


def near_miss(word: str, allowed: Iterable[str]) -> str:
    """Return `, did you mean `x`?` for the allowed name nearest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f", did you mean `{close[0]}`?" if close else ""


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 item`, `24 items`, `1,200 units`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def at_step(step: int | None) -> str:
    """Return a checkpoint's place in training: `step 1,000`, or `no step` where it is not known."""
    return "no step" if step is None else f"step {step:,}"


def step_cell(step: int | None) -> str:
    """Return the same under the heading `step`: `1,000` or `none`."""
    return "none" if step is None else f"{step:,}"


def sized(n_bytes: float) -> str:
    """Return bytes in units of 1000, as disks are sold: `13.8 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 999.5 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:,.0f} {unit}" if unit == "B" or n_bytes >= 99.95 else f"{n_bytes:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a time in its two largest units: `45 s`, `3 min 20 s`, `5 h 12 min`, `2 d 3 h`."""
    whole = round(seconds)
    for size, name, smaller, smaller_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // smaller} {smaller_name}"
    return f"{whole} s"


def listed(values: Sequence[object], at_most: int = 3) -> str:
    """Return the first values and how many more there are: `a, b, c and 2 more`; numbers as `1,000`."""
    shown = ", ".join(f"{each:,}" if isinstance(each, int) else str(each) for each in values[:at_most])
    more = len(values) - at_most
    return f"{shown} and {more:,} more" if more > 0 else shown
