"""The published Book-SORT trials as items: recognised by their columns, which are renamed to ours.

As in our items, `segment_1` is the earlier segment. Asterisks around texts are removed. Positions count words
of the excerpt, and `distance_bin` is the upper edge of a range of distances. The first 100 excerpts of each
book and length are the test split; the last 10 serve to choose the prompt.

Source: Pink et al. 2024, arXiv:2410.08133, data card of Book-SORT; bridge-ai-neuro/SORT, data/booksort.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from memprobe.items.raw import Fault, Once, RawFile, RawRow

READ_AS: Final = "published Book-SORT trials"
NEEDED: Final = ("book_idx", "excerpt_idx", "excerpt_text", "segment_1", "segment_2", "distance_bin")
EXCERPTS_APART: Final = "put excerpt_text beside the segments: join both files on book_idx and excerpt_idx"
_NUMBERS: Final = (
    *("excerpt_idx", "seg1_pos", "seg2_pos", "distance_bin", "excerpt_length", "segment_length"),
)
_TAKEN: Final = frozenset((*NEEDED, *_NUMBERS, "book_title", "present_seg1_first", "excerpt_pos", ""))
_TRUTH: Final[Mapping[str, bool]] = {
    **{"true": True, "false": False, "1": True, "0": False},
    **{"1.0": True, "0.0": False},
}
_N_TEST: Final = 100
_LONG_WORDS: Final = 5_000


def is_booksort(columns: Iterable[str]) -> bool:
    """Return whether these columns include those of the published trials."""
    return set(NEEDED) <= set(columns)


def lacks_excerpts(columns: Iterable[str]) -> bool:
    """Return whether these are columns of the published trials whose excerpts are in another file."""
    given = set(columns)
    return "excerpt_text" not in given and set(NEEDED) - {"excerpt_text"} <= given


def paper_edges(excerpt_words: int, segment_words: int) -> tuple[int, ...]:
    """Return the edges of the paper's four ranges of distances between segment starts, in words.

    With L_E and L_S the words of excerpt and segment: [L_S, L_E / 4, L_E / 3, L_E / 2, 0.8 L_E], rounded
    down; for excerpts of 5,000 words or more, [L_S, 1000, L_E / 4, L_E / 2, 0.8 L_E].

    References:
        bridge-ai-neuro/SORT, run_booksort_creation.py (`dists`); the data card has L_E / 0.8, an error.
    """
    whole = excerpt_words
    inner = (whole // 4, whole // 3) if whole < _LONG_WORDS else (1_000, whole // 4)
    return (segment_words, *inner, whole // 2, whole * 4 // 5)


def from_booksort(file: RawFile) -> RawFile:
    """Return a file of published trials with our columns, and any other file unchanged."""
    if not is_booksort(file.columns):
        return file
    once = Once()
    rows = tuple(row if row.faults else once.row(_row(row)) for row in file.rows)
    made = dict.fromkeys(name for row in rows for name in row.values)
    return replace(file, columns=tuple(made), rows=rows, read_as=READ_AS)


def _row(row: RawRow) -> RawRow:
    given = {name: value for name, value in row.values.items() if value is not None}
    faults: list[Fault] = []
    numbers = {name: _number(given, name, faults) for name in _NUMBERS}
    text = _bare(given.get("excerpt_text"))
    segments = {name: _bare(given.get(name)) for name in ("segment_1", "segment_2")}
    words = numbers["excerpt_length"] or _count(text)
    length = numbers["segment_length"] or _count(segments["segment_1"])
    places = numbers["seg1_pos"], numbers["seg2_pos"]
    number = numbers["excerpt_idx"]
    source = str(given["book_idx"]) if "book_idx" in given else None
    excerpt = None if number is None else f"{words}-{length}-{number}"
    made: dict[str, object] = {
        "text": text,
        **segments,
        "source_id": source,
        "excerpt_id": excerpt,
        "doc_id": None if source is None or excerpt is None else f"{source}/{excerpt}",
        "excerpt_words": words,
        "segment_words": length,
        "distance_words": None if places[0] is None or places[1] is None else places[1] - places[0],
        "distance_bin": _bin(numbers["distance_bin"], words, length, faults),
        "excerpt_start_frac": _share(given.get("excerpt_pos")),
        "earlier_first": _TRUTH.get(str(given.get("present_seg1_first")).lower()),
        "split": None if number is None else "test" if number < _N_TEST else "validation",
        "title": given.get("book_title"),
    }
    made |= {name: value for name, value in given.items() if name not in _TAKEN}
    if not faults and "item_id" not in made:
        made["item_id"] = f"{source}/{excerpt}/{made['distance_bin']}"
    return RawRow(row.line, made, tuple(faults))


def _number(given: Mapping[str, object], name: str, faults: list[Fault]) -> int | None:
    """Return the whole number in a column, given as a number or as text; add a fault if it is not one."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        value = float(value) if value.replace(".", "", 1).isdecimal() else None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    faults.append(Fault(name, "not a whole number"))
    return None


def _bare(value: object) -> object:
    """Return a text without surrounding white space and asterisks."""
    if not isinstance(value, str):
        return value
    plain = value.strip()
    return plain[1:-1] if len(plain) > 2 and plain[0] == plain[-1] == "*" else plain


def _count(text: object) -> int:
    return len(text.split()) if isinstance(text, str) else 0


def _bin(edge: int | None, words: int, length: int, faults: list[Fault]) -> int | None:
    """Return the index of the range whose upper edge is given; add a fault if there is no such range."""
    if edge is None:
        return None
    uppers = paper_edges(words, length)[1:]
    if edge not in uppers:
        listed = ", ".join(str(each) for each in uppers)
        what = f"{edge} is none of the upper edges for excerpts of {words:,} words: {listed}"
        faults.append(Fault("distance_bin", what, sort="no upper edge of a range of distances"))
        return None
    return uppers.index(edge)


def _share(value: object) -> object:
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        return float(value)
    return value
