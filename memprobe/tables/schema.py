"""Schemas of tables: a name, a key, and typed columns, each with a unit and a meaning of null.

Schemas are checked when a stage writes or reads a table. The data dictionary is printed from the same
objects, so units cannot drift from the documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from memprobe.errors import Problem, TableError
from memprobe.wording import counted

# pl.Int64() and pl.Int64 are both accepted where a dtype is asked for; schemas hold instances.
DType = pl.DataType


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        dtype: Polars type of the column.
        unit: Unit of its values, `-` for names and flags.
        meaning: Meaning of its values, in a few words.
        null_means: Meaning of null; None: the column is never null.
    """

    dtype: DType
    unit: str
    meaning: str
    null_means: str | None = None


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The name, key and columns of a table.

    Attributes:
        name: Name of the table, which is the stem of its file.
        key: Columns whose values together differ in any two rows.
        columns: Name to column, in the order of writing.
        open_ended: Whether further columns are allowed (the user's own, or one per scheme).
        optional: Columns that exist only under some settings. A name that ends in `*` stands for all names
            that begin so; `{}` in its meaning stands for the rest of the name.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, Column]
    open_ended: bool = False
    optional: Mapping[str, Column] = field(default_factory=dict)

    def described(self, name: str) -> Column | None:
        """Return the description of a column, optional or not; None if the table has no such column."""
        if name in self.columns or name in self.optional:
            return self.columns.get(name) or self.optional[name]
        for pattern, column in self.optional.items():
            start = pattern.removesuffix("*")
            if pattern != start and name.startswith(start):
                return replace(column, meaning=column.meaning.format(name.removeprefix(start)))
        return None

    def empty(self) -> pl.DataFrame:
        """Return the table with no rows."""
        return pl.DataFrame(schema={name: column.dtype for name, column in self.columns.items()})

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return `frame` with this schema's column order and types; further columns go last.

        Raises:
            TableError: A column is missing or cannot be cast, or the frame does not fit the schema.
        """
        missing = [name for name in self.columns if name not in frame.columns]
        if missing:
            raise TableError(f"{self.name}: columns {', '.join(missing)} are missing")
        further = [name for name in frame.columns if name not in self.columns]
        try:
            ordered = frame.select(
                *(pl.col(name).cast(column.dtype) for name, column in self.columns.items()), *further
            )
        except pl.exceptions.InvalidOperationError as error:
            raise TableError(f"{self.name}: {error}") from error
        self.check(ordered)
        return ordered

    def check(self, frame: pl.DataFrame) -> None:
        """Check names, types, nulls, NaN and the key.

        Raises:
            TableError: The frame does not fit the schema; the message lists all problems.
        """
        problems = [*self._column_problems(frame), *self._value_problems(frame)]
        if not problems and frame.select(self.key).is_duplicated().any():
            count = int(frame.select(self.key).is_duplicated().sum())
            shared = f"{self.name}: {counted(count, 'row')} share a key"
            problems.append(Problem(shared, f"key {', '.join(self.key)}"))
        if problems:
            raise TableError(problems)

    def _column_problems(self, frame: pl.DataFrame) -> list[Problem]:
        problems = []
        for name, column in self.columns.items():
            if name not in frame.columns:
                problems.append(Problem(f"{self.name}: column {name} is missing"))
            elif frame.schema[name] != column.dtype:
                problems.append(
                    Problem(f"{self.name}: column {name} is {frame.schema[name]}, not {column.dtype}")
                )
        further = [name for name in frame.columns if name not in self.columns]
        if further and not self.open_ended:
            problems.append(Problem(f"{self.name}: unknown columns {', '.join(further)}"))
        return problems

    def _value_problems(self, frame: pl.DataFrame) -> list[Problem]:
        problems = []
        for name in frame.columns:
            column = self.columns.get(name)
            n_null = frame[name].null_count()
            if column is not None and column.null_means is None and n_null:
                problems.append(Problem(f"{self.name}: {n_null} nulls in {name}, which is never null"))
            if frame.schema[name].is_float() and (n_nan := int(frame[name].is_nan().sum())):
                problems.append(
                    Problem(f"{self.name}: {n_nan} NaN in {name}", fix="an undefined value is null")
                )
        return problems

    def dictionary(self) -> pl.DataFrame:
        """Return one row per column: name, type, unit, meaning, meaning of null."""
        return pl.DataFrame(
            {
                "column": list(self.columns),
                "type": [str(column.dtype) for column in self.columns.values()],
                "unit": [column.unit for column in self.columns.values()],
                "meaning": [column.meaning for column in self.columns.values()],
                "null_means": [column.null_means or "never null" for column in self.columns.values()],
            }
        )
