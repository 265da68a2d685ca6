"""Every kind of bad item, suite, question and model spec that `memprobe run` meets, by its message."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

# Bad items: what, where

ITEMS = {
    "no-json": ("i.jsonl", '{"text": "fine words"}\n{"text": oops}\n', "no JSON", "line 2"),
    "not-an-object": ("i.jsonl", '["a"]\n', "", "line 1"),
    "empty-file": ("i.jsonl", "", "the file is empty", ""),
    "no-content-column": ("i.jsonl", '{"txt": "a b c"}\n', "column `txt`, did you mean `text`?", ""),
    "two-contents": (
        "i.jsonl",
        '{"text": "a", "input_ids": [1]}\n',
        "gives text, input_ids at once",
        "line 1",
    ),
    "prefix-alone": ("i.jsonl", '{"prefix": "a"}\n', "prefix without suffix", "column suffix"),
    "empty-text": ("i.jsonl", '{"text": ""}\n', "empty", "line 1, column text"),
    "a-list": ("i.jsonl", '{"text": ["a"]}\n', "a list, not a string", "line 1, column text"),
    "nan": ("i.jsonl", '{"text": "a b", "x": NaN}\n', "NaN", "line 1"),
    "same-id": (
        "i.jsonl",
        '{"item_id": "k", "text": "a b c"}\n{"item_id": "k", "text": "d e f"}\n',
        '"k" names',
        "line 2, column item_id",
    ),
    "exposures": ("i.jsonl", '{"text": "a b", "exposures": 1.5}\n', "not a whole number", "column exposures"),
    "last-before-first": (
        "i.jsonl",
        '{"text": "a b", "first_step": 9, "last_step": 3}\n',
        "last_step 3 comes before first_step 9",
        "column last_step",
    ),
    "reserved": (
        "i.jsonl",
        '{"text": "a b", "step": 3}\n',
        "memprobe writes a column of this name",
        "column step",
    ),
    "doubled-column": ("i.csv", "text,text\na,b\n", "text", "i.csv"),
    "ragged-csv": ("i.csv", "text,x\na,1,2\n", "", "line 2"),
    "utf-16": ("i.txt", b"\xff\xfea\x00", "not UTF-8", "line 1"),
    "latin-1": ("i.jsonl", b'{"text": "caf\xe9 au lait"}\n', "not UTF-8", "line 1"),
    "not-parquet": ("i.parquet", "hello", "arquet", "i.parquet"),
    "unknown-kind": ("i.docx", "hello", "", "i.docx"),
    "vocabulary": (
        "i.jsonl",
        '{"input_ids": [1, 2, 256]}\n',
        "id 256, the model's vocabulary has 256",
        "line 1",
    ),
    "negative-id": (
        "i.jsonl",
        '{"input_ids": [1, -2, 3]}\n',
        "token id 2 of 3 is below 0",
        "line 1, column input_ids",
    ),
}


@pytest.mark.parametrize("name", ITEMS)
def test_a_bad_item_is_named_by_file_line_and_column(name, cli, tiny, write, tmp_path):
    file_name, content, what, where = ITEMS[name]
    file = write(file_name, content)
    answer = cli("run", "-p", "recall", "-m", tiny.model, "-d", file, "-o", tmp_path / "run")
    assert answer.code == 2
    assert what in answer.err
    assert where in answer.err
    assert str(file) in answer.err
    assert answer.out == ""
    assert not (tmp_path / "run").exists()


def test_items_too_short_for_the_lengths_asked_are_named(cli, tiny, write, tmp_path):
    file = write("i.jsonl", '{"item_id": "stub", "text": "abcd"}\n{"item_id": "fits", "text": "abcdefgh"}\n')
    args = ["run", "-p", "recall", "-m", tiny.model, "-d", file, "-o", tmp_path / "run"]
    answer = cli(*args, "--set", "recall.prefix_tokens=4", "--set", "recall.suffix_tokens=3")
    assert answer.code == 2
    assert "recall: item stub" in answer.err
    assert f"{file}, line 1" in answer.err
    assert "item fits" not in answer.err
    assert "--on-bad-item skip" in answer.err


def test_all_bad_items_are_told_at_once(cli, tiny, write, tmp_path):
    file = write("i.jsonl", '{"text": ""}\n{"prefix": "a"}\n{"text": "x y", "exposures": -1}\n')
    answer = cli("run", "-p", "recall", "-m", tiny.model, "-d", file, "-o", tmp_path / "run")
    assert [f"line {number}" in answer.err for number in (1, 2, 3)] == [True] * 3
    assert answer.err.count("error: ") == 3


def test_items_without_what_a_probe_needs_are_told_with_the_column(cli, tiny, write, tmp_path):
    file = write("i.jsonl", '{"text": "no foil here"}\n')
    answer = cli("run", "-p", "recognition", "-m", tiny.model, "-d", file, "-o", tmp_path / "run")
    assert answer.code == 2
    assert "recognition needs foil, which no item has" in answer.err


def test_a_missing_file_suggests_its_neighbour(cli, tiny, tmp_path):
    shutil.copy(tiny.items, tmp_path / "canaries.jsonl")
    answer = cli("run", "-p", "recall", "-m", tiny.model, "-d", tmp_path / "canarys.jsonl")
    assert answer.code == 2
    assert "no such file, did you mean `canaries.jsonl`?" in answer.err


# Bad suites: all problems at once, each with its place

BAD_SUITE = """
[suit]
name = "x"
[suite]
nam = "x"
title = 3
[[probe]]
kind = "recal"
[[probe]]
prefix_tokens = 3
[[probe]]
kind = "recall"
sufix_tokens = 3
prefix_tokens = "many"
align = "middle"
generate = 1
[[probe]]
kind = "extraction"
n = [0]
[run]
modle = "x"
dtype = "float64"
limit = "3"
"""


def test_a_bad_suite_is_told_in_all_its_points(cli, write):
    file = write("mine.toml", BAD_SUITE)
    answer = cli("run", file, "-m", "x", "-d", "y")
    assert answer.code == 2
    told = answer.err.split("error: ")[1:]
    expected = [
        ("unknown table `suit`, did you mean `suite`?", ""),
        ("unknown key `nam`, did you mean `name`?", "[suite]"),
        ("`title` is 3, not a string", "[suite]"),
        ("unknown probe kind `recal`, did you mean `recall`?", "[[probe]] 1"),
        ("a probe has no `kind`", "[[probe]] 2"),
        ("unknown setting `sufix_tokens`, did you mean `suffix_tokens`?", "[[probe]] 3 (recall)"),
        ('`prefix_tokens` is "many", not a whole number', "[[probe]] 3 (recall)"),
        ('`align` is "middle", allowed: start, end', "[[probe]] 3 (recall)"),
        ("`generate` is 1, not true or false", "[[probe]] 3 (recall)"),
        ("n is [0], not one or more numbers of 1 or more", "[[probe]] 4 (extraction)"),
        ("unknown setting `modle`, did you mean `model`?", "[run]"),
        ('`dtype` is "float64", allowed: auto, float32, bfloat16, float16', "[run]"),
        ('`limit` is "3", not a whole number', "[run]"),
    ]
    assert len(told) == len(expected)
    for problem, (what, place) in zip(told, expected, strict=True):
        assert problem.startswith(what)
        assert f"where: {file}" in problem
        assert place in problem


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[[probe", "the suite is not TOML"),
        (b"\xff", "the suite is not TOML"),
        (b"", "the suite has no probe"),
        (b'probe = "recall"', "`probe` is not a list of tables"),
        (b'run = 3\n[[probe]]\nkind = "recall"', "`run` is not a table"),
        (
            b'[[probe]]\nkind = "recall"\n[[probe]]\nkind = "recall"',
            "two entries of recall have the same settings",
        ),
        (b'[[probe]]\nkind = "extraction"\nschemes = [{ topk = 4 }]', "did you mean `top_k`?"),
    ],
)
def test_a_file_that_is_no_suite_says_why(content, told, cli, write):
    answer = cli("run", write("mine.toml", content), "-m", "x", "-d", "y")
    assert answer.code == 2
    assert told in answer.err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "no suite and no probe was given"),
        (["quickstart"], "nothing to measure: -m MODEL and -d FILE not given"),
        (["quickstart", "-m", "x"], "nothing to measure: -d FILE not given"),
        (["nowhere.toml", "-m", "x", "-d", "y"], "there is no suite file"),
        (["hayes", "-m", "x", "-d", "y"], "unknown suite `hayes`, did you mean `hayes2024`?"),
        (["-p", "recal", "-m", "x", "-d", "y"], "unknown probe `recal`, did you mean `recall`?"),
        (["hayes2024", "-p", "recall", "-m", "x", "-d", "y"], "the suite hayes2024 does not hold recall"),
        (["quickstart", "--set", "x", "-m", "x", "-d", "y"], "a setting has the form PROBE.KEY=VALUE"),
        (["quickstart", "--set", "recal.align=end", "-m", "x", "-d", "y"], "this run has no probe `recal`"),
        (
            ["quickstart", "--set", "recall.sufix_tokens=1", "-m", "x", "-d", "y"],
            "did you mean `suffix_tokens`?",
        ),
        (["quickstart", "--set", "recall.suffix_tokens=0", "-m", "x", "-d", "y"], "suffix_tokens is 0"),
        (["quickstart", "--set", "recall.generate=yes", "-m", "x", "-d", "y"], '`generate` is "yes"'),
    ],
)
def test_a_question_that_cannot_be_asked_says_why(args, told, cli):
    answer = cli("run", *args)
    assert answer.code == 2
    assert told in answer.err


# Bad model specs


def _lora(folder):
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))


def _encoder_decoder(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
    }
    (folder / "config.json").write_text(json.dumps(config))


def _no_weights(folder):
    (folder / "model.safetensors").unlink()


def _no_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _gguf(folder):
    for file in folder.iterdir():
        file.unlink()
    (folder / "model.gguf").write_bytes(b"GGUF")


def _missing_shard(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    save_file({names[0]: weights[names[0]]}, folder / "model-00001-of-00002.safetensors")
    index = {name: f"model-0000{1 if name == names[0] else 2}-of-00002.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_lora, "adapter_config.json names no base model"),
        (_gguf, "GGUF"),
        (_encoder_decoder, "encoder-decoder"),
        (_no_weights, "weights"),
        (_no_tokenizer, "there is no tokenizer in the checkpoint, nor beside it"),
        (_missing_shard, "model-00002-of-00002.safetensors"),
    ],
)
def test_a_folder_that_cannot_be_measured_says_why(damage, told, cli, tiny, make, tmp_path):
    folder = make.sequence(tmp_path, (7,)) / "step7"
    make.tokenizer().save_pretrained(folder)
    damage(folder)
    answer = cli("run", "-p", "recall", "-m", folder, "-d", tiny.items, "-o", tmp_path / "run")
    assert answer.code == 2
    assert told in answer.err
    assert str(folder) in answer.err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--steps", "5"], "no checkpoint of main is left by --steps 5"),
        (["--steps", "x"], "x"),
        (["--tokenizer", "nowhere"], "--tokenizer `nowhere` is not a folder"),
        (["--device", "gpu"], "unknown device `gpu`"),
        (["--device", "cuda:99"], "there is no device `cuda:99` here"),
    ],
)
def test_flags_that_do_not_fit_the_model_say_why(args, told, cli, tiny, tmp_path):
    answer = cli("run", "-p", "recall", "-m", tiny.model, "-d", tiny.items, "-o", tmp_path / "run", *args)
    assert answer.code == 2
    assert told in answer.err


def test_two_tokenizers_in_one_sequence_are_refused(cli, tiny, make, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "main")
    make.tokenizer(reverse=True).save_pretrained(folder / "step10")
    answer = cli("run", "-p", "recall", "-m", folder, "-d", tiny.items, "-o", tmp_path / "run")
    assert answer.code == 2
    assert "tokenizer" in answer.err
    assert not (tmp_path / "run").exists()


def test_a_run_of_something_else_is_2_with_a_diff(cli, tiny, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    answer = cli("run", "quickstart", *tiny.ask, "-o", run, "--bos", "none", "--seed", "5")
    assert answer.code == 2
    assert "BOS mode differs: held default, asked none" in answer.err
    assert "seed differs: held 0, asked 5" in answer.err
    assert "give another directory with -o, or pass --fresh to start over in this one" in answer.err
