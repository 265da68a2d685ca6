"""`memprobe demo` and `memprobe lab`: controlled checkpoint sequences with planted memories."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memprobe.cli import console, options
from memprobe.cli.examples import epilog
from memprobe.options import check_number

if TYPE_CHECKING:
    from memprobe.lab import LabProgress, LabResult
    from memprobe.pipeline.reading import Run

# Six canaries, evenly spread from never planted to most often planted, so that the search takes only seconds.
# No prompt is longer than its text, so that the ratio is below 1 if none is found. The model has not learned
# to answer questions, so SORT compares likelihoods, from memory.
_DEMO_SETTINGS = (
    'compression.groups=["canary"]',
    "compression.n_items=6",
    "compression.controls=0",
    "compression.target_tokens=10",
    "compression.max_prompt_tokens=10",
    "compression.budget=500",
    'sort.mode="likelihood"',
    'sort.conditions=["parametric"]',
    "stability.windows=[3]",
)

lab = typer.Typer(help="Controlled checkpoint sequences with planted memories.", no_args_is_help=True)


def demo(
    out: Annotated[Path, options.option("--out", "-o", help="The run directory.", metavar="DIR")] = Path(
        "reports/demo"
    ),
    preset: Annotated[
        Literal["quick", "full"], options.option("--preset", help="How much to train.")
    ] = "quick",
    seed: Annotated[
        int, options.option("--seed", help="Seed of the corpus, the training and the intervals.", metavar="N")
    ] = 0,
    threads: options.Threads = None,
    resume: options.Resume = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Train a small checkpoint sequence with planted memories, audit it, compare with the truth."""
    options.begin(quiet, verbose)
    check_number("seed", seed)
    from memprobe.cli.results import show_run
    from memprobe.lab import train_demo
    from memprobe.pipeline.api import answer_question
    from memprobe.pipeline.question import ask
    from memprobe.pipeline.suite import load_suite

    # With so small a model, more threads gain little, cost much on a busy machine, and change digits.
    threads = threads or 1
    if resume is False:
        _start_over(out)
    with _Training("training a small model with planted memories") as listen:
        trained = train_demo(out / "lab", preset=preset, seed=seed, threads=threads, progress=listen.hear)
    given = {"model": (str(trained.main),), "data": (str(trained.items),), "seed": seed, "threads": threads}
    with console.Progressing() as listener:
        usual = [entry.probe.name for entry in load_suite("quickstart").entries]
        asked = ask(
            probes=[*usual, *_answerable(trained.items)], settings=_DEMO_SETTINGS, out=out, options=given
        )
        answered = answer_question(asked, fresh=False, listener=listener)
    from memprobe.bench.page import write_report

    report = write_report(out)
    show_run(answered, json=json)
    if not json:
        _show_truth(trained, answered)
    console.note(f"report: {report}")


def _show_truth(trained: "LabResult", answered: "Run") -> None:
    """Show what was planted next to what was measured, and what to do next."""
    import polars as pl

    from memprobe.report.truth import ratios_view, truth_view

    console.show(
        truth_view(pl.read_parquet(trained.truth), answered.table("recall"), answered.table("extraction"))
    )
    console.show(ratios_view(answered.table("compression")))
    console.show_line(
        f"\nNext, with your own model and items (written like {trained.items}):\n"
        "  memprobe run quickstart -m MODEL -d ITEMS.jsonl"
    )


def _answerable(items: Path) -> list[str]:
    """Return the probes of this package that can measure at least one item of the file."""
    from memprobe.items import read_items
    from memprobe.probes.discovery import built_in

    table = read_items([str(items)]).table
    has = {name for name in table.columns if table[name].null_count() < table.height}
    return [probe.name for probe in built_in().values() if has.issuperset(probe.needs)]


def _start_over(out: Path) -> None:
    """Remove the demo's run and lab, if they exist, and nothing else."""
    import shutil

    from memprobe.lab import open_lab
    from memprobe.tables.store import RunStore

    lab_folder = out / "lab"
    if out.is_dir() and any(each != lab_folder for each in out.iterdir()):
        RunStore(out).empty()
    if open_lab(lab_folder) is not None:
        shutil.rmtree(lab_folder)


@lab.command("train", epilog=epilog("lab train"))
def train(
    text: Annotated[list[Path], options.option("--text", help="A text file. Repeatable.", metavar="FILE")],
    out: Annotated[Path, options.option("--out", "-o", help="Where the lab goes.", metavar="DIR")],
    canaries: Annotated[
        Path | None,
        options.option("--canaries", help="JSONL with prefix, suffix, exposures.", metavar="FILE"),
    ] = None,
    leave_out: Annotated[
        int, options.option("--leave-out", help="Also train a twin that never sees N items.", metavar="N")
    ] = 0,
    updates: Annotated[int, options.option("--updates", help="Optimizer updates.", metavar="N")] = 560,
    checkpoints: Annotated[int, options.option("--checkpoints", help="Besides step 0.", metavar="N")] = 8,
    hidden: Annotated[int, options.option("--hidden", help="Width of the model.", metavar="N")] = 256,
    layers: Annotated[int, options.option("--layers", help="Layers of the model.", metavar="N")] = 4,
    context: Annotated[
        int, options.option("--context", help="Tokens of a training window.", metavar="N")
    ] = 128,
    sort_questions: Annotated[
        int,
        options.option(
            "--sort-questions",
            help="Also train on N questions about which of two segments comes first.",
            metavar="N",
        ),
    ] = 0,
    seed: Annotated[int, options.option("--seed", help="Of weights and order.", metavar="N")] = 0,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Train a controlled checkpoint sequence from your own text and canaries, with recorded truth."""
    options.begin(quiet, verbose)
    from memprobe.lab import TrainSettings, train_text

    settings = TrainSettings(
        hidden=hidden,
        layers=layers,
        context_tokens=context,
        updates=updates,
        checkpoints=checkpoints,
        sort_questions=sort_questions,
        seed=seed,
    )
    with _Training("training on your text") as listen:
        trained = train_text(
            text,
            out,
            canaries=canaries,
            settings=settings,
            leave_out=leave_out,
            threads=threads,
            progress=listen.hear,
        )
    about = {
        "main": str(trained.main),
        "twin": str(trained.twin) if trained.twin else None,
        "items": str(trained.items),
        "truth": str(trained.truth),
        "seconds": round(trained.seconds, 1),
        **trained.counts,
    }
    if json:
        console.show_json(about)
        return
    for name, value in about.items():
        if value is not None:
            console.show_line(f"{name}: {value}")
    console.show_line(f"next: {_next(trained)}")


def _next(trained: "LabResult") -> str:
    # Items made of the user's text have no foil, so recognition has nothing to measure.
    return f"memprobe run -p recall -p extraction -m {trained.main} -d {trained.items}"


class _Training:
    """Shows the progress of training: a bar on a terminal, a line for each quarter elsewhere."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.shown = ""

    def __enter__(self) -> "_Training":
        import sys

        self.bar = None
        if not console.quiet() and not console.plain(sys.stderr):
            from rich.progress import Progress

            self.bar = Progress(console=console.stderr(), transient=True)
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=None)
        else:
            console.note(f"{self.title} ...")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def hear(self, progress: "LabProgress") -> None:
        """Show one update."""
        loss = "" if progress.loss_nats is None else f", loss {progress.loss_nats:.2f} nats per token"
        if progress.right_frac is not None:
            loss += f", {progress.right_frac:.0%} of questions right"
        if self.bar is not None:
            self.bar.update(
                self.task,
                completed=progress.update,
                total=progress.n_updates,
                description=f"{self.title} ({progress.phase}{loss})",
            )
            return
        quarter = f"{progress.phase} {4 * progress.update // max(1, progress.n_updates)}"
        if progress.phase != "tokenizer" and quarter != self.shown:
            self.shown = quarter
            console.note(f"training {progress.phase}: update {progress.update}/{progress.n_updates}{loss}")
