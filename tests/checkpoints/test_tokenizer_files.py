"""Why a tokenizer's files cannot be read: said by file and part, before anything is loaded."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from memprobe.checkpoints.tokenizer_files import tokenizer_problems

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    core = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel()
    core.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return tmp_path


def change(folder: Path, name: str = "tokenizer.json", **values: object) -> None:
    held = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(held | values))


def whats(folder: Path) -> list[str]:
    return [problem.what for problem in tokenizer_problems(folder)]


def test_sound_files_have_no_problem(folder) -> None:
    assert whats(folder) == []
    for model in (
        models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0),
        models.WordLevel({"a": 0}, unk_token="a"),
        models.WordPiece({"[UNK]": 0, "a": 1}),
    ):
        Tokenizer(model).save(str(folder / "tokenizer.json"))
        assert whats(folder) == []


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor", "decoder", "model"])
def test_a_part_of_an_unknown_kind_is_named(folder, part) -> None:
    held = json.loads((folder / "tokenizer.json").read_text())[part] or {}
    change(folder, **{part: held | {"type": "Later"}})
    (what,) = whats(folder)
    assert "is newer than the installed tokenizers" in what
    assert f"{part.replace('_', '-')} `Later`" in what
    assert "pip install --upgrade tokenizers" in tokenizer_problems(folder)[0].fix


def test_a_later_version_of_the_format_is_named(folder) -> None:
    change(folder, version="2.0")
    assert 'its format is version "2.0"' in whats(folder)[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "holds a list, not an object"),
        ("{", "is not JSON"),
        ("{}", "holds no model"),
        (POINTER, "Git LFS"),
    ],
)
def test_a_damaged_file_is_named(folder, content, says) -> None:
    (folder / "tokenizer.json").write_text(content)
    (what,) = whats(folder)
    assert says in what
    assert "tokenizer.json" in tokenizer_problems(folder)[0].where


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokenizer_class", 3),
        ("chat_template", 1.5),
        ("add_prefix_space", "yes"),
        ("bos_token", 1),
        ("model_max_length", True),
        ("added_tokens_decoder", []),
    ],
)
def test_a_field_of_another_type_is_named(folder, field, value) -> None:
    change(folder, "tokenizer_config.json", **{field: value})
    (what,) = whats(folder)
    assert f"`{field}` of tokenizer_config.json is {json.dumps(value)}, not " in what


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
def test_broken_json_beside_it_is_named(folder, name) -> None:
    (folder / name).write_text("{broken")
    assert any(name in problem.where or name in problem.what for problem in tokenizer_problems(folder))


@pytest.mark.parametrize(
    ("content", "package"), [(b"\n\x0e\n\x05<unk>", "sentencepiece"), (b"IQ== 0\n", "tiktoken")]
)
def test_a_package_that_is_not_installed_is_named(folder, monkeypatch, content, package) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(content)
    (problem,) = tokenizer_problems(folder)
    assert f"tokenizer.model needs {package}" in problem.what
    assert f"pip install {package}" in problem.fix


def test_the_same_files_elsewhere_are_named_where_they_are(folder, tmp_path_factory) -> None:
    change(folder, version="2.0")
    other = tmp_path_factory.mktemp("other")
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    assert tokenizer_problems(folder)[0].where == str(folder / "tokenizer.json")
    assert tokenizer_problems(other)[0].where == str(other / "tokenizer.json")
