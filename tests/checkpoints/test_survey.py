"""Surveys of folders: every checkpoint has its row, and a bad one says why and hides none."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from memprobe.checkpoints.survey import survey
from memprobe.errors import CheckpointError


def rows_of(*specs: str, **options):
    (found,) = survey(specs, **options)
    return found.rows


def whats(*specs: str, **options) -> dict[int, list[str]]:
    return {row.step: [problem.what for problem in row.problems] for row in rows_of(*specs, **options)}


def sharded(contents, *names: str) -> dict[str, bytes]:
    index = {"metadata": {"total_size": 48}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    files = contents.files() | {"model.safetensors.index.json": json.dumps(index).encode()}
    files.pop("model.safetensors")
    return files | {name: contents.safetensors() for name in names}


def test_a_row_says_what_the_headers_say(make, contents) -> None:
    make("main/step5")
    make("main/step10", contents.files() | {"model.safetensors": contents.safetensors(dtype="BF16")})
    (found,) = survey(["main"])
    assert found.model == "main"
    assert [row.as_json() for row in found.rows] == [
        {
            "model": "main",
            "revision": f"step{step}",
            "step": step,
            "n_parameters": 6,
            "dtype": dtype,
            "n_bytes": len(contents.safetensors(dtype=kind)),
            "format": "safetensors",
            "base": None,
            "commit": None,
            "is_here": True,
            "has_tokenizer": True,
            "loadable": True,
            "problems": [],
        }
        for step, dtype, kind in ((5, "float32", "F32"), (10, "bfloat16", "BF16"))
    ]
    assert [each.step for each in found.loadable] == [5, 10]


def test_one_bad_checkpoint_does_not_hide_the_others(make, contents) -> None:
    make("main/step0")
    make("main/step1", sharded(contents, "a.safetensors"))
    make("main/step2", contents.files() | {"model.safetensors": contents.safetensors()[:-5]})
    make("main/step3", contents.files(config={"is_encoder_decoder": True}))
    make("main/step4", tokenizer=False)
    files = contents.files()
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    make("main/step5", files)
    make("main/step6", {"config.json": b"{"})
    make("main/step7", sharded(contents, "a.safetensors", "b.safetensors"))
    found = whats("main")
    assert found[0] == found[7] == []
    assert found[1] == ["1 of 2 weight shards missing: b.safetensors"]
    # Of 24 bytes of one tensor 5 are cut off.
    assert found[2] == [
        "a weight file is cut short or corrupt: its tensors should take 24 bytes and 19 are there"
    ]
    assert found[3][0].startswith("GPTNeoXForCausalLM is an encoder-decoder")
    assert found[4] == []
    assert found[5][0].startswith("the weights are a pickle file")
    assert found[6] == ["there are no weights beside config.json"]


def test_of_a_bad_checkpoint_is_shown_what_can_be_seen(make, contents) -> None:
    files = contents.files()
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    make("main/step1", files)
    make("main/step2", contents.files() | {"model.safetensors": contents.safetensors()[:-5]})
    make("main/step3", {"config.json": b"{"})
    pickled, cut, nothing = (row.as_json() for row in rows_of("main"))
    assert (pickled["format"], pickled["n_bytes"]) == ("pickle", len(contents.safetensors()))
    assert (pickled["model"], pickled["n_parameters"], pickled["dtype"]) == ("main", None, None)
    assert (cut["format"], cut["n_bytes"]) == ("safetensors", len(contents.safetensors()) - 5)
    assert (nothing["format"], nothing["n_bytes"], nothing["is_here"]) == (None, None, False)


def test_only_a_permission_is_lacking_where_pickle_is_all_that_is_wrong(make, contents) -> None:
    files = contents.files()
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    make("main/step1", files)
    make("main/step2", {"config.json": b"{}"})
    assert [row.is_safety for row in rows_of("main")] == [True, False]
    assert whats("main", allow_pickle=True)[1] == []


def test_a_pickle_that_lost_its_end_is_seen_without_reading_it(make, contents) -> None:
    folder = make("main/step1", contents.files())
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 100)
    assert whats("main", allow_pickle=True) == {1: []}
    file.write_bytes(file.read_bytes()[:-30])
    assert whats("main", allow_pickle=True) == {
        1: ["a weight file is cut short: it begins as a zip archive and has no end"]
    }
    # The pickle of old versions is no archive, and nothing can be said of it.
    file.write_bytes(b"\x80\x02old")
    assert whats("main", allow_pickle=True) == {1: []}


def test_two_checkpoints_with_one_step_are_two_rows(make) -> None:
    make("main/step5")
    make("main/step-5")
    make("main/step6")
    (found,) = survey(["main"])
    assert [(row.revision, row.step) for row in found.rows] == [
        ("step-5", 5),
        ("step5", 5),
        ("step6", 6),
    ]
    assert found.twins == {5: ["step-5", "step5"]}


def test_a_checkpoint_without_a_tokenizer_can_be_loaded_and_says_so(make, contents) -> None:
    make("main/step1")
    make("main/step2", tokenizer=False)
    make("main/step3", contents.files(tokenizer=False) | {"model.safetensors": b""})
    (found,) = survey(["main"])
    assert [row.lacks_tokenizer for row in found.rows] == [False, True, False]
    assert [row.as_json()["has_tokenizer"] for row in found.rows] == [True, False, False]
    assert found.notes == ("no tokenizer for step2: pass --tokenizer, or measure items with `input_ids`",)
    assert survey(["main"], tokenizer="main/step1")[0].notes == ()


def test_steps_choose_and_notes_are_kept(make) -> None:
    for step in (1, 2, 3):
        make(f"main/step{step}")
    make("main/final")
    (found,) = survey(["main"], steps="2..3")
    assert [row.step for row in found.rows] == [2, 3]
    assert found.notes == ("left out of main, as their names have no step: final",)


def test_a_damaged_base_is_the_adapters_damage(make, contents) -> None:
    base = make("base")
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
    adapter = {
        "adapter_config.json": json.dumps(settings).encode(),
        "adapter_model.safetensors": contents.safetensors(),
    }
    for step in (1, 2):
        make(f"lora/checkpoint-{step}", adapter)
    assert whats("lora") == {1: [], 2: []}
    (base / "model.safetensors").write_bytes(contents.safetensors()[:-1])
    assert all("cut short or corrupt" in found for (found,) in whats("lora").values())
    shutil.rmtree(base)
    about = [row.as_json() for row in rows_of("lora")]
    assert [row["format"] for row in about] == ["lora", "lora"]
    assert not any(row["loadable"] for row in about)


@pytest.mark.parametrize("spec", ["nowhere", "", "main/step1/config.json"])
def test_a_spec_that_names_nothing_is_an_error(make, spec: str) -> None:
    make("main/step1")
    with pytest.raises(CheckpointError):
        survey([spec])
    with pytest.raises(CheckpointError):
        survey([str(Path("main")), spec])
