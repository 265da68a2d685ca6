"""Output for terminals and logs: a line for each rule with its bad rows, then the verdict."""

from collections.abc import Iterator

from rich.console import Group
from rich.text import Text

from memprobe.escape import MAX_CHARS, visible
from memprobe.gates.dry_run import DryRun
from memprobe.gates.verdict import GateResult, RowVerdict, RuleVerdict
from memprobe.wording import counted

ROWS_SHOWN = 20
"""Of one rule; gate.json holds all of them."""
_STYLES = {"passed": "green", "failed": "bold red", "could not judge": "yellow"}


def listing(result: GateResult) -> Group:
    """Return the verdicts of all rules and the last line."""
    lines = _lines(result)
    return Group(*lines, Text(result.line, style=_STYLES[result.verdict]))


def plain_lines(result: GateResult) -> list[str]:
    """Return the same listing as lines of text without control characters."""
    return [line.plain for line in _lines(result)] + [result.line]


def _lines(result: GateResult) -> list[Text]:
    lines = [line for ruling in result.rules for line in _rule_lines(ruling)]
    return lines + [Text(f"note: {visible(text)}") for text in result.notes]


def dry_listing(dry: DryRun) -> Group:
    """Return the numbers of needed and available items of each rule, and the last line."""
    lines = []
    for each in dry.rules:
        kind = "ready" if each.is_ready else "too few" if each.short else "no verdict" if each.rows else ""
        head = Text(f"{kind or 'no numbers':11}", style="green" if each.is_ready else "yellow")
        lines.append(head.append(visible(each.rule.id, MAX_CHARS), style="bold").append(f": {each.summary}"))
        if each.rows and each.reason:
            lines.append(Text(f"  could not judge: {visible(each.reason)}", style="yellow"))
        lines += [Text(f"  note: {visible(text)}") for text in each.notes]
        for row in each.short[:ROWS_SHOWN]:
            have = f"{row.n_items:,} of {counted(row.n_needed, row.noun)}"
            lines.append(Text(f"  {visible(row.name, MAX_CHARS)}: {have}"))
        if len(each.short) > ROWS_SHOWN:
            lines.append(Text(f"  and {counted(len(each.short) - ROWS_SHOWN, 'row')} more"))
    return Group(*lines, Text(dry.line))


def _rule_lines(ruling: RuleVerdict) -> Iterator[Text]:
    head = Text(f"{ruling.verdict:16}", style=_STYLES[ruling.verdict])
    head.append(visible(ruling.rule.id, MAX_CHARS), style="bold")
    yield head.append(" (warning only)" if ruling.rule.severity == "warn" else "")
    yield Text(f"  {visible(ruling.rule.demand, MAX_CHARS)}; {counted(len(ruling.rows), 'row')}")
    if ruling.verdict != "passed" and ruling.rule.why:
        yield Text(f"  why: {visible(ruling.rule.why, MAX_CHARS)}")
    if ruling.reason:
        yield Text(f"  {visible(ruling.reason)}")
    for text in ruling.notes:
        yield Text(f"  note: {visible(text)}")
    for row in ruling.worst[:ROWS_SHOWN]:
        yield Text(f"  {visible(row.name, MAX_CHARS)}: {figures(row)}")
        if row.reason:
            yield Text(f"    {row.verdict}: {visible(row.reason)}", style=_STYLES[row.verdict])
    if len(ruling.rows) > ROWS_SHOWN:
        yield Text(f"  and {counted(len(ruling.rows) - ROWS_SHOWN, 'row')} more, see gate.json")


def figures(row: RowVerdict) -> str:
    """Return a row's number with its interval and items: `0.02 [0.00551, 0.0704], 96 items`."""
    if row.estimate is None:
        number = "undefined"
    elif row.ci_low is None and row.ci_high is None:
        number = f"{row.estimate:.3g} [no interval]"
    else:
        low, high = ("open" if end is None else f"{end:.3g}" for end in (row.ci_low, row.ci_high))
        number = f"{row.estimate:.3g} [{low}, {high}]"
    return number if row.n_items is None else f"{number}, {counted(row.n_items, 'item')}"
