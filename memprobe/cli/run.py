"""`memprobe run`: the audit."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memprobe.cli import console, options
from memprobe.errors import IncompleteRunError
from memprobe.wording import counted

if TYPE_CHECKING:
    from memprobe.pipeline.reading import Run


def run(
    suite: Annotated[
        str | None, typer.Argument(help="A suite that ships, or a path ending in .toml.", metavar="SUITE")
    ] = None,
    model: options.Model = None,
    data: options.Data = None,
    control: options.Control = None,
    probe: options.ProbeNames = None,
    set_: options.Settings = None,
    steps: options.Steps = None,
    stages: options.Stages = None,
    tokenizer: options.Tokenizer = None,
    limit: options.Limit = None,
    bos: options.Bos = None,
    on_bad_item: options.OnBadItem = None,
    seed: options.Seed = None,
    out: options.Out = None,
    device: options.Device = None,
    dtype: options.DType = None,
    batch_tokens: options.BatchTokens = None,
    threads: options.Threads = None,
    keep_checkpoints: options.KeepCheckpoints = None,
    resume: options.Resume = None,
    offline: options.Offline = None,
    trust_remote_code: options.RemoteCode = None,
    allow_pickle: options.Pickle = None,
    include_text: options.IncludeText = None,
    dry_run: Annotated[
        bool, options.option("--dry-run", help="Show checkpoints, units, bytes and time; score nothing.")
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Measure every probe of a suite on every checkpoint of a sequence."""
    options.begin(quiet, verbose)
    from memprobe.pipeline.api import answer_question
    from memprobe.pipeline.question import ask

    given = {
        "model": tuple(model or ()),
        "data": tuple(data or ()),
        "control": control,
        "steps": steps,
        "stages": stages,
        "tokenizer": tokenizer,
        "limit": limit,
        "bos": bos,
        "on_bad_item": on_bad_item,
        "seed": seed,
        "device": device,
        "dtype": dtype,
        "batch_tokens": options.batch_tokens(batch_tokens),
        "threads": threads,
        "keep_checkpoints": options.keep_checkpoints(keep_checkpoints),
        "offline": offline,
        "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
        "include_text": include_text,
    }
    question = ask(suite, probes=probe or (), settings=set_ or (), out=out, options=given)
    if dry_run:
        _forecast(question, fresh=resume is False, json=json)
        return
    with console.Progressing(run=str(question.out)) as listener:
        answered = answer_question(question, fresh=resume is False, listener=listener)
    show_run(answered, json=json)


def show_run(answered: "Run", *, json: bool) -> None:
    """Show the summary of a run, where it lies, and what failed.

    Raises:
        IncompleteRunError: Some checkpoints failed.
    """
    from memprobe.cli.results import summary_json
    from memprobe.report.console import summary_view

    try:
        if json:
            console.show_json(summary_json(answered))
        else:
            console.show(summary_view(answered.summary, answered.about, answered.doses, answered.grids))
    except (BrokenPipeError, SystemExit):
        # A reader who left early, which rich ends the process for, does not make the run complete.
        if not answered.failures:
            raise
    console.note(f"run directory: {answered.path}")
    refuse_failures(answered)


def refuse_failures(answered: "Run") -> None:
    """Name the checkpoints that failed, if there are any.

    Raises:
        IncompleteRunError: There are.
    """
    if failures := answered.failures:
        raise IncompleteRunError(
            f"{counted(len(failures), 'checkpoint')} failed: "
            + "; ".join(f"{each['revision']}: {each['error'].splitlines()[0]}" for each in failures[:3]),
            where=str(answered.path / "errors.jsonl"),
            fix="the others are kept; mend these and run the same command again",
        )


def _forecast(question: Any, *, fresh: bool, json: bool) -> None:  # noqa: ANN401
    from memprobe.pipeline.dry_run import forecast
    from memprobe.report.expected import forecast_view

    with console.Progressing() as listener:
        expected = forecast(question, listener, fresh=fresh)
    if json:
        console.show_json(expected.as_json())
    else:
        console.show(forecast_view(expected.checkpoints, expected.totals))
    console.tell_days(expected.totals["estimated_s"] or 0.0, str(question.out))
