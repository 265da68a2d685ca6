"""Output for pull requests: GitHub's Markdown, within the length of a comment."""

from collections.abc import Iterator

from memprobe.escape import MAX_CHARS, markdown
from memprobe.gates.listing import figures
from memprobe.gates.verdict import GateResult, RuleVerdict
from memprobe.wording import counted

COMMENT_BYTES = 65_536
"""A comment holds so many characters; bytes are never fewer, so a text that fits in them fits.

Source: https://docs.github.com/en/rest/issues/comments, "Body is too long (maximum is 65536 characters)".
"""
_ROWS_SHOWN = 20
_NOTES_SHOWN = 10
_REASON_CHARS = 400


def to_markdown(result: GateResult, *, at_most: int = COMMENT_BYTES) -> str:
    """Return the verdict, a table of rules, and the rows of those that did not pass.

    Args:
        result: The judged rules.
        at_most: Maximum size in bytes of UTF-8; lines that do not fit are left out and counted.
    """
    last = "".join(f"\n> {markdown(text, _REASON_CHARS)}\n" for text in result.notes[:_NOTES_SHOWN])
    last += f"\n**{markdown(result.line)}**\n"
    head = (
        f"### memprobe gate: {result.verdict}\n\n| verdict | rule | demand | why not |\n|---|---|---|---|\n"
    )
    room = at_most - len((head + last).encode()) - 200
    shown: list[str] = []
    left_out = 0
    ordered = [each for verdict in ("failed", "could not judge", "passed") for each in _of(result, verdict)]
    blocks = [_row(each) for each in ordered]
    blocks += [text for each in ordered if each.verdict != "passed" or each.notes for text in _details(each)]
    for text in blocks:
        room -= len(text.encode())
        if room >= 0 and not left_out:
            shown.append(text)
        else:
            left_out += text.count("\n")
    more = f"\n{counted(left_out, 'line')} left out: gate.json holds all.\n" if left_out else ""
    return head + "".join(shown) + more + last


def _of(result: GateResult, verdict: str) -> list[RuleVerdict]:
    return [each for each in result.rules if each.verdict == verdict]


def _row(judged: RuleVerdict) -> str:
    warn = " (warning only)" if judged.rule.severity == "warn" else ""
    cells = (
        f"{judged.verdict}{warn}",
        markdown(judged.rule.id, MAX_CHARS),
        markdown(judged.rule.demand, MAX_CHARS),
        "" if judged.verdict == "passed" else markdown(judged.summary, _REASON_CHARS),
    )
    return f"| {' | '.join(cells)} |\n"


def _details(judged: RuleVerdict) -> Iterator[str]:
    """Yield the paragraph of a rule that did not pass or has a note, and its bad rows one by one."""
    why = f": {markdown(judged.rule.why, _REASON_CHARS)}" if judged.rule.why else ""
    bad = [row for row in judged.worst if row.verdict != "passed"]
    if not bad and not why and not judged.notes:
        return
    yield f"\n**{markdown(judged.rule.id, MAX_CHARS)}**{why}\n"
    for text in judged.notes[:_NOTES_SHOWN]:
        yield f"\n> {markdown(text, _REASON_CHARS)}\n"
    for number, row in enumerate(bad[:_ROWS_SHOWN]):
        yield (
            ("\n" if number == 0 else "")
            + f"- {markdown(row.name, MAX_CHARS)}: {markdown(figures(row))}; "
            + f"{row.verdict}: {markdown(row.reason, _REASON_CHARS)}\n"
        )
    if len(bad) > _ROWS_SHOWN:
        yield f"- and {counted(len(bad) - _ROWS_SHOWN, 'row')} more, see gate.json\n"
