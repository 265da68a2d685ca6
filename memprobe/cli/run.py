"""`memprobe run`: the audit."""

from typing import Annotated, Any

import typer

from memprobe.cli import console, options
from memprobe.cli.results import show_run


def run(
    suite: Annotated[
        str | None, typer.Argument(help="A suite that ships, or a path ending in .toml.", metavar="SUITE")
    ] = None,
    model: options.Model = None,
    data: options.Data = None,
    map_: options.Map = None,
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
        "map": tuple(map_ or ()),
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
