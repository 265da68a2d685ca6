"""Tokenizers and items that hold special tokens, through the whole pipeline: ids, notes, exit codes."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, pre_tokenizers, processors

import memprobe


@pytest.fixture
def folder(make, tmp_path: Path) -> Path:
    """A checkpoint of the GPT-NeoX kind with its tokenizer in it."""
    return make.sequence(tmp_path / "main", (20,), tokenizer=make.tokenizer()) / "step20"


def put(folder: Path, core: Tokenizer) -> None:
    """Give a checkpoint a tokenizer.json of its own and no tokenizer_config.json."""
    core.save(str(folder / "tokenizer.json"))


def core_of(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder.parent / "tokenizer.json"))


def recall(folder: Path, make, rows: list[dict], out: Path, **more):
    file = make.items(out.with_suffix(".jsonl"), rows)
    return memprobe.run(probes=["recall"], model=str(folder), data=str(file), threads=1, out=out, **more)


def test_a_text_scores_as_its_training_ids_do(folder, make, tmp_path) -> None:
    core = core_of(folder)
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    put(folder, core)
    text = "the heron stood on a weir"
    rows = [{"item_id": "text", "text": text}, {"item_id": "ids", "input_ids": core.encode(text).ids}]
    run = recall(folder, make, rows, tmp_path / "run")
    assert any("which was followed" in note for note in run.manifest["notes"])
    by_item = {row.pop("item_id"): row for row in run.table("recall").to_dicts()}
    assert by_item["text"] == by_item["ids"]


def test_a_token_that_stands_twice_in_front_is_said(folder, make, tmp_path) -> None:
    core = core_of(folder)
    core.add_special_tokens(["!"])
    number = core.token_to_id("!")
    core.post_processor = processors.TemplateProcessing(single="! $A", special_tokens=[("!", number)])
    put(folder, core)
    rows = [{"item_id": str(n), "text": text} for n, text in enumerate(["!the heron", "the heron", "the!"])]
    run = recall(folder, make, rows, tmp_path / "run")
    said = " ".join(run.manifest["notes"])
    assert "1 item begins with `!`, which is put in front of each as well" in said
    assert "1 item spells a special token (`!`)" in said


@pytest.mark.parametrize("command", ["run", "dry", "check", "ls", "verify"])
def test_a_later_tokenizer_is_refused_by_every_command(folder, make, tmp_path, cli, command) -> None:
    held = json.loads(core_of(folder).to_str())
    held["model"]["type"] = "BPE2"
    (folder / "tokenizer.json").write_text(json.dumps(held))
    file = make.items(tmp_path / "items.jsonl", [{"item_id": "a", "text": "the heron"}])
    asked = ("run", "-p", "recall", "-m", folder, "-d", file, "-o", tmp_path / "run")
    answer = {
        "run": lambda: cli(*asked),
        "dry": lambda: cli(*asked, "--dry-run"),
        "check": lambda: cli("data", "check", file, "-m", folder),
        "ls": lambda: cli("checkpoints", "ls", folder),
        "verify": lambda: cli("checkpoints", "verify", folder),
    }[command]()
    assert answer.code == (0 if command == "ls" else 2)
    assert "newer than the installed" in " ".join((answer.out + answer.err).split())
    assert not (tmp_path / "run").exists()


def test_items_of_ids_need_no_tokenizer_that_can_be_read(folder, make, tmp_path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE2"}}')
    run = recall(folder, make, [{"item_id": "a", "input_ids": [5, 6, 7, 8, 9]}], tmp_path / "run")
    assert run.table("recall").height == 1
    assert any("no tokenizer was used" in note for note in run.manifest["notes"])
    assert any("no tokenizer was used" in note for note in run.manifest["notes"])


def test_prefixes_do_not_vanish_in_a_chat_that_wants_parts(make, tmp_path) -> None:
    tokenizer = make.tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}[{% for part in m['content'] %}{{ part['text'] }}{% endfor %}]{% endfor %}"
    )
    folder = make.sequence(tmp_path / "main", (20,), tokenizer=tokenizer) / "step20"
    rows = [
        {"item_id": name, "prefix": prefix, "suffix": " counted"}
        for name, prefix in (("a", "the heron"), ("b", "grey barges"))
    ]
    run = recall(folder, make, rows, tmp_path / "run", settings=["recall.chat=true"])
    assert run.table("recall")["min_margin_nats"].n_unique() == 2
    assert any("lists of parts" in note for note in run.manifest["notes"])
