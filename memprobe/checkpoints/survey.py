"""List the checkpoints that specs resolve to; a bad one does not hide the others.

Parameters, dtype and damage come from the headers of the weight files; no weights are read.
"""

import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memprobe.checkpoints.adapter import with_base
from memprobe.checkpoints.client import hub_errors, is_offline
from memprobe.checkpoints.header import header, numbers_by_dtype
from memprobe.checkpoints.identity import Candidate, Checkpoint, Options, Source
from memprobe.checkpoints.lfs import refuse_pointers
from memprobe.checkpoints.sequence import Group, chosen, find, look, twins
from memprobe.checkpoints.tokenizer_files import tokenizer_problems
from memprobe.errors import CheckpointError, Problem, SafetyError
from memprobe.wording import listed

_N_THREADS = 8
_PICKLE_FIX = "copy or download the file again"


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint, as far as it can be inspected.

    Attributes:
        model: Hub id or the sequence folder's name.
        revision: Git revision or the name of the folder.
        step: Step of the checkpoint; None if it has none.
        checkpoint: The facts that could be found; None if none could be found.
        problems: Why a run would refuse or lose it; empty if it can be loaded.
        is_safety: Whether only a permission is missing.
        stage: Label of its stage; empty if the sequence has only one.
        offset: The last step of earlier stages, which is included in `step`.
    """

    model: str
    revision: str
    step: int | None
    checkpoint: Checkpoint | None
    problems: tuple[Problem, ...] = ()
    is_safety: bool = False
    stage: str = ""
    offset: int = 0

    @property
    def lacks_tokenizer(self) -> bool:
        """Return whether the checkpoint can be loaded but needs `--tokenizer` or items with `input_ids`."""
        return not self.problems and self.checkpoint is not None and self.checkpoint.tokenizer_folder is None

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON values, with null for what is not known."""
        seen = self.checkpoint
        return {
            "model": self.model,
            "revision": self.revision,
            "step": self.step,
            "n_parameters": seen and seen.n_parameters,
            "dtype": seen and seen.dtype,
            "n_bytes": seen and seen.n_bytes,
            "format": seen and seen.weights_format,
            "base": seen and seen.base and seen.base.label,
            "commit": seen and seen.commit,
            "is_here": bool(seen and seen.folder),
            "has_tokenizer": bool(seen and seen.tokenizer_folder),
            "loadable": not self.problems,
            "problems": [{"what": each.what, "where": each.where, "fix": each.fix} for each in self.problems],
        }


@dataclass(frozen=True, slots=True)
class Survey:
    """The checkpoints of one model, by step, including bad ones.

    Attributes:
        model: The `model` of all its checkpoints.
        rows: One row for each checkpoint; steps may occur twice.
        notes: How the specs were read, one sentence each.
        twins: Steps that occur more than once, with their revisions.
    """

    model: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    twins: dict[int, list[str]]

    @property
    def loadable(self) -> tuple[Checkpoint, ...]:
        """The checkpoints that can be loaded, by step."""
        return tuple(row.checkpoint for row in self.rows if row.checkpoint and not row.problems)


def survey(
    specs: Sequence[str],
    *,
    steps: str | None = None,
    stages: str | None = None,
    tokenizer: str | None = None,
    offline: bool = False,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> tuple[Survey, ...]:
    """Inspect all checkpoints that the specs name; the arguments are those of a run.

    Raises:
        CheckpointError: A spec names nothing.
        SafetyError: The network would be needed to resolve a spec, and is not allowed.
    """
    options = Options(offline, allow_pickle, trust_remote_code)
    options, groups = find(specs, options, choice=chosen(steps, stages), tokenizer=tokenizer)
    return tuple(_survey(group, options) for group in groups)


def _survey(group: Group, options: Options) -> Survey:
    def row(pair: tuple[Source, Candidate], seen: Checkpoint | CheckpointError | SafetyError) -> Row:
        row = _row(group.name, pair, seen, options)
        return replace(row, stage=pair[1].stage, offset=pair[1].offset)

    with ThreadPoolExecutor(_N_THREADS) as pool:
        rows = tuple(pool.map(row, group.chosen, look(group, options)))
    lacking = [row.revision for row in rows if row.lacks_tokenizer]
    note = f"no tokenizer for {listed(lacking)}: pass --tokenizer, or measure items with `input_ids`"
    return Survey(group.name, rows, (*group.notes, note) if lacking else group.notes, twins(group))


def _row(
    model: str,
    pair: tuple[Source, Candidate],
    seen: Checkpoint | CheckpointError | SafetyError,
    options: Options,
) -> Row:
    source, candidate = pair
    if not isinstance(seen, Checkpoint):
        whole = _without_tokenizer(source, candidate, options)
        if whole is None:
            partly = _as_far_as_seen(source, candidate, options)
            partly = partly and replace(partly, model=model)
            is_safety = isinstance(seen, SafetyError)
            return Row(model, candidate.revision, candidate.step, partly, seen.problems, is_safety)
        seen = replace(whole, model=model)
    try:
        seen = _with_remote_headers(seen, offline=options.offline)
    except (CheckpointError, SafetyError) as error:
        is_safety = isinstance(error, SafetyError)
        return Row(model, candidate.revision, candidate.step, seen, error.problems, is_safety)
    of_tokenizer = tokenizer_problems(seen.tokenizer_folder) if seen.tokenizer_folder else ()
    return Row(model, candidate.revision, candidate.step, seen, (*damage(seen), *of_tokenizer))


def _without_tokenizer(source: Source, candidate: Candidate, options: Options) -> Checkpoint | None:
    """Describe a checkpoint that lacks only a tokenizer; None if it has another problem."""
    try:
        lenient = replace(options, needs_tokenizer=False)
        return with_base(source.describe(candidate, lenient), lenient)
    except (CheckpointError, SafetyError):
        return None


def _as_far_as_seen(source: Source, candidate: Candidate, options: Options) -> Checkpoint | None:
    """Describe a checkpoint that must not be loaded, as if all permissions were given; None on failure."""
    lenient = replace(options, allow_pickle=True, trust_remote_code=True, needs_tokenizer=False)
    try:
        return source.describe(candidate, lenient)
    except (CheckpointError, SafetyError):
        return None


def damage(checkpoint: Checkpoint) -> list[Problem]:
    """Return a problem for each local weight file, including the base's, that is cut short or corrupt."""
    found = [] if checkpoint.base is None else damage(checkpoint.base)
    for name in checkpoint.weight_files if checkpoint.folder else ():
        path = checkpoint.small_files / name
        try:
            refuse_pointers(checkpoint.small_files, (name,))
            if name.endswith(".safetensors"):
                header(path)
            elif _is_cut_pickle(path):
                what = "a weight file is cut short: it begins as a zip archive and has no end"
                raise CheckpointError(what, where=str(path), fix=_PICKLE_FIX)
        except CheckpointError as error:
            found += error.problems
    return found


def _is_cut_pickle(path: Path) -> bool:
    """Return whether a pickle is cut short; False for those of torch before 1.6, which are not archives."""
    try:
        with path.open("rb") as file:
            begins_as_zip = file.read(2) == b"PK"
        return begins_as_zip and not zipfile.is_zipfile(path)
    except OSError as error:
        raise CheckpointError(f"a weight file cannot be read: {error.strerror}", where=str(path)) from error


def _with_remote_headers(checkpoint: Checkpoint, *, offline: bool) -> Checkpoint:
    """Return the checkpoint; if it is only on the hub, read parameters and dtype by range requests.

    Raises:
        CheckpointError: The hub does not answer, or a header is not a safetensors header.
        SafetyError: The network may not be used, so the weights cannot be fetched.
    """
    if checkpoint.base is not None:
        base = _with_remote_headers(checkpoint.base, offline=offline)
        return replace(checkpoint, base=base, n_parameters=base.n_parameters, dtype=base.dtype)
    if checkpoint.folder is not None:
        return checkpoint
    if is_offline(offline):
        what = "its weights are not in the local cache, and the network is off (--offline or HF_HUB_OFFLINE)"
        fix = f"with a network: memprobe fetch -m '{checkpoint.label}'"
        raise SafetyError(what, where=checkpoint.label, fix=fix)
    if checkpoint.weights_format != "safetensors" or checkpoint.repo is None:
        return checkpoint
    from huggingface_hub import HfApi
    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    counts: dict[str, int] = {}
    for name in checkpoint.weight_files:
        try:
            with hub_errors(f"{checkpoint.label}, {name}"):
                found = HfApi().parse_safetensors_file_metadata(
                    checkpoint.repo, name, revision=checkpoint.commit
                )
        except (SafetensorsParsingError, NotASafetensorsRepoError) as error:
            what = f"the header of {name} is not a safetensors header"
            raise CheckpointError(what, where=checkpoint.label) from error
        for dtype, n_numbers in numbers_by_dtype(found.parameter_count.items()).items():
            counts[dtype] = counts.get(dtype, 0) + n_numbers
    commonest = max(counts, key=counts.__getitem__, default=None)
    return replace(checkpoint, n_parameters=sum(counts.values()), dtype=commonest)
