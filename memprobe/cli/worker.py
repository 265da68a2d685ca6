"""`memprobe worker` and `memprobe status`: more processes that score one run, and its progress."""

from typing import TYPE_CHECKING, Annotated

from memprobe.cli import console, options
from memprobe.cli.results import RunPath, refuse_failures
from memprobe.wording import counted

if TYPE_CHECKING:
    from memprobe.pipeline.worker import WorkerResult


def worker(
    run: RunPath,
    shard: Annotated[
        str | None,
        options.option("--shard", help="Score only every n-th unit: 1/4 to 4/4 share a run.", metavar="I/N"),
    ] = None,
    device: options.Device = None,
    threads: options.Threads = None,
    offline: options.Offline = None,
    trust_remote_code: options.RemoteCode = None,
    allow_pickle: options.Pickle = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Score units of a run that no other process holds; start and stop as many as you like."""
    options.begin(quiet, verbose)
    from memprobe.pipeline.shard import WHOLE, parse_shard
    from memprobe.pipeline.worker import work

    share = WHOLE if shard is None else parse_shard(shard)
    with console.Progressing(run=str(run)) as listener:
        worked = work(
            run,
            shard=share,
            listener=listener,
            device=device,
            threads=threads,
            offline=offline,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        )
    if json:
        console.show_json(
            {
                "run": str(run),
                "state": worked.run.about.state,
                "units_scored": worked.n_scored,
                "units_left": worked.n_left,
                "failures": worked.run.failures,
            }
        )
    else:
        console.show_line(_said(worked))
    refuse_failures(worked.run)


def _said(worked: "WorkerResult") -> str:
    scored = f"scored {counted(worked.n_scored, 'unit')}"
    if worked.n_left:
        left = counted(worked.n_left, "unit")
        others = f"memprobe worker {worked.run.path} scores the units that no process holds"
        return f"{scored}; {left} of other shards left: {others}"
    if worked.run.finished:
        return f"{scored}; the run is {worked.run.about.state}: memprobe summary {worked.run.path}"
    return f"{scored}; another process added a probe and goes on"


def status(
    run: RunPath,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Show which units of a run are done, who holds others, how fast it goes, and what failed."""
    options.begin(quiet, verbose)
    from memprobe.bench.status import status as status_of

    now = status_of(run)
    if json:
        console.show_json(now.as_json())
        return
    from memprobe.report.progress import status_view

    console.show(status_view(now.as_json()))
