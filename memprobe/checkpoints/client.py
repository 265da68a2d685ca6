"""Call the hub's client (refs, file lists, downloads) and turn its errors into memprobe's.

Layout of the cache: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from memprobe.errors import CheckpointError

# All files except weights: config, tokenizer, index, chat template, the model's own code.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")
_SUBFOLDERS = "*/*"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class _Switch:
    """A process-wide switch of the client: how many blocks override it, and its former value."""

    n_wanting: int = 0
    before: bool = False


_lock = threading.Lock()
_bars, _shared = _Switch(), _Switch()


class UnreachableError(CheckpointError):
    """The hub did not answer; the cache or a second try may still succeed."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file as the hub lists it.

    Attributes:
        n_bytes: Size of the file.
        sha256: Digest of its contents, 64 hex digits; None for small files, as the hub lists none.
    """

    n_bytes: int
    sha256: str | None


def cache_root() -> Path:
    """Return the folder of the hub's cache; it need not exist."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def cache_of(repo: str) -> Path:
    """Return the folder of a repository in the hub's cache; it need not exist."""
    return cache_root() / f"models--{repo.replace('/', '--')}"


def is_offline(offline: bool) -> bool:
    """Return whether the network must not be used: `--offline`, or the hub's own variable."""
    from huggingface_hub import constants

    return offline or bool(constants.HF_HUB_OFFLINE)


def cached_commits(repo: str) -> dict[str, str]:
    """Return the branches and tags that the cache knows, with their commits.

    Raises:
        CheckpointError: The cache cannot be read.
    """
    refs = cache_of(repo) / "refs"
    files = [path for path in refs.rglob("*") if path.is_file()] if refs.is_dir() else []
    try:
        return {path.relative_to(refs).as_posix(): path.read_text("utf-8").strip() for path in files}
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the cache of {repo} cannot be read: {error}", where=str(refs)) from error


def cached_commit(repo: str, revision: str) -> str | None:
    """Return the commit that the cache knows for a branch or tag, or None."""
    try:
        return (cache_of(repo) / "refs" / revision).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def remote_commits(repo: str) -> dict[str, str]:
    """Return the branches and tags of a repository, with their commits.

    Raises:
        CheckpointError: The repository does not exist or is not accessible, or the hub does not answer.
    """
    from huggingface_hub import HfApi

    with hub_errors(repo):
        refs = HfApi().list_repo_refs(repo)
    return {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}


def remote_files(repo: str, commit: str, where: str) -> dict[str, HubFile]:
    """Return the files at the top level of a commit.

    Raises:
        CheckpointError: The commit is not accessible, or the hub does not answer.
    """
    from huggingface_hub import HfApi

    with hub_errors(where):
        entries = list(HfApi().list_repo_tree(repo, revision=commit))
    # Folders have no size.
    return {
        entry.path: HubFile(entry.size, lfs.sha256 if (lfs := getattr(entry, "lfs", None)) else None)
        for entry in entries
        if hasattr(entry, "size")
    }


def remote_numbers(repo: str, commit: str, name: str, where: str) -> dict[str, int]:
    """Return the count of numbers by dtype (in the format's spelling), from a safetensors header on the hub.

    Raises:
        CheckpointError: The header is not a safetensors header, or the hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    try:
        with hub_errors(f"{where}, {name}"):
            found = HfApi().parse_safetensors_file_metadata(repo, name, revision=commit)
    except (NotASafetensorsRepoError, SafetensorsParsingError) as error:
        what = f"the header of {name} is not a safetensors header"
        raise CheckpointError(what, where=where) from error
    return dict(found.parameter_count.items())


def download_small(repo: str, revision: str) -> Path:
    """Download a revision without its weights, and return the folder of its snapshot.

    Raises:
        CheckpointError: The download failed.
    """
    from huggingface_hub import snapshot_download

    with hub_errors(f"{repo}@{revision}"), quiet_bars():
        # Downloaded by name, not by commit, so that the cache knows the name for --offline.
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=list(SMALL_FILES), ignore_patterns=[_SUBFOLDERS]
        )
    return Path(folder)


def download_file(repo: str, commit: str, name: str, where: str) -> None:
    """Download one file of a commit into its snapshot.

    Raises:
        CheckpointError: The download failed.
        OSError: The disk is full.
    """
    from huggingface_hub import hf_hub_download

    with hub_errors(f"{where}, {name}"):
        hf_hub_download(repo, name, revision=commit)


@contextmanager
def hub_errors(where: str) -> Iterator[None]:
    """Turn the hub client's errors into memprobe's; a full disk is raised unchanged."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # Base class of transport errors: from httpx in version 1.x of the client, from httpx2 in 2.x.
    transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except GatedRepoError as error:
        fix = "accept its terms on its page of the hub, then log in with `hf auth login`"
        raise CheckpointError(
            "the hub asks for permission to read the model", where=where, fix=fix
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        what = "there is no such model on the hub (or it is private), and no such folder here"
        raise CheckpointError(
            what, where=where, fix="check the name, or log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError("there is no such revision on the hub", where=where) from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(error.__cause__ or error, where) from error
    except EntryNotFoundError as error:
        fix = "look at the repository on the hub; a revision without this file cannot be measured"
        raise CheckpointError("the hub lists this file and does not have it", where=where, fix=fix) from error
    except (transport_error, OSError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise
        raise _unreachable(error, where) from error


def _unreachable(error: BaseException, where: str) -> UnreachableError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    what = (
        f"the hub cannot be reached ({type(error).__name__})"
        if status is None
        else f"the hub answers with status {status}"
    )
    return UnreachableError(
        what, where=where, fix="check the network; with --offline the local cache alone is used"
    )


@contextmanager
def _switched(switch: _Switch, is_on: Callable[[], bool], turn: Callable[[bool], None]) -> Iterator[None]:
    """Turn a switch off while the block runs; the last of several threads restores it."""
    with _lock:
        if not switch.n_wanting:
            switch.before = is_on()
            turn(False)
        switch.n_wanting += 1
    try:
        yield
    finally:
        with _lock:
            switch.n_wanting -= 1
            if not switch.n_wanting:
                turn(switch.before)


def quiet_bars() -> AbstractContextManager[None]:
    """Switch off the client's progress bars, because a library must not print."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    def turn(on: bool) -> None:
        if on:
            enable_progress_bars()
        elif not are_progress_bars_disabled():
            disable_progress_bars()

    return _switched(_bars, lambda: not are_progress_bars_disabled(), turn)


def own_blobs() -> AbstractContextManager[None]:
    """Keep downloads out of the store that repositories share (in 2.x), where they could not be removed."""
    from huggingface_hub import constants

    def turn(on: bool) -> None:
        constants.HF_HUB_DISABLE_SHARED_BLOBS = not on

    return _switched(_shared, lambda: not getattr(constants, "HF_HUB_DISABLE_SHARED_BLOBS", True), turn)
