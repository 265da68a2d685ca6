"""Resolve specs to sequences: find, merge, select by step, inspect each checkpoint, check tokenizers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memprobe.checkpoints.adapter import with_base
from memprobe.checkpoints.contents import has_tokenizer, list_folder
from memprobe.checkpoints.digest import tokenizer_digest
from memprobe.checkpoints.hub import fetch_tokenizer, find_on_hub
from memprobe.checkpoints.identity import (
    Candidate,
    Checkpoint,
    CheckpointSequence,
    Options,
    ProblemCollector,
    Source,
)
from memprobe.checkpoints.local import find_folder, is_there, named_path, path_problem, sibling_near
from memprobe.checkpoints.order import Choice, in_order, refuse_mixed, twins_of, unknown_stages
from memprobe.checkpoints.snapshots import Snapshot
from memprobe.checkpoints.spec import StepSelection, parse_hub_spec, parse_stages, parse_steps
from memprobe.checkpoints.tokenizer_files import tokenizer_problems
from memprobe.errors import CheckpointError, SafetyError, UnloadableError
from memprobe.wording import listed

# The hub answers in tenths of a second; a sequence may have hundreds of revisions.
_N_THREADS = 8


@dataclass(frozen=True, slots=True)
class Group:
    """The sources of one sequence, and the chosen checkpoints.

    Attributes:
        sources: Sources that the specs name.
        chosen: Candidates selected by `--steps`, in order, each with its source.
        notes: How the specs were read.
        stages: The values of `--stages` that were used.
        labels: Labels that `--stages` could have named.
        name: The `model` of all its checkpoints; see `find`.
    """

    sources: tuple[Source, ...]
    chosen: tuple[tuple[Source, Candidate], ...]
    notes: tuple[str, ...]
    stages: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()
    name: str = ""

    @property
    def model(self) -> str:
        """Name in the specs: the hub id, or the name of the folder."""
        return self.sources[0].model

    @property
    def root(self) -> Path | None:
        """Folder of the sequence; None for the hub."""
        return self.sources[0].root


def resolve(  # noqa: PLR0913 - the flags that say which checkpoints, and how they may be read
    specs: Sequence[str],
    *,
    steps: str | None = None,
    stages: str | None = None,
    any_stages: bool = False,
    tokenizer: str | None = None,
    offline: bool = False,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    needs_tokenizer: bool = True,
) -> tuple[CheckpointSequence, ...]:
    """Return the sequences that the specs name, in the order of the specs.

    Specs of checkpoints in one folder or one repository form one sequence. Sequences with the same name get
    the names of their parent folders as a prefix.

    Args:
        specs: As after `-m`: folders or hub specs; a path that exists wins over a hub id.
        steps: As after `--steps`: which checkpoints.
        stages: As after `--stages`: labels of names, in the order of training.
        any_stages: Whether values of `stages` may match none of these specs.
        tokenizer: As after `--tokenizer`: a folder or a hub id; it replaces all other tokenizers.
        offline: Whether the network must not be used.
        allow_pickle: Whether pickle weights are accepted.
        trust_remote_code: Whether checkpoints with their own code are accepted.
        needs_tokenizer: Whether a checkpoint without a tokenizer is an error.

    Raises:
        CheckpointError: The specs or checkpoints have problems; all are reported at once, before any work.
        SafetyError: The only problem is that pickle, remote code or the network is not allowed.
    """
    options = Options(offline, allow_pickle, trust_remote_code, needs_tokenizer)
    choice = replace(chosen(steps, stages), is_strict=not any_stages)
    options, groups = find(specs, options, choice=choice, tokenizer=tokenizer)
    troubles = ProblemCollector()
    for group in groups:
        with troubles.noted():
            _refuse_twins(group)
    sequences = tuple(_sequence(group, options, troubles) for group in groups)
    troubles.raise_any()
    return sequences


def chosen(steps: str | None = None, stages: str | None = None) -> Choice:
    """Return the parsed values of `--steps` and `--stages`.

    Raises:
        CheckpointError: A value is malformed.
    """
    return Choice(
        None if steps is None else parse_steps(steps), () if stages is None else parse_stages(stages)
    )


def find(
    specs: Sequence[str], options: Options, *, choice: Choice | None = None, tokenizer: str | None = None
) -> tuple[Options, tuple[Group, ...]]:
    """Return the candidates that the specs name, not yet inspected, and the options with the tokenizer.

    Raises:
        CheckpointError: A spec names no checkpoint, or a selection leaves none.
        SafetyError: The network would be needed and is not allowed.
    """
    if not specs:
        raise CheckpointError("no model was given", fix="pass -m DIR or -m org/name")
    choice = choice or Choice()
    troubles = ProblemCollector()
    with troubles.noted():
        folder = None if tokenizer is None else find_tokenizer(tokenizer, offline=options.offline)
        options = replace(options, tokenizer_folder=folder)
    groups = []
    for sources in _merged(_sources(specs, choice.steps, troubles, offline=options.offline)):
        with troubles.noted():
            groups.append(_chosen(sources, choice))
    troubles.raise_any()
    used = [value for group in groups for value in group.stages]
    unknown_stages(choice, used, [label for group in groups for label in group.labels])
    named = zip(groups, _names(groups), strict=True)
    return options, tuple(replace(group, name=name) for group, name in named)


def _sources(
    specs: Sequence[str], selection: StepSelection | None, troubles: ProblemCollector, *, offline: bool
) -> list[Source]:
    sources = []
    for spec in specs:
        with troubles.noted():
            sources.append(_source(spec, with_steps=selection is not None, offline=offline))
    return sources


def _source(spec: str, *, with_steps: bool, offline: bool) -> Source:
    if not spec.strip():
        raise CheckpointError("the model spec is empty", fix="pass -m DIR or -m org/name")
    if is_there(named_path(spec)):
        return find_folder(spec, with_steps=with_steps)
    hub_spec = parse_hub_spec(spec)
    if hub_spec is None:
        raise path_problem(spec)
    path = named_path(hub_spec.repo)
    if path.is_dir():
        what = f"{hub_spec.repo} is a folder here, and a folder has no revisions"
        raise CheckpointError(what, where=spec, fix=f"pass -m {hub_spec.repo} and choose with --steps")
    try:
        return find_on_hub(spec, hub_spec, offline=offline)
    except (CheckpointError, SafetyError) as error:
        # `runs/mian` looks like a hub id; a similar name on disk shows that a path was meant.
        if path.parent.is_dir() and sibling_near(path):
            raise path_problem(hub_spec.repo) from error
        raise


def find_tokenizer(spec: str, *, offline: bool) -> Path:
    """Return the folder of the tokenizer that `--tokenizer` names, fetched if need be.

    Raises:
        CheckpointError: `spec` does not name a tokenizer.
        SafetyError: The network would be needed and is not allowed.
    """
    path = named_path(spec)
    if path.is_dir():
        if has_tokenizer(list_folder(path)):
            return path
        what = "the folder of --tokenizer has no tokenizer"
        raise CheckpointError(what, where=str(path), fix="pass a folder with tokenizer.json, or a hub id")
    hub_spec = None if is_there(path) else parse_hub_spec(spec)
    if hub_spec is None:
        what = f"--tokenizer `{spec}` is not a folder{sibling_near(path)}"
        raise CheckpointError(what, where=str(path), fix="pass a folder with tokenizer.json, or a hub id")
    return fetch_tokenizer(spec, hub_spec, offline=offline)


def _merged(sources: list[Source]) -> list[list[Source]]:
    """Group the sources whose checkpoints belong to one folder or one repository."""
    groups: dict[tuple[str, bool], list[Source]] = {}
    for source in sources:
        key = (source.model, True) if source.root is None else (str(source.root), source.stepped)
        groups.setdefault(key, []).append(source)
    return list(groups.values())


def _chosen(sources: list[Source], choice: Choice) -> Group:
    """Put the checkpoints in order and choose by step."""
    found = {candidate.revision: (source, candidate) for source in sources for candidate in source.candidates}
    model, where = sources[0].model, ", ".join(source.spec for source in sources)
    candidates = [candidate for _, candidate in found.values()]
    if len(sources) > 1 and len(found) > 1:
        _refuse_unnamed(model, candidates, where)
    ordered = in_order(model, candidates, choice, where)
    notes = [*(note for source in sources for note in source.notes), *ordered.notes]
    selection, steps = choice.steps, [each.step for each in ordered.candidates if each.step is not None]
    kept = [each for each in ordered.candidates if selection is None or each.step in selection]
    if selection is not None and not kept:
        raise _none_left(model, selection, steps, where)
    if not ordered.stages:
        refuse_mixed(model, kept, where)
    absent = [str(step) for step in selection.singles() if step not in steps] if selection else []
    if absent:
        notes.append(f"--steps names steps that {model} does not have: {listed(absent)}")
    pairs = tuple((found[each.revision][0], each) for each in kept)
    return Group(tuple(sources), pairs, tuple(notes), ordered.stages, ordered.labels)


def _refuse_unnamed(model: str, candidates: Sequence[Candidate], where: str) -> None:
    """Refuse revisions of several specs whose names have no step, because their order is not known."""
    if any(each.named is not None for each in candidates):
        return
    names = [each.revision for each in candidates]
    raise CheckpointError(
        f"the names of {listed(names)} have no step, so their order in training is not known",
        where=where,
        fix=f"name them in that order in one spec, as in '{model}@{{{','.join(names)}}}'",
    )


def _none_left(model: str, selection: StepSelection, steps: list[int], where: str) -> CheckpointError:
    what = f"no checkpoint of {model} is left by --steps {selection.text}"
    if len(steps) > 1:
        fix = f"it has {len(steps)} checkpoints, at steps {min(steps)} to {max(steps)}"
    else:
        fix = (
            f"it has one checkpoint, at step {steps[0]}" if steps else "it has one checkpoint, without a step"
        )
    if "/" in model:
        fix += f"; '{model}@step*' names all its steps"
    return CheckpointError(what, where=where, fix=fix)


def twins(group: Group) -> dict[int, list[str]]:
    """Return the steps that occur more than once, with their revisions."""
    return twins_of(candidate for _, candidate in group.chosen)


def _refuse_twins(group: Group) -> None:
    found = [f"{step} ({', '.join(names)})" for step, names in twins(group).items()]
    if found:
        raise CheckpointError(
            f"two checkpoints of {group.model} have one step: {listed(found)}",
            where=", ".join(source.spec for source in group.sources),
            fix="name the checkpoints that you mean one by one, with -m for each",
        )


def _names(groups: list[Group]) -> list[str]:
    """Return each group's model name, prefixed with as many parent folders as make the names distinct."""
    names = [group.model for group in groups]
    for depth in range(2, max((len(group.root.parts) for group in groups if group.root), default=0) + 1):
        clashing = [names.count(name) > 1 for name in names]
        if not any(clashing):
            return names
        names = [
            "/".join(group.root.parts[-depth:]) if clashes and group.root else name
            for group, name, clashes in zip(groups, names, clashing, strict=True)
        ]
    for group, name in zip(groups, names, strict=True):
        if names.count(name) > 1:
            raise CheckpointError(
                f"two sequences have the name {group.model}",
                where=", ".join(source.spec for other in groups for source in other.sources),
                fix="measure them in two runs, or rename a folder",
            )
    return names


def look(group: Group, options: Options) -> list[Checkpoint | CheckpointError | SafetyError]:
    """Inspect each candidate; a problem of one does not hide those of others."""
    from concurrent.futures import ThreadPoolExecutor

    def described(pair: tuple[Source, Candidate]) -> Checkpoint | CheckpointError | SafetyError:
        source, candidate = pair
        try:
            checkpoint = with_base(source.describe(candidate, options), options)
        except (CheckpointError, SafetyError) as error:
            return error
        return replace(checkpoint, model=group.name)

    with ThreadPoolExecutor(_N_THREADS) as pool:
        return list(pool.map(described, group.chosen))


def _sequence(group: Group, options: Options, troubles: ProblemCollector) -> CheckpointSequence:
    """Inspect all checkpoints; one that cannot be loaded keeps its place if others can be loaded."""
    checkpoints, lost = [], []
    for pair, outcome in zip(group.chosen, look(group, options), strict=True):
        if isinstance(outcome, Checkpoint):
            checkpoints.append(_with_tokenizer(outcome, options))
        elif isinstance(outcome, UnloadableError):
            checkpoints.append(_lost(group.name, pair, outcome))
        else:
            lost.append(outcome)
    loadable = [each for each in checkpoints if not each.problems]
    if not loadable:
        lost += [UnloadableError(each.problems) for each in checkpoints]
    for error in lost:
        troubles.add(error)
    if options.needs_tokenizer and options.tokenizer_folder is None:
        with troubles.noted():
            _refuse_mixed_tokenizers(group.name, loadable)
    return CheckpointSequence(group.name, tuple(checkpoints), group.notes)


def _lost(model: str, pair: tuple[Source, Candidate], error: UnloadableError) -> Checkpoint:
    """Return a placeholder for a checkpoint that cannot be read at all."""
    source, candidate = pair
    snapshot = None if candidate.commit is None else Snapshot(source.model, candidate.commit)
    return Checkpoint(
        model=model,
        revision=candidate.revision,
        step=candidate.step,
        folder=candidate.folder,
        repo=None if snapshot is None else source.model,
        tokenizer_folder=None,
        weights_format="safetensors",
        weight_files=(),
        n_bytes=0,
        n_parameters=None,
        dtype=None,
        commit=candidate.commit,
        config_folder=None if snapshot is None else snapshot.folder,
        problems=error.problems,
    )


def _with_tokenizer(checkpoint: Checkpoint, options: Options) -> Checkpoint:
    """Return the checkpoint, with `problems` if it needs a tokenizer and its tokenizer cannot be read."""
    folder = checkpoint.tokenizer_folder
    if folder is None or folder == options.tokenizer_folder:
        return checkpoint
    if options.needs_tokenizer:
        problems = tokenizer_problems(folder)
        return replace(checkpoint, tokenizer_folder=None, problems=problems) if problems else checkpoint
    try:
        tokenizer_digest(folder)
    except UnloadableError:
        return replace(checkpoint, tokenizer_folder=None)
    return checkpoint


def tokenizers(checkpoints: Sequence[Checkpoint]) -> dict[str, list[str]]:
    """Return tokenizer digest to revisions; checkpoints without a tokenizer are left out."""
    folders = {checkpoint.tokenizer_folder for checkpoint in checkpoints}
    digests = {folder: tokenizer_digest(folder) for folder in folders if folder is not None}
    by_digest: dict[str, list[str]] = {}
    for checkpoint in checkpoints:
        if checkpoint.tokenizer_folder is not None:
            by_digest.setdefault(digests[checkpoint.tokenizer_folder], []).append(checkpoint.revision)
    return by_digest


def _refuse_mixed_tokenizers(model: str, checkpoints: list[Checkpoint]) -> None:
    by_digest = tokenizers(checkpoints)
    if len(by_digest) > 1:
        shares = " / ".join(listed(revisions) for revisions in by_digest.values())
        raise CheckpointError(
            f"the tokenizer differs inside {model}: {len(by_digest)} different ones",
            where=shares,
            fix="pass --tokenizer with the one for all, or choose checkpoints with --steps",
        )
