"""`memprobe checkpoints`: lists and checks the checkpoints that a model spec resolves to."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from memprobe.cli import console, options
from memprobe.cli.examples import epilog
from memprobe.wording import counted, listed, sized, step_cell

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from memprobe.checkpoints import Checkpoint
    from memprobe.checkpoints.survey import Row, Survey
    from memprobe.checkpoints.verify import Finding

checkpoints = typer.Typer(help="List what a model spec resolves to, and check it.", no_args_is_help=True)

# Reasons are wrapped to this many columns even if plain output is wider: people read them.
_WIDTH = 79
_LINE_EVERY_S = 10.0
_COMMANDS = frozenset({"git", "memprobe", "pip"})

Specs = Annotated[
    list[str] | None,
    typer.Argument(help="A folder, or org/name@step{0,1000}; as after -m of run.", metavar="MODEL"),
]


@checkpoints.command("ls", epilog=epilog("checkpoints ls"))
def ls(
    spec: Specs = None,
    model: options.Model = None,
    steps: options.Steps = None,
    stages: options.Stages = None,
    tokenizer: options.Tokenizer = None,
    offline: options.Offline = None,
    trust_remote_code: options.RemoteCode = None,
    allow_pickle: options.Pickle = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """List the checkpoints: parameters, dtype, size, format, and whether a run could load them.

    Read from the headers of the weight files, and compared with the architecture of config.json: no
    weights are loaded or downloaded.

    Exit codes:
    0: also if a checkpoint is bad; its row says so
    2: a spec names nothing
    """
    options.begin(quiet, verbose)
    from memprobe.checkpoints.survey import survey

    surveys = survey(
        [*(spec or ()), *(model or ())],
        steps=steps,
        stages=stages,
        tokenizer=tokenizer,
        offline=bool(offline),
        allow_pickle=bool(allow_pickle),
        trust_remote_code=bool(trust_remote_code),
    )
    surveys = _looked_into(surveys, trust_remote_code=bool(trust_remote_code))
    if json:
        rows = [row.as_json() for each in surveys for row in each.rows]
        console.show_json({"checkpoints": rows, "notes": [note for each in surveys for note in each.notes]})
        return
    from memprobe.report.plain import headed

    _tell_notes(surveys)
    for i, each in enumerate(surveys):
        if i:
            console.show("")
        console.show(headed(_table(each)))
        reasons = _reasons(each.rows)
        for line in ["", *reasons] if reasons else []:
            console.show_line(line)


@checkpoints.command("verify", epilog=epilog("checkpoints verify"))
def verify(
    spec: Specs = None,
    model: options.Model = None,
    steps: options.Steps = None,
    stages: options.Stages = None,
    tokenizer: options.Tokenizer = None,
    offline: options.Offline = None,
    trust_remote_code: options.RemoteCode = None,
    allow_pickle: options.Pickle = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Find gaps, damaged files, steps with the same weights, and what else differs inside a sequence.

    Weights are compared by the hub's hashes, or by reading the files once, and looked through for NaN. One
    checkpoint of each architecture is loaded, if it is not large, to see that its scores depend on earlier
    tokens alone.

    Exit codes:
    0: nothing that stops a run, though there may be warnings
    2: a run, or a run over time (retention), refuses or loses a checkpoint
    5: only a permission such as --allow-pickle is missing
    """
    options.begin(quiet, verbose)
    from memprobe.checkpoints.survey import survey
    from memprobe.checkpoints.verify import refuse
    from memprobe.checkpoints.verify import verify as find

    surveys = survey(
        [*(spec or ()), *(model or ())],
        steps=steps,
        stages=stages,
        tokenizer=tokenizer,
        offline=bool(offline),
        allow_pickle=bool(allow_pickle),
        trust_remote_code=bool(trust_remote_code),
    )
    surveys = _looked_into(surveys, trust_remote_code=bool(trust_remote_code))
    surveys = _read_through(surveys, trust_remote_code=bool(trust_remote_code))
    surveys = _tried_out(surveys, trust_remote_code=bool(trust_remote_code), allow_pickle=bool(allow_pickle))
    if not json:
        _tell_notes(surveys)
    found: list[tuple[Survey, tuple[Finding, ...]]] = []
    for each in surveys:
        with _Reading("hashing", each.loadable) as heard:
            found.append((each, find(each, one_tokenizer=tokenizer is not None, on_digest=heard)))
    if json:
        console.show_json({"sequences": [_sequence_json(each, findings) for each, findings in found]})
    else:
        for each, findings in found:
            _show_findings(each, findings)
    refuse(finding for _, findings in found for finding in findings)


def _looked_into(surveys: "tuple[Survey, ...]", *, trust_remote_code: bool) -> "tuple[Survey, ...]":
    """Add the reasons why a run would refuse checkpoints that look sound so far; see `memprobe.scoring.fit`.

    This loads torch, so it is skipped if there is no loadable checkpoint.
    """
    if not any(each.loadable for each in surveys):
        return surveys
    from memprobe.scoring.load import quiet_libraries

    quiet_libraries()
    return tuple(
        replace(each, rows=tuple(_row(row, trust_remote_code=trust_remote_code) for row in each.rows))
        for each in surveys
    )


def _row(row: "Row", *, trust_remote_code: bool) -> "Row":
    from memprobe.scoring.fit import problems_of, tokenizer_problems

    if row.checkpoint is None or row.problems:
        return row
    found = [
        *problems_of(row.checkpoint, trust_remote_code=trust_remote_code),
        *tokenizer_problems(row.checkpoint, trust_remote_code=trust_remote_code),
    ]
    return replace(row, problems=tuple(found))


def _read_through(surveys: "tuple[Survey, ...]", *, trust_remote_code: bool) -> "tuple[Survey, ...]":
    """Add the problems of checkpoints with NaN or infinite weights; see `memprobe.scoring.finite`."""
    return tuple(
        _finite(each, trust_remote_code=trust_remote_code) if each.loadable else each for each in surveys
    )


def _finite(survey: "Survey", *, trust_remote_code: bool) -> "Survey":
    from memprobe.scoring.finite import finite_problems

    rows = []
    with _Reading("reading", survey.loadable) as heard:
        for row in survey.rows:
            if row.checkpoint is not None and not row.problems:
                found = finite_problems(row.checkpoint, trust_remote_code=trust_remote_code)
                heard(row.checkpoint)
                rows.append(replace(row, problems=found))
            else:
                rows.append(row)
    return replace(survey, rows=tuple(rows))


def _tried_out(
    surveys: "tuple[Survey, ...]", *, trust_remote_code: bool, allow_pickle: bool
) -> "tuple[Survey, ...]":
    """Add problems that show only once a checkpoint is loaded; of each architecture, one sound one is enough.

    Every adapter is loaded: that one can be merged says nothing about another.
    """
    if not any(each.loadable for each in surveys):
        return surveys
    from memprobe.checkpoints import config_digest
    from memprobe.errors import CheckpointError
    from memprobe.scoring.load import try_out

    sound: set[tuple[str, int | None]] = set()

    def row(row: "Row") -> "Row":
        seen = row.checkpoint
        if seen is None or row.problems:
            return row
        kind = (config_digest(seen.whole), seen.n_parameters)
        if seen.base is None and kind in sound:
            return row
        try:
            if try_out(seen, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle):
                sound.add(kind)
        except CheckpointError as error:
            return replace(row, problems=error.problems)
        return row

    return tuple(replace(each, rows=tuple(row(one) for one in each.rows)) for each in surveys)


def _tell_notes(surveys: "Iterable[Survey]") -> None:
    for each in surveys:
        for text in each.notes:
            console.note(f"note: {text}")


def _table(survey: "Survey") -> "Table":
    from memprobe.report.plain import plain_table

    n_bytes = sum(row.checkpoint.n_bytes for row in survey.rows if row.checkpoint)
    n_loadable = len(survey.loadable)
    table = plain_table(
        f"{survey.model}: {counted(len(survey.rows), 'checkpoint')}, {n_loadable} loadable, {sized(n_bytes)}"
    )
    table.add_column("revision", overflow="fold")
    for name in ("step", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("dtype", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("format", no_wrap=True)
    table.add_column("loadable", no_wrap=True)
    for row in survey.rows:
        table.add_row(
            row.revision, step_cell(row.step), *_cells(row.checkpoint), "no" if row.problems else "yes"
        )
    return table


def _cells(seen: "Checkpoint | None") -> tuple[str, ...]:
    """Return parameters, dtype, size and format; unknown ones are empty."""
    if seen is None:
        return ("",) * 4
    return (
        "" if seen.n_parameters is None else _scaled(seen.n_parameters),
        seen.dtype or "",
        sized(seen.n_bytes),
        seen.weights_format,
    )


def _scaled(number: float) -> str:
    """Return a count in three digits: 1234567 is 1.23M; the exact one is in --json."""
    for unit in ("", "k", "M", "B"):
        if number < 999.5 or unit == "B":
            break
        number /= 1000
    digits = f"{number:,.0f}" if not unit or number >= 100 else f"{number:.3g}"
    return digits + unit


def _reasons(rows: "Iterable[Row]") -> list[str]:
    """Return lines on why checkpoints cannot be loaded; a reason that several share is given once."""
    shared: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        for problem in row.problems:
            shared.setdefault((problem.what, problem.fix), []).append((row.revision, problem.where))
    lines = []
    for (what, fix), places in shared.items():
        revisions = list(dict.fromkeys(revision for revision, _ in places))
        lines.append(_folded(f"{listed(revisions)}: {what}", ""))
        if len(places) == 1 and places[0][1]:
            # A path is not wrapped, so that it can be copied whole.
            lines.append(f"  where: {places[0][1]}")
        lines += [_folded(f"  fix:   {fix}", " " * 9)] if fix else []
    return lines


def _folded(text: str, indent: str) -> str:
    return fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _sequence_json(survey: "Survey", findings: "Iterable[Finding]") -> dict[str, object]:
    return {
        "model": survey.model,
        "n_checkpoints": len(survey.rows),
        "findings": [finding.as_json() for finding in findings],
        "notes": list(survey.notes),
    }


def _show_findings(survey: "Survey", findings: "tuple[Finding, ...]") -> None:
    from memprobe.report.plain import headed, plain_table
    from memprobe.wording import listed

    counts = Counter("error" if finding.stops else "warning" for finding in findings)
    said = ", ".join(counted(counts[name], name) for name in ("error", "warning") if counts[name])
    title = f"{survey.model}: {counted(len(survey.rows), 'checkpoint')}, {said or 'nothing found'}"
    if not findings:
        console.show_line(title)
        return
    table = plain_table(title)
    table.leading = 1
    table.add_column("", no_wrap=True)
    table.add_column("finding", no_wrap=True)
    table.add_column("where", overflow="fold", max_width=16)
    table.add_column("what it is, and what it means", overflow="fold")
    for finding in findings:
        where = finding.revisions or [step_cell(step) for step in finding.steps]
        text = ". ".join(_sentence(part) for part in (finding.what, finding.means, finding.fix) if part) + "."
        table.add_row("error" if finding.stops else "warning", finding.kind, listed([*where]), text)
    console.show(headed(table))


def _sentence(text: str) -> str:
    """Return a text with a capital first letter, unless it begins with a name or a command."""
    first = text.partition(" ")[0]
    is_name = first in _COMMANDS or not first.replace("-", "").isalpha()
    return text if is_name else text[:1].upper() + text[1:]


@dataclass(slots=True)
class _Reading:
    """Shows the progress of reading weights: a bar on a terminal, a line now and then elsewhere."""

    doing: str
    checkpoints: "tuple[Checkpoint, ...]"
    done: int = 0
    n_bytes: int = 0
    last_line: float = field(default_factory=time.monotonic)
    bar: "Progress | None" = None

    @property
    def total(self) -> int:
        """Number of bytes to read: those of weights on this machine."""
        return sum(each.n_bytes for each in self.checkpoints if each.folder is not None)

    def __enter__(self) -> "_Reading":
        import sys

        if not console.quiet() and self.total and not console.plain(sys.stderr):
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(bar_width=20), DownloadColumn(), TimeRemainingColumn())
            text = TextColumn("{task.description}", markup=False)
            self.bar = Progress(text, *columns, console=console.stderr(), transient=True)
            self.bar.start()
            self.bar.add_task(f"{self.doing} weights", total=self.total)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, checkpoint: "Checkpoint") -> None:
        self.done += 1
        self.n_bytes += checkpoint.n_bytes if checkpoint.folder is not None else 0
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self.n_bytes)
        elif now - self.last_line > _LINE_EVERY_S:
            self.last_line = now
            progress = f"{self.done} of {len(self.checkpoints)} checkpoints, {sized(self.n_bytes)}"
            console.note(f"{self.doing} weights: {progress} of {sized(self.total)}")
