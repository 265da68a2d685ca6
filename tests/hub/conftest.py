"""A stand-in of the hub on localhost: refs, lists of files with SHA-256, files by commit, over real HTTP.

Behind it: an empty cache of its own, and a tiny sequence of checkpoints.

It speaks what huggingface_hub and datasets ask of https://huggingface.co: `/api/{models,datasets}/...` and
`/resolve/`; large files are redirected to a second address, as the hub redirects to its file servers.
"""

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from memprobe.checkpoints import checkpoint_cache as cache_module
from memprobe.checkpoints import digest as digest_module

LARGE = (".safetensors", ".bin", ".parquet")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def oid(content: bytes) -> str:
    """The name that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """One repository.

    Attributes:
        refs: Branch or tag to commit.
        commits: Commit to files.
        gated: Whoever asks for a file is refused.
    """

    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False


@dataclass
class Hub:
    """The stand-in.

    Attributes:
        repos: `models/org/name` or `datasets/org/name` to repository.
        asked: What was asked, as `GET /path`, in order; `RANGE /path` for a part of a file.
        gone: Paths, or ends of paths, of files that are listed and not served.
        before_file: Called with the path before a large file is sent.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    before_file: Callable[[str], None] = lambda _: None
    server: Any = None
    is_down: bool = False

    def add(self, repo: str, revision: str, files: dict[str, bytes], *, kind: str = "models") -> str:
        """Put a revision there, or move it; returns its commit."""
        listing = json.dumps({name: sha256(content) for name, content in sorted(files.items())})
        commit = hashlib.sha1(f"{repo}{listing}".encode()).hexdigest()
        found = self.repos.setdefault(f"{kind}/{repo}", Repo())
        found.refs[revision], found.commits[commit] = commit, dict(files)
        return commit

    def add_folder(self, repo: str, revision: str, folder: Path, *more: Path) -> str:
        """Put the files of a folder and of further ones there as a revision."""
        files = [file for each in (folder, *more) for file in each.iterdir() if file.is_file()]
        return self.add(repo, revision, {file.name: file.read_bytes() for file in files})

    def downloads(self) -> list[str]:
        """Return the commits of which weights were sent, headers alone not counted."""
        return [line.split("/")[3] for line in self.asked if line.startswith("GET /large/")]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def other_url(self) -> str:
        """The same server under another name: the client follows no redirect within the hub itself."""
        return f"http://localhost:{self.server.server_port}"

    def start(self) -> None:
        hub = self

        class Handler(_Handler):
            standin = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """End the server; connections that are open are closed at their next request."""
        self.is_down = True
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    standin: Hub
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: else each answer waits 40 ms for the other side's acknowledgement.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.standin.is_down:
            self.close_connection = True
            return
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.standin.asked.append(f"{'RANGE' if self.headers.get('Range') else self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            self._api(parts[1:], parse_qs(url.query), body)
        elif parts[0] == "large":
            self._large(parts[1], "/".join(parts[2:]))
        else:
            kind = "datasets" if parts[0] == "datasets" else "models"
            self._file(kind, parts[1:] if kind == "datasets" else parts)

    def _api(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> None:
        repo = self.standin.repos.get("/".join(parts[:3]))
        if repo is None:
            return self._refuse(401, "RepoNotFound")
        what, revision = (parts[3] if len(parts) > 3 else "revision"), "/".join(parts[4:5]) or "main"
        if what == "refs":
            return self._json(self._refs(repo))
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            return self._refuse(404, "RevisionNotFound")
        files = repo.commits[commit]
        if what == "revision":
            about = {"id": "/".join(parts[1:3]), "sha": commit, "private": False, "gated": False, "tags": []}
            siblings = [{"rfilename": name} for name in files]
            return self._json(about | {"downloads": 0, "siblings": siblings})
        if what == "paths-info":
            paths = parse_qs(body.decode()).get("paths") or json.loads(body or b"{}").get("paths", [])
            return self._json([self._entry(name, files[name]) for name in paths if name in files])
        if what == "tree":
            return self._json(self._tree(files, "/".join(parts[5:]), query))
        return self._refuse(404, "EntryNotFound")

    @staticmethod
    def _refs(repo: Repo) -> dict[str, Any]:
        named = [{"name": n, "ref": f"refs/{n}", "targetCommit": commit} for n, commit in repo.refs.items()]
        return {
            "branches": [ref for ref in named if ref["name"] == "main"],
            "tags": [ref for ref in named if ref["name"] != "main"],
            "converts": [],
        }

    def _tree(
        self, files: dict[str, bytes], folder: str, query: dict[str, list[str]]
    ) -> list[dict[str, Any]]:
        within = {name: content for name, content in files.items() if name.startswith(folder)}
        if query.get("recursive", ["false"])[0].lower() in ("true", "1"):
            return [self._entry(name, content) for name, content in within.items()]
        entries = [self._entry(name, content) for name, content in within.items() if "/" not in name]
        folders = {name.split("/")[0] for name in within if "/" in name}
        return entries + [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in folders]

    @staticmethod
    def _entry(name: str, content: bytes) -> dict[str, Any]:
        entry = {"type": "file", "oid": oid(content), "size": len(content), "path": name}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
        return entry

    def _file(self, kind: str, parts: list[str]) -> None:
        repo = self.standin.repos.get(f"{kind}/{'/'.join(parts[:2])}")
        if repo is None:
            return self._refuse(401, "RepoNotFound")
        commit, name = repo.refs.get(parts[3], parts[3]), "/".join(parts[4:])
        if commit not in repo.commits:
            return self._refuse(404, "RevisionNotFound")
        if repo.gated:
            return self._refuse(403, "GatedRepo")
        headers = {"X-Repo-Commit": commit}
        is_gone = any(f"{commit}/{name}".endswith(each) for each in self.standin.gone)
        if name not in repo.commits[commit] or is_gone:
            return self._refuse(404, "EntryNotFound", headers)
        content = repo.commits[commit][name]
        if not name.endswith(LARGE):
            return self._send(200, content, headers | {"ETag": f'"{oid(content)}"'})
        linked = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
        where = {"Location": f"{self.standin.other_url}/large/{sha256(content)}/{commit}/{name}"}
        return self._send(302, b"", headers | linked | where)

    def _large(self, digest: str, path: str) -> None:
        contents = (
            content for r in self.standin.repos.values() for c in r.commits.values() for content in c.values()
        )
        content = next((each for each in contents if sha256(each) == digest), None)
        if content is None:
            return self._refuse(404, "EntryNotFound")
        if self.command == "GET" and not self.headers.get("Range"):
            self.standin.before_file(path)
        first, last = 0, len(content) - 1
        if (asked := self.headers.get("Range", "")).startswith("bytes="):
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(stop or last), last)
            whole = f"bytes {first}-{last}/{len(content)}"
            return self._send(206, content[first : last + 1], {"Content-Range": whole})
        return self._send(200, content, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


MODEL = "org/tiny"
STEPS = (0, 10, 20, 30, 40)

# What a process of its own needs to know of the stand-in: the client reads its variables when imported.
_PRELUDE = """
import os
from huggingface_hub import constants
constants.ENDPOINT = {url!r}
constants.HUGGINGFACE_CO_URL_TEMPLATE = {url!r} + "/{{repo_id}}/resolve/{{revision}}/{{filename}}"
constants.HF_HUB_CACHE = {cache!r}
os.environ["XDG_CACHE_HOME"] = {cache!r} + "-xdg"
from memprobe.checkpoints import checkpoint_cache
checkpoint_cache.PAUSES_S = (0.01,)
checkpoint_cache.SPARE_BYTES = 1000
"""


@pytest.fixture(scope="session")
def checkpoints(make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders step<N> and a tokenizer beside them; tests must not change them."""
    return make.sequence(tmp_path_factory.mktemp("hub") / "main", STEPS, tokenizer=make.tokenizer())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, and a cache of its own."""
    import datasets
    from huggingface_hub import constants

    made = Hub()
    made.start()
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    template = made.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", made.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr(cache_module, "PAUSES_S", (0.01,))
    monkeypatch.setattr(cache_module, "SPARE_BYTES", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(digest_module, "_remembered", {})
    yield made
    made.stop()


@pytest.fixture
def sweep(hub: Hub, checkpoints: Path, tiny, tmp_path: Path) -> SimpleNamespace:
    """`org/tiny` with five steps on the hub, items, and a look at what of it is on the disk."""
    commits = {
        f"step{n}": hub.add_folder(MODEL, f"step{n}", checkpoints / f"step{n}", checkpoints) for n in STEPS
    }
    hub.add_folder(MODEL, "main", checkpoints / "step40", checkpoints)
    cache = tmp_path / "hf" / "models--org--tiny"

    def here() -> list[str]:
        """The steps whose weights are on the disk."""
        found = {file.parent.name for file in cache.glob("snapshots/*/model.safetensors") if file.is_file()}
        return [step for step, commit in commits.items() if commit in found]

    return SimpleNamespace(
        commits=commits,
        cache=cache,
        here=here,
        blobs=lambda: [file.name for file in (cache / "blobs").iterdir() if len(file.name) == 64],
        items=tiny.items,
        ask=("-d", tiny.items, "--threads", "1", "-o", tmp_path / "run"),
        out=tmp_path / "run",
        prelude=_PRELUDE.format(url=hub.url, cache=str(tmp_path / "hf")),
    )


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch):
    """Return a switch after which opening a connection fails the test."""

    def refuse(*args: object, **options: object) -> None:
        pytest.fail(f"a socket was opened to {args}")

    def switch() -> None:
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket.socket, "connect_ex", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)

    return switch
