"""Match two runs: items, checkpoints, and probe entries whose numbers are comparable."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from memprobe.errors import Problem, RunsDifferError
from memprobe.options import check_table
from memprobe.pipeline.reading import Run
from memprobe.pipeline.signature import condition_prefixes, signature
from memprobe.pipeline.suite import Entry
from memprobe.probes.contract import Probe
from memprobe.probes.discovery import discover
from memprobe.tables.manifest import CheckpointEntry, Manifest, StageEntry
from memprobe.wording import counted, listed, near_miss

_Checkpoints = Sequence[CheckpointEntry]
_FIRST = 5


@dataclass(frozen=True, slots=True)
class MatchedItems:
    """Items of two runs, matched one by one by `item_id` and content.

    Attributes:
        both: Ids that both runs hold with the same content, sorted.
        base_only: Ids that only the base run holds.
        new_only: Ids that only the new run holds.
        changed: Ids that both hold with different content.
    """

    both: tuple[str, ...]
    base_only: tuple[str, ...] = ()
    new_only: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """One checkpoint of each run that are compared.

    Attributes:
        model_base: Sequence in the base run.
        revision_base: Checkpoint in that sequence.
        step_base: Step of the base checkpoint; None if it has none.
        model_new: Sequence in the new run.
        revision_new: Checkpoint in it.
        step: Step of the new checkpoint; None if it has none.
        scoring: What the numbers of both depend on besides the probe.
    """

    model_base: str
    revision_base: str
    step_base: int | None
    model_new: str
    revision_new: str
    step: int | None
    scoring: str


@dataclass(frozen=True, slots=True)
class MatchedEntry:
    """One probe entry that both runs hold.

    Attributes:
        entry: The probe and its settings.
        prefix_base: What distinguishes it from other entries of its probe in the base run.
        prefix_new: What distinguishes it in the new run.
    """

    entry: Entry
    prefix_base: str | None
    prefix_new: str | None


@dataclass(frozen=True, slots=True)
class Matched:
    """All that two runs have in common.

    Attributes:
        items: The items.
        checkpoints: The pairs of checkpoints, by model and step.
        entries: The probe entries.
        notes: Items, checkpoints and entries without a partner in the other run.
    """

    items: MatchedItems
    checkpoints: tuple[Checkpoints, ...]
    entries: tuple[MatchedEntry, ...]
    notes: tuple[str, ...]


def match(base: Run, new: Run, probes: Collection[str] = (), *, last: bool = False) -> Matched:
    """Match two runs.

    Args:
        base: One run.
        new: The run that is compared with it.
        probes: Only these probes; if empty, all that both runs hold.
        last: Only the last checkpoint of each sequence of the new run; where one side has no step, it is
            matched with the last of the other.

    Raises:
        RunsDifferError: They have nothing in common, or their numbers depend on different things; the
            message names all that differs.
    """
    manifests = base.about, new.about
    where = f"{base.path} and {new.path}"
    entries, problems, notes = _entries(*manifests, probes)
    problems += [
        f"{what} differs: {was} in the base run, {now} in the new one"
        for what, was, now in (
            ("the BOS mode", *(each.bos for each in manifests)),
            ("the dtype", *(each.dtype for each in manifests)),
        )
        if was != now
    ]
    pairs, of_pairs, alone = _checkpoints(*manifests, last=last)
    problems += of_pairs
    items = _items(base, new, pairs)
    if not items.both and not problems:
        problems.append("no item of the one run is in the other, with the same id and content")
    if problems:
        fix = "numbers of different kinds are never compared; make both runs with the same suite and flags"
        if entries:
            fix += ", or name the probes that agree with -p"
        raise RunsDifferError(
            [*(Problem(text, where) for text in problems[:-1]), Problem(problems[-1], where, fix)]
        )
    return Matched(items, pairs, entries, (*_item_notes(items), *alone, *notes))


def _shown(value: object) -> str:
    return "left out" if value is None else str(value)


def _entries(
    base: Manifest, new: Manifest, probes: Collection[str]
) -> tuple[tuple[MatchedEntry, ...], list[str], list[str]]:
    """Return the entries of both runs, what keeps others from being compared, and what only one run holds."""
    held = [each.asked for each in (base, new)]
    names = [list(dict.fromkeys(each.probe for each in side)) for side in held]
    both = [name for name in names[1] if name in names[0]]
    problems = [
        f"no probe `{name}` in both runs{near_miss(name, both)}; they share {', '.join(both) or 'none'}"
        for name in probes
        if name not in both
    ]
    if not both and not probes:
        problems.append(f"no probe is in both runs: {', '.join(names[0])}; {', '.join(names[1])}")
    found: list[MatchedEntry] = []
    notes: list[str] = []
    for name in [each for each in both if not probes or each in probes]:
        sides = [[each for each in side if each.probe == name] for side in held]
        matched, why = _of_probe(name, *sides)
        found += matched
        problems += why
        notes += [
            f"{len(matched)} of {len(side)} settings of {name} in the {which} run are in the {other} run"
            for side, which, other in ((sides[0], "base", "new"), (sides[1], "new", "base"))
            if matched and len(matched) < len(side)
        ]
    notes += [
        f"{name} is in the {which} run alone"
        for side, other, which in ((names[0], names[1], "base"), (names[1], names[0], "new"))
        for name in side
        if name not in other and not probes
    ]
    return tuple(found), problems, notes


def _of_probe(
    name: str, base: Sequence[StageEntry], new: Sequence[StageEntry]
) -> tuple[list[MatchedEntry], list[str]]:
    """Return the entries of one probe that both runs hold, and what differs if there are none."""
    probe = discover().get(name)
    versions = sorted({each.version for each in (*base, *new)})
    if probe is None:
        return [], [f"{name} is not a probe of this memprobe"]
    if versions != [probe.version]:
        runs = f"{base[0].version} in the base run, {new[0].version} in the new one"
        return [], [f"the version of {name} differs: {runs}, {probe.version} in this memprobe"]
    sides = [
        tuple(
            Entry(probe, probe.settings(**check_table(each.settings, probe.settings, name)[0]))
            for each in side
        )
        for side in (base, new)
    ]
    prefixes = [condition_prefixes(side) for side in sides]
    kinds = {signature(entry, ""): prefix for entry, prefix in zip(sides[0], prefixes[0], strict=True)}
    matched = [
        MatchedEntry(entry, kinds[signature(entry, "")], prefix)
        for entry, prefix in zip(sides[1], prefixes[1], strict=True)
        if signature(entry, "") in kinds
    ]
    return matched, [] if matched else [_settings_differ(probe, base, new)]


def _settings_differ(probe: Probe, base: Sequence[StageEntry], new: Sequence[StageEntry]) -> str:
    name = probe.name
    if len(base) > 1 or len(new) > 1:
        return (
            f"no settings of {name} are in both runs ({len(base)} in the base run, {len(new)} in the new one)"
        )
    was, now = base[0].settings, new[0].settings
    differing = [
        f"{key} is {_shown(was.get(key))} in the base run, {_shown(now.get(key))} in the new one"
        for key in dict.fromkeys((*was, *now))
        if was.get(key) != now.get(key) and key not in probe.cosmetic
    ]
    return f"settings of {name} differ: {'; '.join(differing)}"


def _sequences(manifest: Manifest) -> dict[str, list[CheckpointEntry]]:
    """Return the checkpoints that have numbers, by model, steps ascending; the control is none of them."""
    left_out = {each.name for each in manifest.failures}
    left_out |= {manifest.control.name} if manifest.control else set()
    found: dict[str, list[CheckpointEntry]] = {}
    # A checkpoint without a step is alone in its sequence.
    for each in sorted(manifest.checkpoints, key=lambda one: one.step or 0):
        if each.name not in left_out:
            found.setdefault(each.model, []).append(each)
    return found


def _checkpoints(
    base: Manifest, new: Manifest, *, last: bool
) -> tuple[tuple[Checkpoints, ...], list[str], list[str]]:
    """Return the pairs of checkpoints, what keeps them from being compared, and which have no partner."""
    sides = _sequences(base), _sequences(new)
    names = {name: name for name in sides[1] if name in sides[0]}
    rest = [[name for name in side if name not in names] for side in sides]
    failed = [
        name for side, run in ((rest[0], new), (rest[1], base)) for name in side if _asked_of(run, name)
    ]
    if len(rest[0]) == len(rest[1]) == 1 and not failed:
        # One of each is left over: they are meant, whatever their folders are called.
        names[rest[1][0]] = rest[0][0]
        rest = [[], []]
    notes = [
        f"{name} is in the {which} run alone"
        for side, which in zip(rest, ("base", "new"), strict=True)
        for name in side
    ]
    pairs: list[Checkpoints] = []
    problems: list[str] = []
    for name_new, name_base in names.items():
        was, now = sides[0][name_base], sides[1][name_new]
        asked = _asked_of(base, name_base), _asked_of(new, name_new)
        together, of_steps = _together((was, now), asked, last=last)
        notes += [f"{name_new}: {note}" for note in of_steps]
        problems += _tokenizers_differ(together)
        pairs += [_pair(one, other, new) for one, other in together]
    if not pairs:
        steps = [", ".join(_steps_of(name, found) for name, found in side.items()) for side in sides]
        unplaced = [side for side in sides if any(_is_unplaced(found) for found in side.values())]
        why = "; a model without a step is compared with a step only as the last one: --steps last, or "
        why += 'step = "last" in a rule'
        problems.append(
            f"no checkpoint of the one run is in the other, by model and step: {steps[0]}; {steps[1]}"
            + (why if len(unplaced) == 1 and not last else "")
        )
    return tuple(pairs), problems, notes


def _together(
    sides: tuple[_Checkpoints, _Checkpoints], asked: tuple[_Checkpoints, _Checkpoints], *, last: bool
) -> tuple[list[tuple[CheckpointEntry, CheckpointEntry]], list[str]]:
    """Return the pairs of checkpoints of one sequence, and what a reader should know of them.

    Args:
        sides: The checkpoints of both runs that have numbers.
        asked: The checkpoints of both runs, with numbers or without.
        last: Pair only the last ones.
    """
    was, now = sides
    ends = asked[0][-1], asked[1][-1]
    if _is_unplaced(was) != _is_unplaced(now):
        return _beside_unplaced(sides, ends, last=last)
    # What failures left of a sequence is no single checkpoint.
    if len(asked[0]) == len(asked[1]) == 1:
        return [(was[0], now[0])], []
    wanted = [each for each in now if each is ends[1]] if last else now
    by_step = {each.step: each for each in was}
    together = [(by_step[each.step], each) for each in wanted if each.step in by_step]
    if last:
        lacking = listed([each.step for each in wanted if each.step not in by_step], _FIRST)
        return together, [f"step {lacking} is not in the base run"] if lacking else []
    known = ([each.step for each in side if each.step is not None] for side in sides)
    return together, _step_notes(*known)


def _beside_unplaced(
    sides: tuple[_Checkpoints, _Checkpoints], ends: tuple[CheckpointEntry, CheckpointEntry], *, last: bool
) -> tuple[list[tuple[CheckpointEntry, CheckpointEntry]], list[str]]:
    """Pair a checkpoint without a step with the last one of the other run, where that is asked for.

    Its place in training is not known, so it is not paired with any other step.
    """
    placed, which = (sides[1], "new") if _is_unplaced(sides[0]) else (sides[0], "base")
    steps = listed([each.step for each in placed], _FIRST)
    if not last:
        return [], [f"one run has no step, so which one of the {which} run is meant is not known: {steps}"]
    if not all(side[-1] is end for side, end in zip(sides, ends, strict=True)):
        return [], [f"the last checkpoint of the {which} run has no numbers"]
    return [(sides[0][-1], sides[1][-1])], []


def _is_unplaced(checkpoints: _Checkpoints) -> bool:
    """Return whether there is a single checkpoint, without a step."""
    return checkpoints[0].step is None


def _asked_of(manifest: Manifest, model: str) -> _Checkpoints:
    """Return the checkpoints of a sequence, with numbers or without, steps ascending; the control is none."""
    control = manifest.control.name if manifest.control else None
    asked = [each for each in manifest.checkpoints if each.model == model and each.name != control]
    return sorted(asked, key=lambda each: each.step or 0)


def _steps_of(name: str, checkpoints: _Checkpoints) -> str:
    if _is_unplaced(checkpoints):
        return f"{name} without a step"
    return f"{name} step {listed([each.step for each in checkpoints], _FIRST)}"


def _pair(was: CheckpointEntry, now: CheckpointEntry, manifest: Manifest) -> Checkpoints:
    scoring = manifest.scoring_signature(now.tokenizer_digest)
    return Checkpoints(was.model, was.revision, was.step, now.model, now.revision, now.step, scoring)


def _tokenizers_differ(together: Sequence[tuple[CheckpointEntry, CheckpointEntry]]) -> list[str]:
    differing = dict.fromkeys(
        (one.tokenizer_digest or "none", other.tokenizer_digest or "none") for one, other in together
    )
    return [
        f"the tokenizer differs: {one[:12]} in the base run, {other[:12]} in the new one (digests)"
        for one, other in differing
        if one != other
    ]


def _step_notes(was: Sequence[int], now: Sequence[int]) -> list[str]:
    sides = (
        ([each for each in was if each not in now], "base"),
        ([each for each in now if each not in was], "new"),
    )
    return [f"step {listed(steps, _FIRST)} in the {which} run alone" for steps, which in sides if steps]


def _items(base: Run, new: Run, pairs: Sequence[Checkpoints]) -> MatchedItems:
    if not pairs:
        return MatchedItems(())
    # A model's context may be too short for an item that another model of the run holds.
    sides = [
        dict(
            run.table("items")
            .filter(pl.col("model").is_in(models))
            .unique("item_id")
            .select("item_id", "content_hash")
            .sort("item_id")
            .iter_rows()
        )
        for run, models in (
            (base, [each.model_base for each in pairs]),
            (new, [each.model_new for each in pairs]),
        )
    ]
    shared = [item for item in sides[1] if item in sides[0]]
    return MatchedItems(
        both=tuple(item for item in shared if sides[0][item] == sides[1][item]),
        base_only=tuple(item for item in sides[0] if item not in sides[1]),
        new_only=tuple(item for item in sides[1] if item not in sides[0]),
        changed=tuple(item for item in shared if sides[0][item] != sides[1][item]),
    )


def _item_notes(items: MatchedItems) -> list[str]:
    kinds = (
        (items.base_only, "in the base run alone"),
        (items.new_only, "in the new run alone"),
        (items.changed, "with different content in the two runs"),
    )
    return [f"{counted(len(ids), 'item')} {what}: {listed(ids, _FIRST)}" for ids, what in kinds if ids]
