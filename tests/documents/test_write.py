"""Items are written whole or not at all, and read back as they were."""

import stat

import polars as pl
import pytest

from memprobe.documents import check_out, write_items
from memprobe.errors import IncompleteRunError, InputError
from memprobe.items import read_items

TEXTS = [
    "plain",
    "CR\r\nLF",
    'quote" back\\slash',
    "\ufeffmark",
    "\u2028sep",
    "e\u0301 👩\u200d🚀 \x00 \x1f end",
    "\t",
]


@pytest.mark.parametrize("name", ["o.jsonl", "o.parquet"])
def test_what_is_written_is_read_back_to_the_character(name, tmp_path) -> None:
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(len(TEXTS))],
            "prefix": TEXTS,
            "suffix": TEXTS[::-1],
            "first_step": pl.Series([None] * len(TEXTS), dtype=pl.Int64),
        }
    )
    write_items(tmp_path / name, items)
    back = read_items([str(tmp_path / name)])
    assert back.table["prefix"].to_list() == TEXTS
    assert back.table["suffix"].to_list() == TEXTS[::-1]
    # A column of nulls says that no item was trained on, so it must not get lost.
    assert "first_step" in back.given
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_file_is_as_readable_as_any_other_of_the_user(tmp_path) -> None:
    write_items(tmp_path / "o.jsonl", pl.DataFrame({"text": ["a"]}))
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(IncompleteRunError, match="the disk is full"):
        write_items(out, pl.DataFrame({"text": ["a"]}))
    assert out.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["o.jsonl"]


def test_what_cannot_be_written_is_told_before_any_work(tmp_path) -> None:
    (tmp_path / "there.jsonl").touch()
    (tmp_path / "folder.jsonl").mkdir()
    for name, told in {
        "o.txt": "items are written to .jsonl or .parquet",
        "o": "items are written to",
        "folder.jsonl": "is a folder",
        "gone/o.jsonl": "the folder to write to does not exist",
        "there.jsonl": "the file is there already",
    }.items():
        with pytest.raises(InputError, match=told):
            check_out(tmp_path / name, [], force=False)
    check_out(tmp_path / "there.jsonl", [], force=True)
    check_out(tmp_path / "new.PARQUET", [], force=False)


def test_a_source_is_never_written_over(tmp_path) -> None:
    (tmp_path / "d.jsonl").touch()
    with pytest.raises(InputError, match="overwrite their own source"):
        check_out(tmp_path / "d.jsonl", [str(tmp_path / "." / "d.jsonl")], force=True)
