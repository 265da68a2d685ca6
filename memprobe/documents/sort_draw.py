"""Excerpts and pairs of segments for SORT, drawn from the running text of one document.

An excerpt begins at a sentence, drawn uniformly over the words at which one can begin. Two segments
of it begin at sentences too and have no word in common: for each range of distances a distance and a place
are drawn uniformly, and the pair of sentence starts nearest to both is taken. A segment occurs once in its
excerpt and contains no heading. Excerpts that have no pair for one of the ranges are passed over.

Source: Pink et al. 2024, arXiv:2410.08133, section 3; ranges as bridge-ai-neuro/SORT,
run_booksort_creation.py.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from memprobe.documents.prose import Prose


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """Lengths of a cell, in words.

    Attributes:
        excerpt_words: Length of the excerpt.
        segment_words: Length of each segment.
    """

    excerpt_words: int
    segment_words: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two segments, given by the words of the excerpt at which they begin.

    Attributes:
        earlier: First word of the earlier segment, from 0.
        later: First word of the later segment.
    """

    earlier: int
    later: int

    @property
    def distance(self) -> int:
        """Words between the starts of the two segments."""
        return self.later - self.earlier


@dataclass(frozen=True, slots=True)
class Excerpt:
    """An excerpt with a pair of segments for each range of distances.

    Attributes:
        start: First word of the excerpt in the running text, from 0.
        text: Text of the excerpt.
        pairs: One pair for each range, the shortest distances first.
    """

    start: int
    text: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The excerpts drawn from one document for one size.

    Attributes:
        excerpts: In random order; as many as were asked for, or all if there are fewer.
        n_candidates: Sentences at which an excerpt could begin.
        n_passed_over: How many of these were tried and had no pair for some range.
    """

    excerpts: tuple[Excerpt, ...]
    n_candidates: int
    n_passed_over: int


@dataclass(frozen=True, slots=True)
class Range:
    """Distances from `low` to `high` words, both included."""

    low: int
    high: int


def ranges(edges: tuple[int, ...], size: Size) -> tuple[Range, ...]:
    """Return the ranges of distances between these edges, in whole words.

    Each range includes its lower edge but not its upper one; the last includes both. The first begins one
    above its edge, which is the segment's length, because segments that touch read as one text. Distances
    that do not fit into the excerpt are cut off, so a range may be empty (`low` above `high`).
    """
    room = size.excerpt_words - size.segment_words
    found = []
    for place, (low, high) in enumerate(pairwise(edges)):
        is_last = place == len(edges) - 2
        found.append(Range(max(low, size.segment_words + 1), min(high if is_last else high - 1, room)))
    return tuple(found)


def draw(prose: Prose, size: Size, bins: tuple[Range, ...], n: int, *, rng: np.random.Generator) -> Drawn:
    """Draw up to `n` different excerpts, each with a pair of segments for every range.

    Args:
        prose: The running text.
        size: Lengths.
        bins: Ranges of distances; none is empty.
        n: Excerpts wanted.
        rng: Source of all draws.
    """
    candidates = prose.starts[prose.starts + size.excerpt_words <= len(prose.words)]
    if not len(candidates):
        return Drawn((), 0, 0)
    # A word drawn evenly goes on to the next sentence: each start has the weight of the words before it.
    weights = np.diff(candidates, prepend=-1)
    order = np.argsort(rng.exponential(size=len(candidates)) / weights, kind="stable")
    found: list[Excerpt] = []
    tried = 0
    for start in candidates[order].tolist():
        if len(found) == n:
            break
        tried += 1
        if (excerpt := _excerpt(prose, start, size, bins, rng)) is not None:
            found.append(excerpt)
    # The heavier starts come first; which part of the cell an excerpt is in must not depend on that.
    shuffled = tuple(found[place] for place in rng.permutation(len(found)).tolist())
    return Drawn(shuffled, len(candidates), tried - len(found))


def _excerpt(
    prose: Prose, start: int, size: Size, bins: tuple[Range, ...], rng: np.random.Generator
) -> Excerpt | None:
    places = segment_starts(prose, start, size)
    if len(places) < 2:
        return None
    text = prose.slice(start, size.excerpt_words)
    pairs = []
    for distances in bins:
        pair = _pair(prose, start, size, places, distances, text, rng)
        if pair is None:
            return None
        pairs.append(pair)
    return Excerpt(start, text, tuple(pairs))


def segment_starts(prose: Prose, start: int, size: Size) -> NDArray[np.int64]:
    """Return the words of an excerpt at which a segment can begin: sentences, with no heading inside."""
    low, high = np.searchsorted(prose.starts, (start, start + size.excerpt_words - size.segment_words + 1))
    firsts = prose.starts[low:high]
    whole = prose.stretch[firsts] == prose.stretch[firsts + size.segment_words - 1]
    found: NDArray[np.int64] = firsts[whole] - start
    return found


def _pair(
    prose: Prose,
    start: int,
    size: Size,
    places: NDArray[np.int64],
    distances: Range,
    text: str,
    rng: np.random.Generator,
) -> Pair | None:
    """Return the pair nearest to a distance and a place drawn uniformly; None if there is no pair."""
    distance = int(rng.integers(distances.low, distances.high + 1))
    place = int(rng.integers(0, size.excerpt_words - size.segment_words - distance + 1))
    while (pair := _nearest(places, distances, distance, place)) is not None:
        repeated = [
            each for each in (pair.earlier, pair.later) if not _is_unique(prose, start, size, each, text)
        ]
        if not repeated:
            return pair
        places = places[~np.isin(places, repeated)]
    return None


def _nearest(places: NDArray[np.int64], distances: Range, distance: int, place: int) -> Pair | None:
    """Return the pair of a range nearest to a place and a distance, by the sum of both gaps in words."""
    if len(places) < 2:
        return None
    above = np.searchsorted(places, places + distance)
    # The later start nearest to the distance is one of two; if neither is in range, none is.
    later = np.stack([places[np.maximum(above - 1, 0)], places[np.minimum(above, len(places) - 1)]])
    apart = later - places
    cost = np.abs(places - place) + np.abs(apart - distance)
    cost[(apart < distances.low) | (apart > distances.high)] = np.iinfo(np.int64).max
    which, earlier = np.unravel_index(int(np.argmin(cost)), cost.shape)
    if cost[which, earlier] == np.iinfo(np.int64).max:
        return None
    return Pair(int(places[earlier]), int(later[which, earlier]))


def _is_unique(prose: Prose, start: int, size: Size, place: int, text: str) -> bool:
    """Return whether a segment's words occur once in the excerpt, so that its order is known."""
    segment = prose.slice(start + place, size.segment_words)
    first = text.find(segment)
    return text.find(segment, first + 1) < 0
