"""`memprobe fetch`: bring models, tokenizers and data of a question here, for a run without a network."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memprobe.checkpoints import Checkpoint, CheckpointCache, CheckpointSequence, check_supply
from memprobe.errors import CheckpointError, IncompleteRunError, InputError, Problem
from memprobe.items import read_items
from memprobe.options import RunOptions
from memprobe.pipeline.listener import Notes
from memprobe.pipeline.models import read_models
from memprobe.pipeline.question import merge
from memprobe.wording import counted, sized

SUITE, FILE = "SUITE", "FILE"
# What of the options decides which files are needed, in the order of the command line.
_FLAGS = ("model", "control", "steps", "stages", "tokenizer", "data", "map", "limit", "on_bad_item")
_SWITCHES = ("trust_remote_code", "allow_pickle")


@dataclass(frozen=True, slots=True)
class Fetched:
    """The checkpoints that are on this machine after fetching.

    Attributes:
        command: The command that needs no network; `SUITE` and `FILE` in it stand for what was not given.
        checkpoints: The checkpoints, their files here.
        n_fetched: How many of them were not here before.
        n_bytes: Bytes of the weights of those.
        n_items: Items read; None where no data were given.
    """

    command: str
    checkpoints: tuple[Checkpoint, ...]
    n_fetched: int
    n_bytes: int
    n_items: int | None


def fetch_all(
    suite: str | Path | None = None,
    *,
    probes: Sequence[str] = (),
    settings: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    notes: Notes,
    bars: bool = False,
) -> Fetched:
    """Fetch everything that a run would need; the arguments are those of `ask`.

    Args:
        suite: A suite; None: the probes, or nothing but models and data.
        probes: Probes of the question.
        settings: `PROBE.KEY=VALUE`.
        options: Options by name; models are needed, data are not.
        notes: Receives what is fetched.
        bars: Let the hub's client show its own progress bars.

    Raises:
        InputError: The question is wrong, or the disk has too little room; nothing large was fetched.
        IncompleteRunError: Some checkpoints could not be fetched, the others are here.
        SafetyError: The network is switched off, or pickle or remote code would be needed.
    """
    given = {name: value for name, value in (options or {}).items() if value not in (None, ())}
    merged = _options(suite, probes, settings, given)
    items = None
    if merged.data:
        notes.note(f"reading {', '.join(merged.data)}")
        items = read_items(
            merged.data,
            limit=merged.limit,
            on_bad=merged.on_bad_item,
            offline=merged.offline,
            mapping=merged.map,
        )
    checkpoints = _all(read_models(merged, items, notes).sequences)
    check_supply(checkpoints, keep=0, offline=merged.offline)
    here, n_bytes = _bring(checkpoints, merged, notes, bars=bars)
    # What the command below will find, by the same way.
    found = _all(read_models(replace(merged, offline=True), items, _Silence()).sequences)
    if lost := [each.label for each in here if (each.label, each.commit) not in map(_identity, found)]:
        what = f"{counted(len(lost), 'checkpoint')} cannot be found without the network: {lost[0]}"
        raise CheckpointError(what, fix="run the same command again")
    n_fetched = len(n_bytes)
    given |= _exact(merged, found, here)
    command = _command(suite, probes, settings, given, has_data=items is not None)
    return Fetched(
        command, tuple(here), n_fetched, sum(n_bytes), None if items is None else items.table.height
    )


def _options(
    suite: str | Path | None, probes: Sequence[str], settings: Sequence[str], given: Mapping[str, Any]
) -> RunOptions:
    """Return what is asked for; without suite and probes, models and data alone."""
    if suite is None and not probes:
        if settings:
            raise InputError("--set was given without a suite or a probe", fix="name a suite or -p PROBE")
        # Any suite would do: which probe measures does not change which files are needed.
        suite = "quickstart"
    _, merged = merge(suite, probes=probes, settings=settings, options=given)
    if not merged.model:
        raise InputError("no model was given", fix="name at least one with -m, as in -m org/name@step1000")
    return merged


def _all(sequences: Sequence[CheckpointSequence]) -> list[Checkpoint]:
    return [each for sequence in sequences for each in sequence.checkpoints]


def _identity(checkpoint: Checkpoint) -> tuple[str, str | None]:
    return checkpoint.label, checkpoint.commit


def _bring(
    checkpoints: Sequence[Checkpoint], options: RunOptions, notes: Notes, *, bars: bool
) -> tuple[list[Checkpoint], list[int]]:
    """Fetch what is not here; returns all checkpoints, and the bytes of each that had to be fetched."""
    here: list[Checkpoint] = []
    n_bytes: list[int] = []
    problems: list[Problem] = []

    def tell(each: Checkpoint) -> None:
        place = f"{len(here) + len(problems) + 1} of {len(checkpoints)}"
        notes.note(f"fetching {each.label} ({place}), {sized(each.n_bytes)}")
        n_bytes.append(each.n_bytes)

    cache = CheckpointCache(offline=options.offline, bars=bars, on_fetch=tell)
    try:
        for each in checkpoints:
            try:
                here.append(cache.bring(each) or each)
            except CheckpointError as error:
                problems += error.problems
    finally:
        cache.close()
    if problems:
        n_of = f"{len(problems)} of {counted(len(checkpoints), 'checkpoint')}"
        what = f"{n_of} could not be fetched; the others are here, and the same command goes on from there"
        raise IncompleteRunError([*problems, Problem(what)])
    return here, n_bytes


def _exact(
    options: RunOptions, found: Sequence[Checkpoint], here: Sequence[Checkpoint]
) -> dict[str, tuple[str, ...]]:
    """Return the models by their revisions where the cache would give a pattern more than the hub did."""
    if list(map(_identity, found)) == list(map(_identity, here)):
        return {}
    revisions: dict[str, list[str]] = {}
    for each in here:
        revisions.setdefault(each.repo or "", []).append(each.revision)
    specs = []
    for spec in options.model:
        repo = spec.partition("@")[0]
        named = revisions.get(repo, [])
        exact = f"{repo}@{{{','.join(named)}}}" if len(named) > 1 else f"{repo}@{''.join(named)}"
        specs.append(exact if named else spec)
    return {"model": tuple(dict.fromkeys(specs))}


def _command(
    suite: str | Path | None,
    probes: Sequence[str],
    settings: Sequence[str],
    given: Mapping[str, Any],
    *,
    has_data: bool,
) -> str:
    words = ["memprobe", "run"]
    if suite is not None or not probes:
        words.append(SUITE if suite is None else str(suite))
    for flag, values in (("-p", probes), ("--set", settings)):
        words += [word for value in values for word in (flag, value)]
    for name in _FLAGS:
        values = given.get(name, ())
        flag = {"model": "-m", "data": "-d"}.get(name, f"--{name.replace('_', '-')}")
        listed = values if isinstance(values, tuple) else (values,)
        words += [word for value in listed for word in (flag, str(value))]
    words += [] if has_data else ["-d", FILE]
    words += [f"--{name.replace('_', '-')}" for name in _SWITCHES if given.get(name)]
    return shlex.join([*words, "--offline"])


class _Silence:
    """A receiver of notes that ignores them, because they were shown before."""

    def stage(self, name: str) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""
