"""Raw rows -> checked items -> the item table; every fault is kept, with its column."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from memprobe.errors import Problem
from memprobe.items.booksort import EXCERPTS_APART, lacks_excerpts
from memprobe.items.contradictions import contradictions
from memprobe.items.further import Value, check_value, nan_cells, to_series
from memprobe.items.raw import Fault, RawFile, RawRow, RefusedError
from memprobe.items.schema import GIVEN, ITEMS, is_reserved, known_columns
from memprobe.items.trials import complete, trial_faults
from memprobe.items.values import PARSERS
from memprobe.tables.content import content_hash
from memprobe.wording import counted, near_miss

_WAYS = ("text", "prefix", "suffix", "input_ids")
_ONE_OF = "text, prefix + suffix, or input_ids"


@dataclass(slots=True)
class Item:
    """One row of a file, checked before it enters the item table.

    Attributes:
        file: The file that the row is from.
        line: Line, row or place in the file, from 1.
        known: Typed values of the columns that memprobe knows; a missing key means null.
        further: Values of the user's own columns, as read; a missing key means null.
        faults: All faults of the row.
        has_given_id: Whether the file gives the item's id; if not, the id is made from the content.
    """

    file: RawFile
    line: int
    known: dict[str, Any] = field(default_factory=dict)
    further: dict[str, object] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    has_given_id: bool = False

    def problems(self) -> Iterator[Problem]:
        """Yield the faults as problems, each with its file and line."""
        for fault in self.faults:
            yield Problem(fault.what, self.file.where(self.line, fault.column), fault.fix)


def file_problems(file: RawFile) -> list[Problem]:
    """Return the problems of a file's columns, which concern all its rows."""
    problems = []
    for name in file.columns:
        where = f"{file.spec}, column {name}"
        if not name and not lacks_excerpts(file.columns):
            problems.append(Problem("a column has no name", file.spec, "name it or remove it"))
        elif is_reserved(name):
            problems.append(Problem("memprobe writes a column of this name", where, "rename it"))
    if lacks_content(file):
        hint = _miss_hint(tuple(name for name in file.columns if name not in GIVEN), _WAYS)
        problems.append(
            Problem(
                f"no column holds the items; {_columns_shown(file)}",
                file.spec,
                EXCERPTS_APART
                if lacks_excerpts(file.columns)
                else f"each item needs {_ONE_OF}{hint}; --map text=COLUMN reads another column",
            )
        )
    return problems


def _columns_shown(file: RawFile) -> str:
    """Return a file's column names; for a CSV, only the known names and the number of unknown ones.

    A CSV may lack its header, and its first line is then the text of its first item.
    """
    names = [name for name in file.columns if name]
    if not file.untyped:
        return f"the columns are {', '.join(names)}"
    known = [name for name in names if name in GIVEN]
    n_unknown = len(names) - len(known)
    unknown = counted(n_unknown, "unknown name") if n_unknown else ""
    return f"the first line, its header, holds {' and '.join(filter(None, [', '.join(known), unknown]))}"


def lacks_content(file: RawFile) -> bool:
    """Return whether the file has readable rows but no column that holds items."""
    return any(row.values for row in file.rows) and not set(file.columns) & set(_WAYS)


def check_items(files: Sequence[RawFile]) -> list[Item]:
    """Return all items of all files with their faults.

    Items are checked one by one, then together: for NaN in the user's columns, whose type depends on all
    files, and for names or contents given twice. Files that lack content are skipped.
    """
    known = _known(files)
    items = [_check_row(file, row, known) for file in files if not lacks_content(file) for row in file.rows]
    for name in further_columns(items):
        _check_further(name, items)
    _check_names(items)
    return items


def further_columns(items: Iterable[Item]) -> list[str]:
    """Return the user's own columns, in order of appearance."""
    seen: dict[str, None] = {}
    files = list({id(item.file): item.file for item in items}.values())
    known = _known(files)
    for file in files:
        seen.update(dict.fromkeys(name for name in file.columns if name not in known))
    return list(seen)


def _known(files: Iterable[RawFile]) -> frozenset[str]:
    """Return the columns that memprobe knows in these files, taken together."""
    return known_columns(name for file in files for name in file.columns)


def to_table(items: Sequence[Item]) -> pl.DataFrame:
    """Return the item table of items without faults, schema ITEMS.

    Raises:
        TableError: The table does not match its schema, which would be a bug in the checks.
    """
    columns: dict[str, Any] = {
        name: [item.known.get(name) for item in items] for name in GIVEN if name not in ("text", "input_ids")
    }
    columns["text"] = _texts(items)
    columns["content_hash"] = [item.known["content_hash"] for item in items]
    columns["source_file"] = [item.file.spec for item in items]
    columns["source_line"] = [item.line for item in items]
    frame = pl.DataFrame(columns, schema_overrides={name: ITEMS.columns[name].dtype for name in columns})
    further = [to_series(name, [_value(item, name) for item in items]) for name in further_columns(items)]
    # Without segments, a column with a name from TRIAL is the user's own and may have any type.
    return ITEMS.conform(frame.with_columns(_ids_column(items))).with_columns(*further)


def _check_row(file: RawFile, row: RawRow, known: frozenset[str]) -> Item:
    item = Item(file, row.line, faults=list(row.faults))
    for name, value in row.values.items():
        if value is None:
            continue
        try:
            if name in known:
                item.known[name] = PARSERS[name](value)
            else:
                check_value(value)
                item.further[name] = value
        except RefusedError as error:
            item.faults.append(replace(error.fault, column=name))
    item.has_given_id = "item_id" in item.known
    if row.faults:
        return item
    item.faults += _content_faults(item) or trial_faults(item.known)
    item.faults += contradictions(item.known, {fault.column for fault in item.faults})
    if not item.faults:
        complete(item.known)
        item.known["content_hash"] = made = content_hash(item.known)
        item.known.setdefault("item_id", f"sha-{made[:12]}")
        if "first_step" in item.known:
            last = item.known.get("exposure_steps", [item.known["first_step"]])[-1]
            item.known.setdefault("last_step", last)
    return item


def _content_faults(item: Item) -> list[Fault]:
    refused = {fault.column for fault in item.faults}
    given = [name for name in _WAYS if name in item.known or name in refused]
    if given in (["text"], ["input_ids"], ["prefix", "suffix"]):
        return []
    if given in (["prefix"], ["suffix"]):
        lacking = "suffix" if given == ["prefix"] else "prefix"
        empty = ", which is empty here" if lacking in item.file.columns else ""
        hint = _miss_hint(tuple(item.further), (lacking,))
        return [Fault(lacking, f"{given[0]} without {lacking}{empty}", f"give both, or text{hint}")]
    if given:
        return [
            Fault(given[-1], f"gives {', '.join(given)} at once", f"an item has exactly one of {_ONE_OF}")
        ]
    empty = ", ".join(name for name in item.file.columns if name in _WAYS)
    hint = _miss_hint(tuple(item.further), _WAYS)
    what = f"no content: {empty} null or empty" if empty else "no content"
    return [Fault("", what, f"an item has exactly one of {_ONE_OF}{hint}")]


@functools.lru_cache(maxsize=1024)
def _miss_hint(columns: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """Return a hint for each of the user's columns whose name resembles a wanted one."""
    hints = (
        f"; column `{name}`{miss}" for name in columns if (miss := near_miss(name.strip().lower(), wanted))
    )
    return "".join(hints)


def _value(item: Item, name: str) -> Value:
    return Value(item.further.get(name), item.file.untyped)


def _check_further(name: str, items: Sequence[Item]) -> None:
    if any(item.file.untyped for item in items):
        for place in nan_cells([_value(item, name) for item in items]):
            items[place].faults.append(Fault(name, "NaN", "an unknown value is an empty cell"))


def _check_names(items: Sequence[Item]) -> None:
    """Add a fault to each item that repeats another's name; sound items keep a name before faulty ones."""
    owners: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: bool(item.faults)):
        name = item.known.get("item_id")
        if name is not None and (owner := owners.setdefault(name, item)) is not item:
            item.faults.append(_duplicate_fault(name, item, owner))


def _duplicate_fault(name: str, item: Item, owner: Item) -> Fault:
    there = owner.file.where(owner.line)
    contents = item.known.get("content_hash"), owner.known.get("content_hash")
    same = contents[0] == contents[1]
    if not item.has_given_id and not owner.has_given_id and same:
        what, sort = f"the same content as {there}, and no item_id", "content given twice, and no item_id"
        return Fault("item_id", what, "remove one, or give ids", sort)
    how = f"with {'the same' if same else 'other'} content" if all(contents) else "too"
    sort = f"a name given twice{f', {how}' if all(contents) else ''}"
    return Fault("item_id", f'"{name}" names {there} {how}', "remove one, or rename it", sort)


def _texts(items: Sequence[Item]) -> pl.Series:
    """Return the texts as a column that stores equal texts once, such as an excerpt that trials share."""
    places: dict[str, int] = {}
    texts = [item.known.get("text") for item in items]
    rows = [None if text is None else places.setdefault(text, len(places)) for text in texts]
    return pl.Series("text", list(places), dtype=pl.String()).gather(pl.Series(rows, dtype=pl.UInt32()))


def _ids_column(items: Sequence[Item]) -> pl.Series:
    """Return the token ids as one list column, without a Python object per id."""
    ids: list[Any] = [item.known.get("input_ids") for item in items]
    given = [place for place, one in enumerate(ids) if one is not None]
    dtype = ITEMS.columns["input_ids"].dtype
    if not given:
        return pl.Series("input_ids", [None] * len(items), dtype=dtype)
    places = np.repeat(np.array(given), [len(ids[place]) for place in given])
    flat = pl.DataFrame({"place": places, "input_ids": np.concatenate([ids[place] for place in given])})
    lists = flat.group_by("place", maintain_order=True).agg("input_ids")
    every = pl.DataFrame({"place": np.arange(len(items))})
    return every.join(lists, on="place", how="left", maintain_order="left")["input_ids"].cast(dtype)
