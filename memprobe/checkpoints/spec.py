"""The grammar of `-m`, `--steps` and `--stages`: braces, ranges, hub ids; files are not touched."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from memprobe.checkpoints.names import read_name
from memprobe.errors import CheckpointError

_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")
_STEPS_ITEM = re.compile(r"(\d+)(?:\.\.(\d+)(?::(\d+))?)?")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MAX_EXPANSION = 100_000
_SPEC_FORMS = (
    "write 'org/name', 'org/name@REVISION', 'org/name@step{0,1,2,4}', "
    "'org/name@step{1000..143000..1000}' or 'org/name@step*'"
)
_STAGES_FORM = "write the labels of the names in the order of training, as in --stages stage1,stage2"
_STEPS_FORM = "write steps and rising ranges with commas between, as in --steps 0,1000..143000:1000"


def step_in_name(name: str) -> int | None:
    """Return the step in `name`; None if there is no step, or only a fraction such as `epoch1.5`."""
    named = read_name(name)
    return int(named.value) if named is not None and named.value.denominator == 1 else None


@dataclass(frozen=True, slots=True)
class StepSelection:
    """Steps selected by `--steps`; test with `step in selection`.

    Attributes:
        ranges: Ranges in the given order; a single step is a range of length 1.
        text: The parsed text.
    """

    ranges: tuple[range, ...]
    text: str

    def __contains__(self, step: object) -> bool:
        return any(step in steps for steps in self.ranges)

    def singles(self) -> tuple[int, ...]:
        """Return the steps that were named one by one."""
        return tuple(steps.start for steps in self.ranges if len(steps) == 1)


def parse_steps(text: str) -> StepSelection:
    """Parse `0,1000..143000:1000`: steps and inclusive ranges, the stride (default 1) after a colon.

    Raises:
        CheckpointError: A part is neither a step nor a rising range.
    """
    return StepSelection(tuple(_steps_range(part.strip(), text) for part in text.split(",")), text)


def parse_stages(text: str) -> tuple[str, ...]:
    """Parse `stage1,stage2`: labels of names, in the order of training.

    Raises:
        CheckpointError: A label is empty or occurs twice.
    """
    labels = [part.strip() for part in text.split(",")]
    where = f"--stages {text}"
    if "" in labels:
        raise CheckpointError("a label is empty", where=where, fix=_STAGES_FORM)
    if twice := [label for label in dict.fromkeys(labels) if labels.count(label) > 1]:
        raise CheckpointError(f"{', '.join(twice)} is given twice", where=where, fix=_STAGES_FORM)
    return tuple(labels)


def _steps_range(part: str, text: str) -> range:
    match = _STEPS_ITEM.fullmatch(part)
    where = f"--steps {text}"
    if not match:
        raise CheckpointError(
            f"`{part}` is neither a step nor a range of steps", where=where, fix=_STEPS_FORM
        )
    first = int(match[1])
    return _rising(part, first, int(match[2] or first), int(match[3] or 1), where=where, fix=_STEPS_FORM)


def _rising(part: str, first: int, last: int, stride: int, *, where: str, fix: str) -> range:
    if last < first:
        raise CheckpointError(f"the range `{part}` falls from {first} to {last}", where=where, fix=fix)
    if stride < 1:
        raise CheckpointError(f"the range `{part}` has a stride of {stride}", where=where, fix=fix)
    return range(first, last + 1, stride)


@dataclass(frozen=True, slots=True)
class HubSpec:
    """A spec that names a repository of the hub.

    Attributes:
        repo: `org/name`.
        revisions: Revisions after the braces are expanded; those for which `is_glob` is true are patterns.
    """

    repo: str
    revisions: tuple[str, ...]


def is_hub_id(text: str) -> bool:
    """Return whether `text` has the form `org/name`."""
    return _HUB_ID.fullmatch(text) is not None


def is_glob(revision: str) -> bool:
    """Return whether `revision` is a pattern over the hub's refs."""
    return any(sign in revision for sign in "*?[")


def parse_hub_spec(spec: str) -> HubSpec | None:
    """Return the repository and revisions that `spec` names, or None if it has another form.

    Raises:
        CheckpointError: `spec` names a repository, and its revision is malformed.
    """
    repo, at, revision = spec.partition("@")
    if not is_hub_id(repo):
        return None
    if at and not revision.strip():
        raise CheckpointError("there is no revision after `@`", where=spec, fix=_SPEC_FORMS)
    return HubSpec(repo, tuple(dict.fromkeys(_expand(revision, spec)))) if at else HubSpec(repo, ("main",))


def _expand(revision: str, spec: str) -> list[str]:
    """Expand braces as a shell does, but also allow ranges between commas."""
    _check_braces(revision, spec)
    # The braces are balanced and not nested, so every second part was inside braces.
    alternatives = [
        list(_brace_items(part, spec)) if index % 2 else [_outside(part, spec)]
        for index, part in enumerate(re.split(r"[{}]", revision))
    ]
    expanded = list(itertools.islice(map("".join, itertools.product(*alternatives)), _MAX_EXPANSION + 1))
    if len(expanded) > _MAX_EXPANSION:
        raise CheckpointError(f"the braces name more than {_MAX_EXPANSION:,} revisions", where=spec)
    return expanded


def _check_braces(revision: str, spec: str) -> None:
    inside = False
    for sign in re.findall(r"[{}]", revision):
        if inside == (sign == "{"):
            what = "a brace is inside another" if inside else "`}` has no `{` before it"
            raise CheckpointError(what, where=spec, fix=_SPEC_FORMS)
        inside = sign == "{"
    if inside:
        raise CheckpointError("a brace is not closed", where=spec, fix=_SPEC_FORMS)


def _outside(part: str, spec: str) -> str:
    if ".." in part:
        raise CheckpointError("a range is outside braces", where=spec, fix=_SPEC_FORMS)
    if any(sign.isspace() or sign in ",@" for sign in part):
        raise CheckpointError(f"`{part}` is not a revision", where=spec, fix=_SPEC_FORMS)
    return part


def _brace_items(text: str, spec: str) -> Iterator[str]:
    for item in text.split(","):
        match = _RANGE.fullmatch(item)
        if not item.strip():
            raise CheckpointError("an alternative between braces is empty", where=spec, fix=_SPEC_FORMS)
        if not match and ".." in item:
            what = f"`{item}` is not a range of numbers"
            raise CheckpointError(what, where=spec, fix=_SPEC_FORMS)
        if not match:
            yield _outside(item, spec)
            continue
        steps = _rising(item, int(match[1]), int(match[2]), int(match[3] or 1), where=spec, fix=_SPEC_FORMS)
        if len(steps) > _MAX_EXPANSION:
            raise CheckpointError(f"the braces name more than {_MAX_EXPANSION:,} revisions", where=spec)
        # Leading zeros are kept, as in a shell: {008..010} is 008, 009, 010.
        is_padded = any(len(end) > 1 and end[0] == "0" for end in (match[1], match[2]))
        width = max(len(match[1]), len(match[2])) if is_padded else 0
        yield from (f"{step:0{width}d}" if width else str(step) for step in steps)
