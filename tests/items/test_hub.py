"""`hf:` specs: local folders for real, the hub only refused; nothing here may reach a network."""

import json
import socket
from pathlib import Path

import polars as pl
import pytest

from memprobe.errors import ItemError, SafetyError
from memprobe.items import read_items
from memprobe.items.hub import parse_hf_spec


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        pytest.fail("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "json"  # also the name of a reader of `datasets`
    data.mkdir()
    rows = [{"item_id": f"i{n}", "text": f"text {n}", "exposures": n, "input_ids": None} for n in range(3)]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


@pytest.mark.parametrize(
    ("spec", "name", "config", "split"),
    [
        ("hf:org/name:train", "org/name", None, "train"),
        ("hf:org/name:en:test", "org/name", "en", "test"),
        ("hf:./data:train[:100]", "./data", None, "train[:100]"),
        ("hf:a:b:train[10:20]", "a", "b", "train[10:20]"),
    ],
)
def test_the_parts_of_a_spec(spec: str, name: str, config: str | None, split: str) -> None:
    parsed = parse_hf_spec(spec)
    assert (parsed.name, parsed.config, parsed.split) == (name, config, split)


@pytest.mark.parametrize("spec", ["hf:org/name", "hf:", "hf:a::train", "hf:a:b:c:d", "hf:a:"])
def test_a_spec_with_missing_or_too_many_parts_is_told(spec: str) -> None:
    with pytest.raises(ItemError, match="hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT"):
        parse_hf_spec(spec)


def test_a_split_left_out_is_suggested() -> None:
    with pytest.raises(ItemError, match="as in hf:org/name:train"):
        parse_hf_spec("hf:org/name")


@pytest.mark.parametrize("offline", [True, False])
def test_a_local_folder_is_read_with_row_numbers(folder: Path, offline: bool) -> None:
    spec = f"hf:{folder}:train"
    items = read_items([spec], offline=offline)
    assert items.table["item_id"].to_list() == ["i0", "i1", "i2"]
    assert items.table["exposures"].to_list() == [0, 1, 2]
    assert items.table["source_line"].to_list() == [1, 2, 3]
    assert items.table["source_file"].unique().to_list() == [spec]
    assert items.files[0].n_items == 3


def test_a_folder_with_the_name_of_a_reader_is_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert read_items(["hf:json:train[1:]"], offline=True).table["item_id"].to_list() == ["i1", "i2"]


def test_the_limit_and_the_digest_cover_the_rows_read(folder: Path) -> None:
    spec = f"hf:{folder}:train"
    one = read_items([spec], limit=1)
    assert one.table.height == 1
    assert one.files[0].sha256 == read_items([spec], limit=1).files[0].sha256
    assert one.files[0].sha256 != read_items([spec]).files[0].sha256


def test_changed_files_are_read_anew(folder: Path) -> None:
    spec = f"hf:{folder}:train"
    before = read_items([spec])
    (folder / "train.jsonl").write_text('{"item_id": "x", "text": "y"}\n')
    assert read_items([spec]).table["item_id"].to_list() == ["x"]
    assert before.digest != read_items([spec]).digest


def test_token_ids_of_a_local_folder(tmp_path: Path) -> None:
    pl.DataFrame({"input_ids": [[1, 2], [3]]}).write_parquet(tmp_path / "test.parquet")
    assert read_items([f"hf:{tmp_path}:test"]).table["input_ids"].to_list() == [[1, 2], [3]]


def test_bad_rows_are_named_by_row(folder: Path, message) -> None:
    (folder / "train.jsonl").write_text('{"text": "a"}\n{"text": ""}\n')
    assert "empty\n  where: hf:json:train, row 2, column text" in message(f"hf:{folder}:train")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param("hf:{}:nosuchsplit", "nosuchsplit", id="split"),
        pytest.param("hf:{}:noconfig:train", "noconfig", id="config"),
        pytest.param("hf:{}/absent/folder:train", "absent", id="folder"),
    ],
)
def test_a_failed_lookup_is_an_item_error(folder: Path, message, spec: str, said: str) -> None:
    told = message(spec.format(folder))
    assert told.startswith("cannot be loaded: ")
    assert said in told
    assert "fix:   check the name, the configuration and the split" in told


def test_a_file_that_datasets_cannot_parse_is_an_item_error(folder: Path, message) -> None:
    (folder / "train.jsonl").write_text("{ no json\n")
    assert message(f"hf:{folder}:train").startswith("cannot be loaded: ")


def test_offline_refuses_a_hub_data_set_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    flags = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    with pytest.raises(SafetyError, match="the network is off") as caught:
        read_items(["hf:memprobe-tests/no-such-data-set:train"], offline=True)
    assert caught.value.exit_code == 5
    assert flags == (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)


def test_offline_refuses_a_local_folder_whose_card_names_remote_files(folder: Path) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files: https://example.org/a.jsonl\n---\n"
    (folder / "README.md").write_text(card)
    with pytest.raises(SafetyError, match="card names data files on the network"):
        read_items([f"hf:{folder}:train"], offline=True)


def test_a_link_in_a_cards_text_is_harmless(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\nsee https://example.org\n")
    assert read_items([f"hf:{folder}:train"], offline=True).table.height == 3
