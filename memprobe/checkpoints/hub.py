"""Checkpoints on the hub: refs and files through huggingface_hub, or its local cache alone.

The cache: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import fnmatch
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from memprobe.checkpoints.contents import (
    ADAPTER,
    CONFIG,
    Listing,
    find_weights,
    has_tokenizer,
    inspect,
    list_folder,
)
from memprobe.checkpoints.identity import Candidate, Checkpoint, Options, Source, listed
from memprobe.checkpoints.local import checkpoint_in, count_numbers, no_tokenizer, tokenizer_in
from memprobe.checkpoints.spec import HubSpec, is_glob, step_in_name
from memprobe.errors import CheckpointError, SafetyError, near_miss

_COMMIT = re.compile(r"[0-9a-f]{40}")
# All that is not weights: config, tokenizer, index, chat template, the model's own code.
_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")
_SUBFOLDERS = "*/*"


class _UnreachableError(CheckpointError):
    """The hub did not answer; the cache may still do."""


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository of the hub, as far as it can be seen.

    Attributes:
        name: `org/name`.
        spec: What the user wrote.
        commits: Branch or tag to commit.
        state: Whether the hub answered, was not asked, or could not be reached.
    """

    name: str
    spec: str
    commits: Mapping[str, str]
    unreachable: _UnreachableError | None = None
    offline: bool = False

    @property
    def answers(self) -> bool:
        """Whether the hub can be asked for more."""
        return not self.offline and self.unreachable is None

    def missing(self, revision: str) -> CheckpointError | SafetyError:
        """Return the error for a revision of which the cache holds nothing or too little."""
        where = f"{self.name}@{revision}"
        if self.offline:
            return _refused(self.name, where)
        if self.unreachable is not None:
            return _UnreachableError(
                f"{self.unreachable.problems[0].what}, and the local cache has not all that is needed",
                where=where,
                fix=self.unreachable.problems[0].fix,
            )
        near = near_miss(revision, self.commits) if "{" not in self.spec else ""
        what = (
            f"{self.name} has no revision `{revision}`{near}" if near else f"{self.name} has no such revision"
        )
        return CheckpointError(what, where=where, fix="check it against the repository's branches and tags")


def find_on_hub(spec: str, hub_spec: HubSpec, *, offline: bool) -> Source:
    """Return what a hub spec names; revisions that do not exist are reported when they are looked into.

    Raises:
        CheckpointError: The repository does not exist or cannot be asked, or a pattern matches nothing.
        SafetyError: Nothing of it is in the cache and the network may not be used.
    """
    repo = _repo(spec, hub_spec.repo, offline=offline)
    revisions = list(dict.fromkeys(name for asked in hub_spec.revisions for name in _matches(asked, repo)))
    candidates = []
    for position, revision in enumerate(revisions):
        step = step_in_name(revision)
        commit = repo.commits.get(revision) or (revision if _COMMIT.fullmatch(revision) else None)
        candidates.append(Candidate(revision, position if step is None else step, None, commit))
    describe = partial(_describe, repo)
    return Source(repo.name, spec, None, tuple(candidates), describe, notes=_notes(repo, hub_spec, revisions))


def fetch(checkpoint: Checkpoint, *, offline: bool) -> Checkpoint:
    """Return the checkpoint with its files on this machine, downloaded where they are not.

    Raises:
        CheckpointError: The download failed, or the revision changed on the hub since `resolve`.
        SafetyError: A download is needed and the network may not be used.
    """
    if checkpoint.folder is not None:
        return checkpoint
    if checkpoint.repo is None:
        raise ValueError(f"expected a checkpoint with a folder or a repo, got {checkpoint}")
    repo, revision = checkpoint.repo, checkpoint.revision
    where = f"{repo}@{revision}"
    if _is_offline(offline):
        raise _refused(repo, where)
    folder = _download(repo, revision, checkpoint.weight_files)
    if checkpoint.commit is not None and folder.name != checkpoint.commit:
        what = f"the revision moved on the hub from {checkpoint.commit[:8]} to {folder.name[:8]} meanwhile"
        raise CheckpointError(what, where=where, fix="run the same command again")
    missing = [name for name in checkpoint.weight_files if not (folder / name).is_file()]
    if missing:
        what = f"the download left out {listed(missing)}"
        raise CheckpointError(what, where=where, fix="run the same command again")
    is_safe = checkpoint.weights_format == "safetensors"
    files = [folder / name for name in checkpoint.weight_files]
    n_parameters, dtype = count_numbers(files) if is_safe else (None, None)
    tokenizer_folder = checkpoint.tokenizer_folder or tokenizer_in(folder, None)
    return replace(
        checkpoint, folder=folder, tokenizer_folder=tokenizer_folder, n_parameters=n_parameters, dtype=dtype
    )


def fetch_tokenizer(spec: str, hub_spec: HubSpec, *, offline: bool) -> Path:
    """Return the folder of a tokenizer on the hub, downloaded where it is not in the cache.

    Raises:
        CheckpointError: The spec names several revisions, or none that holds a tokenizer.
        SafetyError: A download is needed and the network may not be used.
    """
    revision = hub_spec.revisions[0]
    if len(hub_spec.revisions) > 1 or is_glob(revision):
        what = "--tokenizer names several revisions"
        raise CheckpointError(what, where=spec, fix="name one, as in --tokenizer org/name@main")
    repo = _repo(spec, hub_spec.repo, offline=offline)
    commit = repo.commits.get(revision, revision)
    folder = _cache(repo.name) / "snapshots" / commit
    if not (folder.is_dir() and has_tokenizer(list_folder(folder))):
        if not repo.answers or (revision not in repo.commits and not _COMMIT.fullmatch(revision)):
            raise repo.missing(revision)
        folder = _download(repo.name, revision, ())
    if not has_tokenizer(list_folder(folder)):
        raise CheckpointError("it holds no tokenizer", where=f"--tokenizer {spec}")
    return folder


def _repo(spec: str, name: str, *, offline: bool) -> Repo:
    if _is_offline(offline):
        if not _cache(name).is_dir():
            raise _refused(name, spec)
        return Repo(name, spec, _cached_commits(name), offline=True)
    try:
        return Repo(name, spec, _remote_commits(name))
    except _UnreachableError as error:
        if not _cache(name).is_dir():
            raise
        return Repo(name, spec, _cached_commits(name), unreachable=error)


def _notes(repo: Repo, hub_spec: HubSpec, revisions: list[str]) -> tuple[str, ...]:
    notes = []
    globs = [asked for asked in hub_spec.revisions if is_glob(asked)]
    if repo.unreachable is not None:
        notes.append(f"the hub could not be reached: {repo.name} was taken from the local cache")
    if not repo.answers and globs:
        notes.append(f"the pattern was matched against the revisions of {repo.name} in the local cache alone")
    left_out = [
        name for asked in globs for name in fnmatch.filter(repo.commits, asked) if name not in revisions
    ]
    if left_out:
        notes.append(f"left out, as their names have no step: {listed(sorted(set(left_out)))}")
    unnamed = [name for name in revisions if step_in_name(name) is None]
    if unnamed and len(revisions) > 1:
        notes.append(f"no step in the name, so the position from 0 is the step: {listed(unnamed)}")
    return tuple(notes)


def _matches(asked: str, repo: Repo) -> list[str]:
    if not is_glob(asked):
        return [asked]
    names = sorted(fnmatch.filter(repo.commits, asked))
    stepped = [name for name in names if step_in_name(name) is not None]
    if names:
        return sorted(stepped, key=lambda name: step_in_name(name) or 0) or names
    if not repo.answers:
        raise repo.missing(asked)
    has = f"it has {listed(sorted(repo.commits))}" if repo.commits else "it has none"
    raise CheckpointError(f"no revision of {repo.name} matches `{asked}`; {has}", where=repo.spec)


def _describe(repo: Repo, candidate: Candidate, options: Options) -> Checkpoint:
    if candidate.commit is None:
        raise repo.missing(candidate.revision)
    folder = _cache(repo.name) / "snapshots" / candidate.commit
    if folder.is_dir() and _suffices(folder, options, answers=repo.answers):
        return checkpoint_in(candidate, folder, options, parent=None, repo=repo.name)
    if not repo.answers:
        raise repo.missing(candidate.revision)
    return _describe_remote(repo, candidate, candidate.commit, options)


def _suffices(folder: Path, options: Options, *, answers: bool) -> bool:
    """Whether a snapshot holds all that is needed, or, with no more to be had, enough to say why not."""
    listing = list_folder(folder)
    if not answers and (listing.has(ADAPTER) or listing.ending(".gguf")):
        return True
    try:
        find_weights(listing)
    except CheckpointError:
        return False
    lacks_tokenizer = options.needs_tokenizer and not options.tokenizer_folder and not has_tokenizer(listing)
    return listing.has(CONFIG) and not (answers and lacks_tokenizer)


def _describe_remote(repo: Repo, candidate: Candidate, commit: str, options: Options) -> Checkpoint:
    """Describe from the hub's list of files; of the files, all but the weights are downloaded."""
    sizes_bytes = _remote_sizes(repo.name, commit)
    folder = _download(repo.name, candidate.revision, ())
    listing = Listing(
        f"{repo.name}@{candidate.revision}", sizes_bytes, lambda name: (folder / name).read_bytes()
    )
    weights = inspect(listing, options)
    tokenizer_folder = options.tokenizer_folder or tokenizer_in(folder, None)
    if tokenizer_folder is None and options.needs_tokenizer:
        raise no_tokenizer(listing.where)
    return Checkpoint(
        model=repo.name,
        revision=candidate.revision,
        step=candidate.step,
        folder=None,
        repo=repo.name,
        tokenizer_folder=tokenizer_folder,
        weights_format=weights.format,
        weight_files=weights.files,
        n_bytes=weights.n_bytes,
        n_parameters=None,
        dtype=None,
        commit=commit,
    )


def _cache(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repo.replace('/', '--')}"


def _cached_commits(repo: str) -> dict[str, str]:
    refs = _cache(repo) / "refs"
    files = [path for path in refs.rglob("*") if path.is_file()] if refs.is_dir() else []
    try:
        return {path.relative_to(refs).as_posix(): path.read_text("utf-8").strip() for path in files}
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the cache of {repo} cannot be read: {error}", where=str(refs)) from error


def _is_offline(offline: bool) -> bool:
    from huggingface_hub import constants

    return offline or bool(constants.HF_HUB_OFFLINE)


def _remote_commits(repo: str) -> dict[str, str]:
    from huggingface_hub import HfApi

    with _hub_errors(repo):
        refs = HfApi().list_repo_refs(repo)
    return {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}


def _remote_sizes(repo: str, commit: str) -> dict[str, int]:
    from huggingface_hub import HfApi

    with _hub_errors(f"{repo}@{commit}"):
        entries = list(HfApi().list_repo_tree(repo, revision=commit))
    # Folders have no size.
    return {entry.path: entry.size for entry in entries if hasattr(entry, "size")}


def _download(repo: str, revision: str, weight_files: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*_SMALL_FILES, *weight_files]
    with _hub_errors(f"{repo}@{revision}"):
        # The revision's name, not its commit, so that the cache learns the name for --offline.
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=patterns, ignore_patterns=[_SUBFOLDERS]
        )
    return Path(folder)


@contextmanager
def _hub_errors(where: str) -> Iterator[None]:
    """Turn the hub client's errors into ours."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The root of transport errors, which is httpx's in the client's 1.x and httpx2's in its 2.x.
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
    except (transport_error, OSError) as error:
        what = f"the hub cannot be reached ({type(error).__name__})"
        fix = "check the network; with --offline the local cache alone is used"
        raise _UnreachableError(what, where=where, fix=fix) from error


def _refused(repo: str, where: str) -> SafetyError:
    return SafetyError(
        f"{repo} is not whole in the local cache, and the network is off (--offline or HF_HUB_OFFLINE)",
        where=where,
        fix=f"with a network: hf download {repo} --revision REVISION",
    )
