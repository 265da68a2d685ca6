"""Make SORT trials from documents: which of two segments of an excerpt came first?

For each document and size, all ranges of distances use the same excerpts: the first ones are the test,
the last ones are the validation. In every cell (document, size, range, split) exactly half of the trials
show the earlier segment first: the halves are assigned when the excerpts are final. A document's trials
depend on its text, the sizes and the seed alone. Windows line ends become plain ones, in item files too.

Source: Pink et al. 2024, arXiv:2410.08133, section 3 and appendix.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.documents.prose import Prose, read_prose
from memprobe.documents.sort_draw import Drawn, Excerpt, Range, Size, draw, ranges
from memprobe.documents.source import Document, Documents
from memprobe.errors import InputError, ItemError, Problem
from memprobe.items import TRIAL, paper_edges

_MADE: Final = {
    "item_id": pl.String(),
    "doc_id": pl.String(),
    "source_id": pl.String(),
    "excerpt_id": pl.String(),
    **{name: column.dtype for name, column in TRIAL.items() if name not in ("source_id", "excerpt_id")},
}
_PLACES: Final = {"item_id": pl.String(), "start_share": pl.Float64(), "segment_share": pl.Float64()}
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Cells:
    """Which trials are made.

    Attributes:
        excerpt_words: Lengths of excerpts.
        segment_words: Lengths of segments.
        per_cell: Number of excerpts for each document and size.
        validation: How many of them are validation trials.
        seed: Seed of all draws.

    Raises:
        InputError: A number is too small, or segments are too long for an excerpt.
    """

    excerpt_words: tuple[int, ...] = (250, 1_000, 2_500)
    segment_words: tuple[int, ...] = (20, 50)
    per_cell: int = 110
    validation: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [*_number_problems(self), *_length_problems(self)]
        if problems:
            raise InputError(problems)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """All pairs of lengths, in rising order."""
        return tuple(
            Size(whole, part)
            for whole in sorted(set(self.excerpt_words))
            for part in sorted(set(self.segment_words))
        )


def bins_of(size: Size) -> tuple[Range, ...]:
    """Return the paper's four ranges of distances for a size; see `paper_edges` and `ranges`."""
    return ranges(paper_edges(size.excerpt_words, size.segment_words), size)


def _number_problems(cells: Cells) -> Iterator[Problem]:
    for name, values in (("excerpt-words", cells.excerpt_words), ("segment-words", cells.segment_words)):
        for value in values:
            if value < 1:
                yield Problem(f"--{name} is {value}, not 1 or more")
        if not values:
            yield Problem(f"--{name} is empty", fix="give lengths in words, like 250,1000")
    if cells.validation < 0:
        yield Problem(f"--validation is {cells.validation}, not 0 or more")
    elif cells.per_cell - cells.validation < 2:
        what = f"--per-cell is {cells.per_cell}, and {cells.validation} of them are validation trials"
        yield Problem(what, fix="leave 2 or more for the test")
    if cells.seed < 0:
        yield Problem(f"--seed is {cells.seed}, not 0 or more")


def _length_problems(cells: Cells) -> Iterator[Problem]:
    """Yield the sizes at which a range of distances holds no distance."""
    if min((*cells.excerpt_words, *cells.segment_words), default=0) < 1:
        return
    for size in cells.sizes:
        empty = [str(place) for place, each in enumerate(bins_of(size)) if each.low > each.high]
        if empty:
            edges = ", ".join(f"{edge:,}" for edge in paper_edges(size.excerpt_words, size.segment_words))
            what = f"segments of {size.segment_words:,} words leave no room in {size.excerpt_words:,}"
            where = f"bin {', '.join(empty)} of distances, edges {edges} words"
            fix = "segments may have up to a fifth of an excerpt's words"
            yield Problem(what, where, fix)


@dataclass(frozen=True, slots=True)
class SortTrials:
    """Trials, and what no trial uses.

    Attributes:
        items: One row per trial: `item_id`, `doc_id` (the cluster: document and excerpt), the columns of a
            trial, `text` (the excerpt), then what the documents carried.
        places: For each trial, `start_share`: where its excerpt begins, of all places it could have begun at,
            0 to 1; `segment_share`: where in the excerpt the earlier segment begins, of the words that its
            distance leaves. Null if there is only one place.
        documents: One row per document that is used: `name, n_words` (kept)`, n_sentences,
            n_blocks_left_out, n_words_left_out` (headings, front and back matter).
        sizes: One row per document and size: `name, excerpt_words, segment_words, n_test, n_validation,
            n_candidates, n_passed_over, reason` (why there are fewer than asked for; null if there are not).
        notes: What the user should know, one sentence each.
    """

    items: pl.DataFrame
    places: pl.DataFrame
    documents: pl.DataFrame
    sizes: pl.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cell:
    """The trials of one document and size, after all drops."""

    document: Document
    size: Size
    drawn: Drawn
    kept: tuple[Excerpt, ...]
    n_test: int
    reason: str | None


def sort_trials(source: Documents, cells: Cells) -> SortTrials:
    """Make SORT trials of documents.

    Args:
        source: The documents; of several with one text, the first by name is used.
        cells: Which trials to make.

    Raises:
        ItemError: No document gives a trial, or a carried column has the name of a column that is made here.
    """
    if taken := [name for name in source.schema if name in _MADE]:
        fix = "rename the column in the documents' file"
        raise ItemError(
            [Problem("SORT trials have a column of this name", f"column {name}", fix) for name in taken]
        )
    documents, notes = _different(source.documents)
    found: list[_Cell] = []
    frames: list[pl.DataFrame] = []
    places: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    for document in documents:
        prose = read_prose(document.text)
        told.append(_about(document, prose))
        for size in cells.sizes:
            rng = _rng(document, size, cells.seed)
            cell = _cell(document, prose, size, cells, rng)
            found.append(cell)
            rows = list(_rows(cell, prose, rng))
            frames.append(_frame(cell, rows, source.schema))
            places += _shares(cell, prose, rows)
    notes += _notes(found, cells)
    return SortTrials(
        pl.concat(frames),
        pl.DataFrame(places, schema=_PLACES),
        pl.DataFrame(told),
        pl.DataFrame([_told(cell) for cell in found], infer_schema_length=None),
        tuple(notes),
    )


def _different(documents: Sequence[Document]) -> tuple[list[Document], list[str]]:
    """Return the documents sorted by name, each text once, and a note on those left out."""
    first: dict[str, Document] = {}
    notes = []
    for document in sorted(documents, key=lambda each: each.name):
        text = document.text.replace("\r\n", "\n")
        kept = first.setdefault(text, replace(document, text=text))
        if kept.name != document.name:
            notes.append(f"{document.name} has the same text as {kept.name} and is left out")
    return list(first.values()), notes


def _rng(document: Document, size: Size, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(document.text.encode()).digest()
    return np.random.default_rng(
        [seed, int.from_bytes(digest[:16], "big"), size.excerpt_words, size.segment_words]
    )


def _cell(document: Document, prose: Prose, size: Size, cells: Cells, rng: np.random.Generator) -> _Cell:
    """Draw the excerpts of a document and a size, and make both splits even."""
    drawn = draw(prose, size, bins_of(size), cells.per_cell, rng=rng)
    n = len(drawn.excerpts)
    n_validation = cells.validation * n // cells.per_cell // 2 * 2
    n_test = (n - n_validation) // 2 * 2
    wanted = (cells.per_cell - cells.validation) // 2 * 2
    reason = _reason(prose, size, drawn) if n < cells.per_cell else None
    if not n_test:
        return _Cell(document, size, drawn, (), 0, reason)
    n_test = min(n_test, wanted)
    kept = (*drawn.excerpts[:n_test], *drawn.excerpts[n - n_validation :])
    return _Cell(document, size, drawn, kept, n_test, reason)


def _reason(prose: Prose, size: Size, drawn: Drawn) -> str:
    """Return why a document gave fewer excerpts than were asked for."""
    if len(prose.words) < size.excerpt_words:
        return f"the text has {len(prose.words):,} words"
    if len(prose.starts) < 2:
        return "no sentence ends, so no segment can begin anywhere"
    if not drawn.n_candidates:
        return "no sentence begins where an excerpt has room"
    if not drawn.n_passed_over:
        return f"sentences at which an excerpt has room: {drawn.n_candidates:,}"
    return f"of {drawn.n_candidates:,} excerpts, {drawn.n_passed_over:,} have no pair for every distance"


def _rows(cell: _Cell, prose: Prose, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield the trials of a cell, excerpt by excerpt."""
    size = cell.size
    n_validation = len(cell.kept) - cell.n_test
    n_bins = len(cell.kept[0].pairs) if cell.kept else 0
    first = np.stack(
        [np.concatenate([_halves(cell.n_test, rng), _halves(n_validation, rng)]) for _ in range(n_bins)]
        or [np.empty(0, dtype=np.bool_)]
    )
    for number, excerpt in enumerate(cell.kept):
        excerpt_id = f"{size.excerpt_words}-{excerpt.start}"
        doc_id = f"{cell.document.name}/{excerpt_id}"
        for place, pair in enumerate(excerpt.pairs):
            yield {
                "item_id": f"{doc_id}/{size.segment_words}-{place}",
                "doc_id": doc_id,
                "source_id": cell.document.name,
                "excerpt_id": excerpt_id,
                "segment_1": prose.slice(excerpt.start + pair.earlier, size.segment_words),
                "segment_2": prose.slice(excerpt.start + pair.later, size.segment_words),
                "excerpt_words": size.excerpt_words,
                "segment_words": size.segment_words,
                "distance_words": pair.distance,
                "distance_bin": place,
                "excerpt_start_frac": excerpt.start / len(prose.words),
                "earlier_first": bool(first[place, number]),
                "split": "test" if number < cell.n_test else "validation",
            }


def _halves(n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return `n` flags in random order, exactly half of them true; `n` is even."""
    return rng.permutation(np.arange(n) < n // 2)


def _frame(cell: _Cell, rows: list[dict[str, Any]], carried: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return the trials of a cell as a table; the text of an excerpt is in memory once."""
    frame = pl.DataFrame(rows, schema=_MADE)
    texts = pl.DataFrame(
        {
            "doc_id": [f"{cell.document.name}/{cell.size.excerpt_words}-{each.start}" for each in cell.kept],
            "text": [each.text for each in cell.kept],
        },
        schema={"doc_id": pl.String(), "text": pl.String()},
    )
    values = [pl.lit(cell.document.carried[name], dtype).alias(name) for name, dtype in carried.items()]
    joined = frame.join(texts, on="doc_id", how="left", maintain_order="left")
    return joined.select("item_id", "text", pl.exclude("item_id", "text")).with_columns(*values)


def _shares(cell: _Cell, prose: Prose, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield where excerpts and earlier segments begin, as shares of their possible places."""
    pairs = [(excerpt, pair) for excerpt in cell.kept for pair in excerpt.pairs]
    for row, (excerpt, pair) in zip(rows, pairs, strict=True):
        n_starts = len(prose.words) - cell.size.excerpt_words + 1
        n_places = cell.size.excerpt_words - cell.size.segment_words - pair.distance + 1
        yield {
            "item_id": row["item_id"],
            "start_share": _share(excerpt.start, n_starts),
            "segment_share": _share(pair.earlier, n_places),
        }


def _share(place: int, n: int) -> float | None:
    """Return the middle of one of `n` equal places, as a share of all of them."""
    return (place + 0.5) / n if n > 1 else None


def _about(document: Document, prose: Prose) -> dict[str, Any]:
    return {
        "name": document.name,
        "n_words": len(prose.words),
        "n_sentences": len(prose.starts),
        "n_blocks_left_out": prose.n_blocks_left_out,
        "n_words_left_out": prose.n_words_left_out,
    }


def _told(cell: _Cell) -> dict[str, Any]:
    return {
        "name": cell.document.name,
        "excerpt_words": cell.size.excerpt_words,
        "segment_words": cell.size.segment_words,
        "n_test": cell.n_test,
        "n_validation": len(cell.kept) - cell.n_test,
        "n_candidates": cell.drawn.n_candidates,
        "n_passed_over": cell.drawn.n_passed_over,
        "reason": cell.reason,
    }


def _notes(found: Sequence[_Cell], cells: Cells) -> list[str]:
    """Return what the user should know of the cells.

    Raises:
        ItemError: There is no trial.
    """
    if not any(cell.kept for cell in found):
        raise ItemError(
            [
                Problem(f"{_size(cell)} words: {cell.reason}", cell.document.where)
                for cell in found[:_MAX_SHOWN]
            ]
            + [Problem("no document gives a trial", fix="give longer texts, or ask for shorter excerpts")]
        )
    notes = [
        f"{cell.document.name}, {_size(cell)}: {'fewer trials' if cell.kept else 'left out'}: {cell.reason}"
        for cell in found
        if cell.reason is not None
    ]
    odd = [
        f"{name} {n}, of which {n - 1} are made"
        for name, n in (("test", cells.per_cell - cells.validation), ("validation", cells.validation))
        if n % 2
    ]
    return [*notes, *(f"an odd number cannot be halved: {each}" for each in odd)]


def _size(cell: _Cell) -> str:
    return f"excerpts of {cell.size.excerpt_words:,} and segments of {cell.size.segment_words:,}"
