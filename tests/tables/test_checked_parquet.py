"""Every byte of a checked file counts; other readers see Parquet; bytes depend on nothing but the rows."""

import random
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.tables import checked_parquet
from memprobe.tables.checked_parquet import KEY, AlteredFileError, check, read, to_bytes

FRAME = pl.DataFrame(
    {
        "item_id": ["a", "b", "ü"],
        "x": [0.1, None, -3.0],
        "tokens": [[1, 2], [], None],
        "hit": [True, False, None],
    }
)


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "t.parquet"
    path.write_bytes(to_bytes(FRAME, {"unit": "u"})[0])
    return path


def test_a_file_gives_back_its_rows_its_digest_and_what_it_is_about(file) -> None:
    found = read(file)
    assert_frame_equal(found.frame, FRAME)
    assert found.about["unit"] == "u"
    assert found.digest == found.about[KEY] == check(file)
    # Any other reader sees an ordinary file.
    assert_frame_equal(pl.read_parquet(file), FRAME)


def test_the_digest_is_that_of_the_file_with_zeros_in_its_place(file) -> None:
    import hashlib

    content, digest = file.read_bytes(), read(file).digest
    assert content.count(digest.encode()) == 1
    assert hashlib.sha256(content.replace(digest.encode(), b"0" * 64)).hexdigest() == digest


@pytest.mark.parametrize("look", [read, check])
def test_a_single_bit_anywhere_is_seen(file, look, monkeypatch) -> None:
    monkeypatch.setattr(checked_parquet, "_CHUNK_BYTES", 100)
    content, rng = file.read_bytes(), random.Random(17)
    places = rng.sample(range(8 * len(content)), 300)
    # All of the digest, and the end of the file, which says where all else is.
    start = content.index(read(file).digest.encode()) * 8
    places += [*range(start, start + 64 * 8, 5), *range(8 * (len(content) - 12), 8 * len(content))]
    for place in places:
        altered = bytearray(content)
        altered[place // 8] ^= 1 << place % 8
        file.write_bytes(altered)
        monkeypatch.setattr(checked_parquet, "_SEEN", {})
        with pytest.raises(AlteredFileError):
            look(file)


@pytest.mark.parametrize("look", [read, check])
@pytest.mark.parametrize("n_bytes", [0, 1, 7, 8, 12, 100, -1, -9])
def test_a_file_that_was_cut_is_refused(file, look, n_bytes) -> None:
    file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(AlteredFileError, match="it is empty" if n_bytes == 0 else "not as Parquet does"):
        look(file)


@pytest.mark.parametrize("look", [read, check])
def test_a_file_without_a_digest_is_refused(file, look) -> None:
    FRAME.write_parquet(file)
    with pytest.raises(AlteredFileError, match="it carries no checksum"):
        look(file)


def test_a_mark_among_the_values_is_not_taken_for_the_digest(file) -> None:
    mark = (checked_parquet._MARK + b"1" * 64).decode("latin-1")
    frame = pl.DataFrame({"x": [mark], mark: ["y"]})
    file.write_bytes(to_bytes(frame)[0])
    assert_frame_equal(read(file).frame, frame)


def test_what_was_seen_to_be_right_is_looked_at_again_once_it_changed(file) -> None:
    check(file)
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    with pytest.raises(AlteredFileError, match="its checksum is wrong"):
        check(file)


def test_no_text_of_a_library_reaches_the_user(file, capfd) -> None:
    """Polars panics on some files and prints it: none of them gets so far."""
    content = file.read_bytes()
    for place in range(4, len(content)):
        altered = bytearray(content)
        altered[place] ^= 0xFF
        file.write_bytes(altered)
        with pytest.raises(AlteredFileError):
            read(file)
    assert capfd.readouterr() == ("", "")


_WRITE = """
import sys, polars as pl
from memprobe.tables.checked_parquet import to_bytes
rows = pl.DataFrame({"item_id": [f"i{n}" for n in range(2000)], "x": [n / 7 for n in range(2000)]})
sys.stdout.buffer.write(to_bytes(rows, {name: name for name in "abcdefgh"})[0])
"""


def test_two_processes_write_the_same_bytes() -> None:
    one, two = (
        subprocess.run([sys.executable, "-c", _WRITE], capture_output=True, check=True).stdout
        for _ in range(2)
    )
    assert one == two
    assert one.endswith(b"PAR1")
