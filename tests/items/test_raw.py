"""Bytes become text, or a message with the byte and the line."""

import pytest

from memprobe.errors import ItemError
from memprobe.items.raw import RawFile, decode_utf8


def test_a_byte_order_mark_is_dropped_at_the_start_of_a_file_only() -> None:
    assert decode_utf8(b"\xef\xbb\xbfab", "f") == "ab"
    assert decode_utf8(b"\xef\xbb\xbfab", "f", first_byte=10) == "\ufeffab"


@pytest.mark.parametrize(
    ("data", "offset", "line"),
    [
        # "a", "b", newline, then the byte: offset 3 on line 2
        pytest.param(b"ab\n\xff", 3, 2, id="plain"),
        # three bytes of mark come before
        pytest.param(b"\xef\xbb\xbfab\n\xff", 6, 2, id="behind-a-mark"),
        pytest.param(b"\xff\xfea\x00", 0, 1, id="utf-16"),
    ],
)
def test_bytes_that_are_not_utf8_are_named_by_offset_and_line(data: bytes, offset: int, line: int) -> None:
    with pytest.raises(ItemError) as caught:
        decode_utf8(data, "f.txt")
    message = str(caught.value)
    assert f"0xff at offset {offset} (bytes)" in message
    assert f"f.txt, line {line}\n" in message
    assert ("UTF-16" in message) == (data[:2] == b"\xff\xfe")


def test_offset_and_line_count_from_the_start_of_the_file() -> None:
    with pytest.raises(ItemError, match=r"offset 101 \(bytes\)\n  where: f, line 8\n"):
        decode_utf8(b"a\xff", "f", first_byte=100, first_line=8)


def test_a_place_names_file_unit_and_column() -> None:
    file = RawFile("a.parquet", "", "row", (), ())
    assert file.where(3, "text") == "a.parquet, row 3, column text"
    assert file.where(3) == "a.parquet, row 3"
