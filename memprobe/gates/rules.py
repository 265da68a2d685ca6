"""Read gate rules, a TOML file of `[[rule]]` tables, and collect all their faults."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from memprobe.errors import Problem, RuleError
from memprobe.gates.toml_lines import RuleLines, rule_lines
from memprobe.parsing import UnreadableError, parse_toml
from memprobe.wording import near_miss

Severity = Literal["error", "warn"]
Bound = Literal["lo", "hi", "estimate"]
Limit = Literal["max", "min", "max_increase", "max_decrease"]
Scalar = str | int | float | bool

SEVERITIES, BOUNDS = ("error", "warn"), ("lo", "hi", "estimate")
ABSOLUTE: tuple[Limit, ...] = ("max", "min")
RELATIVE: tuple[Limit, ...] = ("max_increase", "max_decrease")
# The stricter end of the interval for each limit, which is judged unless `bound` says otherwise.
_STRICT: dict[Limit, Bound] = {"max": "hi", "min": "lo", "max_increase": "hi", "max_decrease": "lo"}
MIN_N = 20
_DEFAULTS = ("severity", "min_n")
_KEYS = ("id", "why", "probe", "metric", "where", "bound", *ABSOLUTE, *RELATIVE, "untrained", *_DEFAULTS)


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[rule]]`.

    Attributes:
        id: Name of the rule, unique in the file.
        why: Why the rule exists, shown when it fails.
        probe: Probe of the estimates.
        metric: Metric of the estimates.
        where: Keys of the summary and of conditions, with the value that each must have.
        limits: Limits by kind, in the metric's unit: `max` and `min` of the estimate, or
            `max_increase` and `max_decrease` of its difference from a baseline.
        bound: The number that is judged; None for the stricter end of the interval.
        severity: `warn` never changes the exit code.
        min_n: With fewer items the rule is not judged.
        lines: Lines of the rule in the file.
        untrained: Whether the rule is about items that the model was not trained on, such as controls;
            otherwise it is not passed by such items alone.
    """

    id: str
    why: str
    probe: str
    metric: str
    where: Mapping[str, Scalar]
    limits: Mapping[Limit, float]
    bound: Bound | None
    severity: Severity
    min_n: int
    lines: RuleLines
    untrained: bool = False

    @property
    def is_relative(self) -> bool:
        """Return whether the rule is about the difference from a baseline."""
        return any(limit in RELATIVE for limit in self.limits)

    @property
    def asks_for_untrained(self) -> bool:
        """Return whether the rule is for items that were not trained on, by `untrained` or `where`."""
        return self.untrained or str(self.where.get("trained", "")).lower() == "false"

    def judged(self, limit: Limit) -> Bound:
        """Return which number is compared with a limit: an end of the interval, or the estimate."""
        return self.bound or _STRICT[limit]

    @property
    def demand(self) -> str:
        """The limits in short: `recall exact_frac: hi <= 0.05`."""
        sides = {
            "max": "{} <= {:.10g}",
            "min": "{} >= {:.10g}",
            "max_increase": "{} of the difference <= {:.10g}",
            "max_decrease": "{} of the difference >= {:.10g}",
        }
        parts = [
            sides[limit].format(self.judged(limit), -value if limit == "max_decrease" else value)
            for limit, value in self.limits.items()
        ]
        return f"{self.probe} {self.metric}: {' and '.join(parts)}"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A file of rules.

    Attributes:
        file: Path as the user named it.
        rules: In the order of the file. A malformed rule keeps its valid parts, so that these can be checked;
            it is left out if it names no probe or metric.
        problems: All faults in the form of the rules.
    """

    file: Path
    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...]


def place(file: Path, lines: RuleLines, name: str, *keys: str) -> str:
    """Return the place of a rule or of one of its keys: `rules.toml:12 (rule no-canary)`."""
    return f"{file}:{lines.of(*keys)} (rule {name})"


def read_rules(file: Path) -> RuleSet:
    """Read a file of rules; a fault in one rule does not hide faults in others.

    Raises:
        RuleError: The file does not exist, cannot be read, is not TOML, or has no rule.
    """
    if file.is_dir():
        raise RuleError("the rules are a folder, not a file", where=str(file), fix="name a .toml file")
    if not file.is_file():
        there = [each.name for each in file.parent.glob("*.toml")] if file.parent.is_dir() else []
        raise RuleError(f"there is no rules file{near_miss(file.name, there)}", where=str(file))
    try:
        content = file.read_bytes()
        raw = parse_toml(content)
    except UnreadableError as error:
        raise RuleError(f"the rules are not TOML: {error}", where=str(file)) from error
    problems = [
        Problem(f"unknown table `{name}`{near_miss(name, ('defaults', 'rule'))}", str(file), "write [[rule]]")
        for name in raw
        if name not in ("defaults", "rule")
    ]
    tables = raw.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise RuleError("`rule` is not a list of tables", where=str(file), fix="write [[rule]]")
    if not tables and not problems:
        problems.append(Problem("the file has no rule", str(file), "add a [[rule]] with id, probe, metric"))
    defaults = raw.get("defaults", {})
    problems += _problems_of_defaults(defaults, file)
    defaults = defaults if isinstance(defaults, dict) else {}
    rules = [
        _rule(table, defaults, number, lines, file, problems)
        for number, (table, lines) in enumerate(
            zip(tables, rule_lines(content.decode("utf-8-sig"), len(tables)), strict=True), start=1
        )
    ]
    good = tuple(rule for rule in rules if rule is not None)
    problems += _twins(good, file)
    return RuleSet(file, good, tuple(problems))


def _problems_of_defaults(defaults: object, file: Path) -> list[Problem]:
    where = f"{file} [defaults]"
    if not isinstance(defaults, dict):
        return [Problem("`defaults` is not a table", str(file), "write [defaults]")]
    return [
        Problem(f"unknown key `{key}`{near_miss(key, _DEFAULTS)}", where, f"keys are {', '.join(_DEFAULTS)}")
        for key in defaults
        if key not in _DEFAULTS
    ] + [
        Problem(f"`{key}` {wrong}", where)
        for key, value in defaults.items()
        if key in _DEFAULTS and (wrong := _wrong(key, value))
    ]


def _twins(rules: tuple[Rule, ...], file: Path) -> list[Problem]:
    first: dict[str, Rule] = {}
    problems = []
    for rule in rules:
        if rule.id in first:
            what = f"two rules have the id `{rule.id}`; the first is in line {first[rule.id].lines.first}"
            problems.append(Problem(what, place(file, rule.lines, rule.id, "id"), "give each its own"))
        first.setdefault(rule.id, rule)
    return problems


def _rule(
    table: dict[str, Any],
    defaults: Mapping[str, Any],
    number: int,
    lines: RuleLines,
    file: Path,
    problems: list[Problem],
) -> Rule | None:
    """Return a rule, or None if it names no probe or metric; faults are added to `problems`."""
    name = table["id"] if isinstance(table.get("id"), str) and table["id"] else str(number)
    problems += [
        Problem(what, place(file, lines, name, *keys), fix) for what, keys, fix in _problems_of_form(table)
    ]
    given = {key: value for key, value in {**defaults, **table}.items() if not _wrong(key, value)}
    if not {"probe", "metric"} <= set(given):
        return None
    where = given.get("where", {})
    return Rule(
        id=name,
        why=given.get("why", ""),
        probe=given["probe"],
        metric=given["metric"],
        where={key: value for key, value in where.items() if not _wrong_choice(key, value)},
        limits={limit: float(given[limit]) for limit in (*ABSOLUTE, *RELATIVE) if limit in given},
        bound=given.get("bound"),
        severity=given.get("severity", "error"),
        min_n=given.get("min_n", MIN_N),
        lines=lines,
        untrained=given.get("untrained", False),
    )


def _problems_of_form(table: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield the faults of a rule's keys and values: what is wrong, the keys, and the fix."""
    for key in table:
        if key not in _KEYS:
            yield f"unknown key `{key}`{near_miss(key, _KEYS)}", (key,), f"keys are {', '.join(_KEYS)}"
    for key in ("id", "probe", "metric"):
        if key not in table:
            yield f"the rule has no `{key}`", (), ""
    for key, value in table.items():
        if key in _KEYS and (wrong := _wrong(key, value)):
            yield f"`{key}` {wrong}", (key,), ""
    if isinstance(table.get("where"), dict):
        for key, value in table["where"].items():
            if wrong := _wrong_choice(key, value):
                yield f"`where.{key}` {wrong}", (key, "where"), ""
    limits = [limit for limit in (*ABSOLUTE, *RELATIVE) if limit in table]
    if not limits:
        yield "the rule demands nothing", (), f"give one of {', '.join((*ABSOLUTE, *RELATIVE))}"
    if {*limits} & {*ABSOLUTE} and {*limits} & {*RELATIVE}:
        what = f"{' and '.join(limits)} in one rule: one is about the run, one about a baseline"
        yield what, (limits[-1],), "make two rules"
    low, high = table.get("min"), table.get("max")
    if _is_number(low) and _is_number(high) and low > high:
        yield f"`min` {low} is above `max` {high}", ("min",), ""


def _wrong(key: str, value: object) -> str:
    """Return the fault of a key's value, or an empty text."""
    if key == "where":
        return "" if isinstance(value, dict) else f"is {value!r}, not a table like {{ group = 'canary' }}"
    if key in (*ABSOLUTE, *RELATIVE):
        return "" if _is_number(value) else f"is {value!r}, not a finite number"
    if key == "untrained":
        return "" if isinstance(value, bool) else f"is {value!r}, not true or false"
    if key == "min_n":
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return "" if good else f"is {value!r}, not a whole number of 1 or more"
    allowed = {"severity": SEVERITIES, "bound": BOUNDS}.get(key)
    if allowed is not None and value not in allowed:
        hint = near_miss(value, allowed) if isinstance(value, str) else ""
        return f"is {value!r}{hint or ', not one of ' + ', '.join(allowed)}"
    if not isinstance(value, str) or (not value and key != "why"):
        return f"is {value!r}, not a text"
    return ""


def _wrong_choice(key: str, value: object) -> str:
    if key == "step":
        if isinstance(value, str) and value not in ("first", "last"):
            hint = near_miss(value, ("first", "last"))
            return f"is {value!r}{hint or ', not a number, first or last'}"
        if isinstance(value, bool) or not isinstance(value, int | str):
            return f"is {value!r}, not a whole number, first or last"
    if not isinstance(value, str | int | float | bool):
        return f"is {value!r}, not one value"
    return "" if not isinstance(value, float) or math.isfinite(value) else f"is {value!r}"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
