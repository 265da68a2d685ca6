"""Files appear whole or not at all, in their place, whatever the place is."""

import os
import stat

import pytest

from memprobe.errors import IncompleteRunError, InputError
from memprobe.tables import files
from memprobe.tables.files import check_out, make_folder, write_file


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path) -> None:
    file = tmp_path / "new" / "x.csv"
    write_file(file, b"one")
    write_file(file, b"two")
    assert file.read_bytes() == b"two"
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_old_file_and_no_half(tmp_path, monkeypatch) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(IncompleteRunError, match="the disk is full"):
        write_file(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_keeps_pointing_where_it_does(tmp_path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_file(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_private_file_is_its_owners_alone(tmp_path) -> None:
    write_file(tmp_path / "x", b"text", private=True)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_device_is_said_and_stays_a_device() -> None:
    with pytest.raises(IncompleteRunError, match="the disk is full"):
        write_file(files.Path("/dev/full"), b"x")
    assert files.Path("/dev/full").is_char_device()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here")  # noqa: PTH112
def test_a_place_that_takes_no_files_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="nothing can be written here"):
        write_file(files.Path("/proc/x.csv"), b"x")
    with pytest.raises(InputError, match="nothing can be written here"):
        make_folder(files.Path("/proc/x/y"))


@pytest.mark.parametrize(("place", "told"), [("", "is a folder"), ("no/x", "does not exist")])
def test_a_place_is_checked_before_any_work(place, told, tmp_path) -> None:
    with pytest.raises(InputError, match=told):
        check_out(tmp_path / place)


def test_a_file_under_a_file_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"taken")
    with pytest.raises(InputError, match="does not exist"):
        check_out(tmp_path / "file" / "x")
