"""`memprobe data`: checks item files, and makes items from documents and token streams."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memprobe.cli import console, options
from memprobe.cli.examples import epilog
from memprobe.errors import InputError

if TYPE_CHECKING:
    from memprobe.bench.datasort import Sorted
    from memprobe.bench.datasplit import Split
    from memprobe.options import RunOptions

data = typer.Typer(
    help="Item files: check them, or make them of documents and streams.", no_args_is_help=True
)

_DOCUMENTS, _STREAMS, _WHICH = "Documents", "Token streams as trained", "How many"
_FOUND = 2

Files = Annotated[list[str], typer.Argument(help="Item files, as -d takes them.", metavar="FILE")]
Sources = Annotated[
    list[str],
    typer.Argument(
        help="Documents (.txt, or items with `text`), or token streams: .npy, .bin with .idx, .arrow, "
        ".parquet with `input_ids`, or a folder of save_to_disk.",
        metavar="FILE",
    ),
]
Out = Annotated[
    Path, options.option("--out", "-o", help="The item file to write: .jsonl or .parquet.", metavar="PATH")
]
By = Annotated[
    Literal["tokens", "words", "sentences", "chars"] | None,
    options.option(
        "--by", help="What --prefix, --suffix, --window and --stride count.", panel=_DOCUMENTS, metavar="UNIT"
    ),
]


def _size(name: str, help: str, panel: str) -> Any:  # noqa: ANN401
    return options.option(name, help=help, panel=panel, metavar="N")


@data.command("check", epilog=epilog("data check"))
def check(
    files: Files,
    map_: options.Map = None,
    model: options.Model = None,
    tokenizer: options.Tokenizer = None,
    probe: options.ProbeNames = None,
    set_: options.Settings = None,
    steps: options.Steps = None,
    stages: options.Stages = None,
    limit: options.Limit = None,
    bos: options.Bos = None,
    offline: options.Offline = None,
    trust_remote_code: options.RemoteCode = None,
    allow_pickle: options.Pickle = None,
    include_text: options.IncludeText = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """List the contents of the files and all that `run` would refuse; exit code 2 if there is anything.

    With -m or --tokenizer also lengths in tokens and what each probe could measure. A file that is not
    UTF-8, not JSON or not Parquet as a whole is one fault: its items are checked once that is fixed.
    """
    options.begin(quiet, verbose)
    from memprobe.bench.datacheck import check_data
    from memprobe.options import RunOptions

    given = {
        "data": tuple(files),
        "map": tuple(map_ or ()),
        "model": tuple(model or ()),
        "tokenizer": tokenizer,
        "steps": steps,
        "stages": stages,
        "limit": limit,
        "bos": bos,
        "offline": offline,
        "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
        "include_text": include_text,
    }
    checked = check_data(RunOptions().overlaid(given), probes=probe or (), settings=set_ or ())
    about = checked.as_json()
    if json:
        console.show_json(about)
    else:
        from memprobe.report.datacheck import check_view, verdict

        console.show(check_view(checked.findings, about))
        console.show_line(f"\n{verdict(about)}")
    if not checked.findings.is_empty():
        raise typer.Exit(_FOUND)


Prefix = Annotated[int | None, _size("--prefix", "Size of the prefix.", _DOCUMENTS)]
Suffix = Annotated[int | None, _size("--suffix", "Size of the suffix.", _DOCUMENTS)]
Window = Annotated[
    int | None, _size("--window", "Windows of this size, instead of a prefix and a suffix.", _DOCUMENTS)
]
Stride = Annotated[
    int | None, _size("--stride", "Distance between the starts of windows; default: no overlap.", _DOCUMENTS)
]
Gutenberg = Annotated[
    bool,
    options.option(
        "--gutenberg", help="Leave out Project Gutenberg's front and back matter.", panel=_DOCUMENTS
    ),
]
BatchSize = Annotated[
    int | None,
    _size("--batch-size", "Sequences per optimizer update, over all devices.", _STREAMS),
]
SequenceTokens = Annotated[
    int | None, _size("--sequence-tokens", "Tokens of a training sequence, in one long stream.", _STREAMS)
]
OverlapTokens = Annotated[
    int | None,
    _size("--overlap-tokens", "Tokens that a sequence shares with the next: 1 for Megatron.", _STREAMS),
]
Order = Annotated[
    str | None,
    options.option(
        "--order", help=".npy: the sequence at each position of training.", panel=_STREAMS, metavar="FILE"
    ),
]
DocOrder = Annotated[
    str | None,
    options.option(
        "--doc-order",
        help=".npy: the documents of a .bin as they were laid out.",
        panel=_STREAMS,
        metavar="FILE",
    ),
]
StartStep = Annotated[int | None, _size("--start-step", "Updates done before the first sequence.", _STREAMS)]
PerBatch = Annotated[int | None, _size("--per-batch", "Draw this many sequences from each batch.", _STREAMS)]
HowMany = Annotated[int | None, _size("--n", "Draw this many windows or sequences in total.", _WHICH)]
Force = Annotated[bool, options.option("--force", help="Overwrite an existing file.")]


@data.command("split", epilog=epilog("data split"))
def split(
    files: Sources,
    out: Out,
    map_: options.Map = None,
    by: By = None,
    prefix: Prefix = None,
    suffix: Suffix = None,
    window: Window = None,
    stride: Stride = None,
    gutenberg: Gutenberg = False,
    batch_size: BatchSize = None,
    sequence_tokens: SequenceTokens = None,
    overlap_tokens: OverlapTokens = None,
    order: Order = None,
    doc_order: DocOrder = None,
    start_step: StartStep = None,
    per_batch: PerBatch = None,
    n: HowMany = None,
    seed: options.Seed = None,
    limit: options.Limit = None,
    model: options.Model = None,
    tokenizer: options.Tokenizer = None,
    offline: options.Offline = None,
    trust_remote_code: options.RemoteCode = None,
    force: Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Cut documents into prefix and suffix or windows, or token streams into items with first_step.

    Documents: --by words --prefix 50 --suffix 50, or --by sentences --window 3. Streams: --batch-size B;
    the sequence at position i has first_step = start_step + i // B + 1.
    """
    options.begin(quiet, verbose)
    from memprobe.documents import is_stream
    from memprobe.options import RunOptions

    of_documents: dict[str, Any] = {
        "by": by,
        "prefix": prefix,
        "suffix": suffix,
        "window": window,
        "stride": stride,
    }
    of_documents |= {"map": map_ or None, "gutenberg": gutenberg or None, "limit": limit}
    of_streams: dict[str, Any] = {
        "batch_size": batch_size,
        "sequence_tokens": sequence_tokens,
        "overlap_tokens": overlap_tokens,
    }
    of_streams |= {"order": order, "doc_order": doc_order, "start_step": start_step, "per_batch": per_batch}
    drawn = {"n": n, "seed": _seed(seed)}
    shared = {"model": tuple(model or ()), "tokenizer": tokenizer, "limit": limit, "offline": offline}
    asked = RunOptions().overlaid(
        {**shared, "map": tuple(map_ or ()), "trust_remote_code": trust_remote_code}
    )
    streams = [name for name in files if is_stream(name)]
    if streams and len(streams) < len(files):
        raise InputError(
            "documents and token streams in one command", fix="give them in two, with -d for each file"
        )
    if streams:
        _refuse_flags(of_documents, "documents, and these files are token streams")
        done = _split_streams(files, out, of_streams | drawn, asked, force=force)
    else:
        _refuse_flags(of_streams, "token streams, and these files are documents")
        done = _split_documents(files, out, of_documents | drawn, asked, force=force)
    _show_split(done, json=json)


def _seed(seed: int | None) -> int:
    return seed or 0


def _refuse_flags(flags: dict[str, Any], of: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in flags.items() if value is not None]
    if given:
        raise InputError(
            f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} for {of}", fix="leave it out"
        )


def _split_documents(
    files: list[str], out: Path, flags: dict[str, Any], asked: "RunOptions", *, force: bool
) -> "Split":
    from memprobe.bench.datasplit import split_documents
    from memprobe.documents import Cut

    if flags["by"] is None:
        fix = "--by tokens, words, sentences or chars, with --prefix N --suffix N or --window N"
        raise InputError("the unit of the cut is not given", fix=fix)
    sizes = {name: flags[name] for name in ("by", "prefix", "suffix", "window", "stride", "n", "seed")}
    cut = Cut(**sizes, gutenberg=bool(flags["gutenberg"]))
    return split_documents(files, out, cut, asked, force=force)


def _split_streams(
    files: list[str], out: Path, flags: dict[str, Any], asked: "RunOptions", *, force: bool
) -> "Split":
    from memprobe.bench.datasplit import split_streams
    from memprobe.documents import Pieces, Sampling, Training, load_numbers

    if flags["batch_size"] is None:
        fix = "--batch-size N: sequences of one optimizer update, all devices and accumulation together"
        raise InputError("first_step follows from the batch size, which is not given", fix=fix)
    order = None if flags["order"] is None else load_numbers(flags["order"])
    return split_streams(
        files,
        out,
        Pieces(flags["sequence_tokens"], flags["overlap_tokens"] or 0),
        Training(flags["batch_size"], flags["start_step"] or 0, order),
        Sampling(flags["n"], flags["per_batch"], flags["seed"]),
        asked,
        doc_order=flags["doc_order"],
        force=force,
    )


def _show_split(done: "Split", *, json: bool) -> None:
    for note in done.notes:
        console.note(f"note: {note}")
    if json:
        console.show_json(done.as_json())
        return
    from memprobe.report.datacheck import split_lines

    for line in split_lines(done.as_json()):
        console.show_line(line)


Texts = Annotated[list[str], typer.Argument(help="Documents: .txt, or items with `text`.", metavar="FILE")]
ExcerptWords = Annotated[
    str, options.option("--excerpt-words", help="Lengths of excerpts, in words.", metavar="N,N")
]
SegmentWords = Annotated[
    str, options.option("--segment-words", help="Lengths of segments, in words.", metavar="N,N")
]
PerCell = Annotated[int, options.option("--per-cell", help="Excerpts per document and length.", metavar="N")]
Validation = Annotated[
    int,
    options.option(
        "--validation",
        help="How many of these are for validation: they choose prompts or serve as examples.",
        metavar="N",
    ),
]


@data.command("sort", epilog=epilog("data sort"))
def sort(
    files: Texts,
    out: Out,
    excerpt_words: ExcerptWords = "250,1000,2500",
    segment_words: SegmentWords = "20,50",
    per_cell: PerCell = 110,
    validation: Validation = 10,
    seed: options.Seed = None,
    limit: options.Limit = None,
    offline: options.Offline = None,
    force: Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Make SORT trials from documents: questions about which of two segments of an excerpt came first.

    The same excerpts serve four ranges of distances between the segments. In
    every cell exactly half of the trials show the earlier segment first.
    """
    options.begin(quiet, verbose)
    from memprobe.bench.datasort import sort_documents
    from memprobe.documents import Cells

    lengths = _lengths("excerpt-words", excerpt_words), _lengths("segment-words", segment_words)
    cells = Cells(*lengths, per_cell=per_cell, validation=validation, seed=_seed(seed))
    _show_sorted(
        sort_documents(files, out, cells, limit=limit, offline=bool(offline), force=force), json=json
    )


def _lengths(flag: str, text: str) -> tuple[int, ...]:
    """Return the numbers of `250,1000`.

    Raises:
        InputError: One of them is not a number.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(f"--{flag} is {text}", fix="give lengths in words, like 250,1000")
    return tuple(int(part) for part in parts)


def _show_sorted(done: "Sorted", *, json: bool) -> None:
    from memprobe.report.datacheck import sort_lines

    for note in done.notes:
        console.note(f"note: {note}")
    for line in sort_lines(done.as_json()):
        console.note(line)
    if json:
        console.show_json(done.as_json())
