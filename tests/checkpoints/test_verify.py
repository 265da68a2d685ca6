"""What is wrong with a sequence: each fault planted once, and none found where there is none."""

import json
import os

import pytest

from memprobe.checkpoints import digest as digest_module
from memprobe.checkpoints.survey import survey
from memprobe.checkpoints.verify import MEANS, refuse, verify
from memprobe.errors import CheckpointError, SafetyError


def found(spec: str = "main", *, one_tokenizer: bool = False, **options):
    (surveyed,) = survey([spec], **options)
    return verify(surveyed, one_tokenizer=one_tokenizer)


def told(*args, **options) -> list[tuple[str, tuple[int, ...], bool]]:
    return [(each.kind, each.steps, each.stops) for each in found(*args, **options)]


@pytest.fixture
def sequence(make):
    """Steps 0, 10, 20, 30, 40, each with its own weights, and nothing wrong."""
    for step in (0, 10, 20, 30, 40):
        make(f"main/step{step}", fill=step)
    return make


def test_a_sound_sequence_has_no_findings(sequence) -> None:
    assert found() == ()
    refuse(found())


def test_one_checkpoint_alone_has_no_findings(make) -> None:
    make("gpt")
    assert found("gpt") == ()


def test_steps_with_the_same_weights_are_named_together(sequence, make) -> None:
    make("main/step50", fill=20)
    make("main/step60", fill=20)
    make("main/step70", fill=0)
    assert told() == [("same weights", (0, 70), True), ("same weights", (20, 50, 60), True)]
    assert "by SHA-256" in found()[0].what


def test_names_of_files_do_not_make_weights_differ_from_step_to_step(make, contents) -> None:
    # The same bytes under the same names; another config, which is no weight.
    make("main/step1", contents.files(config={"hidden_act": "gelu"}))
    make("main/step2", contents.files(config={"hidden_act": "relu"}))
    assert [kind for kind, _, _ in told()] == ["same weights", "config"]


def test_a_gap_is_named_with_its_steps(sequence, make) -> None:
    for step in (70, 80, 100):
        make(f"main/step{step}", fill=step)
    findings = found()
    assert [(each.kind, each.steps, each.revisions, each.stops) for each in findings] == [
        ("gap", (50, 60), (), False),
        ("gap", (90,), (), False),
    ]
    assert findings[0].what == "2 steps of a regular schedule missing after step 40"
    assert "instantaneous effects are biased down" in findings[0].means
    refuse(findings)


def test_a_gap_is_one_of_what_was_chosen(sequence) -> None:
    assert told(steps="0,10,20,40") == []


def test_missing_shards_and_cut_files_are_told_with_their_reasons(sequence, make, contents) -> None:
    make("main/step50", contents.files() | {"model.safetensors": contents.safetensors(50)[:-5]})
    index = b'{"weight_map": {"a": "a.safetensors"}}'
    files = contents.files() | {"model.safetensors.index.json": index}
    files.pop("model.safetensors")
    make("main/step60", files)
    make("main/step70", files)
    findings = found()
    assert [(each.kind, each.steps) for each in findings] == [("unloadable", (50,)), ("unloadable", (60, 70))]
    assert findings[0].what.startswith("a weight file is cut short or corrupt")
    assert findings[1].what == "1 of 1 weight shards missing: a.safetensors"
    with pytest.raises(CheckpointError, match="2 findings that a run, or a run over time, refuses"):
        refuse(findings)


def test_a_lacking_permission_alone_is_a_matter_of_safety(sequence, make, contents) -> None:
    files = contents.files(50)
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    make("main/step50", files)
    with pytest.raises(SafetyError):
        refuse(found())
    make("main/step60", fill=0)
    with pytest.raises(CheckpointError):
        refuse(found())
    assert told(allow_pickle=True)[0][0] == "same weights"


@pytest.mark.parametrize(
    ("total", "names", "whats"),
    [
        # Two shards with one tensor of six float32 numbers each: 48 bytes.
        (48, ("a", "b"), []),
        (None, ("a", "b"), []),
        (49, ("a", "b"), ["the index says 49 bytes and the shards hold 48"]),
        (48, ("a", "b", "c"), ["the index names 3 tensors and the shards hold 2"]),
    ],
)
def test_an_index_is_compared_with_its_shards(make, contents, total, names, whats) -> None:
    index = {
        "metadata": {"total_size": total},
        "weight_map": {n: f"{min(n, 'b')}.safetensors" for n in names},
    }
    files = contents.files() | {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "a.safetensors": contents.safetensors(1),
        "b.safetensors": contents.safetensors(2),
    }
    files.pop("model.safetensors")
    make("gpt", files)
    findings = found("gpt")
    assert [each.what for each in findings] == whats
    assert not any(each.stops for each in findings)


def test_a_tokenizer_that_differs_stops_a_run_unless_one_serves_all(sequence) -> None:
    other = '{"model": {"type": "WordLevel", "vocab": {"b": 0}, "unk_token": "b"}}'
    (sequence("main/step50", fill=50) / "tokenizer.json").write_text(other)
    assert told() == [("tokenizer", (50,), True)]
    assert told(one_tokenizer=True) == []


def test_a_tokenizer_that_some_lack_stops_a_run_and_one_that_all_lack_does_not(make) -> None:
    for step in (0, 10, 20):
        make(f"main/step{step}", fill=step, tokenizer=False)
    assert told() == []
    make("main/step30", fill=30)
    assert told() == [("tokenizer", (0, 10, 20), True)]
    assert told(one_tokenizer=True) == []
    # What else is wrong with them is not hidden by it.
    make("main/step40", fill=20, tokenizer=False)
    assert [kind for kind, _, _ in told()] == ["same weights", "tokenizer"]


def test_a_config_that_differs_names_the_settings(make, contents) -> None:
    for step in (0, 10, 20):
        make(f"main/step{step}", fill=step)
    other = {"rope_theta": 5, "layers": 2, "transformers_version": "9", "dtype": "float16"}
    make("main/step30", fill=30, config=other)
    (finding,) = found()
    assert (finding.kind, finding.steps, finding.stops) == ("config", (30,), False)
    assert finding.what == "the settings in config.json differ: layers, rope_theta"


def test_a_dtype_that_differs_is_named_beside_the_usual_one(sequence, contents) -> None:
    weights = contents.safetensors(7, dtype="BF16")
    sequence("main/step50", contents.files() | {"model.safetensors": weights})
    (finding,) = found()
    assert (finding.kind, finding.steps, finding.stops) == ("dtype", (50,), False)
    assert finding.what == "the stored dtype differs: bfloat16, elsewhere float32"


def test_two_checkpoints_with_one_step_stop_a_run(sequence) -> None:
    sequence("main/step_10", fill=99)
    (finding,) = found()
    assert (finding.kind, finding.steps, finding.stops) == ("same step", (10,), True)
    assert sorted(finding.revisions) == ["step10", "step_10"]


def test_adapters_on_two_bases_are_told(make, contents) -> None:
    for name, fill in (("one", 1), ("two", 2)):
        make(name, fill=fill)
    for step, base in ((1, "one"), (2, "one"), (3, "two")):
        settings = {"peft_type": "LORA", "base_model_name_or_path": f"../../{base}"}
        adapter = {
            "adapter_config.json": json.dumps(settings).encode(),
            "adapter_model.safetensors": contents.safetensors(step),
        }
        make(f"lora/checkpoint-{step}", adapter)
    (finding,) = found("lora")
    assert (finding.kind, finding.steps) == ("base", (3,))
    assert finding.what == "the base model differs: two@two, elsewhere one@one"


def test_all_faults_of_a_sequence_are_found_at_once(sequence, make, contents) -> None:
    make("main/step60", fill=10)
    make("main/step70", contents.files(70) | {"model.safetensors": b""})
    assert [kind for kind, _, _ in told()] == ["unloadable", "gap", "same weights"]


def test_each_checkpoint_that_was_hashed_is_heard_once(sequence) -> None:
    heard = []
    (surveyed,) = survey(["main"])
    verify(surveyed, on_digest=lambda checkpoint: heard.append(checkpoint.step))
    assert heard == [0, 10, 20, 30, 40]


def test_a_second_look_reads_no_large_file_again(make, contents, monkeypatch) -> None:
    monkeypatch.setattr(digest_module, "_CACHED_FROM_BYTES", 1)
    for step in (0, 10):
        file = make(f"main/step{step}", fill=step) / "model.safetensors"
        os.utime(file, ns=(0, 0))
    monkeypatch.setattr(digest_module, "_SETTLED_NS", -1_000_000_000)
    assert found() == ()
    monkeypatch.setattr(digest_module, "_sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert found() == ()


def test_what_each_kind_means_is_one_sentence_without_an_end() -> None:
    assert all(text and text[0].islower() and not text.endswith(".") for text in MEANS.values())
    assert set(found_kinds()) == set(MEANS)


def found_kinds() -> tuple[str, ...]:
    from typing import get_args

    from memprobe.checkpoints.verify import Kind

    return get_args(Kind)
