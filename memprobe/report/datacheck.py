"""Terminal view of item files: their faults, kind by kind, and their contents."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from memprobe.probes.discovery import following
from memprobe.report.plain import headed, plain_table
from memprobe.wording import counted

SHOWN_PER_KIND: Final = 20
_SHOWN_VALUES = 8
_SHOWN_PAIRS = 5
_SAMPLE_CHARS = 200


def check_view(findings: pl.DataFrame, about: Mapping[str, Any]) -> RenderableType:
    """Return a view of the faults and contents of item files.

    Args:
        findings: All faults, with `file, line, column, item_id, what, fix, kind`.
        about: Result of `memprobe.bench.datacheck.DataCheck.as_json`.
    """
    shown = preview_view(about["preview"], about["tokens"], about.get("samples", ()))
    lines = [
        f"{each['spec']} is read as {each['read_as']}"
        for each in about.get("files", ())
        if each.get("read_as")
    ]
    if lines:
        shown = Group(*(Text(line) for line in lines), Text(""), shown)
    return shown if findings.is_empty() else Group(findings_view(findings), Text(""), shown)


def verdict(about: Mapping[str, Any]) -> str:
    """Return the last line of a check.

    Args:
        about: Result of `memprobe.bench.datacheck.DataCheck.as_json`.
    """
    if about["clean"]:
        return "clean: `memprobe run` takes these files"
    n_problems = counted(len(about["findings"]), "problem")
    bad = f"{about['n_bad_rows']:,} of {counted(about['n_rows'], 'item')} bad"
    return f"{n_problems}, {bad}: `memprobe run` refuses these files"


def split_lines(about: Mapping[str, Any]) -> list[str]:
    """Return lines on what was cut, what was left over, and the next command.

    Args:
        about: Result of `memprobe.bench.datasplit.Split.as_json`.
    """
    lines = [f"wrote {about['out']}: {counted(about['n_items'], 'item')}"]
    if about["kind"] == "documents":
        rest = about["n_chars"] - about["n_covered_chars"]
        share = f" ({rest / about['n_chars']:.1%})" if about["n_chars"] else ""
        size = f"{counted(about['n_documents'], 'document')} of {about['n_chars']:,} characters"
        tail = f"{about['n_tail_chars']:,} of them behind the last window"
        return [
            *lines,
            f"{counted(about['n_windows'], 'window')} in {size}",
            f"in no window: {rest:,} characters{share}, {tail}",
            _next("data split", about["out"]),
        ]
    tokens = sorted({about["n_tokens_min"], about["n_tokens_max"]})
    return [
        *lines,
        f"of {about['n_sequences']:,} sequences of {' to '.join(f'{n:,}' for n in tokens)} tokens "
        f"in {counted(about['n_batches'], 'batch', 'batches')}",
        f"first_step {about['first_step_min']:,} to {about['first_step_max']:,}",
        "controls cannot come from the stream: add items that were never trained on in a file of their own,",
        "with `input_ids` and no first_step",
        f"{_next('data split', about['out'])} -d CONTROLS",
    ]


def sort_lines(about: Mapping[str, Any]) -> list[str]:
    """Return lines on the SORT trials made, how evenly they are spread, and the next command.

    Args:
        about: Result of `memprobe.bench.datasort.Sorted.as_json`.
    """
    excerpts = counted(about["n_excerpts"], "excerpt")
    shown = [
        f"wrote {about['out']}: {counted(about['n_trials'], 'trial')} ({_counted(about['splits'])})",
        f"of {excerpts} in {counted(about['n_documents'], 'document')}, {counted(about['n_cells'], 'cell')}; "
        "each shows the earlier segment first in exactly half",
    ]
    for each in about["documents"]:
        left = f"{each['n_words_left_out']:,} in {counted(each['n_blocks_left_out'], 'block')}"
        shown.append(f"{each['name']}: {each['n_words']:,} words; headings and matter left out: {left}")
    names = {"excerpt_starts": "excerpt starts", "segment_starts": "segment starts"}
    for key, name in names.items():
        shown.append(f"{name}: {_uniformity(about['uniformity'][key])}")
    return [*shown, _next("data sort", about["out"])]


def _next(command: str, items: str) -> str:
    return f"next: memprobe run -p {following(command).name} -m MODEL -d {items}"


def _uniformity(tested: Mapping[str, Any]) -> str:
    if not tested["n_tests"]:
        return "too few for a test of an even spread"
    uneven = (
        f"{tested['n_below_005']:,} of {counted(tested['n_tests'], 'test')} of an even spread with p < 0.05"
    )
    line = f"{uneven} ({0.05 * tested['n_tests']:.1f} by chance), smallest p {tested['p_min']:.2g}"
    worst = tested["worst"]
    if worst is None or worst["n_below_005"] < 2:
        return line
    bin_ = "" if worst["distance_bin"] is None else f", bin {worst['distance_bin']}"
    size = f"excerpts of {worst['excerpt_words']:,}, segments of {worst['segment_words']:,}{bin_}"
    return f"{line}; {worst['n_below_005']:,} of them: {size}"


def findings_view(findings: pl.DataFrame) -> RenderableType:
    """Return a view of the faults: a count per kind, then the first twenty of each kind.

    Args:
        findings: All faults, with `file, line, column, item_id, what, fix, kind`.
    """
    kinds = findings.group_by("kind", maintain_order=True).agg(pl.len(), pl.col("fix").drop_nulls().first())
    table = plain_table("What is wrong")
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("kind", overflow="fold")
    table.add_column("what to do", overflow="fold")
    for kind, n, fix in kinds.iter_rows():
        table.add_row(f"{n:,}", kind, fix or "")
    first = findings.filter(pl.int_range(pl.len()).over("kind") < SHOWN_PER_KIND)
    return Group(headed(table), Text(""), headed(_places(first, findings.height)))


def _places(findings: pl.DataFrame, n_all: int) -> Table:
    title = "Where" if findings.height == n_all else f"Where: the first {SHOWN_PER_KIND} of each kind"
    table = plain_table(title)
    table.add_column("file", overflow="fold")
    table.add_column("line", justify="right", no_wrap=True)
    for name in ("column", "item", "what"):
        table.add_column(name, overflow="fold")
    for row in findings.iter_rows(named=True):
        line = "" if row["line"] is None else str(row["line"])
        table.add_row(row["file"] or "", line, row["column"] or "", row["item_id"] or "", row["what"])
    if rest := n_all - findings.height:
        table.caption = f"and {rest:,} more; --json lists all"
        table.caption_justify = "left"
    return table


def preview_view(
    preview: Mapping[str, Any], tokens: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]]
) -> RenderableType:
    """Return a view of the contents of item files: counts, lengths, what each probe could measure.

    Args:
        preview: Result of `memprobe.items.preview.preview`.
        tokens: One mapping per model, with the fields of `memprobe.bench.datacheck.TokenPreview`.
        samples: Contents of some items to show; may be empty.
    """
    table = _facts("What is in them")
    for name, value in _preview_rows(preview):
        table.add_row(name, value)
    parts: list[RenderableType] = [headed(table)]
    if preview["further_columns"]:
        parts += [Text(""), headed(_further(preview["further_columns"]))]
    for each in tokens:
        parts += [Text(""), headed(_lengths(each)), Text(""), headed(_probes(each))]
    if samples:
        shown = plain_table("The first items")
        shown.add_column("item", overflow="fold")
        shown.add_column("content", overflow="fold")
        for row in samples:
            for name, value in row.items():
                if name != "item_id":
                    shown.add_row(row["item_id"], f"{name}: {_cut(str(value))}")
        parts += [Text(""), headed(shown)]
    return Group(*parts)


def _facts(title: str) -> Table:
    table = plain_table(title)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    table.show_header = False
    return table


def _preview_rows(preview: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "sound items", f"{preview['n_items']:,}"
    yield "shapes", _counted(preview["shapes"]) or "none"
    without = f"; {preview['n_without_group']:,} without" if preview["n_without_group"] else ""
    yield "groups", (_counted(preview["groups"]) + without if preview["groups"] else "none")
    if preview["exposures"]:
        yield "exposures", _counted(preview["exposures"], sign=": ")
    if (steps := preview["steps"]) is not None:
        yield "first_step", _steps(steps)
    yield from (("note", text) for text in preview.get("doubts", ()))
    # The `doc_id` of a trial names its excerpt, not a document.
    if (trials := preview["trials"]) is not None:
        yield from _trial_rows(trials)
    elif preview["n_documents"]:
        yield "documents", f"{preview['n_documents']:,}"
    if preview["n_batches"]:
        yield "batches", f"{preview['n_batches']:,}"
    if preview["n_foils"]:
        kinds = f" ({_counted(preview['foil_kinds'])})" if preview["foil_kinds"] else ""
        yield "foils", f"{preview['n_foils']:,}{kinds}"
    yield from _length_rows({"characters": preview["length_chars"], "token ids": preview["length_ids"]})
    yield "same content", _groups(preview["same_content"])
    yield "near-duplicates", _groups(preview["near_same_content"])
    near = preview["near_copies"]
    yield "near copies", f"{_groups(near['groups'])} ({near['measure']})"


def _trial_rows(trials: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    of = f"of {counted(trials['n_excerpts'], 'excerpt')} in {counted(trials['n_sources'], 'document')}"
    yield "SORT trials", f"{trials['n']:,} {of}: {_counted(trials['splits'])}"
    yield "excerpt words", _counted(trials["excerpt_words"], sign=": ")
    yield "segment words", _counted(trials["segment_words"], sign=": ")
    yield "distance bins", _counted(trials["distance_bins"], sign=": ") or "not known"
    uneven, cells = trials["n_uneven_cells"], counted(trials["n_cells"], "cell")
    if uneven is not None:
        yield "earlier first", f"exactly half in {trials['n_cells'] - uneven:,} of {cells}"


def _steps(steps: Mapping[str, Any]) -> str:
    if not steps["n_trained_on"]:
        if not steps["n_never"]:
            return "of no item, since all are bad"
        return f"null in all {steps['n_never']:,}: never trained on"
    n_untimed = steps["n_untimed"]
    each = f"; {n_untimed:,} trained on, no first_step says when" if n_untimed else ""
    if steps["first_step_min"] is None:
        return f"null in all; {steps['n_never']:,} never trained on{each}"
    n_items = counted(steps["n_trained_on"] - n_untimed, "item")
    span = f"{steps['first_step_min']:,} to {steps['first_step_max']:,} in {n_items}"
    known = steps["n_with_exposure_steps"]
    each += f"; exposure_steps of {known:,}" if known else ""
    return f"{span}; {steps['n_never']:,} never trained on{each}"


def _groups(groups: Sequence[Sequence[str]]) -> str:
    """Return how many items share how many contents, and the names of the first ones."""
    if not groups:
        return "none"
    n_items = sum(len(names) for names in groups)
    named = "; ".join(" = ".join(names[:_SHOWN_PAIRS]) for names in groups[:_SHOWN_PAIRS])
    more = ", ..." if len(groups) > _SHOWN_PAIRS else ""
    return f"{n_items:,} items hold {counted(len(groups), 'content')}: {named}{more}"


def _counted(counts: Mapping[str, int], *, sign: str = " ") -> str:
    """Return counts as text, like `canary 16, control 8 and 3 more values`."""
    shown = [f"{name}{sign}{n:,}" for name, n in list(counts.items())[:_SHOWN_VALUES]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more values" if more > 0 else "")


def _length_rows(lengths: Mapping[str, Mapping[str, int] | None]) -> Iterator[tuple[str, str]]:
    for name, found in lengths.items():
        if found is not None:
            yield name, ", ".join(f"{point} {value:,}" for point, value in found.items())


def _further(columns: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table("Further columns, carried through")
    table.add_column("column", overflow="fold")
    table.add_column("type", no_wrap=True)
    table.add_column("null", justify="right", no_wrap=True)
    table.add_column("distinct", justify="right", no_wrap=True)
    for each in columns:
        table.add_row(each["column"], each["type"], f"{each['n_null']:,}", f"{each['n_distinct']:,}")
    return table


def _lengths(tokens: Mapping[str, Any]) -> Table:
    table = _facts(f"In tokens of {tokens['model']}")
    names = {"whole items": "n_tokens", "prefixes": "n_prefix_tokens", "suffixes": "n_suffix_tokens"}
    names |= {"foils": "n_foil_tokens"}
    for row in _length_rows({name: tokens[key] for name, key in names.items()}):
        table.add_row(*row)
    if tokens["n_borders"]:
        shifts = f"{tokens['n_boundary_shifts']:,} of {tokens['n_borders']:,}"
        table.add_row("boundary shifts", f"{shifts}: other ids apart than together")
    if tokens["context_tokens"] is not None:
        n_beyond = counted(tokens["n_beyond_context"], "item")
        table.add_row("context", f"{tokens['context_tokens']:,} tokens; too short for {n_beyond} as a whole")
    for note in tokens["notes"]:
        table.add_row("note", note)
    return table


def _probes(tokens: Mapping[str, Any]) -> Table:
    table = plain_table("What each probe could measure")
    table.add_column("probe", no_wrap=True)
    table.add_column("items", justify="right", no_wrap=True)
    table.add_column("not", justify="right", no_wrap=True)
    table.add_column("why not", overflow="fold")
    for each in tokens["probes"]:
        several = len(each["reasons"]) > 1
        why = "; ".join(f"{n:,}: {reason}" if several else reason for reason, n in each["reasons"].items())
        table.add_row(each["probe"], f"{each['n_measured']:,}", f"{each['n_unfit']:,}", why)
    return table


def _cut(text: str) -> str:
    return text if len(text) <= _SAMPLE_CHARS else f"{text[:_SAMPLE_CHARS]}..."
