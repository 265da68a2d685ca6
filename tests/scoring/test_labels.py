"""Which tokens spell a label, against a loop over the vocabulary that decodes every token by itself."""

import pytest

from memprobe.errors import CheckpointError
from memprobe.scoring.labels import label_ids


@pytest.fixture(scope="module")
def answering():
    """A tokenizer that has ` A`, `A`, `\\nA`, `A `, ` B`, `B`, and words that hold these letters."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    words = [" A", "\nA", "A ", " B", "AB", " And", "a", "-A"]
    core.add_tokens([AddedToken(word, normalized=False) for word in words])
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False)


def test_all_spellings_of_a_label_are_found_and_nothing_else(answering) -> None:
    first, second = label_ids(answering, ("A", "B"), len(answering))
    for ids, label in ((first, "A"), (second, "B")):
        slowly = [i for i in range(len(answering)) if answering.decode([i]).strip() == label]
        assert ids.tolist() == slowly
    assert sorted(map(answering.decode, ([i] for i in first))) == ["\nA", " A", "A", "A "]
    assert sorted(map(answering.decode, ([i] for i in second))) == [" B", "B"]


def test_ids_that_the_model_does_not_have_are_left_out(answering) -> None:
    whole, _ = label_ids(answering, ("A", "B"), 10_000)
    cut, _ = label_ids(answering, ("A", "B"), int(whole.max()))
    assert cut.tolist() == whole.tolist()[:-1]


def test_a_label_of_several_tokens_is_refused_by_name(answering) -> None:
    with pytest.raises(
        CheckpointError, match=r"no single token of this tokenizer spells the label `First`\n"
    ):
        label_ids(answering, ("First", "B"), len(answering))
    with pytest.raises(CheckpointError, match="`First` or `Second`"):
        label_ids(answering, ("First", "Second"), len(answering))
