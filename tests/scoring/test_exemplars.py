"""Answered trials in front of a question: never of the same document, of like size, each label as often."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from memprobe.errors import ItemError
from memprobe.scoring.exemplars import Exemplars, Trial, trials_in
from memprobe.tables.prompts import ORDERS

SOURCES = tuple("pqrstu")
CELLS = ((60, 8), (250, 20))


def trial(source: str, cell=CELLS[0], number: int = 0, bin_: int = 0, split: str = "validation") -> Trial:
    excerpt = f"excerpt {number} of {source} in {cell}"
    name = f"{source}/{cell[0]}/{number}/{bin_}/{split}"
    return Trial(name, source, cell, split, excerpt, f"one {name}", f"two {name}")


def trials() -> list[Trial]:
    return [
        trial(source, cell, number, bin_, split)
        for source in SOURCES
        for cell in CELLS
        for number in range(2)
        for bin_ in range(3)
        for split in ("validation", "test")
    ]


@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_they_are_validation_trials_of_other_documents_and_of_the_same_cell(n) -> None:
    everything = trials()
    chosen = Exemplars.of(everything, n)
    for each in everything:
        before = chosen.before(each)
        assert len(before) == len({shot.item_id for shot, _ in before}) == n
        assert all(shot.source_id != each.source_id for shot, _ in before)
        assert all(shot.cell == each.cell and shot.split == "validation" for shot, _ in before)
        counts = Counter(order for _, order in before)
        assert abs(counts[ORDERS[0]] - counts[ORDERS[1]]) == n % 2
        orders = [order for _, order in before]
        assert all(a != b for a, b in itertools.pairwise(orders))


def test_all_trials_of_a_document_and_cell_have_the_same_and_documents_differ() -> None:
    everything = trials()
    chosen = Exemplars.of(everything, 4)
    by_document = {(each.source_id, each.cell): chosen.before(each) for each in everything}
    assert all(chosen.before(each) == by_document[each.source_id, each.cell] for each in everything)
    names = {tuple(shot.item_id for shot, _ in before) for before in by_document.values()}
    assert len(names) == len(by_document)
    # Which order begins is not always the same one.
    assert {before[0][1] for before in by_document.values()} == set(ORDERS)


def test_no_excerpt_is_shown_twice_while_there_are_others() -> None:
    chosen = Exemplars.of(trials(), 7).before(trial("p", split="test"))
    # Five other documents of two excerpts each: ten to choose from.
    assert len({shot.excerpt for shot, _ in chosen}) == 7


def test_the_choice_depends_on_neither_the_order_nor_the_other_cells() -> None:
    everything = trials()
    asked = everything[0]
    chosen = Exemplars.of(everything, 4).before(asked)
    assert Exemplars.of(everything[::-1], 4).before(asked) == chosen
    alone = [each for each in everything if each.cell == asked.cell]
    assert Exemplars.of(alone, 4).before(asked) == chosen


def test_too_few_are_refused_with_what_there_is() -> None:
    with pytest.raises(ItemError) as error:
        Exemplars.of([trial("p"), trial("p", number=1), trial("q")], 2)
    assert "2 shots asked for, and beside the document p there are 1 trial to choose from" in str(error.value)
    assert "excerpts of 60 words, segments of 8, split validation" in str(error.value)
    with pytest.raises(ItemError, match="do not say which they are of"):
        Exemplars.of([replace(trial("p"), source_id=None), *trials()], 2)


def test_without_shots_nothing_is_needed() -> None:
    lonely = replace(trial("p"), source_id=None)
    assert Exemplars.of([lonely], 0).before(lonely) == ()


def test_only_items_with_segments_are_trials(items) -> None:
    rows = [
        {"item_id": "a", "text": "One two three. Four five.", "segment_1": "One two", "segment_2": "Four"},
        {"item_id": "b", "text": "One two three."},
    ]
    (found,) = trials_in(items(rows))
    assert (found.item_id, found.excerpt) == ("a", "One two three. Four five.")
    assert (found.earlier, found.later, found.title, found.split) == ("One two", "Four", None, "test")
    assert trials_in(items(rows[1:])) == []
    titled = [{**rows[0], "title": "T", "split": "validation", "source_id": "s"}]
    (found,) = trials_in(items(titled))
    assert (found.title, found.split, found.source_id) == ("T", "validation", "s")
