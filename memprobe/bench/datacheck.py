"""All that `memprobe run` would report about item files, without running: faults and contents.

With a tokenizer also lengths in tokens and what each probe could measure; with a model, its context and
vocabulary too.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from memprobe.checkpoints import fetch, find_tokenizer, resolve
from memprobe.errors import InputError, ItemError
from memprobe.items import Inspected, copies, copy_notes, findings_of, inspect_items, n_copies, problem_row
from memprobe.items.preview import preview, quantiles, samples
from memprobe.options import RunOptions
from memprobe.pipeline.planning import plan_entries
from memprobe.pipeline.plans import Lengths
from memprobe.pipeline.suite import Entry, suite_of, with_settings
from memprobe.probes.discovery import discover
from memprobe.probes.placement import tokens_shown

if TYPE_CHECKING:
    from memprobe.scoring.load import Limits
    from memprobe.scoring.tokenise import TokenisedItems

# Where only a tokenizer is known: every id is one of the model's.
_NO_VOCABULARY: Final = 2**62
# What differs from item to item in a reason: its first number, and with it the plural.
_COUNT: Final = re.compile(r"(-?\d+)(?: (token)s?\b)?")


@dataclass(frozen=True, slots=True)
class TokenSource:
    """A tokenizer, and the limits of the model.

    Attributes:
        name: The model's name, or the spec of the tokenizer.
        tokenizer: A transformers tokenizer; None where the model has none.
        limits: Context and vocabulary; without a model, neither is limited.
        has_model: Whether the limits are those of a model.
        notes: What the user should know of the tokenizer.
    """

    name: str
    tokenizer: Any
    limits: "Limits"
    has_model: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbeFit:
    """What one probe could measure.

    Attributes:
        probe: Name of the probe, with the swept setting.
        n_measured: Items that it measures.
        n_unfit: Items that it cannot measure, for these reasons.
        reasons: Reason, with its first number as a range, to number of items.
    """

    probe: str
    n_measured: int
    n_unfit: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class TokenPreview:
    """The items under one tokenizer.

    Attributes:
        model: The model's name, or the spec of the tokenizer.
        n_tokens, n_prefix_tokens, n_suffix_tokens, n_foil_tokens: Quantiles; None if no item has any.
        n_borders: Items with prefix and suffix.
        n_boundary_shifts: How many of these have other ids when prefix and suffix are tokenised apart.
        context_tokens: Longest input of the model; None: no limit is known.
        n_beyond_context: Items that do not fit into the context as a whole.
        n_begin_with_bos: Items that already begin with the token that is put in front of them.
        n_special_tokens: Items whose text or foil spells a special token.
        notes: What the user should know of the tokenizer and of these items under it.
        probes: What each probe could measure.
    """

    model: str
    n_tokens: dict[str, int] | None
    n_prefix_tokens: dict[str, int] | None
    n_suffix_tokens: dict[str, int] | None
    n_foil_tokens: dict[str, int] | None
    n_borders: int
    n_boundary_shifts: int
    context_tokens: int | None
    n_beyond_context: int
    n_begin_with_bos: int
    n_special_tokens: int
    notes: tuple[str, ...]
    probes: tuple[ProbeFit, ...]


@dataclass(frozen=True, slots=True)
class DataCheck:
    """The results of checking item files.

    Attributes:
        files: Name, SHA-256 and sound items of each file that could be read.
        n_rows: Rows that were read.
        findings: All that `memprobe run` would refuse; schema FINDINGS.
        preview: Counts of the sound items.
        tokens: The items under each model, or under the tokenizer.
        samples: Content of the first items, under `--include-text`.
    """

    files: tuple[dict[str, Any], ...]
    n_rows: int
    findings: pl.DataFrame
    preview: dict[str, Any]
    tokens: tuple[TokenPreview, ...]
    samples: tuple[dict[str, Any], ...]

    @property
    def n_bad_rows(self) -> int:
        """Number of rows that would be refused."""
        return self.findings.drop_nulls("line").select("file", "line").n_unique()

    def as_json(self) -> dict[str, Any]:
        """Return everything, every finding included, as JSON can hold it."""
        kinds = self.findings.group_by("kind", "column", maintain_order=True).agg(n=pl.len())
        return {
            "clean": self.findings.is_empty(),
            "files": list(self.files),
            "n_rows": self.n_rows,
            "n_bad_rows": self.n_bad_rows,
            "kinds": kinds.to_dicts(),
            "findings": self.findings.to_dicts(),
            "preview": self.preview,
            "tokens": [asdict(each) for each in self.tokens],
            **({"samples": list(self.samples)} if self.samples else {}),
        }


def check_data(options: RunOptions, *, probes: Sequence[str] = (), settings: Sequence[str] = ()) -> DataCheck:
    """Read item files, and list all faults and the contents.

    Args:
        options: These are used: `data, map, limit, model, steps, tokenizer, bos, offline,
            trust_remote_code, allow_pickle, include_text`.
        probes: Items that one of these would refuse are findings; if empty, all probes are checked with
            default settings, and only faults that no setting could fix are findings.
        settings: `PROBE.KEY=VALUE`.

    Raises:
        InputError: No file, or probes without a tokenizer; a probe, a setting or a model spec is wrong.
        SafetyError: Something unsafe, or the network under `offline`, would be needed.
    """
    if not options.data:
        raise InputError("no item file was given", fix="name one: memprobe data check FILE")
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit is {options.limit}, not 1 or more")
    named = bool(probes or settings)
    if named and not (options.model or options.tokenizer):
        fix = "name a model with -m or a tokenizer with --tokenizer"
        raise InputError("what a probe can measure is counted in tokens, and there is no tokenizer", fix=fix)
    entries = _entries(probes, settings)
    inspected = inspect_items(options.data, limit=options.limit, offline=options.offline, mapping=options.map)
    rows: list[dict[str, Any]] = []
    tokens: list[TokenPreview] = []
    if inspected.table.height:
        for source in token_sources(
            options, needs_tokenizer=_needs_tokenizer(inspected), items=inspected.table
        ):
            tokens += _under(source, inspected, entries, options, rows, named=named)
    return DataCheck(
        files=tuple(asdict(file) for file in inspected.files),
        n_rows=inspected.n_items,
        findings=pl.concat([inspected.findings, findings_of(rows)]),
        preview=preview(inspected.table, inspected.given),
        tokens=tuple(tokens),
        samples=tuple(samples(inspected.table)) if options.include_text else (),
    )


def token_sources(
    options: RunOptions, *, needs_tokenizer: bool, items: pl.DataFrame | None = None
) -> Iterator[TokenSource]:
    """Yield the tokenizer and the limits of each named model, or of `--tokenizer` alone.

    Args:
        options: These are used: `model, steps, tokenizer, offline, trust_remote_code, allow_pickle`.
        needs_tokenizer: Whether a model without a tokenizer is an error.
        items: What will be tokenised, for comparing the tokenizer with its files.

    Raises:
        InputError: A spec names nothing that can be read.
        SafetyError: Something unsafe, or the network under `offline`, would be needed.
    """
    if not options.model and options.tokenizer is None:
        return
    from memprobe.scoring.load import Limits, read_limits
    from memprobe.scoring.tokenise import texts_of
    from memprobe.scoring.tokenizer import load_tokenizer

    texts = [] if items is None else texts_of(items)
    trust = options.trust_remote_code
    if not options.model and options.tokenizer is not None:
        folder = find_tokenizer(options.tokenizer, offline=options.offline)
        limits = Limits(None, _NO_VOCABULARY, None, "float32")
        lines: list[str] = []
        tokenizer = load_tokenizer(folder, trust_remote_code=trust, note=lines.append, texts=texts)
        yield TokenSource(options.tokenizer, tokenizer, limits, has_model=False, notes=tuple(lines))
        return
    for sequence in resolve(
        options.model,
        steps=options.steps,
        stages=options.stages,
        tokenizer=options.tokenizer,
        offline=options.offline,
        allow_pickle=options.allow_pickle,
        trust_remote_code=trust,
        needs_tokenizer=needs_tokenizer,
    ):
        first = fetch(sequence.first_loadable, offline=options.offline)
        limits = read_limits(first, trust_remote_code=trust)
        place = first.tokenizer_folder
        lines = []
        tokenizer = (
            load_tokenizer(place, trust_remote_code=trust, note=lines.append, texts=texts) if place else None
        )
        yield TokenSource(sequence.model, tokenizer, limits, has_model=True, notes=tuple(lines))


def _entries(probes: Sequence[str], settings: Sequence[str]) -> tuple[Entry, ...]:
    """Return the probes with their settings; a `--set` also names its probe."""
    by_settings = [each.partition(".")[0] for each in settings]
    names = list(probes) or [name for name in dict.fromkeys(by_settings) if name in discover()]
    return with_settings(suite_of(names or list(discover())), settings).entries


def _needs_tokenizer(inspected: Inspected) -> bool:
    return inspected.table["input_ids"].null_count() > 0 or "foil" in inspected.given


def _under(
    source: TokenSource,
    inspected: Inspected,
    entries: Sequence[Entry],
    options: RunOptions,
    rows: list[dict[str, Any]],
    *,
    named: bool,
) -> Iterator[TokenPreview]:
    """Yield the items under one tokenizer, if it can read them; adds what would be refused to `rows`."""
    from dataclasses import replace

    from memprobe.scoring.tokenise import tokenise
    from memprobe.scoring.windows import with_views

    free = replace(source.limits, vocabulary=_NO_VOCABULARY)
    views = {view for each in entries if (view := each.probe.view(each.settings)) is not None}
    try:
        tokenised = tokenise(inspected.table, source.tokenizer, bos=options.bos, limits=free)
        tokenised, windows = with_views(
            tokenised,
            source.tokenizer,
            views,
            _NO_VOCABULARY,
            context_tokens=source.limits.context_tokens,
        )
    except ItemError as error:
        rows += [problem_row(problem, options.data) for problem in error.problems]
        return
    context = source.limits.context_tokens
    lengths = Lengths(tokenised.table, tokenised.n_front, context, inspected.given, windows)
    rows += _outside(tokenised, source)
    fits, unfit = _fits(entries, lengths, options.data)
    rows += unfit if named else []
    beyond = _beyond(lengths)
    if not named:
        rows += _placed(beyond.select("item_id", what="reason"), lengths.table, "longer than the context")
    yield _token_preview(source, lengths, beyond.height, fits, tokenised)


def _token_preview(
    source: TokenSource,
    lengths: Lengths,
    n_beyond: int,
    fits: Sequence[ProbeFit],
    tokenised: "TokenisedItems",
) -> TokenPreview:
    table = lengths.table
    borders = table["boundary_shift"].drop_nulls()
    return TokenPreview(
        model=source.name,
        n_tokens=quantiles(table["n_tokens"]),
        n_prefix_tokens=quantiles(table["n_prefix_tokens"]),
        n_suffix_tokens=quantiles(table.select(pl.col("n_tokens") - pl.col("n_prefix_tokens")).to_series()),
        n_foil_tokens=quantiles(table["n_foil_tokens"]),
        n_borders=len(borders),
        n_boundary_shifts=int(borders.sum()),
        context_tokens=lengths.context_tokens,
        n_beyond_context=n_beyond,
        n_begin_with_bos=tokenised.literals.n_begin,
        n_special_tokens=tokenised.literals.n_spell,
        notes=(*source.notes, *tokenised.notes, *_copies_by_ids(tokenised, lengths)),
        probes=tuple(fits),
    )


def _copies_by_ids(tokenised: "TokenisedItems", lengths: Lengths) -> list[str]:
    """Return notes on items that are copies only under this tokenizer."""
    same = copies(lengths.table, [tokenised.contents()])
    known = n_copies(copies(lengths.table))
    return copy_notes(lengths.table.with_columns(same), lengths.given) if n_copies(same) > known else []


def _outside(tokenised: "TokenisedItems", source: TokenSource) -> list[dict[str, Any]]:
    """Return a finding for each item with ids that the model does not have."""
    if not source.has_model:
        return []
    size = source.limits.vocabulary
    largest: dict[str, int] = {}
    for (item, _), ids in tokenised.ids.items():
        if (found := int(ids.max(initial=-1))) >= size:
            largest[item] = max(found, largest.get(item, found))
    what = [f"holds the id {found}, the model's vocabulary has {size:,}" for found in largest.values()]
    frame = pl.DataFrame(
        {"item_id": list(largest), "what": what}, schema=dict.fromkeys(("item_id", "what"), pl.String)
    )
    return _placed(frame, tokenised.table, "an id outside the model's vocabulary")


def _beyond(lengths: Lengths) -> pl.DataFrame:
    """Return `item_id, reason` of the items that do not fit into the context as wholes."""
    if lengths.context_tokens is None:
        return pl.DataFrame(schema={"item_id": pl.String, "reason": pl.String})
    # The last token is predicted, never read.
    read = pl.max_horizontal("n_tokens", "n_foil_tokens") + lengths.n_front - 1
    limit = lengths.context_tokens
    reason = pl.format("has {} to read, the model's context holds {}", tokens_shown(read), pl.lit(limit))
    return lengths.table.filter(read > limit).select("item_id", reason=reason)


def _fits(
    entries: Sequence[Entry], lengths: Lengths, specs: Sequence[str]
) -> tuple[list[ProbeFit], list[dict[str, Any]]]:
    """Return what each entry could measure, and the items that it would refuse as findings."""
    fits, rows = [], []
    for entry in entries:
        name = entry.probe.name
        try:
            (plan,), unfit = plan_entries([entry], lengths)
        except ItemError as error:
            problem = error.problems[0]
            what = f"{problem.what}: {problem.where}" if problem.where else problem.what
            n_unfit = 0 if entry.probe.needs and not problem.where else lengths.table.height
            reason = what.removeprefix(f"{name}: ").removeprefix(f"{name} ")
            fits.append(ProbeFit(name, 0, n_unfit, {reason: n_unfit}))
            rows.append(problem_row(problem, specs) | {"what": what})
            continue
        fits.append(ProbeFit(name, plan.n_items, unfit["item_id"].n_unique(), _reasons(unfit["reason"])))
        told_by = unfit.select("item_id", what=pl.format("{}: {}", pl.lit(name), "reason"))
        rows += _placed(told_by, lengths.table, None)
    return fits, rows


def _reasons(reasons: pl.Series) -> dict[str, int]:
    """Count reasons that differ in their first number as one, with the range of that number."""
    found: dict[str, list[int]] = {}
    for reason in reasons:
        match = _COUNT.search(reason)
        found.setdefault(_kind(reason), []).append(int(match[1]) if match else 0)
    return {kind.replace("…", _range(numbers), 1): len(numbers) for kind, numbers in found.items()}


def _kind(reason: str) -> str:
    """Return a reason with `…` for its first number."""
    return _COUNT.sub(lambda match: f"… {match[2]}s" if match[2] else "…", reason, count=1)


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _placed(findings: pl.DataFrame, items: pl.DataFrame, kind: str | None) -> list[dict[str, Any]]:
    """Return findings for items; without `kind`, those that differ in their first number are of one kind."""
    placed = findings.join(
        items.select("item_id", "source_file", "source_line"), on="item_id", maintain_order="left"
    )
    return [
        {
            "file": row["source_file"],
            "line": row["source_line"],
            "item_id": row["item_id"],
            "what": row["what"],
            "kind": kind or _kind(row["what"]),
        }
        for row in placed.iter_rows(named=True)
    ]
