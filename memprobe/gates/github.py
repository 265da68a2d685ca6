"""Output for GitHub Actions: annotations in the log and the summary of the step.

Source: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands for the format;
the toolkit's `command.ts` for escaping.
"""

from pathlib import Path

from memprobe.errors import InputError
from memprobe.escape import visible
from memprobe.gates.markdown import to_markdown
from memprobe.gates.verdict import GateResult, RuleVerdict
from memprobe.wording import counted

ANNOTATIONS_MAX = 10
"""Of one level in one step; GitHub drops what is above.

Source: https://docs.github.com/en/rest/checks/runs, limits of annotations of a workflow.
"""
SUMMARY_BYTES = 1_048_576
"""Of one step; a longer summary is not shown at all."""
_MESSAGE_CHARS, _TITLE_CHARS = 4_000, 255


def annotations(result: GateResult, root: Path) -> list[str]:
    """Return one line for each rule that did not pass, at most ten of each level.

    Args:
        result: The judged rules.
        root: Folder of the repository; paths are relative to it.
    """
    absolute, folder = result.rules_file.resolve(), root.resolve()
    path = absolute.relative_to(folder) if absolute.is_relative_to(folder) else result.rules_file
    lines = []
    for severity, command in (("error", "error"), ("warn", "warning")):
        bad = [
            each
            for verdict in ("failed", "could not judge")
            for each in result.rules
            if each.verdict == verdict and each.rule.severity == severity
        ]
        shown = bad if len(bad) <= ANNOTATIONS_MAX else bad[: ANNOTATIONS_MAX - 1]
        lines += [_annotation(command, each, path) for each in shown]
        if len(shown) < len(bad):
            more = f"{counted(len(bad) - len(shown), 'rule')} more did not pass: see gate.json"
            lines.append(f"::{command} file={_property(path.as_posix())}::{_data(more)}")
    return lines + _notices(result)


def _notices(result: GateResult) -> list[str]:
    """Return the notes of the run and of its rules, at most ten."""
    texts = [*result.notes, *(f"{each.rule.id}: {text}" for each in result.rules for text in each.notes)]
    shown = texts if len(texts) <= ANNOTATIONS_MAX else texts[: ANNOTATIONS_MAX - 1]
    if len(shown) < len(texts):
        shown = [*shown, f"{counted(len(texts) - len(shown), 'note')} more: see gate.json"]
    return [f"::notice::{_data(visible(text)[:_MESSAGE_CHARS])}" for text in shown]


def _annotation(command: str, ruling: RuleVerdict, path: Path) -> str:
    why = f" ({visible(ruling.rule.why)})" if ruling.rule.why else ""
    message = f"{ruling.verdict}: {visible(ruling.summary)}{why}"[:_MESSAGE_CHARS]
    title = visible(f"{ruling.rule.id}: {ruling.rule.demand}", _TITLE_CHARS)
    place = f"file={_property(path.as_posix())},line={ruling.rule.lines.first},title={_property(title)}"
    return f"::{command} {place}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def harmless(line: str) -> str:
    """Return a log line that the runner treats as text, even if a user's name in it looks like a command."""
    broken = line.replace("##[", "## [")
    return broken.replace("::", ": :", 1) if broken.lstrip().startswith("::") else broken


def write_step_summary(result: GateResult, file: Path) -> None:
    """Append the verdict to a step's summary, within the size that GitHub shows.

    Args:
        result: The judged rules.
        file: The file named by `GITHUB_STEP_SUMMARY`.

    Raises:
        InputError: The folder of the file does not exist.
        OSError: The file cannot be written.
    """
    if not file.parent.is_dir():
        raise InputError(
            "the folder of the step's summary does not exist",
            where=str(file),
            fix="GITHUB_STEP_SUMMARY names it: unset it outside of GitHub Actions",
        )
    there = file.stat().st_size if file.exists() else 0
    text = to_markdown(result, at_most=max(0, SUMMARY_BYTES - there))
    if len(text.encode()) + there <= SUMMARY_BYTES:
        with file.open("a", encoding="utf-8") as summary:
            summary.write(text)
