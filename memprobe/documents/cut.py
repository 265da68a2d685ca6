"""Cut documents into items: prefix and suffix, or whole windows, cut at characters of the source.

Sizes count tokens, words, sentences or characters; places are offsets into the source text, never
lengths of decoded tokens, so prefix + suffix is exactly a slice of the source. A prefix of words or
sentences ends where its last word ends: the white space that follows belongs to the suffix, as
in GPT-style tokenizers.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.documents.gutenberg import find_body
from memprobe.documents.source import Document, Documents
from memprobe.documents.units import Spans, Unit, chars, sentences, words
from memprobe.errors import InputError, ItemError, Problem
from memprobe.wording import listed

Offsets = Callable[[str], Spans]
"""First and one past the last character of each token of a text, shape (n_tokens, 2)."""

_MADE: Final = ("item_id", "prefix", "suffix", "text", "doc_id", "start_char", "border_char", "end_char")
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Cut:
    """How documents are cut.

    Attributes:
        by: The unit of the sizes.
        prefix: Size of the prefix; None: whole windows.
        suffix: Size of the suffix; None: whole windows.
        window: Size of a whole window; None: prefix and suffix.
        stride: Distance between the starts of two windows; None: the size of a window.
        n: Number of windows to draw, uniformly and without replacement; None: all.
        seed: Seed of the draw.
        gutenberg: Leave out the front and back matter of Project Gutenberg.

    Raises:
        InputError: Sizes are missing, contradict each other, or are below 1.
    """

    by: Unit
    prefix: int | None = None
    suffix: int | None = None
    window: int | None = None
    stride: int | None = None
    n: int | None = None
    seed: int = 0
    gutenberg: bool = False

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("prefix", "suffix", "window", "stride", "n")}
        problems = [
            Problem(f"--{name} is {size}, not 1 or more")
            for name, size in sizes.items()
            if size is not None and size < 1
        ]
        if (self.prefix is None) != (self.suffix is None) or (self.window is None) == (self.prefix is None):
            fix = f"give --prefix N and --suffix N, or --window N, in {self.by}"
            problems.append(Problem("a cut is a prefix with a suffix, or a window", fix=fix))
        if problems:
            raise InputError(problems)

    @property
    def parts(self) -> tuple[int, ...]:
        """Sizes of the parts of a window, in order."""
        if self.prefix is not None and self.suffix is not None:
            return (self.prefix, self.suffix)
        return (self.window or 0,)

    @property
    def step(self) -> int:
        """Units between the starts of two windows."""
        return self.stride or sum(self.parts)


@dataclass(frozen=True, slots=True)
class CutDocuments:
    """Items, and the parts of documents that no item covers.

    Attributes:
        items: One row per item: `item_id`, `prefix, suffix` or `text`, `doc_id`, `start_char`,
            `border_char` (where the suffix begins), `end_char`, then the carried columns. Offsets count
            characters (code points) of the document's text from 0; ends are exclusive.
        coverage: One row per document: `name, n_windows, n_chars, n_covered_chars, n_tail_chars`
            (after the last window), counted over all windows, drawn or not. Of a Gutenberg text
            without its front and back matter.
        notes: What the user should know, one sentence each.
    """

    items: pl.DataFrame
    coverage: pl.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Windows:
    """The windows of one document: where each part begins and the last one ends, shape (n, parts + 1)."""

    document: Document
    body: tuple[int, int]
    places: NDArray[np.int64]
    has_matter: bool


def cut_documents(source: Documents, cut: Cut, *, offsets: Offsets | None = None) -> CutDocuments:
    """Cut documents into items.

    An item is named after its document and its first character, so its name does not depend on the
    order, on other documents, or on the draw.

    Args:
        source: The documents.
        cut: Sizes and unit.
        offsets: The tokenizer, needed to cut by tokens. If a border of a window is inside a
            character (which may have several tokens), the window takes the whole character.

    Raises:
        InputError: The cut is by tokens and there is no tokenizer.
        ItemError: No document is long enough, or a carried column has the name of a column that is made here.
    """
    if cut.by == "tokens" and offsets is None:
        raise InputError("to cut by tokens, a tokenizer is needed", fix="name one with --tokenizer or -m")
    if taken := [name for name in source.schema if name in _MADE]:
        fix = "rename the column in the documents' file"
        raise ItemError(
            [Problem("the cut writes a column of this name", f"column {name}", fix) for name in taken]
        )
    found = [_cut_one(document, cut, offsets) for document in source.documents]
    notes = [*_matter(found, cut), *_short(found, cut)]
    chosen = _draw([len(each.places) for each in found], cut)
    items = _table(found, chosen, source)
    coverage = pl.DataFrame([_coverage(each) for each in found])
    return CutDocuments(items, coverage, tuple(notes))


def _cut_one(document: Document, cut: Cut, offsets: Offsets | None) -> _Windows:
    """Return the windows of a document."""
    body = find_body(document.text)
    start, end = body if body is not None and cut.gutenberg else (0, len(document.text))
    places = _places(document.text[start:end], cut, offsets) + start
    return _Windows(document, (start, end), places, has_matter=body is not None)


def _matter(found: Sequence[_Windows], cut: Cut) -> list[str]:
    """Return a note on documents whose front and back matter was kept or was not found."""
    names = [each.document.name for each in found if each.has_matter != cut.gutenberg]
    if not names:
        return []
    named = listed(names, _MAX_SHOWN)
    if cut.gutenberg:
        return [f"no marks of Project Gutenberg, cut as a whole: {named}"]
    return [f"front or back matter of Project Gutenberg, which --gutenberg leaves out: {named}"]


def _places(text: str, cut: Cut, offsets: Offsets | None) -> NDArray[np.int64]:
    """Return the borders of a text's windows in characters, shape (n_windows, n_parts + 1)."""
    spans = offsets(text) if cut.by == "tokens" and offsets is not None else _UNITS[cut.by](text)
    if cut.by == "tokens":
        return _token_places(spans, cut)
    edges = np.cumsum((0, *cut.parts))
    firsts = np.arange(0, max(0, len(spans) - edges[-1] + 1), cut.step)
    if not len(firsts):
        return np.empty((0, len(edges)), dtype=np.int64)
    starts = spans[firsts, 0][:, None]
    ends = np.stack([spans[firsts + edge - 1, 1] for edge in edges[1:]], axis=1)
    return np.hstack([starts, ends])


def _token_places(spans: Spans, cut: Cut) -> NDArray[np.int64]:
    """Return windows by tokens; a border inside a character moves to the next border between characters."""
    n = len(spans)
    empty = np.empty((0, len(cut.parts) + 1), dtype=np.int64)
    if not n:
        return empty
    ends = np.maximum.accumulate(spans[:, 1])
    # A border before token j is clean where no token before it reaches into the token's characters.
    clean = np.concatenate([[True], spans[1:, 0] >= ends[:-1], [True]])
    places = np.arange(n + 1)
    following = np.minimum.accumulate(np.where(clean, places, n)[::-1])[::-1]
    edges = [np.unique(following[np.arange(0, max(0, n - sum(cut.parts) + 1), cut.step)])]
    for size in cut.parts:
        fits = edges[-1] + size <= n
        edges = [edge[fits] for edge in edges]
        edges.append(following[edges[-1] + size])
    if not len(edges[0]):
        return empty
    found = np.stack([spans[edges[0], 0], *(ends[edge - 1] for edge in edges[1:])], axis=1)
    # Tokens that stand for no character, as a mark in front of the text, can leave a part empty, and two
    # windows with one start.
    found = found[(np.diff(found, axis=1) > 0).all(axis=1)]
    return found[np.unique(found[:, 0], return_index=True)[1]]


_UNITS: Final[dict[str, Callable[[str], Spans]]] = {"chars": chars, "words": words, "sentences": sentences}


def _short(found: Sequence[_Windows], cut: Cut) -> list[str]:
    """Return a note on the documents that are too short.

    Raises:
        ItemError: All of them are.
    """
    short = [each.document for each in found if not len(each.places)]
    size = f"a window of {sum(cut.parts):,} {cut.by}"
    if len(short) == len(found):
        raise ItemError(
            f"no document is long enough for {size}",
            where=", ".join(document.where for document in short[:_MAX_SHOWN]),
            fix="cut smaller windows, or give longer documents",
        )
    if not short:
        return []
    named = listed([document.name for document in short], _MAX_SHOWN)
    return [f"{len(short):,} of {len(found):,} documents are too short for {size}: {named}"]


def _draw(counts: Sequence[int], cut: Cut) -> list[NDArray[np.int64]]:
    """Return which windows of each document are taken, in order.

    Raises:
        ItemError: More are asked for than there are.
    """
    total = sum(counts)
    if cut.n is None:
        return [np.arange(count) for count in counts]
    if cut.n > total:
        fix = f"ask for {total:,} or fewer, or lower --stride so that windows overlap"
        raise ItemError(f"--n asks for {cut.n:,} windows, and there are {total:,}", fix=fix)
    drawn = np.sort(np.random.default_rng(cut.seed).choice(total, cut.n, replace=False))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    parts = np.split(drawn, np.searchsorted(drawn, starts[1:]))
    return [part - start for part, start in zip(parts, starts, strict=True)]


def _table(found: Sequence[_Windows], chosen: Sequence[NDArray[np.int64]], source: Documents) -> pl.DataFrame:
    rows = [row for each, picked in zip(found, chosen, strict=True) for row in _rows(each, picked)]
    n_parts = found[0].places.shape[1] - 1
    content = ("prefix", "suffix") if n_parts == 2 else ("text",)
    borders = ("border_char",) if n_parts == 2 else ()
    schema: dict[str, Any] = {name: pl.String() for name in ("item_id", *content, "doc_id")}
    schema |= dict.fromkeys(("start_char", *borders, "end_char"), pl.Int64())
    return pl.DataFrame(rows, schema=schema | source.schema, orient="row")


def _rows(windows: _Windows, picked: NDArray[np.int64]) -> Iterator[tuple[Any, ...]]:
    document = windows.document
    for place in windows.places[picked].tolist():
        parts = [document.text[low:high] for low, high in itertools.pairwise(place)]
        name = f"{document.name}-{place[0]}"
        yield (name, *parts, document.doc_id, *place, *document.carried.values())


def _coverage(windows: _Windows) -> dict[str, Any]:
    start, end = windows.body
    places = windows.places
    covered, reached = 0, start
    for low, high in places[:, [0, -1]].tolist():
        covered += max(0, high - max(low, reached))
        reached = max(reached, high)
    return {
        "name": windows.document.name,
        "n_windows": len(places),
        "n_chars": end - start,
        "n_covered_chars": covered,
        "n_tail_chars": end - reached,
    }
