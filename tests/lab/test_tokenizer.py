"""The tokenizer: digits alone, the end-of-text token in front, offsets that give the text back."""

import pytest

from memprobe.lab.corpus import demo_corpus, tokenizer_texts
from memprobe.lab.tokenizer import END_OF_TEXT, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(tokenizer_texts(0, n_texts=60), 400)


def test_it_has_the_vocabulary_asked_for(tokenizer) -> None:
    assert len(tokenizer) == 400


def test_every_digit_is_a_token_and_the_space_before_a_code_is_another(tokenizer) -> None:
    tokens = tokenizer.tokenize("is 48192.")
    assert tokens[-7:] == ["Ġ", "4", "8", "1", "9", "2", "."]


def test_end_of_text_stands_in_front_and_nothing_behind(tokenizer) -> None:
    ids = tokenizer("a bell")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == tokenizer.eos_token_id
    assert tokenizer.decode(ids) == END_OF_TEXT + "a bell"


def test_offsets_give_back_every_character_spaces_included(tokenizer) -> None:
    text = "  The bell — 3 bells,\n\nünd more "
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    covered = sorted({place for lo, hi in offsets for place in range(lo, hi)})
    assert covered == list(range(len(text)))


def test_prefix_of_a_canary_tokenises_alone_as_inside_the_canary(tokenizer) -> None:
    for item in (item for item in demo_corpus("quick", 0) if item.group == "canary"):
        whole, prefix = (
            tokenizer(t)["input_ids"] for t in (item.text + item.tail, item.text[: item.prefix_chars])
        )
        assert whole[: len(prefix)] == prefix
        assert len(whole) == len(prefix) + 6
