"""Prompt templates of SORT: which of two segments of a text comes first?

A template is filled with the excerpt and the two segments. After it comes a stem, which the model continues
with a label. The questions and the reading of labels follow Pink et al. (2024), section 3,
https://arxiv.org/abs/2410.08133; the wording of the templates that ship is our own.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from string import Formatter
from typing import Any

from memprobe.errors import Problem, SuiteError
from memprobe.parsing import UnreadableError, read_toml
from memprobe.shipped import shipped_folder
from memprobe.wording import near_miss

CONDITIONS = ("in_context", "parametric")
"""With the excerpt in the prompt, and from what training left alone."""

ORDERS = ("AB", "BA")
"""AB: the earlier segment is shown first, so the first label is right; BA: the later one is."""

NOTHING = "N/A"
"""What stands for excerpt and segments in a prompt without content."""

_WANTED = {"in_context": ("excerpt", "first", "second"), "parametric": ("first", "second")}
_OPTIONAL = ("title",)


@dataclass(frozen=True, slots=True, order=True)
class Prompt:
    """One template.

    Attributes:
        name: Name of the template, `prompt_id` in tables.
        in_context: Question with `{excerpt}`, `{first}` and `{second}` in it, and optionally `{title}`. Text
            up to the end of the excerpt is read once for all questions about it, so the excerpt should come
            before the segments.
        parametric: Question without the excerpt.
        stem: Beginning of the answer; the model continues with a label.
        labels: Label of the segment that is shown first, and label of the other.
        system: System message of a chat, or first paragraph of a plain prompt; None if there is none.

    Raises:
        ValueError: A placeholder is missing, repeated or unknown, the labels are the same, or there is no
            name or stem.
    """

    name: str
    in_context: str
    parametric: str
    stem: str = "Answer: Segment"
    labels: tuple[str, str] = ("A", "B")
    system: str | None = None

    def __post_init__(self) -> None:
        problems = [
            *_placeholder_problems("in_context", self.in_context),
            *_placeholder_problems("parametric", self.parametric),
        ]
        if not self.name:
            problems.append("name is empty")
        if not self.stem or self.stem[-1].isspace():
            problems.append("stem is empty or ends in white space, which belongs to the label")
        if len(self.labels) != 2:
            problems.append(f"labels are {len(self.labels)}, not 2")
        elif self.labels[0] == self.labels[1]:
            problems.append(f"both labels are `{self.labels[0]}`")
        if any(not label or label != label.strip() for label in self.labels):
            problems.append("a label is empty or has white space around it")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def needs_title(self) -> bool:
        """Whether one of the two questions contains the document's title."""
        return any("title" in _names(text) for text in (self.in_context, self.parametric))


def asked(
    prompt: Prompt, condition: str, excerpt: str, first: str, second: str, *, title: str | None = None
) -> str:
    """Return the question: the filled template, without system message and stem.

    Args:
        prompt: The template.
        condition: One of `CONDITIONS`; `parametric` leaves the excerpt out.
        excerpt: The text that contains the segments.
        first: The segment that is shown first.
        second: The segment that is shown second.
        title: Title of the document.

    Raises:
        ValueError: The condition is unknown, or the template names a title and there is none.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"condition is `{condition}`, not one of {', '.join(CONDITIONS)}")
    template = prompt.in_context if condition == "in_context" else prompt.parametric
    if title is None and "title" in _names(template):
        raise ValueError(f"prompt {prompt.name} names a title, and there is none")
    return template.format(excerpt=excerpt, first=first, second=second, title=title)


def render(
    prompt: Prompt, condition: str, excerpt: str, first: str, second: str, *, title: str | None = None
) -> str:
    """Return the text of a trial up to the label, as a model without a chat template reads it.

    A model answers with a space and a label: `render(...) + " " + right_label(prompt, order)`.

    Raises:
        ValueError: As `asked`.
    """
    question = asked(prompt, condition, excerpt, first, second, title=title)
    return "\n".join([*headed(prompt, question), prompt.stem])


def headed(prompt: Prompt, question: str) -> list[str]:
    """Return the lines of the question, after the system message as a paragraph if there is one."""
    return [question] if prompt.system is None else [prompt.system, "", question]


def right_label(prompt: Prompt, order: str) -> str:
    """Return the label of the earlier segment in an order of presentation."""
    return prompt.labels[ORDERS.index(order)]


def read_prompts(path: str | Path | None = None) -> tuple[Prompt, ...]:
    """Read the `[[prompt]]` tables of a TOML file; None: the templates that ship.

    Raises:
        SuiteError: The file is missing or is not TOML, or templates are wrong; all problems at once.
    """
    file = shipped_folder("data") / "sort_prompts.toml" if path is None else Path(path)
    if not file.is_file():
        there = [each.name for each in file.parent.glob("*.toml")] if file.parent.is_dir() else []
        raise SuiteError(
            f"there is no prompt file{near_miss(file.name, there)}",
            where=str(file),
            fix="name a TOML file with [[prompt]] tables, or leave it out for the prompts that ship",
        )
    try:
        raw = read_toml(file)
    except UnreadableError as error:
        raise SuiteError(f"the prompts are not TOML: {error}", where=str(file)) from error
    return _prompts(raw, str(file))


def _prompts(raw: Mapping[str, Any], where: str) -> tuple[Prompt, ...]:
    tables = raw.get("prompt")
    if set(raw) != {"prompt"} or not isinstance(tables, list) or not tables:
        raise SuiteError(
            "the file has no [[prompt]] table, or has other tables too",
            where=where,
            fix="write one [[prompt]] table for each template",
        )
    problems: list[Problem] = []
    read = [_prompt(table, f"{where}, prompt {i}", problems) for i, table in enumerate(tables, 1)]
    prompts = [each for each in read if each is not None]
    names = Counter(each.name for each in prompts)
    problems += [
        Problem(f"{count} prompts are named `{name}`", where) for name, count in names.items() if count > 1
    ]
    if problems:
        raise SuiteError(problems)
    return tuple(prompts)


def _prompt(table: Any, where: str, problems: list[Problem]) -> Prompt | None:  # noqa: ANN401
    """Return a template from its table, or None after adding what is wrong to `problems`."""
    if not isinstance(table, Mapping):
        problems.append(Problem("a prompt is not a table", where))
        return None
    known = [each.name for each in fields(Prompt)]
    wrong = [
        Problem(f"unknown key `{key}`{near_miss(key, known)}", where, f"keys are {', '.join(known)}")
        for key in table
        if key not in known
    ]
    wrong += [
        Problem(f"the key {key} is missing", where)
        for key in ("name", "in_context", "parametric")
        if key not in table
    ]
    for key, value in table.items():
        if key in known and not _is_right_type(key, value):
            wants = "a list of two strings" if key == "labels" else "a string"
            wrong.append(Problem(f"{key} is {value!r}, not {wants}", where))
    problems += wrong
    if wrong:
        return None
    try:
        return Prompt(**{**table, **({"labels": tuple(table["labels"])} if "labels" in table else {})})
    except ValueError as error:
        problems.append(Problem(str(error), where))
        return None


def _is_right_type(key: str, value: object) -> bool:
    if key == "labels":
        return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)
    return isinstance(value, str)


def _names(text: str) -> list[str]:
    """Return the names of the placeholders of a template, in order."""
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]


def _placeholder_problems(key: str, text: str) -> Iterable[str]:
    """Return the problems of a template's placeholders: missing, repeated, unknown, or with a format."""
    try:
        found = [(name, spec, how) for _, name, spec, how in Formatter().parse(text) if name is not None]
    except ValueError as error:
        return [f"{key} has a single brace ({error}); write {{{{ or }}}} for one"]
    wanted, counts = _WANTED[key], Counter(name for name, _, _ in found)
    allowed = (*wanted, *_OPTIONAL)
    problems = [
        f"{key} has {{{name}}} {counts[name]} times, not once" for name in wanted if counts[name] != 1
    ]
    problems += [
        f"{key} has the unknown placeholder {{{name}}}{near_miss(name, allowed)}"
        for name in counts
        if name not in allowed
    ]
    if any(spec or how for _, spec, how in found):
        problems.append(f"{key} has a placeholder with a format, which takes none")
    return problems
