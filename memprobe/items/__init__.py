"""Items: what the user wants measured, read from files into one checked table.

`read` turns files into raw rows that know their line, `check` finds all their faults, and `itemset`
combines the two. The rules are in contract.md, section 1, "Item files".
"""

from memprobe.items.booksort import paper_edges
from memprobe.items.contradictions import doubts
from memprobe.items.copies import copies, copy_notes, n_copies
from memprobe.items.findings import FINDINGS, Inspected, findings_of, inspect_items, problem_row
from memprobe.items.itemset import ItemFile, ItemSet, read_items
from memprobe.items.schema import ITEMS, SKIPPED, TRIAL, is_reserved, own_columns
from memprobe.tables.content import CONTENT

__all__ = [
    "CONTENT",
    "FINDINGS",
    "ITEMS",
    "SKIPPED",
    "TRIAL",
    "Inspected",
    "ItemFile",
    "ItemSet",
    "copies",
    "copy_notes",
    "doubts",
    "findings_of",
    "inspect_items",
    "is_reserved",
    "n_copies",
    "own_columns",
    "paper_edges",
    "problem_row",
    "read_items",
]
