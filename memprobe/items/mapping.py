"""Column names of other people's files: `--map text=sentence` reads their column `sentence` as `text`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memprobe.errors import InputError, Problem
from memprobe.items.csv_rows import typed
from memprobe.items.raw import RawFile
from memprobe.items.schema import GIVEN
from memprobe.wording import listed, near_miss

_FIX = "write --map OURS=THEIRS, like --map text=sentence,prefix=prompt"


def parse_mapping(given: Sequence[str]) -> dict[str, str]:
    """Return the names under which columns of a file are read.

    Args:
        given: Texts of the form `OURS=THEIRS`, or several of these separated by commas.

    Returns:
        The name of an item column for each column of the file.

    Raises:
        InputError: A part has another form, does not name an item column, or repeats a name.
    """
    problems: list[Problem] = []
    mapping: dict[str, str] = {}
    for part in (each.strip() for text in given for each in text.split(",")):
        ours, sign, theirs = (each.strip() for each in part.partition("="))
        if not (ours and sign and theirs):
            problems.append(Problem(f"--map: `{part}` is not of the form OURS=THEIRS", fix=_FIX))
        elif ours not in GIVEN:
            problems.append(
                Problem(
                    f"--map: `{ours}` is not an item column{near_miss(ours, GIVEN)}",
                    fix=f"our name comes first; item columns are {', '.join(GIVEN)}",
                )
            )
        elif theirs in mapping or ours in mapping.values():
            twice = theirs if theirs in mapping else ours
            problems.append(Problem(f"--map names `{twice}` twice", fix="name each column once"))
        else:
            mapping[theirs] = ours
    if problems:
        raise InputError(problems)
    return mapping


def renamed(files: Sequence[RawFile], mapping: Mapping[str, str]) -> tuple[list[RawFile], list[Problem]]:
    """Return the files with their columns renamed by the mapping, and the problems found.

    A file may lack columns of the mapping: controls often come in a file of their own with item names. A
    column that no file has is a problem.
    """
    problems = []
    seen = [name for file in files for name in file.columns]
    if files and (missing := [name for name in mapping if name not in seen]):
        hints = "".join(near_miss(name, seen) for name in missing)
        problems.append(
            Problem(
                f"--map: no file has the column {listed([f'`{name}`' for name in missing])}{hints}",
                ", ".join(file.spec for file in files),
                "name a column that is there",
            )
        )
    found = []
    for file in files:
        own = {theirs: ours for theirs, ours in mapping.items() if theirs in file.columns}
        if taken := [ours for theirs, ours in own.items() if ours in file.columns and ours not in own]:
            names = listed([f"`{name}`" for name in taken])
            what = f"--map: the file has a column {names} already"
            problems.append(Problem(what, file.spec, "rename one of the two, or leave it out of --map"))
            continue
        found.append(_renamed(file, own) if own else file)
    return found, problems


def _renamed(file: RawFile, own: Mapping[str, str]) -> RawFile:
    def value_of(name: str, value: object) -> object:
        # Cells of a CSV file were left as text, since memprobe does not know their column's own name.
        is_text = file.untyped and name in own and isinstance(value, str)
        return typed(own[name], str(value)) if is_text else value

    rows = tuple(
        replace(
            row,
            values={own.get(name, name): value_of(name, value) for name, value in row.values.items()},
            faults=tuple(replace(fault, column=own.get(fault.column, fault.column)) for fault in row.faults),
        )
        for row in file.rows
    )
    return replace(file, columns=tuple(own.get(name, name) for name in file.columns), rows=rows)
