"""Suites: TOML files with the probes to measure, read into a frozen `Suite`; all problems at once."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from memprobe.errors import Problem, SuiteError
from memprobe.options import RunOptions, check_table
from memprobe.parsing import UnreadableError, parse_toml, read_toml
from memprobe.probes.contract import Probe
from memprobe.probes.discovery import discover, find, unusable
from memprobe.shipped import shipped_folder
from memprobe.wording import near_miss

_SUITE_KEYS = ("name", "title", "source")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `[[probe]]` of a suite: a probe and its settings; a list of values gives one entry each."""

    probe: Probe
    settings: Any


@dataclass(frozen=True, slots=True)
class Suite:
    """The probes that are measured, with their settings.

    Attributes:
        name: Short name, part of the default run directory.
        title: Title of one line.
        source: The paper that the suite follows.
        entries: Probes with their settings, in order.
        run: The `[run]` table, converted: options by name.
    """

    name: str
    title: str
    source: str
    entries: tuple[Entry, ...]
    run: Mapping[str, Any] = field(default_factory=dict)


def shipped_suites() -> dict[str, Path]:
    """Return the suites that ship, by name."""
    return {file.stem: file for file in sorted(shipped_folder("probes").glob("*.toml"))}


def load_suite(name_or_path: str | Path) -> Suite:
    """Read a suite by the name of one that ships, or by a path ending in `.toml`.

    Example:
        suite = memprobe.load_suite("hayes2024")
        [(entry.probe.name, entry.settings) for entry in suite.entries]

    Raises:
        SuiteError: The suite is missing, is not TOML, or holds anything unknown or impossible.
    """
    text = str(name_or_path)
    if text.endswith(".toml"):
        file = Path(text)
        if not file.is_file():
            there = [each.name for each in file.parent.glob("*.toml")] if file.parent.is_dir() else []
            raise SuiteError(f"there is no suite file{near_miss(file.name, there)}", where=text)
    else:
        suites = shipped_suites()
        if text not in suites:
            raise SuiteError(
                f"unknown suite `{text}`{near_miss(text, suites)}",
                fix=f"suites are {', '.join(suites)}; a path must end in .toml",
            )
        file = suites[text]
    try:
        raw = read_toml(file)
    except UnreadableError as error:
        raise SuiteError(f"the suite is not TOML: {error}", where=str(file)) from error
    return _parse(raw, str(file))


def suite_of(probes: Sequence[str]) -> Suite:
    """Return a suite of probes with their default settings, named after them.

    Raises:
        SuiteError: A probe is unknown or none is given.
    """
    if not probes:
        raise SuiteError(
            "no suite and no probe was given", fix=f"name a suite ({', '.join(shipped_suites())}) or -p PROBE"
        )
    found = [find(name) for name in dict.fromkeys(probes)]
    entries = tuple(Entry(probe, probe.settings()) for probe in found)
    return Suite("-".join(probe.name for probe in found), "", "", entries)


def keep_probes(suite: Suite, probes: Sequence[str]) -> Suite:
    """Return the suite with only those probes.

    Raises:
        SuiteError: A probe is unknown, or the suite does not hold it.
    """
    if not probes:
        return suite
    wanted = {find(name).name for name in probes}
    held = {entry.probe.name for entry in suite.entries}
    if missing := sorted(wanted - held):
        raise SuiteError(
            f"the suite {suite.name} does not hold {', '.join(missing)}",
            fix=f"it holds {', '.join(sorted(held))}",
        )
    return replace(suite, entries=tuple(entry for entry in suite.entries if entry.probe.name in wanted))


def with_settings(suite: Suite, assignments: Sequence[str]) -> Suite:
    """Apply `PROBE.KEY=VALUE` to every entry of that probe; VALUE is TOML, else a string.

    A list for a probe's swept setting makes one entry for each value; entries that become equal are merged.

    Raises:
        SuiteError: The form, the probe, the key or the value is wrong; all problems at once.
    """
    problems: list[Problem] = []
    held = [entry.probe.name for entry in suite.entries]
    choices: dict[str, list[list[dict[str, Any]]]] = {}
    for assignment in assignments:
        where = f"--set {assignment}"
        target, equals, text = assignment.partition("=")
        name, dot, key = target.partition(".")
        if not (equals and dot and key):
            problems.append(Problem("a setting has the form PROBE.KEY=VALUE", where))
            continue
        if name not in held:
            problems.append(Problem(f"this run has no probe `{name}`{near_miss(name, held)}", where))
            continue
        values = []
        try:
            value = _toml_value(text)
        except UnreadableError as error:
            problems.append(Problem(f"`{key}` is {error}", where))
            continue
        for table in _sweep({key: value}, find(name), where, problems):
            good, found = check_table(table, find(name).settings, where)
            problems += found
            values.append(good)
        choices.setdefault(name, []).append(values)
    entries = suite.entries
    for name, values_of in choices.items():
        # All settings of a probe at once: one may need another.
        merged = [
            {key: value for table in tables for key, value in table.items()} for tables in product(*values_of)
        ]
        where = " ".join(f"--set {each}" for each in assignments if each.startswith(f"{name}."))
        entries = tuple(_changed(entries, find(name), merged, where, problems))
    if problems:
        raise SuiteError(problems)
    return replace(suite, entries=entries)


def resolved(suite: Suite) -> Suite:
    """Return the suite with settings that contain what they take from files, so that it repeats the run."""
    entries = tuple(Entry(each.probe, each.probe.resolved(each.settings)) for each in suite.entries)
    return replace(suite, entries=entries)


def _changed(
    entries: Sequence[Entry],
    probe: Probe,
    values: Sequence[dict[str, Any]],
    where: str,
    problems: list[Problem],
) -> Iterator[Entry]:
    """Yield the entries, those of the probe with each of the new values; equal results are yielded once."""
    seen = []
    for entry in entries:
        if entry.probe.name != probe.name:
            yield entry
            continue
        for good in values:
            try:
                changed = replace(entry.settings, **good)
            except ValueError as error:
                problems.append(Problem(str(error), where))
                continue
            if changed not in seen:
                seen.append(changed)
                yield Entry(probe, changed)


def _sweep(table: dict[str, Any], probe: Probe, where: str, problems: list[Problem]) -> list[dict[str, Any]]:
    """Return one table of settings for each value of the probe's swept setting, if that is a list."""
    name = probe.swept
    if name is None or not isinstance(table.get(name), list):
        return [table]
    values = table[name]
    if not values:
        problems.append(Problem(f"`{name}` is an empty list", where, "give one or more values"))
    different = {str(value): value for value in values}
    if len(different) < len(values):
        problems.append(Problem(f"`{name}` has one value twice", where, "remove one"))
    return [{**table, name: value} for value in different.values()]


def _toml_value(text: str) -> object:
    """Return a value read as TOML; the text itself if it is not TOML.

    Raises:
        UnreadableError: The text is TOML with a number beyond 64 bits, or is nested too deeply.
    """
    try:
        found = parse_toml(f"value = {text}")
    except UnreadableError as error:
        if not isinstance(error.__cause__, tomllib.TOMLDecodeError):
            raise
        return text
    # A line end in the text could add further keys.
    return found["value"] if len(found) == 1 else text


def _parse(raw: dict[str, Any], where: str) -> Suite:
    problems = [
        Problem(
            f"unknown table `{name}`{near_miss(name, ('suite', 'probe', 'run'))}",
            where,
            "a suite holds [suite], [[probe]] and [run]",
        )
        for name in raw
        if name not in ("suite", "probe", "run")
    ]
    about = raw.get("suite", {})
    problems += _about_problems(about, where)
    entries = _entries(raw.get("probe", []), where, problems)
    run = raw.get("run", {})
    options: dict[str, Any] = {}
    if isinstance(run, dict):
        options, found = check_table(_listed(run), RunOptions, f"{where} [run]")
        problems += found
    else:
        problems.append(Problem("`run` is not a table", where))
    if problems:
        raise SuiteError(problems)
    return Suite(
        about.get("name", Path(where).stem),
        about.get("title", ""),
        about.get("source", ""),
        tuple(entries),
        options,
    )


def _about_problems(about: object, where: str) -> list[Problem]:
    if not isinstance(about, dict):
        return [Problem("`suite` is not a table", where, "write [suite]")]
    problems = [
        Problem(
            f"unknown key `{key}`{near_miss(key, _SUITE_KEYS)}",
            f"{where} [suite]",
            f"keys are {', '.join(_SUITE_KEYS)}",
        )
        for key in about
        if key not in _SUITE_KEYS
    ]
    return problems + [
        Problem(f"`{key}` is {value}, not a string", f"{where} [suite]")
        for key, value in about.items()
        if key in _SUITE_KEYS and not isinstance(value, str)
    ]


def _listed(run: dict[str, Any]) -> dict[str, Any]:
    """Return the table with a single model or data file as a list, since it may be given without brackets."""
    return {
        key: [value] if key in ("model", "data") and isinstance(value, str) else value
        for key, value in run.items()
    }


def _entries(tables: object, where: str, problems: list[Problem]) -> list[Entry]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(Problem("`probe` is not a list of tables", where, "write [[probe]]"))
        return []
    if not tables:
        problems.append(Problem("the suite has no probe", where, "add a [[probe]] with a `kind`"))
    entries = []
    for number, table in enumerate(tables, start=1):
        kind = table.get("kind")
        place = f"{where} [[probe]] {number}"
        if kind in unusable() and kind not in discover():
            problems.append(Problem(f"the probe `{kind}` cannot be used: {unusable()[kind]}", place))
            continue
        if kind not in discover():
            hint = near_miss(str(kind), discover()) if kind is not None else ""
            what = "a probe has no `kind`" if kind is None else f"unknown probe kind `{kind}`{hint}"
            problems.append(Problem(what, place, f"kinds are {', '.join(discover())}"))
            continue
        probe = discover()[kind]
        place = f"{place} ({kind})"
        settings = {key: value for key, value in table.items() if key != "kind"}
        for one in _sweep(settings, probe, place, problems):
            good, found = check_table(one, probe.settings, place)
            problems += [problem for problem in found if problem not in problems]
            try:
                entries.append(Entry(probe, probe.settings(**good)))
            except ValueError as error:
                problems.append(Problem(str(error), place))
    problems += _twins(entries, where)
    return entries


def _twins(entries: list[Entry], where: str) -> list[Problem]:
    return [
        Problem(f"two entries of {entry.probe.name} have the same settings", where, "remove one")
        for number, entry in enumerate(entries)
        if entry in entries[:number]
    ]


def settings_table(settings: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return settings as TOML and JSON can hold them: lists for tuples, and no entry for None."""
    return {
        each.name: _plain(value)
        for each in fields(settings)
        if (value := getattr(settings, each.name)) is not None
    }


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(each) for name, each in asdict(value).items() if each is not None}
    return value


def write_suite(suite: Suite, options: RunOptions) -> str:
    """Return the TOML of a suite that repeats a run: all settings, and a `[run]` table with all options."""
    import tomli_w

    run = {each.name: _plain(getattr(options, each.name)) for each in fields(options)}
    return tomli_w.dumps(
        {
            "suite": {"name": suite.name, "title": suite.title, "source": suite.source},
            "run": {name: value for name, value in run.items() if value is not None},
            "probe": [
                {"kind": entry.probe.name, **settings_table(entry.settings)} for entry in suite.entries
            ],
        }
    )
