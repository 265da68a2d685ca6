"""Files appear whole or not at all, in their place, whatever the place is."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from memprobe.errors import IncompleteRunError, InputError
from memprobe.tables import files
from memprobe.tables.files import (
    appearing,
    check_out,
    is_left_behind,
    is_mine,
    make_folder,
    temporary_for,
    write_file,
)

PATIENCE_S = 20.0


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


# Temporary files


def test_a_temporary_file_has_a_random_name_that_says_whose_it_is(tmp_path) -> None:
    one, two = temporary_for(tmp_path / "x.csv"), temporary_for(tmp_path / "x.csv")
    assert one != two
    assert one.name.startswith(".x.csv.")
    assert is_mine(one)
    assert not is_left_behind(one)
    assert not is_mine(one.with_name(one.name.replace(f".{os.getpid()}.", ".1.")))


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path, monkeypatch) -> None:
    precious, planted = tmp_path / "precious", tmp_path / ".x.csv.here.0.1.0123456789ab.tmp"
    precious.write_bytes(b"mine")
    planted.symlink_to(precious)
    monkeypatch.setattr(files, "temporary_for", lambda _: planted)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "x.csv", b"content")
    assert precious.read_bytes() == b"mine"
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "a.b.c", "x[1]*?.csv", "line\nend"])
def test_a_long_or_odd_name_is_written(tmp_path, name) -> None:
    for content in (b"one", b"two"):
        write_file(tmp_path / name, content)
    assert (tmp_path / name).read_bytes() == b"two"
    assert len(list(tmp_path.iterdir())) == 1


_HALF = """
import os, sys
from pathlib import Path
from memprobe.tables.files import appearing
with appearing(Path(sys.argv[1])) as handle:
    handle.write(b"half")
    handle.flush()
    print("half", flush=True)
    input()
"""


def half_written(file) -> subprocess.Popen:
    """Start a process that has written half of a file."""
    command = [sys.executable, "-c", _HALF, str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "half\n"
    return process


def test_what_a_killed_export_left_is_removed_by_the_next_and_a_living_one_is_left_alone(tmp_path) -> None:
    file = tmp_path / "x.csv"
    killed, living = half_written(file), half_written(file)
    (tmp_path / ".x.csv.notes.tmp").write_text("mine")
    (tmp_path / ".x.csv.h.1.2.tmp").write_text("mine too")
    other = half_written(tmp_path / "y.csv")
    for process in (killed, other):
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(list(tmp_path.iterdir())) == 5
    write_file(file, b"whole")
    names = sorted(each.name for each in tmp_path.iterdir())
    assert [name.split(".")[:3] for name in names] == [
        ["", "x", "csv"],
        ["", "x", "csv"],
        ["", "x", "csv"],
        ["", "y", "csv"],
        ["x", "csv"],
    ]
    assert any(f".{living.pid}." in name for name in names)
    living.communicate("\n", timeout=PATIENCE_S)
    assert file.read_bytes() == b"half"
    assert not list(tmp_path.glob(f".x.csv.*.{living.pid}.*"))


def test_a_half_written_file_of_another_machine_is_left_alone_for_an_hour(tmp_path) -> None:
    half = tmp_path / ".x.csv.else.where.1.7.0123456789ab.tmp"
    for age_s, there in ((3_500, True), (3_700, False)):
        half.write_text("half")
        os.utime(half, (time.time() - age_s,) * 2)
        write_file(tmp_path / "x.csv", b"whole")
        assert half.exists() == there


def test_a_file_that_may_not_appear_does_not(tmp_path) -> None:
    def lost() -> None:
        # All of it is on the disk by now.
        (temporary,) = tmp_path.iterdir()
        assert temporary.read_bytes() == b"content"
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"), appearing(tmp_path / "x", allowed=lost) as handle:
        handle.write(b"content")
    assert list(tmp_path.iterdir()) == []
