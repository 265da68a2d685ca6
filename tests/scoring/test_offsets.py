"""Offsets of tokens: characters of the source, spaces included, for tokens that share a character too."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from memprobe.errors import InputError
from memprobe.scoring.offsets import token_offsets


def test_bytes_of_one_character_all_cover_it(make) -> None:
    # a is 1 byte, é 2, 漢 3.
    assert token_offsets(make.tokenizer(), "aé漢").tolist() == [
        [0, 1],
        [1, 2],
        [1, 2],
        [2, 3],
        [2, 3],
        [2, 3],
    ]


def test_spaces_stay_with_their_token_where_the_tokenizer_would_trim_them() -> None:
    vocabulary = {"Ġthe": 0, "the": 1, "Ġ": 2, "t": 3, "h": 4, "e": 5, "Ġt": 6, "Ġth": 7, "th": 8}
    merges = [("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e"), ("t", "h"), ("th", "e")]
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    trimmed = tokenizer("the the", add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert trimmed == [(0, 3), (4, 7)], "the fixture trims, or the test shows nothing"
    assert token_offsets(tokenizer, "the the").tolist() == [[0, 3], [3, 7]]
    assert core.post_processor is not None


def test_a_text_without_tokens_has_no_offsets(make) -> None:
    assert token_offsets(make.tokenizer(), "").shape == (0, 2)


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(InputError, match="gives no character offsets"):
        token_offsets(object(), "a")
