"""Excerpts and pairs: ranges by hand, what may be drawn by brute force, and how evenly it is drawn."""

import numpy as np
import pytest

from memprobe.documents.prose import read_prose
from memprobe.documents.sort_draw import Pair, Range, Size, _excerpt, draw, ranges, segment_starts
from memprobe.items import paper_edges
from memprobe.stats.uniformity import uniformity

# A right sampler falls below this once in 1,000 seeds; the seeds are fixed.
P_LEAST = 1e-3


def sentences(rng: np.random.Generator, n: int, *, headings: bool = False, vocabulary: int = 5_000) -> str:
    """`n` sentences of 2 to 12 random words, in paragraphs, now and then with a heading."""
    parts = []
    for _ in range(n):
        words = [f"w{each}" for each in rng.integers(0, vocabulary, rng.integers(2, 13))]
        parts.append(" ".join(words).capitalize() + rng.choice([". ", "! ", ".\n", ".\n\n"]))
        if headings and rng.random() < 0.05:
            parts.append("\n\nCHAPTER IX\n\n")
    return "".join(parts)


def test_ranges_hold_their_lower_edge_and_the_last_its_upper_one() -> None:
    # Edges of the paper at 250 and 20: 20, 62, 83, 125, 200. Segments that touch (20) are not drawn.
    assert ranges((20, 62, 83, 125, 200), Size(250, 20)) == (
        Range(21, 61),
        Range(62, 82),
        Range(83, 124),
        Range(125, 200),
    )


def test_a_range_ends_where_the_excerpt_has_no_room() -> None:
    # 250 - 60 = 190 words are left for the start of the later segment.
    assert ranges((60, 62, 83, 125, 200), Size(250, 60))[-1] == Range(125, 190)
    # From 100 words the first range is empty, and so is the second.
    assert [each.low > each.high for each in ranges((100, 62, 83, 125, 200), Size(250, 100))] == [
        *(True, True),
        *(False, False),
    ]
    # One distance alone: 61 words, edges 60 to 62.
    assert ranges((60, 62, 83, 125, 200), Size(250, 60))[0] == Range(61, 61)


def test_a_segment_begins_at_a_sentence_has_room_and_goes_over_no_heading() -> None:
    #       0   1    2     3     4          5    6   7    8
    text = "A1 b1. C2 d2. E3.\n\nCHAPTER II\n\nF4 g4. H5 i5."
    prose = read_prose(text)
    # Sentences begin at 0, 2, 4, 5, 7; two words from 4 would go over the heading.
    assert segment_starts(prose, 0, Size(9, 2)).tolist() == [0, 2, 5, 7]
    assert segment_starts(prose, 0, Size(8, 2)).tolist() == [0, 2, 5]
    assert segment_starts(prose, 2, Size(7, 2)).tolist() == [0, 3, 5]
    assert segment_starts(prose, 0, Size(9, 3)).tolist() == [0, 2, 5]


@pytest.mark.parametrize("seed", range(8))
def test_an_excerpt_is_passed_over_exactly_when_a_range_has_no_pair(seed) -> None:
    rng = np.random.default_rng(seed)
    # Few different words, so that some segments stand twice.
    prose = read_prose(sentences(rng, 120, headings=True, vocabulary=3))
    size = Size(40, 3)
    bins = ranges((3, 6, 7, 20, 32), size)
    outcomes = set()
    for start in prose.starts[prose.starts + 40 <= len(prose.words)].tolist():
        text = prose.slice(start, 40)
        places = [
            place
            for place in range(38)
            if start + place in prose.starts
            and prose.stretch[start + place] == prose.stretch[start + place + 2]
        ]
        # Pieces of the running text, counted with overlaps.
        alone = {p for p in places if overlapping(text, prose.slice(start + p, 3)) == 1}
        pairs = {Pair(i, j) for i in alone for j in alone if i < j}
        fitting = [{p for p in pairs if each.low <= p.distance <= each.high} for each in bins]
        found = _excerpt(prose, start, size, bins, np.random.default_rng(seed))
        assert (found is not None) == all(fitting)
        if found is not None:
            assert all(pair in choice for pair, choice in zip(found.pairs, fitting, strict=True))
        outcomes.add(found is None)
    assert outcomes == {True, False}


def overlapping(text: str, part: str) -> int:
    return sum(text.startswith(part, place) for place in range(len(text)))


def test_excerpts_are_different_and_as_many_as_asked_or_all_there_are() -> None:
    prose = read_prose(sentences(np.random.default_rng(0), 200))
    size, bins = Size(60, 4), ranges((4, 15, 20, 30, 48), Size(60, 4))
    some = draw(prose, size, bins, 20, rng=np.random.default_rng(1))
    every = draw(prose, size, bins, 10_000, rng=np.random.default_rng(1))
    assert len({each.start for each in some.excerpts}) == len(some.excerpts) == 20
    assert len(every.excerpts) + every.n_passed_over == every.n_candidates
    assert every.n_candidates == int((prose.starts + 60 <= len(prose.words)).sum())


def test_excerpts_are_spread_evenly_over_words_not_over_sentences() -> None:
    # First half: sentences of 2 words; second half: of 20. Evenly over sentences, nine in ten begin in front.
    rng = np.random.default_rng(0)
    short = "".join(f"A{i} b{i}. " for i in range(2_500))
    long = "".join(f"C{i} {' '.join(f'd{i}-{k}' for k in range(18))} e{i}. " for i in range(250))
    prose = read_prose(short + long)
    size = Size(250, 8)
    drawn = draw(prose, size, ranges((8, 62, 83, 125, 200), size), 160, rng=rng)
    shares = [each.start / (len(prose.words) - 250) for each in drawn.excerpts]
    assert uniformity(shares).p > P_LEAST
    # The order tells nothing of the place: the last tenth is drawn like the first.
    assert abs(np.mean(shares[:80]) - np.mean(shares[80:])) < 0.15


def test_distances_and_places_are_spread_evenly() -> None:
    # Two words to a sentence: nearly every place is open, so nothing bends the draw.
    prose = read_prose("".join(f"A{i} b{i}. " for i in range(4_000)))
    size = Size(400, 8)
    drawn = draw(prose, size, ranges((8, 100, 133, 200, 320), size), 400, rng=np.random.default_rng(3))
    for number, each in enumerate(ranges((8, 100, 133, 200, 320), size)):
        pairs = [excerpt.pairs[number] for excerpt in drawn.excerpts]
        distances = [(pair.distance - each.low + 0.5) / (each.high - each.low + 1) for pair in pairs]
        places = [min((pair.earlier + 0.5) / (400 - 8 - pair.distance + 1), 1) for pair in pairs]
        assert uniformity(np.clip(distances, 0, 1)).p > P_LEAST
        assert uniformity(places).p > P_LEAST


def test_a_text_that_repeats_itself_has_no_pairs() -> None:
    prose = read_prose("One two three four. " * 100)
    drawn = draw(
        prose, Size(60, 4), ranges((4, 15, 20, 30, 48), Size(60, 4)), 5, rng=np.random.default_rng(0)
    )
    assert drawn.excerpts == ()
    assert drawn.n_passed_over == drawn.n_candidates == 86


def test_the_order_of_a_draw_of_all_does_not_tell_the_longer_sentences() -> None:
    short = "".join(f"A{i} b{i}. " for i in range(400))
    long = "".join(f"C{i} {' '.join(f'd{i}-{k}' for k in range(8))} e{i}. " for i in range(80))
    prose = read_prose(short + long)
    drawn = draw(prose, Size(60, 4), (Range(5, 40),), 10_000, rng=np.random.default_rng(0))
    is_long = np.array([each.start >= 800 for each in drawn.excerpts])
    half = len(is_long) // 2
    # Unshuffled, nearly all of the longer ones come first.
    assert 0.3 < is_long[:half].sum() / is_long.sum() < 0.7


def test_the_farthest_segments_may_fill_the_excerpt() -> None:
    # 50 words, segments of 10: 40 words apart leave one place, the first.
    prose = read_prose("".join(f"A{i} b{i}. " for i in range(200)))
    drawn = draw(prose, Size(50, 10), (Range(40, 40),), 20, rng=np.random.default_rng(0))
    assert [each.pairs for each in drawn.excerpts] == [(Pair(0, 40),)] * 20


@pytest.mark.parametrize(("excerpt", "segment"), [(250, 20), (1_000, 50), (2_500, 20), (10_000, 50)])
def test_every_distance_is_in_exactly_one_range(excerpt, segment) -> None:
    edges = paper_edges(excerpt, segment)
    found = ranges(edges, Size(excerpt, segment))
    for distance in range(edges[-1] + 2):
        holding = [place for place, each in enumerate(found) if each.low <= distance <= each.high]
        inside = segment < distance <= edges[-1]
        # An inner edge belongs to the range above it, the last edge to the last range.
        above = min(sum(distance >= edge for edge in edges) - 1, len(found) - 1)
        assert holding == ([above] if inside else [])
