"""Adapters as checkpoints: where the base is looked for, what is taken from it, and each refusal's words."""

import importlib.util
import json
from pathlib import Path

import pytest

from memprobe.checkpoints import config_digest, resolve, weights_digest
from memprobe.checkpoints.adapter import refuse_adapter
from memprobe.errors import CheckpointError, SafetyError


def adapter_files(contents, base: object, fill: int = 0, **settings: object) -> dict[str, bytes]:
    values = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": 8}
    return {
        "adapter_config.json": json.dumps(values | settings).encode(),
        "adapter_model.safetensors": contents.safetensors(fill, n_numbers=2),
    }


@pytest.fixture
def make_adapter(make, contents):
    """Return a writer of adapters: make_adapter("lora/checkpoint-5", "../../base")."""
    return lambda name, base, fill=0, **settings: make(name, adapter_files(contents, base, fill, **settings))


def only(spec: str = "lora", **options):
    ((checkpoint,),) = (sequence.checkpoints for sequence in resolve([spec], **options))
    return checkpoint


def refusal(spec: str = "lora", **options):
    with pytest.raises((CheckpointError, SafetyError)) as caught:
        resolve([spec], **options)
    return caught.value


def test_an_adapter_is_described_with_its_base(make, make_adapter, contents) -> None:
    base = make("base", config={"dtype": "bfloat16"})
    folder = make_adapter("lora", str(base))
    checkpoint = only()
    assert (checkpoint.folder, checkpoint.weights_format) == (folder, "lora")
    assert checkpoint.weight_files == ("adapter_model.safetensors",)
    assert checkpoint.base is not None
    assert checkpoint.base.folder == base
    assert checkpoint.whole is checkpoint.base
    # The merged model is as large as its base: 6 numbers; bytes are those that are read, of 6 + 2 numbers.
    assert (checkpoint.n_parameters, checkpoint.dtype) == (6, "float32")
    assert checkpoint.n_bytes == len(contents.safetensors()) + len(contents.safetensors(n_numbers=2))
    assert checkpoint.tokenizer_folder == base
    assert config_digest(checkpoint) == config_digest(checkpoint.base)


def test_subfolders_with_adapters_are_the_sequence_by_step(make, make_adapter) -> None:
    make("base")
    for step in (100, 20, 3):
        make_adapter(f"runs/checkpoint-{step}", "../../base")
    make("runs/checkpoint-7")
    (sequence,) = resolve(["runs"])
    found = [(checkpoint.step, checkpoint.weights_format) for checkpoint in sequence.checkpoints]
    assert found == [(3, "lora"), (7, "safetensors"), (20, "lora"), (100, "lora")]


def test_a_trainers_folder_is_its_last_adapter_unless_steps_are_chosen(make, make_adapter) -> None:
    make("base")
    make_adapter("out", "../base")
    make_adapter("out/checkpoint-5", "../../base")
    assert only("out").revision == "out"
    assert only("out", steps="5").revision == "checkpoint-5"


@pytest.mark.parametrize("base", ["../base", "base", "./base", "~/base"])
def test_a_path_is_taken_from_the_adapter_or_from_here(make, make_adapter, monkeypatch, base: str) -> None:
    folder = make("base")
    monkeypatch.setenv("HOME", str(folder.parent))
    make_adapter("lora", base)
    found = only().base
    assert found is not None
    assert found.folder == folder


def test_what_lies_beside_the_adapter_wins_over_what_lies_here(make, make_adapter) -> None:
    make("base")
    inner = make("deep/base")
    make_adapter("deep/lora", "../base")
    make_adapter("deep/other", "base")
    found = only("deep/lora").base
    assert found is not None
    assert found.folder == inner
    found = only("deep/other").base
    assert found is not None
    assert found.folder == Path("base").absolute()


def test_a_base_named_by_its_step_belongs_to_its_sequence(make, make_adapter) -> None:
    make("main/step5")
    make_adapter("lora", "../main/step5")
    base = only().whole
    assert (base.label, base.step) == ("main@step5", 5)


def test_the_adapters_own_tokenizer_wins(make, make_adapter, contents) -> None:
    make("base")
    folder = make_adapter("lora", "../base")
    for name, text in contents.tokenizer.items():
        (folder / name).write_text(text)
    assert only().tokenizer_folder == folder


def test_no_tokenizer_in_either_is_an_error_only_where_one_is_needed(make, make_adapter) -> None:
    make("base", tokenizer=False)
    make_adapter("lora", "../base")
    assert refusal().problems[0].what == "there is no tokenizer in the checkpoint, nor beside it"
    assert only(needs_tokenizer=False).tokenizer_folder is None


# Refusals


@pytest.mark.parametrize("base", ["../gone", "/no/such/base", "gone", "~no-such-user-at-all/base"])
def test_a_base_that_is_not_there_is_one_error_for_all_adapters(make_adapter, base: str) -> None:
    for step in (1, 2):
        make_adapter(f"runs/checkpoint-{step}", base)
    (problem,) = refusal("runs").problems
    assert problem.what == f"the adapter's base model `{base}` cannot be used: there is no such folder"
    assert problem.where.count("runs/checkpoint-") == 2
    assert "put the base model there, or write its hub id or its folder" in problem.fix
    assert "with --offline, a hub id is found in the local cache alone" in problem.fix


@pytest.mark.parametrize("base", [None, "", "  ", 7, ["../base"]])
def test_settings_that_name_no_base_say_so(make_adapter, base: object) -> None:
    make_adapter("lora", base)
    (problem,) = refusal().problems
    assert problem.what == "adapter_config.json names no base model"
    assert "base_model_name_or_path" in problem.fix


def test_an_adapter_on_an_adapter_is_refused(make, make_adapter) -> None:
    make("base")
    make_adapter("first", "../base")
    make_adapter("lora", "../first")
    assert "the base model of the adapter, first@first, is itself an adapter" in str(refusal())


def test_a_base_that_cannot_be_measured_is_told_as_the_adapters(make, make_adapter, contents) -> None:
    make("base", contents.files(config={"is_encoder_decoder": True}))
    folder = make_adapter("lora", "../base")
    (problem,) = refusal().problems
    assert problem.what.startswith(
        "the adapter's base model `../base` cannot be used: GPTNeoXForCausalLM is an"
    )
    assert problem.where == str(folder)


def test_a_pickled_base_needs_permission(make, make_adapter, contents) -> None:
    files = contents.files()
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    make("base", files)
    make_adapter("lora", "../base")
    assert isinstance(refusal(), SafetyError)
    assert only(allow_pickle=True).whole.weights_format == "pickle"


def test_without_peft_one_sentence_names_the_extra(make, make_adapter, monkeypatch) -> None:
    genuine = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else genuine(name))
    make("base")
    make_adapter("lora", "../base")
    with pytest.raises(CheckpointError) as caught:
        refuse_adapter(only())
    (problem,) = caught.value.problems
    assert problem.what == (
        "this is a LoRA adapter, and peft, which merges it into its base model, is not installed"
    )
    assert problem.fix.startswith("pip install 'memprobe-lm[lora]'")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"peft_type": None}, "the adapter is of type unknown, and only LoRA is merged"),
        ({"peft_type": "PREFIX_TUNING"}, "the adapter is of type PREFIX_TUNING, and only LoRA is merged"),
        (
            {"task_type": "SEQ_CLS"},
            "the adapter is for SEQ_CLS, and only causal language models can be measured",
        ),
    ],
)
def test_an_adapter_of_another_kind_gets_one_sentence(make, make_adapter, settings, what: str) -> None:
    make("base")
    make_adapter("lora", "../base", **settings)
    with pytest.raises(CheckpointError) as caught:
        refuse_adapter(only())
    assert [problem.what for problem in caught.value.problems] == [what]


def test_settings_that_are_no_object_are_found_before_any_work(make, contents) -> None:
    make("lora", adapter_files(contents, "../base") | {"adapter_config.json": b"[]"})
    assert refusal().problems[0].what == "adapter_config.json is not a JSON object"


def test_checkpoints_that_are_no_adapters_pass(make) -> None:
    make("m")
    refuse_adapter(only("m"))


# Digests


def test_the_digest_is_of_adapter_settings_and_base(make, make_adapter) -> None:
    make("base", fill=1)
    make("other", fill=2)
    make_adapter("lora", "../base")
    digests = {
        "as it is": weights_digest(only()),
        "other weights": weights_digest(only(str(make_adapter("a", "../base", 9)))),
        "other settings": weights_digest(only(str(make_adapter("b", "../base", r=16)))),
        "other base": weights_digest(only(str(make_adapter("c", "../other")))),
        "the base alone": weights_digest(only("base")),
    }
    assert len(set(digests.values())) == len(digests)


def test_the_digest_does_not_depend_on_where_the_base_lay(make, make_adapter) -> None:
    make("base")
    make("elsewhere/base")
    make_adapter("lora", "../base", target_modules=["a", "b"], peft_version="0.17.0")
    # Target modules are written from a set, in any order.
    make_adapter("moved", "../elsewhere/base", target_modules=["b", "a"], inference_mode=True)
    assert weights_digest(only("lora")) == weights_digest(only("moved"))


# The hub


def test_offline_a_base_that_is_not_cached_is_refused_for_safety(hub, make_adapter) -> None:
    folder = make_adapter("lora", "org/base")
    error = refusal(offline=True)
    assert isinstance(error, SafetyError)
    (problem,) = error.problems
    assert problem.what.startswith(
        "the adapter's base model `org/base` cannot be used: org/base is not whole"
    )
    assert problem.where == str(folder)
    assert "memprobe fetch" in problem.fix
