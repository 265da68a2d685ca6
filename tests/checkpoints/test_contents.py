"""What a listing of files means: which weights, which tokenizer, and each reason to refuse."""

import json
from pathlib import Path

import pytest

from memprobe.checkpoints.contents import find_weights, has_tokenizer, inspect, list_folder
from memprobe.checkpoints.identity import Options
from memprobe.checkpoints.native import has_native_class
from memprobe.errors import CheckpointError, SafetyError


def refusal(folder: Path, **options: bool):
    with pytest.raises((CheckpointError, SafetyError)) as caught:
        inspect(list_folder(folder), Options(**options))
    return caught.value


def with_config(contents, **config: object) -> dict[str, bytes]:
    return contents.files(config=config)


def shards(contents, *names: str, held: tuple[str, ...] | None = None, stem="model.safetensors") -> dict:
    index = json.dumps({"weight_map": {f"layer{n}": name for n, name in enumerate(names)}}).encode()
    files = contents.files() | {f"{stem}.index.json": index}
    files.pop("model.safetensors")
    return files | {name: contents.safetensors(n) for n, name in enumerate(held or names)}


def test_one_safetensors_file_is_the_weights(make, contents) -> None:
    weights = inspect(list_folder(make("m")), Options())
    assert (weights.format, weights.files) == ("safetensors", ("model.safetensors",))
    assert weights.n_bytes == len(contents.safetensors())


def test_safetensors_are_preferred_to_pickle(make, contents) -> None:
    folder = make("m", contents.files() | {"pytorch_model.bin": b"x"})
    assert inspect(list_folder(folder), Options()).format == "safetensors"


def test_shards_are_those_of_the_index_sorted(make, contents) -> None:
    folder = make("m", shards(contents, "b.safetensors", "a.safetensors", "b.safetensors"))
    (folder / "other.safetensors").write_bytes(b"x")
    weights = find_weights(list_folder(folder))
    assert weights.files == ("a.safetensors", "b.safetensors")
    assert weights.n_bytes == 2 * len(contents.safetensors())


def test_a_missing_shard_is_named(make, contents) -> None:
    names = ("model-1.safetensors", "model-2.safetensors", "model-3.safetensors")
    (problem,) = refusal(make("m", shards(contents, *names, held=names[:1]))).problems
    assert problem.what == "2 of 3 weight shards missing: model-2.safetensors, model-3.safetensors"
    assert problem.fix == "copy or download the missing files"
    assert problem.where.endswith("/m")


@pytest.mark.parametrize(
    "index", [b"{}", b'{"weight_map": {}}', b'{"weight_map": {"a": "../w.safetensors"}}']
)
def test_an_index_that_names_no_files_of_the_folder_is_refused(make, contents, index: bytes) -> None:
    files = contents.files() | {"model.safetensors.index.json": index}
    files.pop("model.safetensors")
    (problem,) = refusal(make("m", files)).problems
    assert problem.what == (
        "model.safetensors.index.json has no `weight_map` from tensors to files of this folder"
    )
    assert problem.fix == "copy or download the checkpoint again"


def test_a_link_to_nothing_is_no_file(make) -> None:
    folder = make("m")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blobs/none")
    assert refusal(folder).problems[0].what == "there are no weights beside config.json"


def test_a_config_without_weights_says_so(make, contents) -> None:
    files = contents.files()
    files.pop("model.safetensors")
    (problem,) = refusal(make("m", files)).problems
    assert problem.what == "there are no weights beside config.json"
    assert problem.fix == "a checkpoint has model.safetensors, or model.safetensors.index.json and its shards"


def test_shards_without_an_index_are_named(make, contents) -> None:
    files = contents.files() | {"model-00001-of-00002.safetensors": b"x"}
    files.pop("model.safetensors")
    assert refusal(make("m", files)).problems[0].what == (
        "there are no weights beside config.json; "
        "model-00001-of-00002.safetensors cannot be used without an index file"
    )


def test_weights_without_a_config_say_so(make, contents) -> None:
    (problem,) = refusal(make("m", {"model.safetensors": contents.safetensors()})).problems
    assert problem.what == "there are weights and no config.json, so the architecture is unknown"
    assert problem.fix == "copy config.json from the model that was trained to this folder"


SETTINGS = b'{"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "../base"}'


@pytest.mark.parametrize("with_a_config", [True, False])
def test_an_adapter_is_found_by_its_settings_and_weights(make, contents, with_a_config: bool) -> None:
    files = {"adapter_config.json": SETTINGS, "adapter_model.safetensors": b"x" * 5}
    if with_a_config:
        files |= {"config.json": contents.files()["config.json"]}
    weights = inspect(list_folder(make("m", files)), Options())
    assert (weights.format, weights.files, weights.n_bytes) == ("lora", ("adapter_model.safetensors",), 5)


def test_a_pickled_adapter_needs_permission(make) -> None:
    folder = make("m", {"adapter_config.json": SETTINGS, "adapter_model.bin": b"x"})
    error = refusal(folder)
    assert isinstance(error, SafetyError)
    assert error.problems[0].what.startswith("the weights are a pickle file (adapter_model.bin)")
    assert inspect(list_folder(folder), Options(allow_pickle=True)).files == ("adapter_model.bin",)


def test_an_adapter_without_weights_says_so(make) -> None:
    (problem,) = refusal(make("m", {"adapter_config.json": SETTINGS})).problems
    assert problem.what == (
        "there is an adapter_config.json and no adapter_model.safetensors, so the adapter has no weights"
    )


def test_a_merged_model_that_kept_its_adapter_config_is_fine(make, contents) -> None:
    folder = make("m", contents.files() | {"adapter_config.json": b"{}"})
    assert inspect(list_folder(folder), Options()).format == "safetensors"


def test_gguf_gets_one_sentence(make, contents) -> None:
    files = {"config.json": contents.files()["config.json"], "model-Q4.gguf": b"x"}
    (problem,) = refusal(make("m", files)).problems
    assert problem.what == "GGUF weights are not supported"
    assert problem.fix.startswith("pass the folder of the checkpoint that it was converted from")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"is_encoder_decoder": True}, "GPTNeoXForCausalLM"),
        ({"model_type": "t5", "architectures": None}, "t5"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "T5ForConditionalGeneration"),
    ],
)
def test_an_encoder_decoder_gets_one_sentence(make, contents, config, named: str) -> None:
    (problem,) = refusal(make("m", with_config(contents, **config))).problems
    assert (
        problem.what == f"{named} is an encoder-decoder, and only decoder-only language models are measured"
    )
    assert problem.fix == "pass a causal language model"


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {}},
        {"architectures": ["BartForCausalLM"], "model_type": "bart", "is_encoder_decoder": False},
        {"architectures": None},
    ],
)
def test_decoders_with_misleading_names_are_accepted(make, contents, config) -> None:
    assert inspect(list_folder(make("m", with_config(contents, **config))), Options()).n_bytes > 0


def test_a_model_that_predicts_no_next_token_gets_one_sentence(make, contents) -> None:
    (problem,) = refusal(make("m", with_config(contents, architectures=["BertForMaskedLM"]))).problems
    assert problem.what == (
        "BertForMaskedLM predicts no next token, and only causal language models can be measured"
    )


def test_remote_code_needs_permission(make, contents) -> None:
    code = {"AutoModelForCausalLM": "modeling.X"}
    folder = make("m", with_config(contents, model_type="chatglm", auto_map=code))
    error = refusal(folder)
    assert isinstance(error, SafetyError)
    assert error.problems[0].what == (
        "the checkpoint brings its own code (auto_map in config.json), which loading would run"
    )
    assert error.problems[0].fix == "read that code, and pass --trust-remote-code if you trust it"
    assert inspect(list_folder(folder), Options(trust_remote_code=True)).n_bytes > 0


def test_code_beside_a_model_that_transformers_has_itself_needs_no_permission(make, contents) -> None:
    code = {"AutoModelForCausalLM": "modeling.X"}
    folder = make("m", with_config(contents, model_type="phi3", auto_map=code))
    assert inspect(list_folder(folder), Options()).n_bytes > 0


@pytest.mark.parametrize("kind", [None, 3, ["phi3"], "phi3x", ""])
def test_a_model_type_that_is_no_word_of_transformers_has_no_class_there(kind) -> None:
    assert has_native_class({"model_type": "phi3"})
    assert not has_native_class({"model_type": kind})
    assert not has_native_class({})


def pickle_files(contents) -> dict[str, bytes]:
    files = contents.files()
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    return files


def test_pickle_needs_permission(make, contents) -> None:
    folder = make("m", pickle_files(contents))
    error = refusal(folder)
    assert isinstance(error, SafetyError)
    assert error.problems[0].what == (
        "the weights are a pickle file (pytorch_model.bin), which can run code when loaded"
    )
    assert error.problems[0].fix == (
        "convert them to safetensors, or pass --allow-pickle if you trust their origin"
    )
    assert inspect(list_folder(folder), Options(allow_pickle=True)).format == "pickle"


def test_sharded_pickle_is_pickle_too(make, contents) -> None:
    folder = make("m", shards(contents, "a.bin", "b.bin", stem="pytorch_model.bin"))
    assert isinstance(refusal(folder), SafetyError)
    assert inspect(list_folder(folder), Options(allow_pickle=True)).files == ("a.bin", "b.bin")


def test_all_permissions_that_lack_are_asked_for_at_once(make, contents) -> None:
    files = pickle_files(contents) | {"config.json": b'{"auto_map": {}}'}
    assert len(refusal(make("m", files)).problems) == 2


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (b"{", "config.json is not valid JSON"),
        (b"\xff", "config.json is not valid JSON"),
        (b"[1]", "config.json is not a JSON object"),
    ],
)
def test_a_broken_config_is_left_for_loading_to_refuse(make, contents, config: bytes, what: str) -> None:
    # The other checkpoints of its sequence are measured all the same.
    listing = list_folder(make("m", contents.files() | {"config.json": config}))
    assert inspect(listing, Options()).files == ("model.safetensors",)
    with pytest.raises(CheckpointError, match=what):
        listing.json("config.json")


def test_a_broken_config_does_not_permit_a_pickle(make, contents) -> None:
    files = contents.files() | {"config.json": b"{", "pytorch_model.bin": b"x"}
    del files["model.safetensors"]
    with pytest.raises(SafetyError, match="pickle"):
        inspect(list_folder(make("m", files)), Options())


def test_a_config_that_cannot_be_read_says_so(make) -> None:
    listing = list_folder(make("m"))
    Path("m/config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read: .*No such file"):
        listing.json("config.json")


def test_a_folder_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the folder cannot be read: No such file"):
        list_folder(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "is_tokenizer"),
    [
        ("tokenizer.json", True),
        ("tokenizer.model", True),
        ("vocab.json", True),
        ("qwen.tiktoken", True),
        ("tokenizer_config.json", False),
        ("special_tokens_map.json", False),
    ],
)
def test_a_tokenizer_has_a_vocabulary(make, name: str, is_tokenizer: bool) -> None:
    assert has_tokenizer(list_folder(make("m", {name: b"{}"}))) is is_tokenizer
