"""Checkpoints in folders: one checkpoint, or a folder whose subfolders are checkpoints.

A checkpoint's folder has a config.json, or an adapter_config.json if it is a LoRA adapter.
"""

from fractions import Fraction
from pathlib import Path

from memprobe.checkpoints.contents import (
    ADAPTER,
    CONFIG,
    GGUF_FIX,
    TOKENIZER_CONFIG,
    VOCABULARIES,
    Listing,
    has_tokenizer,
    has_weights,
    inspect,
    list_folder,
)
from memprobe.checkpoints.header import header
from memprobe.checkpoints.identity import Candidate, Checkpoint, Options, Source
from memprobe.checkpoints.lfs import refuse_pointers
from memprobe.checkpoints.names import read_name, read_order
from memprobe.checkpoints.spec import is_hub_id
from memprobe.errors import CheckpointError
from memprobe.wording import listed, near_miss

_DIR_FIX = (
    "pass a folder with config.json and weights, or one whose subfolders are such folders, "
    "named like step1000, checkpoint-1000, global_step1000, iter_0001000, epoch_3 or ckpt_003"
)


def named_path(spec: str) -> Path:
    """Return the absolute path that `spec` names; links are followed only if it contains `..`.

    Raises:
        CheckpointError: `spec` begins with the home folder of an unknown user.
    """
    try:
        path = Path(spec).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"there is no folder `{spec}`", fix="write the path in full") from error
    return path.resolve() if ".." in path.parts else path.absolute()


def is_there(path: Path) -> bool:
    """Return whether the path exists.

    Raises:
        CheckpointError: The path cannot be read.
    """
    try:
        return path.exists()
    except OSError as error:
        raise CheckpointError(f"the path cannot be read: {error.strerror}", where=str(path)) from error


def find_folder(spec: str, *, with_steps: bool) -> Source:
    """Return the checkpoints that a path names.

    Args:
        spec: A path that exists.
        with_steps: Whether `--steps` was given; then a folder that is both a checkpoint and a sequence is
            read as the sequence.

    Raises:
        CheckpointError: The path is not a folder, or has no checkpoint.
    """
    path = named_path(spec)
    if not path.is_dir():
        raise _not_a_folder(path)
    listing = list_folder(path)
    children = _children(path)
    stepped = [child for child in children if read_name(child.name) is not None]
    found = [child for child in stepped if _holds_one(child)]
    if not found:
        # These names give an order but no step, so positions will be the steps.
        found = [child for child in children if read_order(child.name) and _holds_one(child)]
    if not any(map(_is_checkpoint, found)):
        found = []
    if _is_checkpoint(path) and not (with_steps and found):
        return _single(spec, path, found)
    if found:
        return _sequence(spec, path, found, children)
    raise _nothing(path, listing, children, stepped)


def _single(spec: str, path: Path, found: list[Path]) -> Source:
    named = read_name(path.name)
    notes: tuple[str, ...] = ()
    if found:
        what = f"{path} is a checkpoint and also holds {len(found)} in its subfolders ({_names(found)})"
        notes = (f"{what}; it was taken itself, and --steps takes the subfolders",)
    root = path if named is None else path.parent
    candidate = Candidate(path.name, None, path, named=named)
    return Source(root.name, spec, root, (candidate,), describe_folder, named is not None, notes)


def _sequence(spec: str, path: Path, found: list[Path], children: list[Path]) -> Source:
    notes = []
    read = read_name if read_name(found[0].name) else read_order
    others = [child for child in children if child not in found]
    empty = [child for child in others if read(child.name) and not _holds_one(child)]
    unnamed = [child for child in others if child not in empty and _is_checkpoint(child)]
    if empty:
        notes.append(f"left out of {path.name}, as they have no checkpoint: {_names(empty)}")
    if unnamed:
        notes.append(f"left out of {path.name}, as their names have no step: {_names(unnamed)}")
    candidates = tuple(Candidate(child.name, None, child, named=read(child.name)) for child in found)
    return Source(path.name, spec, path, candidates, describe_folder, notes=tuple(notes))


def describe_folder(candidate: Candidate, options: Options) -> Checkpoint:
    """Describe the checkpoint in a folder; `model` is the name of the folder until the sequence is known.

    Raises:
        CheckpointError: The checkpoint cannot be measured.
        SafetyError: The checkpoint needs a permission that was not given.
    """
    if candidate.folder is None:
        raise ValueError(f"expected a candidate with a folder, got {candidate}")
    return checkpoint_in(candidate, candidate.folder, options, parent=candidate.folder.parent)


def checkpoint_in(
    candidate: Candidate, folder: Path, options: Options, *, parent: Path | None, repo: str | None = None
) -> Checkpoint:
    """Describe the checkpoint whose files are in `folder`.

    Args:
        candidate: Gives revision, step and commit.
        folder: Folder of the files.
        options: Permissions and the choice of tokenizer.
        parent: Folder to search for a tokenizer if the checkpoint has none; None for no other folder.
        repo: Hub id of the checkpoint; None for a local one.

    Raises:
        CheckpointError: The checkpoint cannot be measured, or it needs a tokenizer and has none.
        SafetyError: The checkpoint needs a permission that was not given.
    """
    listing = list_folder(folder)
    weights = inspect(listing, options)
    tokenizer_folder = options.tokenizer_folder or tokenizer_in(folder, parent)
    # An adapter may still get the tokenizer of its base.
    if tokenizer_folder is None and options.needs_tokenizer and weights.format != "lora":
        raise no_tokenizer(listing.where)
    is_safe = weights.format == "safetensors"
    n_parameters, dtype = (
        count_numbers([folder / name for name in weights.files]) if is_safe else (None, None)
    )
    return Checkpoint(
        model=repo or folder.name,
        revision=candidate.revision,
        step=candidate.step,
        folder=folder,
        repo=repo,
        tokenizer_folder=tokenizer_folder,
        weights_format=weights.format,
        weight_files=weights.files,
        n_bytes=weights.n_bytes,
        n_parameters=n_parameters,
        dtype=dtype,
        commit=candidate.commit,
    )


def tokenizer_in(folder: Path, parent: Path | None) -> Path | None:
    """Return `folder` if it has a tokenizer, else `parent` if that has one, else None."""
    for place in (folder, parent):
        if place is not None and has_tokenizer(list_folder(place)):
            refuse_pointers(place, (*VOCABULARIES, TOKENIZER_CONFIG))
            return place
    return None


def no_tokenizer(where: str) -> CheckpointError:
    """Return the error for a checkpoint without a tokenizer."""
    return CheckpointError(
        "there is no tokenizer in the checkpoint, nor beside it",
        where=where,
        fix="pass --tokenizer DIR or --tokenizer org/name, or items with `input_ids`",
    )


def path_problem(spec: str) -> CheckpointError:
    """Return the error for a spec that is neither an existing path nor a model of the hub."""
    path = named_path(spec)
    what = f"there is no folder `{spec}`{sibling_near(path)}"
    is_word = not is_hub_id(spec) and "/" not in spec
    fix = "a model of the hub is written with its organisation, as in EleutherAI/pythia-160m"
    return CheckpointError(what, where=str(path.parent), fix=fix if is_word else _DIR_FIX)


def sibling_near(path: Path) -> str:
    """Return `, did you mean `x`?` for the most similar name next to `path`, or an empty string."""
    for parent in path.parents:
        if parent.is_dir():
            missing = path.relative_to(parent).parts[0]
            return near_miss(missing, [entry.name for entry in _entries(parent)])
    return ""


def _not_a_folder(path: Path) -> CheckpointError:
    if path.suffix == ".gguf":
        return CheckpointError("GGUF weights are not supported", where=str(path), fix=GGUF_FIX)
    what = "a file was given where a checkpoint's folder is expected"
    return CheckpointError(what, where=str(path), fix=f"pass the folder: -m {path.parent}")


def _nothing(path: Path, listing: Listing, children: list[Path], stepped: list[Path]) -> CheckpointError:
    """Return why a folder holds no checkpoint."""
    if listing.ending(".gguf"):
        return CheckpointError("GGUF weights are not supported", where=str(path), fix=GGUF_FIX)
    if listing.ending(".safetensors") or listing.ending(".bin"):
        inspect(listing, Options())
    if stepped:
        what = f"none of its {len(stepped)} checkpoint subfolders ({_names(stepped)}) holds a config.json"
        return CheckpointError(what, where=str(path), fix=_DIR_FIX)
    inner = [child for child in children if any(map(_is_checkpoint, _children(child)))]
    models = [child for child in children if _is_checkpoint(child)]
    if inner or models:
        named = f"{_names(inner or models)} in it {'is' if len(inner or models) == 1 else 'are'}"
        return CheckpointError(
            f"the folder is not a checkpoint sequence itself, but {named}",
            where=str(path),
            fix=f"pass -m {(inner or models)[0]}, or name the subfolders like step1000",
        )
    what = "the folder has neither a config.json nor subfolders that are checkpoints"
    return CheckpointError(what, where=str(path), fix=_DIR_FIX)


def _is_checkpoint(path: Path) -> bool:
    return (path / CONFIG).is_file() or (path / ADAPTER).is_file()


def _holds_one(path: Path) -> bool:
    """Return whether a folder within a sequence is a checkpoint, even if its config.json is missing."""
    return _is_checkpoint(path) or has_weights(list_folder(path))


def _children(path: Path) -> list[Path]:
    """Return the subfolders that are not hidden, sorted by number and name."""
    folders = [entry for entry in _entries(path) if not entry.name.startswith(".") and entry.is_dir()]
    return sorted(folders, key=lambda child: (_number(child.name), child.name))


def _number(name: str) -> Fraction:
    named = read_name(name) or read_order(name)
    return named.value if named else Fraction(0)


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


def _names(paths: list[Path]) -> str:
    return listed([path.name for path in paths])


def count_numbers(files: list[Path]) -> tuple[int | None, str | None]:
    """Return the count of numbers and the most common dtype.

    Both are None if a header is corrupt: that checkpoint fails in the run, and the others continue.
    """
    counts: dict[str, int] = {}
    for file in files:
        try:
            numbers = header(file).numbers
        except CheckpointError:
            return None, None
        for dtype, n_numbers in numbers.items():
            counts[dtype] = counts.get(dtype, 0) + n_numbers
    return sum(counts.values()), max(counts, key=counts.__getitem__, default=None)
