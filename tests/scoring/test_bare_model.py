"""Bare SentencePiece models: the normalizer that a `normalizer_spec` describes, and the library's own ids."""

import json

import pytest

from memprobe.errors import CheckpointError
from memprobe.scoring.bare_model import decoder_of, disagreements, normalizer_of
from memprobe.scoring.tokenizer import load_tokenizer

TEXTS = ("a", " a", "  a  b ", "a\nb", "café cafe\u0301", "the heron", "")
NEEDS = "needs sentencepiece"


@pytest.mark.parametrize(
    ("prefix", "removes", "text", "expected"),
    [
        (True, True, "  a  b ", "▁a▁b"),
        (True, False, " a", "▁▁a"),
        (False, True, " a ", "a"),
        (False, False, " a ", "▁a▁"),
        (True, True, "", ""),
        (True, True, "  ", ""),
    ],
)
def test_spaces_are_those_of_the_specification(prefix, removes, text, expected) -> None:
    made = normalizer_of(b"", adds_prefix=prefix, removes_spaces=removes)
    assert made.normalize_str(text) == expected


def test_the_space_in_front_is_taken_off_again() -> None:
    assert decoder_of(adds_prefix=True, has_bytes=True).decode(["▁the", "▁", "<0x68>"]) == "the h"
    assert decoder_of(adds_prefix=False, has_bytes=False).decode(["▁the"]) == " the"


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("removes", [True, False])
@pytest.mark.parametrize("family", ["LlamaTokenizer", "GemmaTokenizer", None])
def test_a_bare_model_gives_the_ids_of_the_library(tmp_path, kind, prefix, removes, family) -> None:
    folder = _trained(tmp_path, kind, prefix, removes)
    config = {} if family is None else {"tokenizer_class": family}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    notes: list[str] = []
    tokenizer = load_tokenizer(folder, note=notes.append, texts=TEXTS)
    assert disagreements(tokenizer, folder / "tokenizer.model", TEXTS) == []
    assert all("SentencePiece model tokenizer.model, which was followed" in note for note in notes)


def test_a_configuration_that_asks_for_other_spaces_is_refused(tmp_path) -> None:
    folder = _trained(tmp_path, "bpe", True, True)
    config = {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="add_prefix_space = false"):
        load_tokenizer(folder)


def _trained(folder, kind: str, prefix: bool, removes: bool):
    sentencepiece = pytest.importorskip("sentencepiece", reason=NEEDS)
    pytest.importorskip("google.protobuf", reason=NEEDS)
    texts = ["the heron stood on a weir", "grey barges went past", "café naïve 1984"] * 30
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=310,
        model_type=kind,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=removes,
        hard_vocab_limit=False,
        minloglevel=5,
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder
