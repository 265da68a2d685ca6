"""The border of prefix and suffix under normalizers: what joins characters across it belongs to the suffix.

Invariant, for every border of every text: the tokens before the border are those that the text begins with
whatever follows the border. A token that needs a character behind the border is not among them.
"""

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from memprobe.scoring.load import Limits
from memprobe.scoring.offsets import token_offsets
from memprobe.scoring.split import tokens_before, unjoined
from memprobe.scoring.tokenise import tokenise

TEXTS = (
    "caf\u00e9 cafe\u0301 nai\u0308ve Vie\u0323\u0302t a\u0301b\u0301",
    "漢字 か\u3099 がき\u3099",
    "ÀÉ ﬁ ½ ℌ",
    "किताब कातिब",
    "  two  spaces\n\nline ",
    "각 \u1100\u1161\u11a8",
    "🙂 👩\u200d👩",
)
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
NORMALIZERS = {
    "none": None,
    "NFC": normalizers.NFC(),
    "NFKC": normalizers.NFKC(),
    "NFD": normalizers.NFD(),
    "no accents": normalizers.Sequence(
        [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
    ),
    "strip": normalizers.Strip(),
    "one space": normalizers.Replace(Regex(" {2,}"), " "),
}


def of_bytes(normalizer, *, add_prefix_space: bool = False) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    core.decoder = decoders.ByteLevel()
    return _trained(core, normalizer, BYTES)


def of_pieces(normalizer) -> Tokenizer:
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return _trained(core, normalizer, [])


def with_prepended() -> Tokenizer:
    steps = [normalizers.NFKC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    return _trained(Tokenizer(models.BPE(unk_token="<unk>")), normalizers.Sequence(steps), [])


def _trained(core: Tokenizer, normalizer, alphabet: list[str]) -> Tokenizer:
    if normalizer is not None:
        core.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(TEXTS * 5, trainer)
    return core


CORES = {
    **{f"bytes, {name}": lambda each=each: of_bytes(each) for name, each in NORMALIZERS.items()},
    "bytes, space in front, NFC": lambda: of_bytes(normalizers.NFC(), add_prefix_space=True),
    **{f"pieces, {name}": lambda each=each: of_pieces(each) for name, each in NORMALIZERS.items()},
    "pieces, prepended, NFKC": with_prepended,
}


@pytest.mark.parametrize("name", CORES)
def test_the_tokens_before_a_border_do_not_depend_on_what_follows_it(name) -> None:
    core = CORES[name]()
    for text in TEXTS:
        whole = core.encode(text)
        ends = [end for _, end in whole.offsets]
        for border in range(1, len(text)):
            n = tokens_before(ends, unjoined(core.normalizer, text, border))
            for following in (" x", "qq", "漢"):
                other = core.encode(text[:border] + following).ids
                # A merge may go on into what follows; then the token is not before the border.
                assert whole.ids[:n] == other[:n] or _goes_on(core, text[:border], following, n)


def _goes_on(core: Tokenizer, prefix: str, following: str, n: int) -> bool:
    """Whether the last of the first n tokens reaches into what follows."""
    ends = [end for _, end in core.encode(prefix + following).offsets[:n]]
    return max(ends, default=0) > len(prefix)


def test_a_letter_joined_with_its_mark_belongs_to_the_suffix(items) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=of_bytes(normalizers.NFC()))
    table = items(
        [{"item_id": "a", "prefix": "xy cafe", "suffix": "\u0301 xy"}, {"item_id": "b", "text": "café"}]
    )
    made = tokenise(table, tokenizer, bos="none", limits=Limits(None, 400, None, "float32"))
    tokens = tokenizer.convert_ids_to_tokens(made.ids["a", "text"].tolist())
    n_prefix = made.table.filter(item_id="a")["n_prefix_tokens"].item()
    assert not any("Ã" in token for token in tokens[:n_prefix])
    assert "Ã" in tokens[n_prefix]
    assert made.table.filter(item_id="a")["boundary_shift"].item()


@pytest.mark.parametrize("border", range(1, 11))
def test_prefix_and_suffix_are_the_whole(items, border) -> None:
    text = "cafe\u0301 nai\u0308ve"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=of_bytes(normalizers.NFC()))
    table = items([{"item_id": "a", "prefix": text[:border], "suffix": text[border:]}])
    made = tokenise(table, tokenizer, bos="none", limits=Limits(None, 400, None, "float32"))
    assert made.ids["a", "text"].tolist() == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("name", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"])
def test_no_ascii_character_is_joined_by_what_is_not_asked(name) -> None:
    normalizer = getattr(normalizers, name)()
    assert type(normalizer).__name__ == name
    ascii_chars = [chr(code) for code in range(128)]
    for one in ascii_chars:
        for two in ascii_chars:
            alone = normalizer.normalize_str(one) + normalizer.normalize_str(two)
            assert normalizer.normalize_str(one + two) == alone


def test_what_joins_ascii_characters_is_asked() -> None:
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    assert unjoined(spaces, "a  b", 2) == 1
    assert unjoined(normalizers.Sequence([normalizers.NFC(), spaces]), "a  b", 2) == 1
    assert unjoined(normalizers.NFC(), "a  b", 2) == 2


def test_a_list_of_ends_counts_like_an_array() -> None:
    ends = [1, 4, 3, 3, 6]
    for border in range(8):
        assert tokens_before(ends, border) == tokens_before(np.array(ends), border)
    assert tokens_before(np.array([], dtype=np.int64), 3) == 0


def test_without_a_normalizer_a_border_stays() -> None:
    assert unjoined(None, "ab", 1) == 1
    assert tokens_before([], 0) == 0
    assert tokens_before([2, 2, 4], 3) == 2


def test_offsets_cover_the_mark_that_was_joined() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=of_bytes(normalizers.NFC()))
    for text in ("cafe\u0301 x", "cafe\u0301"):
        offsets = token_offsets(tokenizer, text)
        assert 5 in offsets[:, 1]
        assert 4 not in offsets[:, 1]
    stripped = PreTrainedTokenizerFast(tokenizer_object=of_bytes(normalizers.Strip()))
    assert np.max(token_offsets(stripped, "two  ")[:, 1]) == 3
