"""Checkpoint folders, a hub cache and a hub, all made on the spot and all tiny."""

import fnmatch
import hashlib
import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from memprobe.checkpoints import digest as digest_module

CONFIG = {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "dtype": "float32"}
TOKENIZER = {
    "tokenizer.json": '{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}',
    "tokenizer_config.json": '{"tokenizer_class": "PreTrainedTokenizerFast"}',
}


def safetensors_bytes(fill: int = 0, *, n_numbers: int = 6, dtype: str = "F32") -> bytes:
    """One tensor `w` of shape (n_numbers,), its bytes all `fill`."""
    n_bytes = n_numbers * {"F32": 4, "BF16": 2, "BOOL": 1}[dtype]
    header = {"w": {"dtype": dtype, "shape": [n_numbers], "data_offsets": [0, n_bytes]}}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes([fill]) * n_bytes


def checkpoint_files(
    fill: int = 0, *, tokenizer: bool = True, config: dict | None = None
) -> dict[str, bytes]:
    files = {
        "config.json": json.dumps(CONFIG | (config or {})).encode(),
        "model.safetensors": safetensors_bytes(fill),
    }
    return files | ({name: text.encode() for name, text in TOKENIZER.items()} if tokenizer else {})


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def large(name: str, content: bytes) -> SimpleNamespace | None:
    """What the hub lists of a large file."""
    is_large = name.endswith((".safetensors", ".bin"))
    return SimpleNamespace(sha256=hashlib.sha256(content).hexdigest()) if is_large else None


@dataclass
class FakeHub:
    """A hub whose repositories are dicts, and the local cache that downloads fill."""

    cache: Path
    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    error: Exception | None = None
    calls: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def commit(repo: str, revision: str) -> str:
        return hashlib.sha1(f"{repo}@{revision}".encode()).hexdigest()

    def add(self, repo: str, revision: str, files: dict[str, bytes] | None = None) -> None:
        self.repos.setdefault(repo, {})[revision] = checkpoint_files() if files is None else files

    def cached(self, repo: str, revision: str, files: dict[str, bytes] | None = None) -> Path:
        """Lay files into the cache as the hub's client does: blobs, links to them, and a ref."""
        commit, root = self.commit(repo, revision), self.cache / f"models--{repo.replace('/', '--')}"
        snapshot = root / "snapshots" / commit
        for folder in (root / "blobs", snapshot, (root / "refs" / revision).parent):
            folder.mkdir(parents=True, exist_ok=True)
        (root / "refs" / revision).write_text(commit)
        for name, content in (checkpoint_files() if files is None else files).items():
            is_large = name.endswith((".safetensors", ".bin"))
            blob = (hashlib.sha256 if is_large else hashlib.sha1)(content).hexdigest()
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            if not (root / "blobs" / blob).exists():
                (root / "blobs" / blob).write_bytes(content)
            if not (snapshot / name).is_symlink():
                (snapshot / name).symlink_to(Path("../../blobs") / blob)
        return snapshot

    def list_repo_refs(self, repo: str) -> SimpleNamespace:
        self._answer(f"refs {repo}")
        named = [
            SimpleNamespace(name=name, target_commit=self.commit(repo, name)) for name in self.repos[repo]
        ]
        return SimpleNamespace(
            branches=[ref for ref in named if ref.name == "main"],
            tags=[ref for ref in named if ref.name != "main"],
        )

    def list_repo_tree(self, repo: str, *, revision: str) -> list[SimpleNamespace]:
        self._answer(f"tree {repo}@{self._name(repo, revision)}")
        files = self.repos[repo][self._name(repo, revision)]
        entries = [
            SimpleNamespace(path=name, size=len(content), lfs=large(name, content))
            for name, content in files.items()
        ]
        return [*entries, SimpleNamespace(path="onnx", tree_id="0")]

    def snapshot_download(
        self, repo: str, *, revision: str, allow_patterns: list[str], ignore_patterns
    ) -> str:
        self._answer(f"download {repo}@{revision}")
        files = self.repos[repo][self._name(repo, revision)]
        wanted = {
            name: content
            for name, content in files.items()
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            and not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns)
        }
        # Revisions share blobs, and several are downloaded at once.
        with self.lock:
            return str(self.cached(repo, self._name(repo, revision), wanted))

    def hf_hub_download(self, repo: str, name: str, *, revision: str) -> str:
        self._answer(f"download {repo}@{self._name(repo, revision)} {name}")
        content = self.repos[repo][self._name(repo, revision)].get(name)
        with self.lock:
            files = {} if content is None else {name: content}
            return str(self.cached(repo, self._name(repo, revision), files) / name)

    def parse_safetensors_file_metadata(self, repo: str, name: str, *, revision: str) -> SimpleNamespace:
        self._answer(f"header {repo}@{self._name(repo, revision)} {name}")
        return SimpleNamespace(parameter_count={"F32": 6})

    def _name(self, repo: str, revision: str) -> str:
        return next(n for n in self.repos[repo] if revision in (n, self.commit(repo, n)))

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a test touched the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _own_digest_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(digest_module, "_remembered", {})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    import huggingface_hub
    from huggingface_hub import constants

    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(fake.cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.hf_hub_download)
    return fake


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a writer of checkpoints under an empty working directory: make("main/step100", fill=1)."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def writer(name: str, files: dict[str, bytes] | None = None, **options) -> Path:
        return write(work / name, checkpoint_files(**options) if files is None else files)

    return writer


@pytest.fixture
def contents() -> SimpleNamespace:
    """The makers of file contents, for tests that change them."""
    return SimpleNamespace(
        files=checkpoint_files, safetensors=safetensors_bytes, config=CONFIG, tokenizer=TOKENIZER, write=write
    )
