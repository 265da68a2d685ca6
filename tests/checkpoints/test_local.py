"""Folders as model specs, through `resolve`: what they mean, and each refusal's words."""

import errno
from pathlib import Path

import pytest

from memprobe.checkpoints import header, resolve
from memprobe.checkpoints.local import named_path
from memprobe.errors import CheckpointError


def refused(*specs: str, **options):
    with pytest.raises(CheckpointError) as caught:
        resolve(specs, **options)
    return caught.value.problems


def steps_of(spec: str, **options) -> list[tuple[str, int]]:
    (sequence,) = resolve([spec], **options)
    return [(checkpoint.revision, checkpoint.step) for checkpoint in sequence.checkpoints]


def test_a_folder_with_a_config_is_one_checkpoint(make, contents) -> None:
    folder = make("gpt")
    (sequence,) = resolve(["gpt"])
    (checkpoint,) = sequence.checkpoints
    assert (sequence.model, sequence.notes) == ("gpt", ())
    assert (checkpoint.model, checkpoint.revision, checkpoint.step) == ("gpt", "gpt", None)
    assert checkpoint.folder == checkpoint.tokenizer_folder == folder
    assert (checkpoint.repo, checkpoint.commit) == (None, None)
    assert (checkpoint.weights_format, checkpoint.weight_files) == ("safetensors", ("model.safetensors",))
    assert checkpoint.n_bytes == len(contents.safetensors())
    assert (checkpoint.n_parameters, checkpoint.dtype) == (6, "float32")
    assert checkpoint.label == "gpt@gpt"


@pytest.mark.parametrize(
    "names",
    [
        ("step0", "step20", "step100"),
        ("checkpoint-5", "checkpoint-40", "checkpoint-100"),
        ("global_step9", "global_step10", "global_step11"),
        ("iter_0000009", "iter_0000010", "iter_0001000"),
        ("epoch_1", "epoch_2", "epoch_10"),
    ],
)
def test_subfolders_are_the_sequence_by_step(make, names: tuple[str, ...]) -> None:
    for name in reversed(names):
        make(f"main/{name}")
    found = steps_of("main")
    assert [name for name, _ in found] == list(names)
    assert [step for _, step in found] == sorted(int("".join(filter(str.isdigit, name))) for name in names)


def test_other_subfolders_are_ignored_and_those_with_a_config_named(make) -> None:
    make("main/step1")
    make("main/final")
    make("main/logs", {"log.txt": b""})
    make("main/.step7")
    make("main/step3", {"optimizer.pt": b""})
    (sequence,) = resolve(["main"])
    assert [checkpoint.revision for checkpoint in sequence.checkpoints] == ["step1"]
    assert sequence.notes == (
        "left out of main, as they have no checkpoint: step3",
        "left out of main, as their names have no step: final",
    )


def test_a_folder_that_is_both_is_itself_unless_steps_are_chosen(make) -> None:
    folder = make("main")
    for step in (2, 3, 10, 100):
        make(f"main/step{step}")
    (sequence,) = resolve(["main"])
    assert [checkpoint.revision for checkpoint in sequence.checkpoints] == ["main"]
    assert sequence.notes == (
        f"{folder} is a checkpoint and also holds 4 in its subfolders (step2, step3, step10 and 1 more); "
        "it was taken itself, and --steps takes the subfolders",
    )
    assert steps_of("main", steps="2..3") == [("step2", 2), ("step3", 3)]


def test_a_checkpoint_named_by_its_step_belongs_to_its_parent(make) -> None:
    make("main/step580")
    (sequence,) = resolve(["main/step580"])
    (checkpoint,) = sequence.checkpoints
    assert (checkpoint.model, checkpoint.revision, checkpoint.step) == ("main", "step580", 580)


@pytest.mark.parametrize("spec", [".", "../main", "./", "../main/step1/.."])
def test_relative_paths_have_the_name_of_the_folder(make, monkeypatch, spec: str) -> None:
    monkeypatch.chdir(make("main/step1").parent)
    (sequence,) = resolve([spec])
    assert (sequence.model, sequence.checkpoints[0].revision) == ("main", "step1")


def test_a_link_keeps_the_name_that_the_user_gave(make) -> None:
    Path("latest").symlink_to(make("main/step580"))
    (sequence,) = resolve(["latest"])
    assert sequence.model == "latest"


def test_a_home_folder_is_expanded(make, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(make("gpt").parent))
    assert steps_of("~/gpt") == [("gpt", None)]


def test_the_home_of_nobody_is_refused() -> None:
    (problem,) = refused("~no-such-user-at-all/x")
    assert problem.what == "there is no folder `~no-such-user-at-all/x`"
    assert problem.fix == "write the path in full"


def test_the_parents_tokenizer_serves_checkpoints_without_one(make, contents) -> None:
    parent = make("main", {name: text.encode() for name, text in contents.tokenizer.items()})
    make("main/step1", tokenizer=False)
    own = make("main/step2")
    (sequence,) = resolve(["main"])
    assert [checkpoint.tokenizer_folder for checkpoint in sequence.checkpoints] == [parent, own]


def test_no_tokenizer_is_an_error_only_where_one_is_needed(make) -> None:
    make("main/step1", tokenizer=False)
    make("main/step2", tokenizer=False)
    (problem,) = refused("main")
    assert problem.what == "there is no tokenizer in the checkpoint, nor beside it"
    assert problem.where.count("/main/step") == 2
    assert problem.fix == "pass --tokenizer DIR or --tokenizer org/name, or items with `input_ids`"
    (sequence,) = resolve(["main"], needs_tokenizer=False)
    assert sequence.checkpoints[0].tokenizer_folder is None


def test_a_corrupt_weight_file_is_no_error_yet(make, contents) -> None:
    folder = make("main/step1", contents.files() | {"model.safetensors": contents.safetensors()[:-5]})
    (sequence,) = resolve(["main"])
    assert (sequence.checkpoints[0].n_parameters, sequence.checkpoints[0].dtype) == (None, None)
    with pytest.raises(CheckpointError, match="cut short or corrupt"):
        header(folder / "model.safetensors")


def test_parameters_are_summed_over_shards_and_the_commonest_dtype_named(make, contents) -> None:
    index = b'{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}'
    files = contents.files() | {
        "model.safetensors.index.json": index,
        "a.safetensors": contents.safetensors(n_numbers=3, dtype="F32"),
        "b.safetensors": contents.safetensors(n_numbers=5, dtype="BF16"),
    }
    files.pop("model.safetensors")
    make("gpt", files)
    (checkpoint,) = resolve(["gpt"])[0].checkpoints
    assert (checkpoint.n_parameters, checkpoint.dtype) == (8, "bfloat16")


def test_pickle_has_no_header_to_count(make, contents) -> None:
    files = contents.files()
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    make("gpt", files)
    (checkpoint,) = resolve(["gpt"], allow_pickle=True)[0].checkpoints
    assert (checkpoint.weights_format, checkpoint.n_parameters, checkpoint.dtype) == ("pickle", None, None)


def test_a_missing_path_names_its_nearest_sibling(make) -> None:
    make("runs/main/step1")
    (problem,) = refused("./runs/mian")
    assert problem.what == "there is no folder `./runs/mian`, did you mean `main`?"
    assert problem.where.endswith("/runs")
    assert "pass a folder with config.json and weights" in problem.fix


def test_the_first_missing_part_of_a_long_path_is_the_one_corrected(make) -> None:
    make("runs/main/step1")
    assert (
        refused("./rnus/main/step1")[0].what == "there is no folder `./rnus/main/step1`, did you mean `runs`?"
    )


def test_a_bare_word_is_no_hub_id(make) -> None:
    (problem,) = refused("gpt2")
    assert problem.what == "there is no folder `gpt2`"
    assert problem.fix == (
        "a model of the hub is written with its organisation, as in EleutherAI/pythia-160m"
    )


def test_an_overlong_name_is_refused() -> None:
    (problem,) = refused("x" * 5000)
    assert problem.what == "the path cannot be read: File name too long"


def test_an_empty_spec_and_no_spec_are_refused() -> None:
    assert refused(" ")[0].what == "the model spec is empty"
    assert refused()[0].what == "no model was given"
    assert refused()[0].fix == "pass -m DIR or -m org/name"


def test_a_file_is_no_checkpoint(make) -> None:
    folder = make("gpt")
    (problem,) = refused("gpt/model.safetensors")
    assert problem.what == "a file was given where a checkpoint's folder is expected"
    assert problem.fix == f"pass the folder: -m {folder}"


def test_a_gguf_file_or_folder_gets_one_sentence(make) -> None:
    make("quant", {"model-Q4.gguf": b""})
    for spec in ("quant", "quant/model-Q4.gguf"):
        assert refused(spec)[0].what == "GGUF weights are not supported"


def test_weights_without_a_config_get_one_sentence(make) -> None:
    make("bare", {"model.safetensors": b""})
    make("meta", {"consolidated.safetensors": b""})
    assert refused("bare")[0].what == "there are weights and no config.json, so the architecture is unknown"
    assert refused("meta")[0].what == (
        "there is no checkpoint; consolidated.safetensors cannot be used without an index file"
    )


def test_an_empty_folder_says_what_it_has_not(make) -> None:
    make("void", {})
    (problem,) = refused("void")
    assert problem.what == "the folder has neither a config.json nor subfolders that are checkpoints"
    assert "step1000, checkpoint-1000, global_step1000, iter_0001000, epoch_3 or ckpt_003" in problem.fix


def test_step_folders_without_configs_are_counted(make) -> None:
    for step in (1, 2):
        make(f"main/global_step{step}", {"mp_rank_00_model_states.pt": b""})
    (problem,) = refused("main")
    assert problem.what == (
        "none of its 2 checkpoint subfolders (global_step1, global_step2) holds a config.json"
    )


def test_a_folder_above_the_sequence_points_into_it(make) -> None:
    folder = make("lab/main/step1").parent
    (problem,) = refused("lab")
    assert problem.what == "the folder is not a checkpoint sequence itself, but main in it is"
    assert problem.fix == f"pass -m {folder}, or name the subfolders like step1000"


def test_a_folder_of_models_is_no_sequence(make) -> None:
    make("models/a")
    make("models/b")
    assert refused("models")[0].what == "the folder is not a checkpoint sequence itself, but a, b in it are"


def test_a_folder_without_permission_says_so(make, monkeypatch) -> None:
    def denied(self: Path):
        raise PermissionError(errno.EACCES, "Permission denied")

    make("gpt")
    monkeypatch.setattr(Path, "iterdir", denied)
    assert refused("gpt")[0].what == "the folder cannot be read: Permission denied"


def test_named_paths_are_absolute(make) -> None:
    assert named_path("gpt") == Path.cwd() / "gpt"
