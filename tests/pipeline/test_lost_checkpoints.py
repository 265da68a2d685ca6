"""Whatever keeps one checkpoint from being loaded is that checkpoint's failure, wherever it stands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def own_tokenizer(folder: Path) -> None:
    for name in TOKENIZER:
        shutil.copy(folder.parent / name, folder / name)


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def config_in_pieces(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def tokenizer_config_in_pieces(folder: Path) -> None:
    own_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text("{")


def tokenizer_in_pieces(folder: Path) -> None:
    own_tokenizer(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0"')


def index_in_pieces(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("[]")


def pointer_for_tokenizer(folder: Path) -> None:
    own_tokenizer(folder)
    (folder / "tokenizer.json").write_bytes(POINTER)


def adapter(folder: Path, settings: str) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(settings)


def adapter_without_base(folder: Path) -> None:
    adapter(folder, '{"peft_type": "LORA", "base_model_name_or_path": "./nowhere/at/all"}')


def adapter_that_names_no_base(folder: Path) -> None:
    adapter(folder, '{"peft_type": "LORA"}')


def adapter_in_pieces(folder: Path) -> None:
    adapter(folder, "{")


DAMAGES: dict[Callable[[Path], None], str] = {
    no_config: "no config.json",
    config_in_pieces: "config.json is not valid JSON",
    tokenizer_config_in_pieces: "tokenizer_config.json is not JSON",
    tokenizer_in_pieces: "tokenizer.json is not JSON",
    index_in_pieces: "model.safetensors.index.json is not a JSON object",
    pointer_for_tokenizer: "Git LFS pointer",
    adapter_without_base: "there is no such folder",
    adapter_that_names_no_base: "names no base model",
    adapter_in_pieces: "adapter_config.json is not valid JSON",
}


@pytest.fixture
def sequence(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny.model, tmp_path / "main"))


def rows(run: Path) -> pl.DataFrame:
    return pl.read_parquet(run / "tables" / "recall.parquet").sort("step", "item_id")


@pytest.fixture(scope="session")
def recalled(tiny, tmp_path_factory) -> pl.DataFrame:
    """The table of recall on the sound sequence."""
    import memprobe

    out = tmp_path_factory.mktemp("recalled") / "run"
    memprobe.run(probes=["recall"], model=tiny.model, data=tiny.items, threads=1, out=out)
    return rows(out)


@pytest.mark.parametrize(
    ("damage", "step"),
    [
        *((damage, 10) for damage in (no_config, tokenizer_in_pieces, adapter_without_base)),
        (no_config, 0),
        *(pytest.param(damage, step, marks=pytest.mark.slow) for damage in DAMAGES for step in (0, 10, 20)),
    ],
)
def test_the_others_are_scored_as_if_nothing_were_wrong(
    damage, step, cli, sequence, tiny, recalled, tmp_path
) -> None:
    damage(sequence / f"step{step}")
    ask = ("-p", "recall", "-m", sequence, "-d", tiny.items, "--threads", 1, "-o", tmp_path / "run")
    foretold = cli("run", *ask, "--dry-run")
    assert foretold.code == 0, foretold.err
    assert f"main@step{step} cannot be loaded, so a run would end with exit code 4" in foretold.err
    answer = cli("run", *ask, "--json")
    assert answer.code == 4, answer.err
    (failure,) = json.loads(answer.out)["failures"]
    assert failure["revision"] == f"step{step}"
    assert DAMAGES[damage] in failure["error"]
    assert rows(tmp_path / "run").equals(recalled.filter(pl.col("step") != step))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_ls_and_verify_say_so_beforehand(damage, cli, sequence) -> None:
    damage(sequence / "step10")
    told = json.loads(cli("checkpoints", "ls", sequence, "--json").out)["checkpoints"]
    assert [row["loadable"] for row in told] == [True, False, True]
    assert DAMAGES[damage] in told[1]["problems"][0]["what"]
    answer = cli("checkpoints", "verify", sequence, "--json")
    stopping = [each for each in json.loads(answer.out)["sequences"][0]["findings"] if each["stops"]]
    assert (answer.code, [each["revisions"] for each in stopping]) == (2, [["step10"]])


def test_a_checkpoint_that_is_lost_keeps_its_place_in_time(cli, sequence, tiny, tmp_path) -> None:
    """The base of a study over time is the first step that was asked for, or the study says otherwise."""
    no_config(sequence / "step0")
    run = tmp_path / "run"
    answer = cli("run", "-p", "retention", "-m", sequence, "-d", tiny.items, "--threads", 1, "-o", run)
    assert answer.code in (2, 4), answer.err
    if answer.code == 4:
        cut = tmp_path / "cut"
        broken = Path(shutil.copytree(tiny.model, tmp_path / "cut-main" / "main"))
        (broken / "step0" / "model.safetensors").write_bytes(b"x" * 50)
        assert (
            cli("run", "-p", "retention", "-m", broken, "-d", tiny.items, "--threads", 1, "-o", cut).code == 4
        )
        assert (run / "summary.csv").read_bytes() == (cut / "summary.csv").read_bytes()


def test_where_none_can_be_loaded_nothing_is_begun(cli, sequence, tiny, tmp_path) -> None:
    for step in (0, 10, 20):
        no_config(sequence / f"step{step}")
    (sequence / "step0" / "config.json").write_text("{")
    answer = cli("run", "-p", "recall", "-m", sequence, "-d", tiny.items, "-o", tmp_path / "run")
    assert answer.code == 2
    assert not (tmp_path / "run").exists()


def test_items_of_ids_need_no_tokenizer_that_can_be_read(cli, sequence, tmp_path) -> None:
    ids = tmp_path / "ids.jsonl"
    ids.write_text(
        "".join(json.dumps({"item_id": f"i{n}", "input_ids": [n + 1] * 20}) + "\n" for n in range(8))
    )
    tokenizer_config_in_pieces(sequence / "step10")
    answer = cli("run", "-p", "recall", "-m", sequence, "-d", ids, "--threads", 1, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
