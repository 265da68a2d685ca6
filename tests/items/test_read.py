"""Files are found, told apart by suffix, or named with what is wrong and a near miss."""

import errno
from pathlib import Path

import pytest

from memprobe.items import read_items
from memprobe.items.read import read_files


def test_a_text_file_is_one_document_named_after_its_stem(write) -> None:
    items = read_items([write("moby dick.txt", "\ufeffCall me\r\nIshmael.\rBye.\n")])
    row = items.table.row(0, named=True)
    assert (row["item_id"], row["doc_id"]) == ("moby dick", "moby dick")
    assert row["text"] == "Call me\nIshmael.\nBye.\n"
    assert row["source_line"] == 1


def test_suffixes_are_read_in_any_case(write) -> None:
    assert read_items([write("A.JSONL", [{"text": "a"}])]).table.height == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param(
            "itmes.jsonl", "no such file, did you mean `items.jsonl`?\n  where: itmes.jsonl", id="near-miss"
        ),
        pytest.param("qqq.csv", "no such file\n  where: qqq.csv", id="no-neighbour"),
        pytest.param("away/items.jsonl", "no such file; the folder", id="no-folder"),
        pytest.param(
            "sub",
            "a folder, not a file\n  where: sub\n  fix:   name a file in it, such as b.csv",
            id="folder",
        ),
        pytest.param(
            "hollow", "a folder, not a file\n  where: hollow\n  fix:   name a file", id="empty-folder"
        ),
        pytest.param("items.jsonll", "unknown suffix `.jsonll`, did you mean `.jsonl`?", id="suffix"),
        pytest.param(
            "items.xlsx", "item files end in .jsonl, .json, .csv, .parquet, .txt", id="other-suffix"
        ),
        pytest.param("items", "no suffix", id="no-suffix"),
        pytest.param("empty.jsonl", "the file is empty", id="empty"),
        pytest.param("blank.txt", "the file is empty", id="blank-text"),
        pytest.param("blank.jsonl", "has no items", id="blank-jsonl"),
        pytest.param("mark.csv", "has no items", id="mark-alone"),
        pytest.param("x" * 300 + ".csv", "cannot be read: ", id="name-too-long"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, write, message, name: str, said: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "hollow").mkdir()
    write("sub/b.csv", "text\na\n")
    for other in ("items.jsonl", "items.jsonll", "items.xlsx", "items"):
        write(other, [{"text": "a"}])
    write("empty.jsonl", "")
    write("blank.txt", "\n \n")
    write("blank.jsonl", "\n\n")
    write("mark.csv", b"\xef\xbb\xbf")
    told = message(str(tmp_path / name))
    assert said in told


def test_a_file_without_permission_is_told(write, message, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = write("a.jsonl", [{"text": "a"}])
    monkeypatch.setattr(Path, "open", refuse)  # root, who may run the tests, may read any file
    assert message(path) == "cannot be read: Permission denied\n  where: a.jsonl"


def test_all_bad_files_are_told_at_once_with_the_bad_items_of_the_others(
    tmp_path: Path, write, message
) -> None:
    told = message(
        str(tmp_path / "gone.csv"),
        write("a.json", "{"),
        write("b.txt", b"\xff"),
        write("c.jsonl", [{"text": ""}]),
    )
    for said in (
        "where: gone.csv",
        "where: a.json",
        "where: b.txt, line 1",
        "where: c.jsonl, line 1, column text",
    ):
        assert said in told


def test_a_file_given_twice_is_told(write, message) -> None:
    path = write("a.jsonl", [{"text": "a"}])
    assert message(path, path) == "the file is given twice\n  where: a.jsonl\n  fix:   name it once"


def test_the_limit_runs_over_all_files_and_leaves_later_ones_unread(write, message) -> None:
    first, second = write("a.jsonl", [{"text": "a"}, {"text": "b"}]), write("b.csv", "text\nc\nd\n")
    third = write("c.jsonl", "not json\n")
    items = read_items([first, second, third], limit=3)
    assert items.table["text"].to_list() == ["a", "b", "c"]
    assert [(file.spec, file.n_items) for file in items.files] == [(first, 2), (second, 1)]
    assert "no such file" in message(first, second, first + "x.csv", limit=1)


def test_reading_keeps_what_is_good_beside_what_is_wrong(tmp_path: Path, write) -> None:
    good = write("a.jsonl", [{"text": "a"}])
    reading = read_files([str(tmp_path / "b.csv"), good], limit=None, offline=True)
    assert [file.spec for file in reading.files] == [good]
    assert len(reading.problems) == 1
