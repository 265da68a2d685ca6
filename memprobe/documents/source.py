"""Read documents from item files: text items, with columns that are copied to their windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from memprobe.errors import ItemError, Problem
from memprobe.items import CONTENT, ITEMS, read_items

# What belongs to the document as a whole or to its place in a file.
_NOT_CARRIED: Final = frozenset(
    (*CONTENT, "item_id", "content_hash", "foil_kind", "doc_id", "source_file", "source_line")
)
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Document:
    """One text.

    Attributes:
        name: The item_id, after which the windows are named.
        doc_id: The cluster of its windows.
        text: The text as the file has it, a byte-order mark left out; line ends of a .txt are plain.
        where: File and line of the document.
        carried: Other values of its row: group, training steps, the user's own columns.
    """

    name: str
    doc_id: str
    text: str
    where: str
    carried: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Documents:
    """All documents, and the types of the columns that are carried.

    Attributes:
        documents: In the order of the files.
        schema: Name and type of each carried column.
    """

    documents: tuple[Document, ...]
    schema: dict[str, pl.DataType]


def read_documents(
    specs: Sequence[str], *, limit: int | None = None, offline: bool = False, mapping: Sequence[str] = ()
) -> Documents:
    """Read documents: .txt files, or the text items of item files.

    Args:
        specs: As `read_items` takes them.
        limit: The first so many of all files together.
        offline: Refuse the network.
        mapping: As for `read_items`.

    Raises:
        InputError: The mapping is wrong.
        ItemError: A file is wrong, or an item is not text.
        SafetyError: A data set would have to come over the network under `offline`.
    """
    items = read_items(specs, limit=limit, offline=offline, mapping=mapping)
    table = items.table
    if problems := _not_text(table):
        raise ItemError(problems)
    names = [
        name
        for name in table.columns
        if name not in _NOT_CARRIED and (name not in ITEMS.columns or name in items.given)
    ]
    carried = table.select(names).iter_rows(named=True) if names else ({} for _ in range(table.height))
    rows = table.select("item_id", "doc_id", "text", "source_file", "source_line").iter_rows()
    return Documents(
        documents=tuple(
            Document(name, doc_id or name, text, f"{file}, line {line}", dict(more))
            for (name, doc_id, text, file, line), more in zip(rows, carried, strict=True)
        ),
        schema={name: table.schema[name] for name in names},
    )


def _not_text(table: pl.DataFrame) -> list[Problem]:
    """Return the items that cannot be cut, the first five in full."""
    others = table.filter(pl.col("text").is_null()).select("item_id", "source_file", "source_line", "prefix")
    problems = [
        Problem(
            f"item {item} {'is cut already' if prefix is not None else 'is given as token ids'}",
            f"{file}, line {line}",
            "give documents as .txt files or items with `text`, ids as .npy, .bin/.idx, .arrow or .parquet",
        )
        for item, file, line, prefix in others.head(_MAX_SHOWN).iter_rows()
    ]
    if others.height > _MAX_SHOWN:
        problems.append(Problem(f"and {others.height - _MAX_SHOWN} more without `text`"))
    return problems
