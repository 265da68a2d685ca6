"""The grammar: unique names, two wordings of the same facts, years in order."""

import numpy as np
import pytest

from memprobe.lab import grammar

RNG_SEED = 7


def test_people_are_all_different() -> None:
    names = grammar.people(500, np.random.default_rng(RNG_SEED))
    assert len(set(names)) == 500
    assert all(len(name.split()) == 2 for name in names)


def test_more_people_than_names_is_an_error_with_both_counts() -> None:
    with pytest.raises(ValueError, match=r"99999 names asked for, the grammar has 10240"):
        grammar.people(99_999, np.random.default_rng(RNG_SEED))


def test_the_two_wordings_hold_the_same_words_but_was_and_by() -> None:
    facts = grammar.Deed("Mara Voss", "hid", "tiny", "bell", "by the quay", "at low tide")
    assert facts.wording(0) == "Mara Voss hid the tiny bell by the quay at low tide."
    assert facts.wording(1) == "At low tide the tiny bell was hid by the quay by Mara Voss."


def test_no_line_of_a_ledger_comes_again_and_all_have_as_many_words() -> None:
    rng = np.random.default_rng(RNG_SEED)
    used: set[str] = set()
    first, second = grammar.ledger(40, rng, used), grammar.ledger(40, rng, used)
    assert len({*first, *second}) == 80
    assert used == {*first, *second}
    assert {len(line.split()) for line in used} == {grammar.LEDGER_LINE_WORDS}
    # Drawn again with all of its lines taken, a ledger holds none of them.
    again = grammar.ledger(40, np.random.default_rng(RNG_SEED), set(first))
    assert set(again).isdisjoint(first)


def test_the_years_of_annals_rise_and_stand_in_their_passages() -> None:
    annals = grammar.annals("Crowford", 12, np.random.default_rng(RNG_SEED))
    years = [year for year, _ in annals]
    assert years == sorted(set(years))
    assert all(text.startswith(f"In {year} the town of Crowford ") for year, text in annals)


def test_a_biography_speaks_of_one_person_who_lived_after_being_born() -> None:
    text = grammar.biography("Odrin Kell", np.random.default_rng(RNG_SEED))
    born, later = (int(word.strip(".")) for word in text.split() if word.strip(".").isdigit())
    assert born + 20 <= later < born + 60
    assert text.startswith("Odrin Kell was born in ")
    assert text.count("Odrin") == 3
