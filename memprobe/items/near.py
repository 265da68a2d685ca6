"""Near copies: items whose texts share half or more of their word 5-grams.

    J(a, b) = |A & B| / |A or B| >= 0.5,  A and B the sets of runs of five words

Words are separated by white space and lowercased; in scripts without spaces each character is a word. A text
of fewer than five words is a single run. For `input_ids`, a run is five ids. J is computed from the whole
sets (runs are compared by 64-bit hashes). Items connected by such pairs form a group. A run that more than
16 texts share is taken for a template: because of it, a text is compared only with the next two texts of the
file that have it.

References: Lee et al. (2022), https://arxiv.org/abs/2107.06499 (word 5-grams); Bayardo, Ma and
Srikant (2007), https://doi.org/10.1145/1242572.1242591 (similar sets share one of their rarest elements).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.tables.clusters import connected

JACCARD: Final = 0.5
RUN_WORDS: Final = 5
MEASURE: Final = f"{RUN_WORDS}-grams of words, Jaccard {JACCARD:g} or more"

# In scripts without spaces, splitting at white space would give whole sentences.
_WITHOUT_SPACES: Final = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
_MANY: Final = 16
_NEXT: Final = 2
_CHARS_AT_ONCE: Final = 4_000_000
# Odd factors with evenly spread bits for hashes modulo 2^64: one for places in a run, one for ids.
_PLACE: Final = np.uint64(0x9E3779B97F4A7C15)
_ID: Final = np.uint64(0xD6E8FEB86659FD93)

Hashes = NDArray[np.uint64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs that occur in more than one text, numbered from 0, the rarest first.

    Attributes:
        number: Numbers of the shared runs, text by text, ascending within a text, shape (n_shared,).
        start: Index in `number` at which each text begins, shape (n_texts + 1,).
        size: Number of different runs of each text, shared or not, shape (n_texts,).
    """

    number: Whole
    start: Whole
    size: Whole

    def jaccard(self, one: int, two: int) -> float:
        """Return the Jaccard similarity of the runs of two texts."""
        mine, other = (self.number[self.start[each] : self.start[each + 1]] for each in (one, two))
        both = len(np.intersect1d(mine, other, assume_unique=True))
        return both / (int(self.size[one] + self.size[two]) - both)


def near_copies(items: pl.DataFrame) -> list[list[str]]:
    """Return groups of names of items that are near copies.

    Exact copies are represented by one of them. Two items of one document are never a pair.

    Args:
        items: Schema ITEMS.
    """
    whole = pl.coalesce("text", pl.concat_str("prefix", "suffix"))
    rows = items.select("item_id", "doc_id", "input_ids", "content_hash", whole=whole)
    # Many items may share one long text, as trials do; exact copies are listed elsewhere.
    once = rows.unique(pl.coalesce("whole", "content_hash"), keep="first", maintain_order=True)
    runs = _numbered(once)
    document = once["doc_id"].to_list()
    pairs = [
        [one, two]
        for one, two in _candidates(runs)
        if (document[one] is None or document[one] != document[two]) and runs.jaccard(one, two) >= JACCARD
    ]
    of = pl.Series("of", connected(once.height, pairs), dtype=pl.Int64)
    groups = once.select("item_id", of).group_by("of", maintain_order=True).agg("item_id")
    return groups.filter(pl.col("item_id").list.len() > 1)["item_id"].to_list()


def _candidates(runs: _Runs) -> list[list[int]]:
    """Return the pairs of texts that may share enough runs: those that share one of the rarest runs of both.

    If two sets share a part t of their union, the rarest n - ceil(t n) + 1 of the n elements of each set have
    one in common. Runs that occur in one text only are the rarest of all.
    """
    n_shared = np.diff(runs.start)
    n_rarest = runs.size - np.ceil(JACCARD * runs.size).astype(np.int64) + 1
    n_looked_at = np.clip(n_rarest - (runs.size - n_shared), 0, n_shared)
    text = np.repeat(np.arange(len(runs.size)), n_looked_at)
    number = runs.number[_ranges(runs.start[:-1], n_looked_at)]
    is_few = np.bincount(number, minlength=1)[number] <= _MANY
    first = np.unique(text[~is_few], return_index=True)[1]
    codes = [np.empty(0, dtype=np.int64)]
    for numbers, texts, most in (
        (number[is_few], text[is_few], _MANY),
        (number[~is_few][first], text[~is_few][first], _NEXT + 1),
    ):
        order = np.argsort(numbers, kind="stable")
        ordered, of = numbers[order], texts[order]
        for apart in range(1, most):
            paired = ordered[apart:] == ordered[:-apart]
            codes.append(of[:-apart][paired] * len(runs.size) + of[apart:][paired])
    pairs = np.stack(np.divmod(_once(np.concatenate(codes)), max(len(runs.size), 1)), axis=1)
    small, large = runs.size[pairs].min(1), runs.size[pairs].max(1)
    found: list[list[int]] = pairs[small >= JACCARD * large].tolist()
    return found


def _once(values: Whole) -> Whole:
    """Return the distinct values, ascending; sorting is faster than hashing if few values repeat."""
    ordered = np.sort(values)
    return np.asarray(ordered[np.diff(ordered, prepend=-1) != 0])


def _ranges(start: Whole, length: Whole) -> Whole:
    """Return the ranges start, start + 1, ... of the given lengths, one after the other."""
    before = np.cumsum(length) - length
    return np.arange(int(length.sum())) - np.repeat(before, length) + np.repeat(start, length)


def _numbered(texts: pl.DataFrame) -> _Runs:
    """Return the runs of each text that also occur in another text."""
    parts = list(_hashed(texts))
    text, runs = np.concatenate([each[0] for each in parts]), np.concatenate([each[1] for each in parts])
    ordered = np.sort(runs)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    place = np.searchsorted(repeated, runs)
    again = np.append(repeated, np.uint64(0))[place] == runs if len(repeated) else np.zeros(len(runs), bool)
    # Each run once per text.
    held = _once(text[again] * len(repeated) + place[again])
    of, number = np.divmod(held, max(len(repeated), 1))
    n, count = texts.height, np.bincount
    size = count(text, minlength=n) - count(text[again], minlength=n) + count(of, minlength=n)
    n_texts = count(number, minlength=1)
    shared = n_texts[number] > 1
    rank = np.empty(len(n_texts), dtype=np.int64)
    rank[np.argsort(n_texts, kind="stable")] = np.arange(len(n_texts))
    of, number = of[shared], rank[number[shared]]
    start = np.concatenate([[0], np.cumsum(count(of, minlength=n))])
    return _Runs(number[np.lexsort((number, of))], start, size)


def _hashed(texts: pl.DataFrame) -> Iterator[tuple[Whole, Hashes]]:
    """Yield the text's number and the hash of each run, some texts at a time."""
    yield np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
    chars = texts["whole"].str.len_chars().fill_null(0) + texts["input_ids"].list.len().fill_null(0)
    piece = (chars.cast(pl.Int64).cum_sum() // _CHARS_AT_ONCE).alias("piece")
    for part in texts.with_row_index("row").with_columns(piece).partition_by("piece", maintain_order=True):
        words = part.select("row", word=_words(part["whole"]))
        ids = part.select("row", word="input_ids")
        for lists, is_words in ((words, True), (ids, False)):
            flat = lists.drop_nulls("word").filter(pl.col("word").list.len() > 0).explode("word")
            if flat.height:
                row = flat["row"].to_numpy().astype(np.int64)
                yield _runs(row, _word_hashes(flat["word"], is_words=is_words))


def _words(texts: pl.Series) -> pl.Series:
    lower = texts.str.to_lowercase()
    if lower.str.contains(_WITHOUT_SPACES).any():
        lower = lower.str.replace_all(_WITHOUT_SPACES, " ${1} ")
    return lower.str.extract_all(r"\S+")


def _word_hashes(words: pl.Series, *, is_words: bool) -> Hashes:
    if is_words:
        return words.hash().to_numpy()
    # With multiplication alone, ids in steps of one would give runs with equal sums.
    mixed = (words.to_numpy().astype(np.uint64) + np.uint64(1)) * _ID
    mixed ^= mixed >> np.uint64(32)
    return np.asarray(mixed * _ID)


def _runs(text: Whole, words: Hashes) -> tuple[Whole, Hashes]:
    """Return the text's number and the hash of each run of five words; a shorter text is a single run.

    Args:
        text: Number of each word's text, ascending, shape (n_words,).
        words: Hash of each word, shape (n_words,).
    """
    begins = np.flatnonzero(np.diff(text, prepend=-1))
    n_words = np.diff(np.append(begins, len(text)))
    length = np.minimum(n_words, RUN_WORDS)
    starts = _ranges(begins, n_words - length + 1)
    length = np.repeat(length, n_words - length + 1)
    total = length.astype(np.uint64)
    for place in range(RUN_WORDS):
        inside = place < length
        total[inside] = (total[inside] * _PLACE) ^ words[starts[inside] + place]
    return text[starts], total
