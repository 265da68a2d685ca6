"""Identity of a checkpoint: SHA-256 of its weights, config and tokenizer, independent of the path.

Digests of large files are cached by path, size, times and inode, in memory and in
`~/.cache/memprobe/digests.json`; a cache that cannot be read or written only costs time.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memprobe.checkpoints.cache import read_cache, write_cache
from memprobe.checkpoints.contents import ADAPTER, CONFIG, TOKENIZER_CONFIG, VOCABULARIES, list_folder
from memprobe.checkpoints.identity import Checkpoint
from memprobe.errors import CheckpointError

_CACHE = "digests.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_READ_BYTES = 4 * 2**20
# Below this size a file is hashed faster than the cache is written.
_CACHED_FROM_BYTES = 8 * 2**20
# A file that changed this recently may change again within one tick of its clock.
_SETTLED_NS = 2_000_000_000
_N_THREADS = 2

_CONFIG_VOLATILE = frozenset({"transformers_version", "_name_or_path"})
# Location of the base and writer of the adapter; the base's weights are in the digest themselves.
_ADAPTER_VOLATILE = frozenset(
    {"base_model_name_or_path", "revision", "peft_version", "inference_mode", "auto_mapping"}
)
# Keys about saving and loading, not about the tokenizer.
_TOKENIZER_VOLATILE = frozenset(
    {
        "transformers_version",
        "name_or_path",
        "_name_or_path",
        "is_local",
        "local_files_only",
        "tokenizer_file",
    }
)
_TOKENIZER_JSON = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")
_TOKENIZER_RAW = (*VOCABULARIES, "merges.txt", "chat_template.jinja")

_Stamp = tuple[int, int, int, int]
_lock = threading.Lock()
_remembered: dict[str, tuple[_Stamp, str]] = {}


def weights_digest(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 (hex) over the names and contents of the weight files.

    The same files have the same digest in any folder. Files that the hub's cache names by their SHA-256 are
    not read; the others are read two at a time. For weights that are not on this machine, the digests listed
    by the hub are used. The digest of a LoRA adapter also covers its settings and the weights of its base.
    For a checkpoint that cannot be read at all, the name is hashed.

    Raises:
        CheckpointError: A file cannot be read.
        ValueError: The checkpoint is neither on this machine nor listed by the hub.
    """
    if checkpoint.problems:
        return _combined({checkpoint.label: "unloadable"})
    named = dict(zip(checkpoint.weight_files, _weight_digests(checkpoint), strict=True))
    if checkpoint.base is not None:
        settings = list_folder(checkpoint.small_files).json(ADAPTER)
        for name in ("target_modules", "exclude_modules"):
            if isinstance(modules := settings.get(name), list):
                # PEFT writes this list from a set, so its order differs from save to save.
                settings[name] = sorted(map(str, modules))
        named[ADAPTER] = hashlib.sha256(_canonical(settings, _ADAPTER_VOLATILE)).hexdigest()
        named["base"] = weights_digest(checkpoint.base)
    return _combined(named)


def _weight_digests(checkpoint: Checkpoint) -> Sequence[str]:
    from concurrent.futures import ThreadPoolExecutor

    if checkpoint.folder is None:
        if checkpoint.weight_sha256 is None:
            raise ValueError(f"expected a fetched or listed checkpoint, got {checkpoint.label}")
        return checkpoint.weight_sha256
    paths = [checkpoint.folder / name for name in checkpoint.weight_files]
    with ThreadPoolExecutor(_N_THREADS) as pool:
        return list(pool.map(file_digest, paths))


def config_digest(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 (hex) of config.json, ignoring key order and the keys that name the writer.

    For a LoRA adapter, the base's config.json is hashed.

    Raises:
        CheckpointError: The file cannot be read.
        ValueError: The checkpoint is neither on this machine nor listed by the hub.
    """
    if checkpoint.problems:
        return _combined({checkpoint.label: "unloadable"})
    folder = checkpoint.whole.small_files
    try:
        config = list_folder(folder).json(CONFIG)
    except CheckpointError:
        # A file that is not a JSON object is hashed as bytes; loading refuses it.
        return file_digest(folder / CONFIG)
    return hashlib.sha256(_canonical(config, _CONFIG_VOLATILE)).hexdigest()


def tokenizer_digest(folder: Path) -> str:
    """Return the SHA-256 (hex) over the names and contents of the tokenizer's files in `folder`.

    The chat template is included; versions and paths written when saving are not.

    Raises:
        CheckpointError: A file cannot be read, or there is no tokenizer.
    """
    listing = list_folder(folder)
    raw = [name for name in (*_TOKENIZER_RAW, *listing.ending(".tiktoken")) if listing.has(name)]
    digests = {name: file_digest(folder / name) for name in raw}
    for name in filter(listing.has, _TOKENIZER_JSON):
        digests[name] = hashlib.sha256(_canonical(listing.json(name), _TOKENIZER_VOLATILE)).hexdigest()
    if not digests:
        raise CheckpointError("the folder has no tokenizer", where=str(folder))
    return _combined(digests)


def _canonical(value: Mapping[str, Any], volatile: frozenset[str]) -> bytes:
    kept = {key: item for key, item in value.items() if key not in volatile}
    return json.dumps(kept, sort_keys=True, ensure_ascii=True).encode()


def _combined(digests: Mapping[str, str]) -> str:
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, from its name if the hub's cache names it by its SHA-256.

    Raises:
        CheckpointError: The file cannot be read.
    """
    named = _digest_in_name(path)
    if named is not None:
        return named
    try:
        stamp = _stamp(path)
        known = _recall(path, stamp)
        if known is not None:
            return known
        digest = _sha256(path)
        unchanged = _stamp(path) == stamp
    except OSError as error:
        raise CheckpointError(f"a file cannot be read: {error.strerror}", where=str(path)) from error
    if unchanged and stamp[0] >= _CACHED_FROM_BYTES and max(stamp[1:3]) < time.time_ns() - _SETTLED_NS:
        _remember(path, stamp, digest)
    return digest


def _digest_in_name(path: Path) -> str | None:
    """Return the SHA-256 in a link's target in the hub's cache (snapshots/x/f -> blobs/SHA256), or None."""
    if not path.is_symlink():
        return None
    blob = path.readlink()
    is_blob = blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) and path.exists()
    return blob.name if is_blob else None


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while n_bytes := file.readinto(buffer):
            hashed.update(buffer[:n_bytes])
    return hashed.hexdigest()


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    # The inode's change time also reveals contents replaced under an old modification time.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _recall(path: Path, stamp: _Stamp) -> str | None:
    if stamp[0] < _CACHED_FROM_BYTES:
        return None
    key = str(path.absolute())
    with _lock:
        if key not in _remembered:
            _remembered.update(
                {name: entry for name, entry in _read_cache().items() if name not in _remembered}
            )
        known = _remembered.get(key)
    return known[1] if known and known[0] == stamp else None


def _remember(path: Path, stamp: _Stamp, digest: str) -> None:
    with _lock:
        # Other processes write too; the entries that they added are kept.
        merged = {**_remembered, **_read_cache(), str(path.absolute()): (stamp, digest)}
        _remembered.update(merged)
        _write_cache(merged)


def _read_cache() -> dict[str, tuple[_Stamp, str]]:
    """Return the digests cached on disk; invalid entries are left out."""
    parsed = ((name, _parsed(entry)) for name, entry in read_cache(_CACHE).items())
    return {name: entry for name, entry in parsed if entry is not None}


def _parsed(entry: object) -> tuple[_Stamp, str] | None:
    match entry:
        case [int(size), int(mtime), int(ctime), int(inode), str(digest)] if _SHA256.fullmatch(digest):
            return (size, mtime, ctime, inode), digest
    return None


def _write_cache(entries: Mapping[str, tuple[_Stamp, str]]) -> None:
    write_cache(_CACHE, {name: [*stamp, digest] for name, (stamp, digest) in sorted(entries.items())})
