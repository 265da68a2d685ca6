"""Find checkpoints on the hub by their refs, describe them from its lists of files, and fetch them."""

import fnmatch
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from memprobe.checkpoints.client import (
    SMALL_FILES,
    HubFile,
    UnreachableError,
    cache_of,
    cached_commit,
    cached_commits,
    download_file,
    download_small,
    is_offline,
    quiet_bars,
    remote_commits,
    remote_files,
    remote_numbers,
)
from memprobe.checkpoints.contents import (
    ADAPTER,
    CONFIG,
    Listing,
    Weights,
    find_weights,
    has_tokenizer,
    inspect,
    list_folder,
)
from memprobe.checkpoints.digest import file_digest
from memprobe.checkpoints.header import numbers_by_dtype
from memprobe.checkpoints.identity import Candidate, Checkpoint, Options, ProblemCollector, Source
from memprobe.checkpoints.local import checkpoint_in, count_numbers, no_tokenizer, tokenizer_in
from memprobe.checkpoints.names import read_last_number, read_name, read_order
from memprobe.checkpoints.snapshots import Snapshot
from memprobe.checkpoints.spec import HubSpec, is_glob
from memprobe.errors import CheckpointError, SafetyError
from memprobe.wording import listed, near_miss

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository of the hub, as far as it is visible from here.

    Attributes:
        name: `org/name`.
        spec: The spec as the user wrote it.
        commits: Commits by branch or tag.
        unreachable: Why the hub did not answer; None if it did, or was not asked.
        offline: Whether the hub must not be asked.
    """

    name: str
    spec: str
    commits: Mapping[str, str]
    unreachable: UnreachableError | None = None
    offline: bool = False

    @property
    def answers(self) -> bool:
        """Return whether the hub can be asked for more."""
        return not self.offline and self.unreachable is None

    def missing(self, revision: str) -> CheckpointError | SafetyError:
        """Return the error for a revision that does not exist, or is missing or incomplete in the cache."""
        where = f"{self.name}@{revision}"
        if self.offline:
            return _refused(self.name, revision)
        if self.unreachable is not None:
            return UnreachableError(
                f"{self.unreachable.problems[0].what}, and the local cache is incomplete",
                where=where,
                fix=self.unreachable.problems[0].fix,
            )
        near = near_miss(revision, self.commits) if "{" not in self.spec else ""
        what = (
            f"{self.name} has no revision `{revision}`{near}" if near else f"{self.name} has no such revision"
        )
        return CheckpointError(what, where=where, fix="check it against the repository's branches and tags")


def find_on_hub(spec: str, hub_spec: HubSpec, *, offline: bool) -> Source:
    """Return the revisions that a hub spec names; missing ones are reported when they are inspected.

    Raises:
        CheckpointError: The repository does not exist or cannot be asked, or a pattern matches nothing.
        SafetyError: The repository is not in the cache, and the network must not be used.
    """
    repo = _repo(spec, hub_spec.repo, offline=offline)
    revisions = list(dict.fromkeys(name for asked in hub_spec.revisions for name in _matches(asked, repo)))
    # Revisions that are named one by one keep the order that the user gave.
    globs = all(is_glob(asked) for asked in hub_spec.revisions)
    candidates = []
    for revision in revisions:
        named = read_name(revision)
        if named is None and globs:
            named = read_order(revision) or read_last_number(revision)
        commit = repo.commits.get(revision) or (revision if _COMMIT.fullmatch(revision) else None)
        candidates.append(Candidate(revision, None, None, commit, named))
    if globs and len(candidates) > 1 and not all(each.named for each in candidates):
        raise _without_order(repo, hub_spec, candidates)
    describe = partial(_describe, repo)
    return Source(repo.name, spec, None, tuple(candidates), describe, notes=_notes(repo, hub_spec, revisions))


def fetch(checkpoint: Checkpoint, *, offline: bool) -> Checkpoint:
    """Return the checkpoint with its files on this machine; missing files are downloaded.

    The commit that `resolve` saw is fetched, even if the revision has moved since.

    Raises:
        CheckpointError: The download failed, the bytes differ from the hub's digest, or the checkpoint cannot
            be read at all.
        SafetyError: A download is needed and the network may not be used.
    """
    checkpoint.check_loadable()
    if checkpoint.base is not None:
        base = fetch(checkpoint.base, offline=offline)
        checkpoint = replace(checkpoint, base=base, n_parameters=base.n_parameters, dtype=base.dtype)
    if checkpoint.folder is not None:
        return checkpoint
    if checkpoint.repo is None or checkpoint.commit is None:
        raise ValueError(f"expected a checkpoint with a folder or a repo, got {checkpoint}")
    snapshot = Snapshot(checkpoint.repo, checkpoint.commit)
    absent = snapshot.lacks(checkpoint.weight_files)
    if absent and is_offline(offline):
        raise _refused(checkpoint.repo, checkpoint.revision)
    where = f"{checkpoint.repo}@{checkpoint.revision}"
    for name in absent:
        download_file(checkpoint.repo, checkpoint.commit, name, where)
    if missing := snapshot.lacks(checkpoint.weight_files):
        # Another process may have removed a blob after the client found it and before it linked to it.
        what = f"the download left out {listed(missing)}"
        raise UnreachableError(what, where=where, fix="run the same command again")
    _check_bytes(checkpoint, snapshot.folder)
    is_safe = checkpoint.weights_format == "safetensors"
    files = [snapshot.folder / name for name in checkpoint.weight_files]
    n_parameters, dtype = count_numbers(files) if is_safe else (None, None)
    return replace(checkpoint, folder=snapshot.folder, n_parameters=n_parameters, dtype=dtype)


def _check_bytes(checkpoint: Checkpoint, folder: Path) -> None:
    """Refuse files whose digest differs from the one listed by the hub: unit names contain it."""
    if checkpoint.weight_sha256 is None:
        return
    for name, sha256 in zip(checkpoint.weight_files, checkpoint.weight_sha256, strict=True):
        if (found := file_digest(folder / name)) != sha256:
            what = f"{name} has the SHA-256 {found[:12]}..., and the hub lists {sha256[:12]}..."
            fix = "remove the file from the hub's cache, and run the same command again"
            raise CheckpointError(what, where=str(folder), fix=fix)


def count_parameters(checkpoints: Sequence[Checkpoint], *, offline: bool) -> tuple[Checkpoint, ...]:
    """Return the checkpoints of one sequence with parameters and dtype, even for absent weights.

    The hub is asked for the headers of one checkpoint; others of the same size get the same values. If the
    hub does not answer, both stay None.
    """
    absent = [each for each in checkpoints if each.folder is None and not each.problems]
    unknown = [each for each in absent if each.n_parameters is None]
    first = next((each for each in unknown if each.weights_format == "safetensors"), None)
    counts = None if first is None else _numbers(first, offline=offline)
    if first is None or counts is None:
        return tuple(checkpoints)
    n_parameters, dtype = sum(counts.values()), max(counts, key=counts.__getitem__, default=None)
    alike = {id(each) for each in unknown if (each.n_bytes, each.repo) == (first.n_bytes, first.repo)}
    return tuple(
        replace(each, n_parameters=n_parameters, dtype=dtype) if id(each) in alike else each
        for each in checkpoints
    )


def _numbers(checkpoint: Checkpoint, *, offline: bool) -> dict[str, int] | None:
    """Return the count of numbers by dtype, from headers on the hub or their cache; None on failure."""
    snapshot = Snapshot(str(checkpoint.repo), str(checkpoint.commit))
    known = snapshot.numbers()
    if known is not None or is_offline(offline):
        return known
    counts: Counter[str] = Counter()
    for name in checkpoint.weight_files:
        try:
            numbers = remote_numbers(snapshot.repo, snapshot.commit, name, checkpoint.label)
        except CheckpointError:
            return None
        counts.update(numbers_by_dtype(numbers.items()))
    snapshot.write_numbers(counts)
    return dict(counts)


def check_reachable(checkpoints: Sequence[Checkpoint], *, offline: bool) -> None:
    """Check that files which are not on this machine can be fetched at all.

    Raises:
        CheckpointError: The hub does not answer.
        SafetyError: The network may not be used.
    """
    troubles = ProblemCollector()
    for name in {each.repo for each in checkpoints if each.repo}:
        repo = _repo(name, name, offline=offline)
        for each in checkpoints if not repo.answers else ():
            if each.repo == name:
                with troubles.noted():
                    raise repo.missing(each.revision)
    troubles.raise_any()


def fetch_tokenizer(spec: str, hub_spec: HubSpec, *, offline: bool) -> Path:
    """Return the folder of a tokenizer on the hub, downloaded if it is not in the cache.

    Raises:
        CheckpointError: The spec names several revisions, or one that is missing or has no tokenizer.
        SafetyError: A download is needed and the network may not be used.
    """
    revision = hub_spec.revisions[0]
    if len(hub_spec.revisions) > 1 or is_glob(revision):
        what = "--tokenizer names several revisions"
        raise CheckpointError(what, where=spec, fix="name one, as in --tokenizer org/name@main")
    repo = _repo(spec, hub_spec.repo, offline=offline)
    commit = repo.commits.get(revision, revision)
    folder = cache_of(repo.name) / "snapshots" / commit
    if not (folder.is_dir() and has_tokenizer(list_folder(folder))):
        if not repo.answers or (revision not in repo.commits and not _COMMIT.fullmatch(revision)):
            raise repo.missing(revision)
        folder = download_small(repo.name, revision)
    if not has_tokenizer(list_folder(folder)):
        raise CheckpointError("it has no tokenizer", where=f"--tokenizer {spec}")
    return folder


def _repo(spec: str, name: str, *, offline: bool) -> Repo:
    if is_offline(offline):
        if not cache_of(name).is_dir():
            raise _refused(name, spec.partition("@")[2])
        return Repo(name, spec, cached_commits(name), offline=True)
    try:
        return Repo(name, spec, remote_commits(name))
    except UnreachableError as error:
        if not cache_of(name).is_dir():
            raise
        return Repo(name, spec, cached_commits(name), unreachable=error)


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
    return tuple(notes)


def _matches(asked: str, repo: Repo) -> list[str]:
    if not is_glob(asked):
        return [asked]
    names = sorted(fnmatch.filter(repo.commits, asked))
    if names:
        return [name for name in names if read_name(name) is not None] or names
    if not repo.answers:
        raise repo.missing(asked)
    has = f"it has {listed(sorted(repo.commits))}" if repo.commits else "it has none"
    raise CheckpointError(f"no revision of {repo.name} matches `{asked}`; {has}", where=repo.spec)


def _without_order(repo: Repo, hub_spec: HubSpec, candidates: Sequence[Candidate]) -> CheckpointError:
    unnamed = listed([each.revision for each in candidates if each.named is None])
    return CheckpointError(
        f"there is no number in the names that `{', '.join(hub_spec.revisions)}` matches, so their order in "
        f"training is not known: {unnamed}",
        where=repo.spec,
        fix=f"name them in that order, as in '{repo.name}@{{first,second}}'",
    )


def _describe(repo: Repo, candidate: Candidate, options: Options) -> Checkpoint:
    if candidate.commit is None:
        raise repo.missing(candidate.revision)
    snapshot = Snapshot(repo.name, candidate.commit)
    # Weights that a run fetched for itself may be removed at any time.
    stays = snapshot.folder.is_dir() and not snapshot.marks()
    if stays and _suffices(snapshot.folder, options, answers=repo.answers):
        return checkpoint_in(candidate, snapshot.folder, options, parent=None, repo=repo.name)
    files = _listed_files(repo, candidate, snapshot)
    listing = Listing(
        f"{repo.name}@{candidate.revision}",
        {name: file.n_bytes for name, file in files.items()},
        lambda name: (snapshot.folder / name).read_bytes(),
    )
    weights = inspect(listing, options)
    if weights.format == "lora":
        # An adapter is about a hundredth of its base in size; only the base has to wait for `fetch`.
        _bring(repo, candidate, snapshot, weights.files)
        return checkpoint_in(candidate, snapshot.folder, options, parent=None, repo=repo.name)
    tokenizer_folder = options.tokenizer_folder or tokenizer_in(snapshot.folder, None)
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
        commit=candidate.commit,
        config_folder=snapshot.folder,
        weight_sha256=_sha256(repo, candidate, snapshot, weights, files),
    )


def _listed_files(repo: Repo, candidate: Candidate, snapshot: Snapshot) -> dict[str, HubFile]:
    """Return the hub's list of files, cached per commit; also download all files except the weights."""
    files = snapshot.listed()
    if files is not None:
        small = [name for name in files if any(fnmatch.fnmatch(name, pattern) for pattern in SMALL_FILES)]
        known = snapshot.commit in (candidate.revision, cached_commit(repo.name, candidate.revision))
        if not snapshot.lacks(small) and (known or not repo.answers):
            return files
    if not repo.answers:
        raise repo.missing(candidate.revision)
    where = f"{repo.name}@{candidate.revision}"
    files = remote_files(repo.name, snapshot.commit, where)
    folder = download_small(repo.name, candidate.revision)
    if folder.name != snapshot.commit:
        what = f"the revision moved on the hub from {snapshot.commit[:8]} to {folder.name[:8]} meanwhile"
        raise CheckpointError(what, where=where, fix="run the same command again")
    snapshot.write_listed(files)
    return files


def _bring(repo: Repo, candidate: Candidate, snapshot: Snapshot, names: Sequence[str]) -> None:
    """Download missing files, which are small enough not to wait for `fetch`."""
    for name in snapshot.lacks(names):
        if not repo.answers:
            raise repo.missing(candidate.revision)
        with quiet_bars():
            download_file(repo.name, snapshot.commit, name, f"{repo.name}@{candidate.revision}")


def _sha256(
    repo: Repo, candidate: Candidate, snapshot: Snapshot, weights: Weights, files: Mapping[str, HubFile]
) -> tuple[str, ...]:
    """Return the SHA-256 of each weight file; a file too small to have a listed digest is downloaded."""
    _bring(repo, candidate, snapshot, [name for name in weights.files if files[name].sha256 is None])
    return tuple(files[name].sha256 or file_digest(snapshot.folder / name) for name in weights.files)


def _suffices(folder: Path, options: Options, *, answers: bool) -> bool:
    """Return whether a snapshot is complete or, if no more can be fetched, enough to report the fault."""
    listing = list_folder(folder)
    if not answers and (listing.has(ADAPTER) or listing.ending(".gguf")):
        return True
    try:
        weights = find_weights(listing)
    except CheckpointError:
        return False
    if weights.format == "lora":
        return True
    lacks_tokenizer = options.needs_tokenizer and not options.tokenizer_folder and not has_tokenizer(listing)
    return listing.has(CONFIG) and not (answers and lacks_tokenizer)


def _refused(repo: str, revision: str) -> SafetyError:
    spec = f"{repo}@{revision}" if revision else repo
    return SafetyError(
        f"{repo} is not whole in the local cache, and the network is off (--offline or HF_HUB_OFFLINE)",
        where=spec,
        fix=f"with a network: memprobe fetch -m '{spec}'; memprobe checkpoints ls shows what is here",
    )
