"""Questions to train on: the right answer is read again from the prompt, in other words than the code's."""

import re

import pytest

from memprobe.errors import InputError
from memprobe.lab.questions import (
    GROWS_AT_FRAC,
    LONGEST_WORDS,
    NO_PLACE,
    QUESTIONS_PER_EXCERPT,
    START_WORDS,
    QuestionSource,
    example_texts,
)
from memprobe.lab.tokenizer import END_OF_TEXT, train_tokenizer

# Every word occurs once, so where a segment stands is told by its first word. Each fifth ends a line.
WORDS = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in ("n", "rt", "st", "mp")]
TEXT = "".join(word + ("\n" if i % 5 == 4 else " ") for i, word in enumerate(WORDS))
PROMPT = re.compile(r"(?:Text: (?P<excerpt>.*)\n)?A: (?P<a>.*)\nB: (?P<b>.*)\nFirst:", re.DOTALL)
# 600 fair coins lie within this of one half in all but 1 of 10,000 draws: 3.9 standard deviations.
COINS = 0.08


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT, *example_texts()], 400)


def source_of(tokenizer, **changes):
    return QuestionSource(
        **({"texts": [TEXT], "tokenizer": tokenizer, "context_tokens": 256, "seed": 0} | changes)
    )


def asked(source, n=600):
    """Yield each question as it is read by a model: excerpt or None, both segments, answer."""
    for questions in source.draw(n):
        for tail, answer in zip(questions.tails, questions.answers, strict=True):
            text = source.tokenizer.decode([*questions.shared, *tail]).removeprefix(END_OF_TEXT)
            parts = PROMPT.fullmatch(text)
            assert parts, text
            yield parts["excerpt"], parts["a"], parts["b"], source.tokenizer.decode([answer])


def test_the_right_answer_is_the_segment_that_stands_first_in_the_excerpt(tokenizer) -> None:
    seen = {" A": 0, " B": 0}
    for excerpt, a, b, answer in asked(source_of(tokenizer)):
        if excerpt is None or max(excerpt.count(a), excerpt.count(b)) > 1:
            continue
        assert answer == (" A" if excerpt.index(a) < excerpt.index(b) else " B")
        seen[answer] += 1
    assert sum(seen.values()) > 450
    assert abs(seen[" A"] / sum(seen.values()) - 0.5) < COINS


def test_segments_are_equally_long_and_do_not_overlap(tokenizer) -> None:
    n_words = set()
    for excerpt, a, b, _ in asked(source_of(tokenizer)):
        assert len(a.split()) == len(b.split()) >= 2
        if excerpt is None or max(excerpt.count(a), excerpt.count(b)) > 1:
            continue
        early, late = sorted([(excerpt.index(a), a), (excerpt.index(b), b)])
        assert early[0] + len(early[1]) < late[0]
        n_words.add(len(excerpt.split()))
    assert n_words == set(range(6, START_WORDS + 1))


def test_one_question_in_ten_has_no_excerpt(tokenizer) -> None:
    without = [excerpt is None for excerpt, *_ in asked(source_of(tokenizer), 6 * 600)]
    # 600 excerpts: 0.1 with a standard deviation of 0.012.
    assert 0.06 < sum(without) / len(without) < 0.14


def test_excerpts_are_the_words_of_the_text_and_nothing_that_stands_in_it(tokenizer) -> None:
    excerpts = [excerpt for excerpt, *_ in asked(source_of(tokenizer)) if excerpt]
    assert {word for excerpt in excerpts for word in excerpt.split()} <= set(WORDS)
    assert not [excerpt for excerpt in excerpts if excerpt in TEXT]
    assert any("\n" in excerpt for excerpt in excerpts)


def test_a_place_points_to_the_same_token_in_the_excerpt(tokenizer) -> None:
    n_placed = n_exact = n_first = 0
    colon = tokenizer("B:")["input_ids"][-1]
    for questions in source_of(tokenizer).draw(600):
        for number, tail in enumerate(questions.tails):
            places, segment = questions.places[number], questions.segment[number]
            assert len(places) == len(segment) == len(questions.earlier[number]) == len(tail)
            for token, place in zip(tail, places, strict=True):
                if place != NO_PLACE:
                    n_placed += 1
                    n_exact += questions.shared[place] == token
            # The first token of a segment, with the space in front of it, is a copy too.
            n_first += sum(
                before == colon and place != NO_PLACE for before, place in zip(tail, places[1:], strict=False)
            )
            # Copies in a row have originals in a row, and there is one jump at most: to the other segment.
            found = [(p, s) for p, s in zip(places, segment, strict=True) if p != NO_PLACE]
            assert [s for _, s in found] == sorted(s for _, s in found)
    assert n_placed > 2000
    assert n_first > 300
    assert n_exact == n_placed


def test_the_guide_of_the_second_segment_is_the_answer(tokenizer) -> None:
    label = {tokenizer(f"x {name}")["input_ids"][-1]: number for number, name in enumerate("AB")}
    n_guided = 0
    for questions in source_of(tokenizer).draw(300):
        for number, answer in enumerate(questions.answers):
            told = set(questions.earlier[number]) - {NO_PLACE}
            assert told <= {label[answer]}
            n_guided += bool(told)
            assert [e != NO_PLACE for e in questions.earlier[number]] == [
                s == 1 for s in questions.segment[number]
            ]
    assert n_guided > 200


def test_excerpts_grow_with_right_answers_alone_and_stop_growing(tokenizer) -> None:
    source = source_of(tokenizer)
    for _ in range(400):
        source.hear(GROWS_AT_FRAC)
    assert source.reach_words == START_WORDS
    source.hear(1.0)
    source.hear(1.0)
    # The mean starts anew between chance and what was asked for: 12 words and a quarter are 15.
    assert source.reach_words == 15
    assert source.right_frac < GROWS_AT_FRAC
    for _ in range(1000):
        source.hear(1.0)
    assert source.reach_words == LONGEST_WORDS
    assert max(len(e.split()) for e, *_ in asked(source) if e) == LONGEST_WORDS


def test_no_prompt_is_longer_than_the_context(tokenizer) -> None:
    roomy, narrow = source_of(tokenizer), source_of(tokenizer, context_tokens=38)
    lengths = [len(q.shared) + len(tail) for q in roomy.draw(300) for tail in q.tails]
    assert max(lengths) > 38
    kept = [len(q.shared) + len(tail) for q in narrow.draw(300) for tail in q.tails]
    assert 34 < max(kept) <= 38


def test_the_same_seed_draws_the_same_questions(tokenizer) -> None:
    assert source_of(tokenizer).draw(60) == source_of(tokenizer).draw(60)
    assert source_of(tokenizer).draw(60) != source_of(tokenizer, seed=1).draw(60)


def test_questions_come_by_whole_excerpts(tokenizer) -> None:
    sets = source_of(tokenizer).draw(QUESTIONS_PER_EXCERPT + 1)
    assert [len(each.tails) for each in sets] == [QUESTIONS_PER_EXCERPT] * 2


def test_a_label_that_is_no_single_token_is_refused() -> None:
    # Bytes alone: a space and a letter are two tokens.
    with pytest.raises(InputError, match="the answer ` A` is not a single token of a vocabulary of 257"):
        source_of(train_tokenizer([TEXT], 257))


def test_words_too_long_for_any_question_are_refused(tokenizer) -> None:
    source = source_of(tokenizer, texts=["z" * 400])
    with pytest.raises(InputError, match="4 words of the texts are too long for a question"):
        source.draw(1)
