"""The user's canaries: a JSONL file of `prefix`, `suffix` and `exposures`, checked line by line."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memprobe import items
from memprobe.errors import ItemError, Problem
from memprobe.items.values import kind, shown
from memprobe.lab.corpus import LabItem
from memprobe.parsing import UnreadableError, parse_json
from memprobe.wording import counted, near_miss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NEEDED = ("prefix", "suffix", "exposures")
# The lab fills these in itself, or they belong to items of another form.
_FILLED = {
    *("text", "input_ids", "foil", "foil_kind", "group", "first_step", "last_step"),
    *("batch_id", "doc_id", "start_char", "left_out"),
}


def read_canaries(path: Path, texts: Mapping[str, str]) -> list[LabItem]:
    """Read canaries; `item_id` is optional, further columns are carried into the item file.

    Args:
        path: JSONL, one object per line with `prefix`, `suffix` (both text, not empty) and
            `exposures` (0 or more).
        texts: The training texts, which must not contain a canary.

    Raises:
        ItemError: Lines are wrong; all are listed with file and line.
    """
    canaries: list[LabItem] = []
    problems: list[Problem] = []
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        row, found = _parse(line, where)
        if row is not None:
            found = [*_row_problems(row, where)]
        if row is not None and not found:
            item = _item(row, len(canaries))
            found = [*_clashes(item, canaries, texts, where)]
            canaries.append(item)
        problems += found
    if not canaries and not problems:
        problems.append(Problem("no canary in the file", str(path), "leave the option out"))
    if problems:
        raise ItemError(problems)
    return canaries


def check_lengths(
    canaries: list[LabItem], tokenizer: "PreTrainedTokenizerFast", context_tokens: int, path: Path
) -> None:
    """Check that each canary fits a window.

    Raises:
        ItemError: Canaries are longer; all are listed.
    """
    lengths = {c.item_id: len(tokenizer(c.text, add_special_tokens=False)["input_ids"]) for c in canaries}
    problems = [
        Problem(f"canary {item_id} has {counted(n_tokens, 'token')}, the context {context_tokens}", str(path))
        for item_id, n_tokens in lengths.items()
        if n_tokens > context_tokens
    ]
    if problems:
        raise ItemError(
            [*problems, Problem("canaries are too long", fix="shorten them or use a longer context")]
        )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ItemError(f"cannot read the canaries: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ItemError(f"the canaries are not UTF-8: byte {error.start}", where=str(path)) from error
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield number, line


def _parse(line: str, where: str) -> tuple[dict[str, Any] | None, list[Problem]]:
    try:
        row = parse_json(line)
    except UnreadableError as error:
        return None, [Problem(f"not JSON: {error}", where)]
    if not isinstance(row, dict):
        return None, [Problem("not a JSON object", where, f"give {', '.join(NEEDED)}")]
    return row, []


def _row_problems(row: Mapping[str, Any], where: str) -> Iterator[Problem]:
    for name in NEEDED:
        if name not in row:
            others = [key for key in row if key not in NEEDED]
            yield Problem(f"`{name}` is missing{near_miss(name, others)}", where)
        elif name != "exposures" and not (isinstance(row[name], str) and row[name]):
            yield Problem(
                f"`{name}` is {'empty' if row[name] == '' else kind(row[name])}",
                where,
                "give text that is not empty",
            )
    exposures = row.get("exposures", 0)
    if not isinstance(exposures, int) or isinstance(exposures, bool) or exposures < 0:
        yield Problem(f"`exposures` is {shown(exposures)}", where, "give a whole number, 0 or more")
    if "item_id" in row and not (isinstance(row["item_id"], str) and row["item_id"]):
        yield Problem(
            f"`item_id` is {'empty' if row['item_id'] == '' else kind(row['item_id'])}",
            where,
            "give text that is not empty",
        )
    for name, value in row.items():
        if name in _FILLED or (items.is_reserved(name) and name not in NEEDED):
            yield Problem(f"`{name}` cannot be given for a canary", where, "remove or rename it")
        elif isinstance(value, list | dict) and name not in NEEDED:
            yield Problem(
                f"`{name}` is a list or an object", where, "give text, a number, true, false or null"
            )


def _item(row: Mapping[str, Any], number: int) -> LabItem:
    return LabItem(
        item_id=row.get("item_id", f"canary-{number:04d}"),
        group="canary",
        text=row["prefix"] + row["suffix"],
        n_exposures=row["exposures"],
        prefix_chars=len(row["prefix"]),
        carried={key: value for key, value in row.items() if key not in (*NEEDED, "item_id")},
    )


def _clashes(item: LabItem, before: list[LabItem], texts: Mapping[str, str], where: str) -> Iterator[Problem]:
    if any(other.item_id == item.item_id for other in before):
        yield Problem(f"`item_id` {item.item_id} is given twice", where)
    if any(other.text == item.text for other in before):
        yield Problem("the same canary is given twice", where, "give it once, with the sum of the exposures")
    for name, text in texts.items():
        if item.text in text:
            yield Problem(
                f"the canary also occurs in {name}, so its exposures would be wrong", where, "remove it there"
            )
