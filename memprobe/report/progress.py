"""Terminal view of a run's progress: few lines, however long the sequence is."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from memprobe.report.plain import plain_table
from memprobe.wording import at_step, counted, duration

_MAX_ROWS = 20
_MAX_HELD = 16
_MAX_FAILURES = 5
_NEXT = {
    "idle": "no process is scoring; to go on, repeat the same `memprobe run`, or use",
    "incomplete": "some checkpoints failed; repair them, then repeat the same `memprobe run`, or use",
}


def status_view(about: Mapping[str, Any]) -> RenderableType:
    """Return a view of the status of a run.

    Args:
        about: `RunStatus.as_json()`.
    """
    # Lines are not wrapped, so that a command can be copied whole.
    parts: list[RenderableType] = [Text(line, no_wrap=True, overflow="ignore") for line in _head(about)]
    table = plain_table("")
    table.title = None
    table.add_column("checkpoints", overflow="fold")
    table.add_column("units", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for label, done, total, state in rows_of(about["checkpoints"]):
        table.add_row(label, f"{done:,}" if total is None else f"{done:,} of {total:,}", state)
    parts += [Text(""), table]
    if about["held"]:
        parts += [Text(""), _held_table(about["held"])]
    failed = [each for each in about["checkpoints"] if each["error"] is not None]
    if failed:
        parts.append(Text(""))
    parts += [Text(f"failed: {each['revision']}: {each['error']}") for each in failed[:_MAX_FAILURES]]
    if len(failed) > _MAX_FAILURES:
        parts.append(Text(f"failed: {len(failed) - _MAX_FAILURES} more, see errors.jsonl"))
    return Group(*parts)


def _head(about: Mapping[str, Any]) -> list[str]:
    total = f" of {about['n_units']:,}" if about["n_units"] is not None else ""
    lines = [f"{about['state']}: {about['n_done']:,}{total} units are done"]
    finished = about["state"] in ("done", "incomplete")
    if about["units_per_s"] is not None and not finished:
        line = f"{_per_time(about['units_per_s'])} lately"
        if about["left_s"] is not None and about["n_left"]:
            line += f", about {duration(about['left_s'])} left at that speed"
        lines.append(line)
    if finished and about["n_left"]:
        lines.append(
            f"{counted(about['n_left'], 'unit')} missing; what scores them: the same `memprobe run`, or"
        )
    elif about["state"] in _NEXT:
        lines.append(_NEXT[about["state"]])
    if about["state"] in _NEXT or (finished and about["n_left"]):
        lines.append(f"  memprobe worker {about['run']}")
    return lines


def _held_table(held: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = plain_table("")
    table.title = None
    for name in ("held by", "process", "checkpoint", "for", "silent"):
        table.add_column(name, justify="right" if name in ("process", "for", "silent") else "left")
    for each in held[:_MAX_HELD]:
        table.add_row(
            each["host"] or "nobody named",
            "" if each["pid"] is None else str(each["pid"]),
            each["revision"] or "",
            "" if each["held_s"] is None else duration(each["held_s"]),
            "process is gone" if each["gone"] else duration(each["silent_s"]),
        )
    if len(held) <= _MAX_HELD:
        return table
    return Group(table, Text(f"and {len(held) - _MAX_HELD} more"))


def rows_of(checkpoints: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int | None, str]]:
    """Return label, units done, total units and state of each line; neighbours in one state share a line.

    Args:
        checkpoints: Rows with `model, revision, step, n_done, n_units, error`, in order.
    """
    alike = [
        list(group)
        for (_, _, alone), group in groupby(
            enumerate(checkpoints),
            key=lambda each: (
                each[1]["model"],
                _state(each[1]),
                each[0] if _state(each[1]) == "begun" else -1,
            ),
        )
    ]
    groups = [[each for _, each in group] for group in alike]
    if len(groups) > _MAX_ROWS:
        # Too many lines: group as many neighbours per line as needed.
        groups = []
        size = -(-len(checkpoints) // _MAX_ROWS)
        for _, of_model in groupby(checkpoints, key=lambda each: each["model"]):
            listed = list(of_model)
            groups += [listed[start : start + size] for start in range(0, len(listed), size)]
    return [_row(group) for group in groups]


def _row(group: Sequence[Mapping[str, Any]]) -> tuple[str, int, int | None, str]:
    first, last = group[0], group[-1]
    label = f"{first['model']} {at_step(first['step'])}"
    if len(group) > 1:
        label += f" to {last['step']:,} ({len(group)})"
    states = {_state(each) for each in group}
    totals = [each["n_units"] for each in group]
    total = None if None in totals else sum(totals)
    done = sum(each["n_done"] for each in group)
    state = states.pop() if len(states) == 1 else "begun"
    failed = sum(each["error"] is not None for each in group)
    return label, done, total, f"{failed} failed" if failed and len(group) > 1 else state


def _state(checkpoint: Mapping[str, Any]) -> str:
    if checkpoint["error"] is not None:
        return "failed"
    if checkpoint["n_units"] is not None and checkpoint["n_done"] >= checkpoint["n_units"]:
        return "done"
    return "begun" if checkpoint["n_done"] else "open"


def _per_time(units_per_s: float) -> str:
    for size, name in ((1, "second"), (60, "minute"), (3_600, "hour")):
        if units_per_s * size >= 1 or name == "hour":
            return f"{units_per_s * size:,.1f} units a {name}"
    raise ValueError("no unit of time")
