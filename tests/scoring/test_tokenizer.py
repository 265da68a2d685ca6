"""Tokenizers as their own files have them: what a class replaces, what contradicts, what cannot be read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer

from memprobe.errors import CheckpointError, SafetyError
from memprobe.scoring.load import Limits
from memprobe.scoring.tokenise import tokenise
from memprobe.scoring.tokenizer import load_tokenizer, replaced

SENTENCES = [
    "the heron stood on a weir all morning",
    "grey barges went past under low bridges in 1984",
    "café naïve, ÀÉ: 12.50 (x-ray)!",
]
TEXTS = ("the heron", " the heron", "  two  spaces", "a\nb", "In 1984", "cafe\u0301 café", "x-ray!", "漢字")
FAMILIES = {
    "gpt2": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "cohere": "CohereTokenizer",
    "codegen": "CodeGenTokenizer",
    "llama": "LlamaTokenizer",
    "gemma": "GemmaTokenizer",
}
# Pipelines that a training run may have chosen and that no class has.
OWN: dict[str, Callable[[Tokenizer], None]] = {
    "space in front": lambda core: setattr(
        core, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)
    ),
    "lower case": lambda core: setattr(core, "normalizer", normalizers.Lowercase()),
    "single digits": lambda core: setattr(
        core,
        "pre_tokenizer",
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.Split(Regex("[aeiou]"), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    ),
}


def trained(change: Callable[[Tokenizer], None] = lambda _: None) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    change(core)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|endoftext|>", "<s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES * 3, trainer)
    return core


def write(folder: Path, core: Tokenizer, model_type: str | None = None, **config: object) -> Path:
    core.save(str(folder / "tokenizer.json"))
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("named_by", ["config.json", "tokenizer_config.json"])
def test_the_pipeline_of_the_file_is_followed_whatever_the_class(tmp_path, family, own, named_by) -> None:
    core = trained(OWN[own])
    named = {"tokenizer_class": FAMILIES[family]} if named_by == "tokenizer_config.json" else {}
    folder = write(tmp_path, core, family, **named)
    notes: list[str] = []
    tokenizer = load_tokenizer(folder, note=notes.append)
    assert [ids(tokenizer, text) for text in TEXTS] == [core.encode(text).ids for text in TEXTS]
    assert all("of tokenizer.json, which was followed" in note for note in notes)
    if not notes:
        by_class = AutoTokenizer.from_pretrained(folder)
        assert [ids(by_class, text) for text in TEXTS] == [core.encode(text).ids for text in TEXTS]


def test_the_note_names_the_class_and_the_parts(tmp_path) -> None:
    notes: list[str] = []
    tokenizer = load_tokenizer(write(tmp_path, trained(OWN["lower case"]), "gpt_neox"), note=notes.append)
    assert notes == [
        "transformers' GPTNeoXTokenizer replaces the normalizer of tokenizer.json, which was followed: the "
        "same text has other ids under the class"
    ]
    # Special tokens that only the class names are kept where the file has them, and none is added.
    assert tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.pad_token is None
    assert len(tokenizer) == 330


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen2", "cohere", "codegen"])
def test_what_a_class_saved_itself_is_loaded_by_it_without_a_word(tmp_path, family) -> None:
    first = AutoTokenizer.from_pretrained(write(tmp_path, trained(), family))
    again = tmp_path / "again"
    first.save_pretrained(again)
    (again / "config.json").write_text(json.dumps({"model_type": family}))
    notes: list[str] = []
    tokenizer = load_tokenizer(again, note=notes.append)
    assert type(tokenizer) is type(first)
    assert notes == []


def test_what_the_file_puts_in_front_stays_in_front(tmp_path) -> None:
    core = trained()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    folder = write(tmp_path, core, "gpt_neox")
    assert AutoTokenizer.from_pretrained(folder)("the")["input_ids"][0] != 1, "the class takes it away"
    notes: list[str] = []
    assert load_tokenizer(folder, note=notes.append)("the")["input_ids"][0] == 1
    assert "post-processor" in notes[0]


@pytest.mark.parametrize("in_file", [True, False])
def test_files_that_ask_for_two_tokenizers_are_refused(tmp_path, in_file) -> None:
    core = trained()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=in_file)
    write(tmp_path, core, "gpt2", tokenizer_class="GPT2Tokenizer", add_prefix_space=not in_file)
    says = rf"add_prefix_space = {json.dumps(not in_file)}.*GPT2Tokenizer.*{json.dumps(in_file)}"
    with pytest.raises(CheckpointError, match=says):
        load_tokenizer(tmp_path)


def test_own_code_is_not_run_where_the_file_holds_all(tmp_path) -> None:
    core = trained()
    write(tmp_path, core, auto_map={"AutoTokenizer": ["tokenization_x.Slow", "tokenization_x.Fast"]})
    (tmp_path / "tokenization_x.py").write_text("raise SystemExit('this ran')\n")
    notes: list[str] = []
    tokenizer = load_tokenizer(tmp_path, trust_remote_code=True, note=notes.append)
    assert ids(tokenizer, "the heron") == core.encode("the heron").ids
    assert "was not run" in notes[0]
    (tmp_path / "tokenizer.json").rename(tmp_path / "vocab.json")
    with pytest.raises(SafetyError, match="its own code"):
        load_tokenizer(tmp_path)


def test_a_class_that_cannot_read_the_file_is_done_without(tmp_path) -> None:
    core = trained()
    write(tmp_path, core, tokenizer_class="GPT2Tokenizer", bos_token="<s>")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": "two"}))
    notes: list[str] = []
    tokenizer = load_tokenizer(tmp_path, note=notes.append)
    assert ids(tokenizer, "the heron") == core.encode("the heron").ids
    assert tokenizer.bos_token == "<s>"


def test_merges_are_not_dropped_at_random(tmp_path) -> None:
    core = trained()
    whole = core.encode("the heron stood").ids
    core.model.dropout = 0.5
    notes: list[str] = []
    tokenizer = load_tokenizer(write(tmp_path, core), note=notes.append)
    assert [ids(tokenizer, "the heron stood") for _ in range(20)] == [whole] * 20
    assert "dropped at random" in notes[0]


def test_a_start_token_that_the_file_lacks_is_said(tmp_path) -> None:
    notes: list[str] = []
    load_tokenizer(write(tmp_path, trained(), bos_token="<start>"), note=notes.append)
    assert notes == [
        "the bos_token '<start>' is not in tokenizer.json and got the new id 330, on which the model may "
        "never have been trained"
    ]


def test_an_added_token_with_another_id_is_a_difference(tmp_path) -> None:
    core = trained()
    core.add_tokens([AddedToken("<extra>")])
    tokenizer = load_tokenizer(write(tmp_path, core))
    held = json.loads((tmp_path / "tokenizer.json").read_text())
    assert replaced(tokenizer, held) == ()
    held["added_tokens"][-1]["id"] += 1
    assert replaced(tokenizer, held) == ("added tokens",)


def test_a_text_without_tokens_is_one_clear_error(tmp_path, items) -> None:
    core = Tokenizer(models.WordLevel({"the": 0, "heron": 1}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = load_tokenizer(write(tmp_path, core))
    limits = Limits(None, 400, None, "float32")
    for row in ({"text": "the barge"}, {"prefix": "the", "suffix": " barge"}):
        with pytest.raises(CheckpointError, match=r"cannot encode a text: .*\[UNK\]"):
            tokenise(items([dict(item_id="a", **row)]), tokenizer, bos="none", limits=limits)


@pytest.mark.parametrize("asked", [None, True])
def test_a_pattern_that_mistral_corrected_is_said_or_replaced_as_asked(tmp_path, asked) -> None:
    core = trained()
    state = json.loads(core.to_str())
    state["model"]["vocab"] |= {f"filler{n}": 330 + n for n in range(100_001)}
    core = Tokenizer.from_str(json.dumps(state))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\s"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    named = {} if asked is None else {"fix_mistral_regex": asked}
    write(tmp_path, core, "mistral", tokenizer_class="PreTrainedTokenizerFast", **named)
    notes: list[str] = []
    tokenizer = load_tokenizer(tmp_path, note=notes.append)
    assert len(notes) == 1
    assert ("was replaced" if asked else "is not that of training") in notes[0]
    assert (ids(tokenizer, "x-ray in 1984") == core.encode("x-ray in 1984").ids) is (not asked)
