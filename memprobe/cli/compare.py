"""`memprobe compare`: two runs, item by item; no model, no torch."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memprobe.cli import console, options
from memprobe.cli.export import Metrics, OutFile, To, write_stdout
from memprobe.errors import InputError
from memprobe.wording import at_step, counted

if TYPE_CHECKING:
    from memprobe.comparison.runs import Comparison

WORSE = 1
_SHOWN_IDS = 20
_TELL_S = 10.0


def compare(
    base: Annotated[Path, typer.Argument(help="The run to compare with.", metavar="BASE")],
    new: Annotated[Path, typer.Argument(help="The run that is judged.", metavar="NEW")],
    fail_on: Annotated[
        Literal["worse"] | None,
        options.option("--fail-on", help="Exit 1 where more is memorized, beyond the interval."),
    ] = None,
    probe: options.ProbeNames = None,
    metric: Metrics = None,
    steps: options.Steps = None,
    everything: Annotated[bool, options.option("--all", help="All conditions, steps and groups.")] = False,
    to: To = None,
    out: OutFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Compare two runs item by item: new minus base, with intervals.

    Items are matched by id and content, checkpoints by model and step. A model without a step is compared
    with a sequence only under --steps last.
    """
    options.begin(quiet, verbose)
    _refuse_unclear(to, out, json=json)
    from memprobe.comparison.runs import compare as compared

    found = compared(
        base, new, probes=probe or (), metrics=metric or (), steps=steps or (), listener=_Telling().told
    )
    if to is not None:
        _write(found, to, out, everything=everything)
    if json:
        console.show_json(document(found))
    elif to is None or out is not None:
        from memprobe.report.comparison import comparison_view

        console.show(comparison_view(found.differences, head_lines(found), everything=everything))
    if fail_on == "worse":
        _fail_on_worse(found)


class _Telling:
    """Reports the progress of a long comparison: first after ten seconds, then less and less often."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()

    def told(self, done: int, n: int) -> None:
        now = time.monotonic()
        if now - self.last < max(_TELL_S, (now - self.started) / 4):
            return
        fewer = "; --steps and --metric compare fewer" if self.last == self.started else ""
        left = (now - self.started) / max(done, 1) * (n - done)
        self.last = now
        console.note(f"compared {done:,} of {n:,} tables of a checkpoint, about {left:,.0f} s left{fewer}")


def _fail_on_worse(found: "Comparison") -> None:
    """Print the verdict, and exit with code 1 if a difference is worse.

    Raises:
        typer.Exit: A difference is worse.
    """
    n = found.worse.height
    if n:
        console.say(f"failed: {counted(n, 'difference')} worse beyond the interval")
        raise typer.Exit(WORSE)
    if found.differences["ci_low"].null_count() == found.differences.height:
        raise _nothing_to_judge()
    console.note("passed: no difference is worse beyond its interval")


def _nothing_to_judge() -> Exception:
    from memprobe.errors import InvalidRunError

    return InvalidRunError("no difference has an interval, so none can be judged")


def _refuse_unclear(to: str | None, out: Path | None, *, json: bool) -> None:
    if json and to is not None and out is None:
        raise InputError(
            f"--json and --to {to} both want stdout", fix="name a file with -o, or leave one out"
        )
    if out is None:
        return
    if to is None:
        raise InputError("-o needs a format", fix="name one with --to csv, parquet, json, markdown or latex")
    from memprobe.tables.files import check_out

    check_out(out)


def _write(
    found: "Comparison",
    to: Literal["csv", "parquet", "json", "markdown", "latex"],
    out: Path | None,
    *,
    everything: bool,
) -> None:
    from memprobe.exporting import written_differences
    from memprobe.report.papers import Style
    from memprobe.tables.files import write_file

    content = written_differences(found.differences, to, Style(everything=everything))
    if out is None:
        write_stdout(content, to)
        return
    write_file(out, content)
    console.note(f"wrote {out}: {counted(found.differences.height, 'row')} of differences")


def head_lines(found: "Comparison") -> list[str]:
    """Return lines on the runs compared, their common items and steps, and what has no partner."""
    steps = sorted({each.step for each in found.checkpoints if each.step is not None})
    reach = at_step(steps[0] if steps else None)
    if len(steps) > 1:
        reach = f"{len(steps):,} steps, {steps[0]:,} to {steps[-1]:,}"
    unplaced = [
        ("new", each.step) if each.step_base is None else ("base", each.step_base)
        for each in found.checkpoints
        if (each.step is None) != (each.step_base is None)
    ]
    return [
        f"base: {found.base}",
        f"new:  {found.new}",
        f"{counted(len(found.items.both), 'item')} in both, {reach}",
        *(
            f"step {step:,} of the {run} run is compared with a model without a step"
            for run, step in unplaced
        ),
        *(f"left out: {note}" for note in found.notes),
    ]


def document(found: "Comparison") -> dict[str, object]:
    """Return a comparison for `--json`."""
    items = found.items
    return {
        "base": str(found.base),
        "new": str(found.new),
        "items": {
            "n_both": len(items.both),
            **{
                name: {"n": len(ids), "first": list(ids[:_SHOWN_IDS])}
                for name, ids in (
                    ("base_only", items.base_only),
                    ("new_only", items.new_only),
                    ("changed", items.changed),
                )
            },
        },
        "notes": list(found.notes),
        "n_worse": found.worse.height,
        "differences": found.differences.to_dicts(),
    }
