"""Put the checkpoints of one sequence in the order of their training, and give each its step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from memprobe.checkpoints.identity import Candidate
from memprobe.checkpoints.names import Named, labels_of, stage_of
from memprobe.checkpoints.spec import StepSelection
from memprobe.errors import CheckpointError
from memprobe.wording import listed, near_miss

_MAX_STEP = 2**63 - 1
_LISTED_STAGES = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """The order and selection of checkpoints that the user asked for.

    Attributes:
        steps: Value of `--steps`; None for all steps.
        stages: Values of `--stages`, in the order of training; empty if not given.
        is_strict: Whether each stage must occur in some sequence.
    """

    steps: StepSelection | None = None
    stages: tuple[str, ...] = ()
    is_strict: bool = True


@dataclass(frozen=True, slots=True)
class Ordered:
    """The checkpoints of a sequence.

    Attributes:
        candidates: The checkpoints with their steps, in order.
        notes: How the names were read, one sentence each.
        stages: Values of `--stages` that match a label of the sequence.
        labels: Labels that `--stages` could have named.
    """

    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()
    stages: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()


def in_order(model: str, candidates: Sequence[Candidate], choice: Choice, where: str) -> Ordered:
    """Return the checkpoints in order, each with its step, before `--steps` selects from them.

    Numbers after words for time are steps. If a number has no such word or is a fraction, or no name has a
    number, the positions from 0 are the steps: in the order of the numbers, else in the given order. A single
    checkpoint whose name has no whole step has no step.

    Args:
        model: Name of the sequence, for messages.
        candidates: All checkpoints that the specs name, in the given order.
        choice: The order and selection that the user asked for.
        where: The specs, for messages.

    Raises:
        CheckpointError: The names give no order, and the user gave none.
    """
    named = [each.named for each in candidates if each.named is not None]
    if len(candidates) > 1 and not named:
        return _by_position(candidates)
    if len(named) < len(candidates) and len(candidates) > 1:
        raise _partly_named(model, candidates, where)
    labels = labels_of(named)
    if len(candidates) == 1:
        return _alone(candidates[0], choice, labels)
    found = _stages(model, labels, choice, where)
    if len(labels) > 1 and not found and not _can_wait(named):
        raise _no_order(model, candidates, labels, where)
    texts = list(found) or list(labels)
    kept = [each for each in candidates if _name(each).text in texts]
    placed = sorted(kept, key=lambda each: (texts.index(_name(each).text) if found else 0, _name(each).value))
    _check_counters(model, placed, where)
    left_out = [each.revision for each in candidates if _name(each).text not in texts]
    notes = [f"left out, as --stages does not name their stage: {listed(left_out)}"] if left_out else []
    if not all(_is_step(_name(each)) for each in placed):
        _refuse_same_number(model, placed, where)
        ordered = _by_position(placed)
    elif len(found) > 1:
        ordered = _counted_on(placed, {text: labels[text] for text in found})
    else:
        ordered = Ordered(tuple(replace(each, step=_step(each, where)) for each in placed))
    return replace(
        ordered,
        notes=(*notes, *ordered.notes),
        stages=frozenset(found.values()),
        labels=tuple(labels.values()),
    )


def _alone(only: Candidate, choice: Choice, labels: dict[str, str]) -> Ordered:
    """Return a single checkpoint with the step in its name, if that is a whole number."""
    used = frozenset(value for value in choice.stages if stage_of(value, labels))
    step = _step(only, only.revision) if only.named is not None and _is_step(only.named) else None
    is_part = only.named is not None and only.named.counts and step is None
    notes = (f"{only.revision} has no step, as its number is not whole",) if is_part else ()
    return Ordered((replace(only, step=step),), notes, used, tuple(labels.values()))


def refuse_mixed(model: str, candidates: Sequence[Candidate], where: str) -> None:
    """Refuse checkpoints of several stages or methods whose order the user did not give.

    Raises:
        CheckpointError: The text around the step differs between names.
    """
    labels = labels_of(each.named for each in candidates if each.named is not None)
    if len(labels) > 1:
        raise _no_order(model, candidates, labels, where)


def unknown_stages(choice: Choice, used: Iterable[str], labels: Iterable[str]) -> None:
    """Refuse values of `--stages` that no sequence has.

    Raises:
        CheckpointError: There are such values.
    """
    there = list(dict.fromkeys(labels))
    missing = [value for value in choice.stages if value not in set(used)]
    if missing and choice.is_strict:
        what = ", ".join(
            f"no checkpoint has `{value}` in its name{near_miss(value, there)}" for value in missing
        )
        fix = f"labels are {', '.join(there[:_LISTED_STAGES]) or 'none'}"
        raise CheckpointError(what, where=f"--stages {','.join(choice.stages)}", fix=fix)


def _name(candidate: Candidate) -> Named:
    if candidate.named is None:
        raise ValueError(f"expected a candidate with a number in its name, got {candidate.revision}")
    return candidate.named


def _is_step(named: Named) -> bool:
    return named.counts and named.value.denominator == 1


def _can_wait(named: Sequence[Named]) -> bool:
    """Return whether the steps are known without an order of stages, so `--steps` may select one stage."""
    return all(_is_step(each) for each in named)


def _step(candidate: Candidate, where: str, offset: int = 0) -> int:
    step = int(_name(candidate).value) + offset
    if step > _MAX_STEP:
        raise CheckpointError(f"the step of {candidate.revision} is above 2^63 - 1", where=where)
    return step


def _by_position(candidates: Sequence[Candidate]) -> Ordered:
    names = listed([each.revision for each in candidates])
    note = f"no step in the name, so the position from 0 is the step: {names}"
    if any(each.named is not None and each.named.counts for each in candidates):
        note = f"the steps in the names are not whole numbers, so the position from 0 is the step: {names}"
    placed = (replace(each, step=position) for position, each in enumerate(candidates))
    return Ordered(tuple(placed), (note,))


def _counted_on(placed: Sequence[Candidate], labels: dict[str, str]) -> Ordered:
    """Count the steps of each stage from the end of the stage before.

    Step 0 of a later stage is the same as the end of the stage before, and is left out.
    """
    notes: list[str] = []
    done: list[Candidate] = []
    for place, (text, label) in enumerate(labels.items()):
        offset = done[-1].step or 0 if done else 0
        of_stage = [each for each in placed if _name(each).text == text]
        begins = [each for each in of_stage if place and _name(each).value == 0]
        if begins:
            names = listed([each.revision for each in begins])
            notes.append(f"left out, as step 0 of {label} is the end of the stage before: {names}")
        if place:
            before = list(labels.values())[place - 1]
            counted_on = "its steps are counted on from there"
            notes.append(f"{label} starts at step {offset:,}, the last of {before}: {counted_on}")
        done += [
            replace(each, step=_step(each, label, offset), stage=label, offset=offset)
            for each in of_stage
            if not (place and _name(each).value == 0)
        ]
    return Ordered(tuple(done), tuple(notes))


def _stages(model: str, labels: dict[str, str], choice: Choice, where: str) -> dict[str, str]:
    """Return the values of `--stages` by the text that they name, in the order of `--stages`."""
    found: dict[str, str] = {}
    for value in choice.stages:
        texts = stage_of(value, labels)
        if len(texts) > 1 or any(text in found for text in texts):
            named = ", ".join(labels[text] for text in texts)
            what = f"`{value}` of --stages names {named} of {model}"
            again = "which another value names too" if len(texts) == 1 else "which have no order among them"
            raise CheckpointError(
                f"{what}, {again}", where=where, fix="name each of them as it is written here"
            )
        found |= dict.fromkeys(texts, value)
    # A single stage needs no order, so none of its checkpoints are left out.
    return found if len(labels) > 1 else {text: found[text] for text in labels if text in found}


def _no_order(
    model: str, candidates: Sequence[Candidate], labels: dict[str, str], where: str
) -> CheckpointError:
    shown = [
        f"{label} ({listed([each.revision for each in candidates if _name(each).text == text])})"
        for text, label in labels.items()
    ]
    more = f" and {len(shown) - _LISTED_STAGES} more" if len(shown) > _LISTED_STAGES else ""
    return CheckpointError(
        f"the names in {model} differ in more than their step, so their order in training is not known: "
        f"{'; '.join(shown[:_LISTED_STAGES])}{more}",
        where=where,
        fix="give the order with --stages and these labels, as in "
        f"--stages {','.join(list(labels.values())[:2])}; the steps of a stage are then counted on from the "
        "end of the stage before, and stages that are not named are left out",
    )


def _partly_named(model: str, candidates: Sequence[Candidate], where: str) -> CheckpointError:
    unnamed = listed([each.revision for each in candidates if each.named is None])
    return CheckpointError(
        f"there is no step in a name among others of {model} that have one, so its place is not known: "
        f"{unnamed}",
        where=where,
        fix="measure it in a run of its own, or leave it out",
    )


def _check_counters(model: str, placed: Sequence[Candidate], where: str) -> None:
    """Refuse a counter that falls while the step rises: there are two runs, or the step restarts."""
    last: dict[tuple[str, str], Candidate] = {}
    for each in placed:
        for word, value in _name(each).counters:
            key = (_name(each).text, word)
            before = last.get(key)
            if before is not None and _rises(before, each) and dict(_name(before).counters)[word] > value:
                raise CheckpointError(
                    f"the names in {model} contradict each other: the step rises from {before.revision} to "
                    f"{each.revision}, and the number after `{word}` falls",
                    where=where,
                    fix="put the checkpoints of each run into a folder of their own",
                )
            last[key] = each


def _rises(before: Candidate, after: Candidate) -> bool:
    return _name(before).value < _name(after).value


def _refuse_same_number(model: str, placed: Sequence[Candidate], where: str) -> None:
    """Refuse two checkpoints with the same number, which positions as steps would hide."""
    by_number: dict[tuple[str, Fraction], list[str]] = {}
    for each in placed:
        by_number.setdefault((_name(each).text, _name(each).value), []).append(each.revision)
    twins = [", ".join(names) for names in by_number.values() if len(names) > 1]
    if twins:
        what = f"two checkpoints of {model} have one number: {listed(twins)}"
        raise CheckpointError(what, where=where, fix="leave one out, or rename it")


def twins_of(candidates: Iterable[Candidate]) -> dict[int, list[str]]:
    """Return the steps that occur more than once, with their revisions."""
    by_step: dict[int, list[str]] = {}
    for each in candidates:
        if each.step is not None:
            by_step.setdefault(each.step, []).append(each.revision)
    return {step: names for step, names in by_step.items() if len(names) > 1}
