"""Digests: against hashlib, blind to folders, awake to contents, and a cache that may fail."""

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from memprobe.checkpoints import config_digest, digest, resolve, tokenizer_digest, weights_digest
from memprobe.checkpoints.cache import cache_file
from memprobe.errors import CheckpointError

CACHED_BYTES = 8 * 2**20


def one(spec: str, **options):
    return resolve([spec], **options)[0].checkpoints[0]


def expected(files: dict[str, bytes]) -> str:
    """The definition: SHA-256 over `name NUL hex-digest newline`, names sorted."""
    lines = [f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def age(path: Path, seconds: float = 60.0) -> None:
    """Let the file have changed a while ago, as far as a modification time can say so."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


@pytest.fixture
def settled(make, monkeypatch) -> Path:
    """A checkpoint whose weight file is large enough to be remembered, and no longer fresh."""
    folder = make("big")
    (folder / "model.safetensors").write_bytes(bytes(CACHED_BYTES))
    monkeypatch.setattr(digest, "_SETTLED_NS", -10 * 10**9)
    return folder


@pytest.fixture
def n_read(monkeypatch) -> list[Path]:
    """The files whose bytes were hashed, in order."""
    hashed: list[Path] = []
    real = digest._sha256

    def counted(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(digest, "_sha256", counted)
    return hashed


def test_the_digest_is_that_of_the_definition(make, contents) -> None:
    make("gpt", fill=7)
    assert weights_digest(one("gpt")) == expected({"model.safetensors": contents.safetensors(7)})


def test_shards_are_hashed_together(make, contents) -> None:
    files = contents.files()
    files.pop("model.safetensors")
    files["model.safetensors.index.json"] = b'{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}'
    shards = {"a.safetensors": contents.safetensors(1), "b.safetensors": contents.safetensors(2)}
    make("gpt", files | shards)
    assert weights_digest(one("gpt")) == expected(shards)


def test_more_than_one_read_gives_the_same_digest(make, monkeypatch) -> None:
    content = bytes(range(251)) * 5
    (make("gpt") / "model.safetensors").write_bytes(content)
    whole = weights_digest(one("gpt"))
    monkeypatch.setattr(digest, "_READ_BYTES", 100)
    assert weights_digest(one("gpt")) == whole == expected({"model.safetensors": content})


def test_the_folder_does_not_matter_and_the_contents_do(make) -> None:
    make("a/main/step1", fill=1)
    make("b/other", fill=1)
    make("b/third", fill=2)
    assert weights_digest(one("a/main/step1")) == weights_digest(one("b/other"))
    assert weights_digest(one("b/other")) != weights_digest(one("b/third"))


def test_the_hubs_cache_names_its_blobs_so_they_are_not_read(hub, n_read, contents) -> None:
    hub.cached("org/name", "main", contents.files(3))
    checkpoint = one("org/name", offline=True)
    n_read.clear()
    assert weights_digest(checkpoint) == expected({"model.safetensors": contents.safetensors(3)})
    assert n_read == []


def test_a_cached_and_a_local_copy_have_one_digest(hub, make, contents) -> None:
    hub.cached("org/name", "main", contents.files(3))
    make("copy", fill=3)
    assert weights_digest(one("org/name", offline=True)) == weights_digest(one("copy"))


def test_a_link_to_any_other_file_is_read(make, n_read, contents) -> None:
    folder = make("gpt")
    target = folder.parent / ("a" * 64)
    (folder / "model.safetensors").rename(target)
    (folder / "model.safetensors").symlink_to(target)
    assert weights_digest(one("gpt")) == expected({"model.safetensors": contents.safetensors()})
    assert n_read[-1] == folder / "model.safetensors"


def test_a_large_file_is_read_once(settled, n_read, monkeypatch) -> None:
    checkpoint = one("big")
    n_read.clear()
    first = weights_digest(checkpoint)
    assert weights_digest(checkpoint) == first
    assert len(n_read) == 1
    # A new process knows it from disk.
    monkeypatch.setattr(digest, "_remembered", {})
    assert weights_digest(checkpoint) == first
    assert len(n_read) == 1


def test_a_file_that_changed_is_read_again(settled, n_read) -> None:
    checkpoint = one("big")
    before = weights_digest(checkpoint)
    path = settled / "model.safetensors"
    kept = path.stat()
    # The clock of the file system ticks; within one tick no time can tell.
    time.sleep(0.02)
    path.write_bytes(b"\1" * CACHED_BYTES)
    # Same path, size, inode, and the old modification time put back.
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert weights_digest(checkpoint) != before


def test_a_file_that_is_still_fresh_is_not_remembered(make, n_read) -> None:
    (make("big") / "model.safetensors").write_bytes(bytes(CACHED_BYTES))
    checkpoint = one("big")
    n_read.clear()
    weights_digest(checkpoint)
    weights_digest(checkpoint)
    assert len(n_read) == 2
    assert not cache_file("digests.json").exists()


def test_an_old_time_alone_does_not_make_a_file_settled(make) -> None:
    path = make("big") / "model.safetensors"
    path.write_bytes(bytes(CACHED_BYTES))
    age(path)
    weights_digest(one("big"))
    assert not cache_file("digests.json").exists()


def test_the_cache_lies_under_the_users_cache_folder(settled, tmp_path, monkeypatch) -> None:
    weights_digest(one("big"))
    entries = json.loads((tmp_path / "xdg/memprobe/digests.json").read_text())
    (entry,) = entries.values()
    assert list(entries) == [str(settled / "model.safetensors")]
    assert entry[0] == CACHED_BYTES
    assert entry[-1] == hashlib.sha256(bytes(CACHED_BYTES)).hexdigest()
    assert [path.name for path in (tmp_path / "xdg/memprobe").iterdir()] == ["digests.json"]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_file("digests.json") == tmp_path / ".cache/memprobe/digests.json"


def test_what_others_wrote_to_the_cache_is_kept(settled) -> None:
    path = cache_file("digests.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"/elsewhere": [1, 2, 3, 4, "0" * 64]}))
    weights_digest(one("big"))
    assert set(json.loads(path.read_text())) == {"/elsewhere", str(settled / "model.safetensors")}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"/x": 3}', b'{"/x": [1,2,3,4,"zz"]}', b"\xff", b"[" * 100_000]
)
def test_a_broken_cache_is_no_error(settled, content: bytes) -> None:
    path = cache_file("digests.json")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert weights_digest(one("big")) == expected({"model.safetensors": bytes(CACHED_BYTES)})
    assert set(json.loads(path.read_text())) == {str(settled / "model.safetensors")}


def test_a_cache_that_cannot_be_written_is_no_error(settled, tmp_path) -> None:
    (tmp_path / "xdg").write_text("a file where the folder should be")
    assert weights_digest(one("big")) == expected({"model.safetensors": bytes(CACHED_BYTES)})


def test_a_failed_write_leaves_no_temporary_file(settled, monkeypatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    weights_digest(one("big"))
    assert list(cache_file("digests.json").parent.iterdir()) == []


def test_threads_may_hash_at_once(settled, contents) -> None:
    for step in range(6):
        contents.write(Path("main") / f"step{step}", contents.files())
        Path(f"main/step{step}/model.safetensors").write_bytes(bytes([step]) * CACHED_BYTES)
    checkpoints = resolve(["main"])[0].checkpoints
    with ThreadPoolExecutor(3) as pool:
        digests = list(pool.map(weights_digest, checkpoints))
    assert digests == [expected({"model.safetensors": bytes([step]) * CACHED_BYTES}) for step in range(6)]
    assert len(json.loads(cache_file("digests.json").read_text())) == 6


def test_a_file_that_is_gone_cannot_be_hashed(make) -> None:
    folder = make("gpt")
    checkpoint = one("gpt")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="a file cannot be read: No such file") as caught:
        weights_digest(checkpoint)
    assert caught.value.problems[0].where == str(folder / "model.safetensors")


def test_a_checkpoint_that_was_not_fetched_has_no_digest(make) -> None:
    make("gpt")
    checkpoint = replace(one("gpt"), folder=None)
    for function in (weights_digest, config_digest):
        with pytest.raises(ValueError, match=r"expected a .*checkpoint.*, got gpt@gpt"):
            function(checkpoint)


def test_the_config_digest_ignores_who_wrote_it_and_in_which_order(make) -> None:
    make("a", config={"transformers_version": "4.0", "_name_or_path": "/x"})
    reordered = dict(reversed(json.loads((Path("a") / "config.json").read_text()).items()))
    make("b", config={"transformers_version": "5.0"})
    (Path("b") / "config.json").write_text(json.dumps(reordered, indent=4))
    make("c", config={"dtype": "bfloat16"})
    make("d", config={"hidden_size": 8})
    digests = [config_digest(one(name)) for name in "abcd"]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_tokenizer_digest_is_that_of_the_definition(make, contents) -> None:
    folder = make("gpt")
    canonical = json.dumps(json.loads(contents.tokenizer["tokenizer_config.json"]), sort_keys=True)
    files = {
        "tokenizer.json": contents.tokenizer["tokenizer.json"].encode(),
        "tokenizer_config.json": canonical.encode(),
    }
    assert tokenizer_digest(folder) == expected(files)


def test_the_tokenizer_digest_ignores_what_saving_writes_about_itself(make, contents) -> None:
    config = json.loads(contents.tokenizer["tokenizer_config.json"])
    before = tokenizer_digest(make("a"))
    folder = make("b")
    written = {"name_or_path": "/x", "is_local": True, "local_files_only": False, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(written))
    assert tokenizer_digest(folder) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b'{"model": {"vocab": {"a": 1, "b": 0}}}'),
        ("tokenizer_config.json", b'{"add_bos_token": true}'),
        ("special_tokens_map.json", b'{"bos_token": "a"}'),
        ("added_tokens.json", b'{"<x>": 2}'),
        ("merges.txt", b"a b"),
        ("vocab.json", b"{}"),
        ("spiece.model", b"x"),
        ("qwen.tiktoken", b"x"),
        ("chat_template.jinja", b"x"),
    ],
)
def test_each_file_of_a_tokenizer_counts(make, name: str, content: bytes) -> None:
    before = tokenizer_digest(make("a"))
    folder = make("b")
    (folder / name).write_bytes(content)
    assert tokenizer_digest(folder) != before


def test_other_files_do_not_count_for_the_tokenizer(make) -> None:
    assert tokenizer_digest(make("a", fill=1)) == tokenizer_digest(make("b", fill=2, config={"x": 1}))


def test_a_folder_without_a_tokenizer_has_no_tokenizer_digest(make) -> None:
    with pytest.raises(CheckpointError, match="the folder has no tokenizer"):
        tokenizer_digest(make("a", tokenizer=False))
