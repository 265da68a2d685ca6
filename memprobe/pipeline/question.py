"""The question of a run: suite, settings, options, and run directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memprobe.errors import InputError
from memprobe.options import RunOptions, check_number, check_table, number_ranges
from memprobe.pipeline.manifest import question_digest
from memprobe.pipeline.suite import Suite, keep_probes, load_suite, resolved, suite_of, with_settings


@dataclass(frozen=True, slots=True)
class Question:
    """One question about checkpoints.

    Attributes:
        suite: Probes with all their settings.
        options: Models, items, device and other options.
        out: The run directory.
    """

    suite: Suite
    options: RunOptions
    out: Path


def ask(
    suite: str | Path | Suite | None = None,
    *,
    probes: Sequence[str] = (),
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Question:
    """Build a question from its parts.

    Args:
        suite: A suite, the name of one that ships, or a path ending in `.toml`; None: use `probes`.
        probes: Only these probes of the suite, or these with default settings if there is no suite.
        settings: `PROBE.KEY=VALUE`, applied to every entry of that probe.
        out: The run directory; None: under `reports/`, named after the question, so that the same
            question finds its run.
        options: Options by name; they override the suite's `[run]` table.

    Raises:
        InputError: Suite, probes, settings or options are wrong.
    """
    asked, merged = merge(suite, probes=probes, settings=settings, options=options)
    flags = {"-m MODEL": merged.model, "-d FILE": merged.data}
    if missing := [flag for flag, value in flags.items() if not value]:
        raise InputError(
            f"nothing to measure: {' and '.join(missing)} not given",
            fix="name at least one model with -m and one item file with -d",
        )
    name = f"{asked.name}-{question_digest(asked, merged)}"
    return Question(asked, merged, Path(out) if out is not None else Path("reports") / name)


def merge(
    suite: str | Path | Suite | None,
    *,
    probes: Sequence[str] = (),
    settings: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> tuple[Suite, RunOptions]:
    """Return suite and options of a question, which may still lack models and items; arguments as in `ask`.

    Raises:
        InputError: Suite, probes, settings or options are wrong.
    """
    asked_for = {name: value for name, value in (options or {}).items() if value is not None}
    given, problems = check_table(asked_for, RunOptions, "options of the run")
    if problems:
        raise InputError(problems)
    if suite is None:
        asked = suite_of(probes)
    else:
        asked = keep_probes(suite if isinstance(suite, Suite) else load_suite(suite), probes)
    asked = resolved(with_settings(asked, settings))
    merged = RunOptions().overlaid(asked.run).overlaid(given)
    _check_ranges(merged)
    return asked, merged


def _check_ranges(options: RunOptions) -> None:
    for name in number_ranges():
        check_number(name, getattr(options, name))
