"""Each way to break a schema has its message; what keeps it passes unchanged."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.errors import TableError
from memprobe.tables.schema import Column, TableSchema

COLUMNS = {
    "item_id": Column(pl.String(), "-", "the item"),
    "n": Column(pl.Int32(), "tokens", "how many"),
    "x_nats": Column(pl.Float64(), "nats", "a number", "undefined"),
}
CLOSED = TableSchema("toy", ("item_id", "n"), COLUMNS)
OPEN = TableSchema("toy", ("item_id", "n"), COLUMNS, open_ended=True)


def frame(**changed) -> pl.DataFrame:
    columns = {"item_id": ["a", "a", "b"], "n": [1, 2, 1], "x_nats": [0.5, None, float("-inf")]}
    types = {"item_id": pl.String, "n": pl.Int32, "x_nats": pl.Float64}
    return pl.DataFrame(columns, schema=types).with_columns(**changed)


def problems(schema: TableSchema, table: pl.DataFrame) -> list[str]:
    with pytest.raises(TableError) as caught:
        schema.check(table)
    return [problem.what for problem in caught.value.problems]


def test_a_table_that_keeps_its_promises_passes() -> None:
    CLOSED.check(frame())
    OPEN.check(frame(note=pl.lit("kept")))
    assert_frame_equal(CLOSED.conform(frame()), frame())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param(frame().drop("n"), "toy: column n is missing", id="missing"),
        pytest.param(
            frame(n=pl.Series([1, 2, 1], dtype=pl.Int64)), "toy: column n is Int64, not Int32", id="type"
        ),
        pytest.param(frame(note=pl.lit(1), more=pl.lit(2)), "toy: unknown columns note, more", id="further"),
        pytest.param(
            frame(n=pl.Series([1, None, None], dtype=pl.Int32)),
            "toy: 2 nulls in n, which is never null",
            id="null",
        ),
        pytest.param(frame(x_nats=pl.Series([float("nan"), None, 1.0])), "toy: 1 NaN in x_nats", id="nan"),
        pytest.param(frame(n=pl.Series([1, 1, 1], dtype=pl.Int32)), "toy: 2 rows share a key", id="key"),
    ],
)
def test_each_break_has_its_message(table, message) -> None:
    found = problems(CLOSED, table)
    assert message in found
    # A missing column takes its key check with it; nothing else is reported beside the break.
    assert found == [message]


def test_all_breaks_are_reported_at_once() -> None:
    broken = frame(
        n=pl.Series([1, None, 1], dtype=pl.Int64), x_nats=pl.lit(float("nan")), note=pl.lit("further")
    )
    assert problems(CLOSED, broken) == [
        "toy: column n is Int64, not Int32",
        "toy: unknown columns note",
        "toy: 1 nulls in n, which is never null",
        "toy: 3 NaN in x_nats",
    ]


def test_nan_in_a_further_column_is_refused_too() -> None:
    assert problems(OPEN, frame(score=pl.lit(float("nan")))) == ["toy: 3 NaN in score"]


def test_infinity_is_a_value() -> None:
    CLOSED.check(frame(x_nats=pl.Series([float("inf"), float("-inf"), None])))


def test_rows_that_agree_in_a_null_key_share_it() -> None:
    schema = TableSchema(
        "toy", ("item_id", "group"), {**COLUMNS, "group": Column(pl.String(), "-", "group", "none")}
    )
    table = frame(group=pl.lit(None, dtype=pl.String))
    assert problems(schema, table) == ["toy: 2 rows share a key"]
    with pytest.raises(TableError, match="key item_id, group"):
        schema.check(table)


def test_conform_orders_and_casts_and_puts_further_columns_last() -> None:
    shuffled = pl.DataFrame({"note": ["k"], "x_nats": [1], "n": [3], "item_id": ["a"]})
    expected = pl.DataFrame(
        {"item_id": ["a"], "n": [3], "x_nats": [1.0], "note": ["k"]},
        schema={"item_id": pl.String, "n": pl.Int32, "x_nats": pl.Float64, "note": pl.String},
    )
    assert_frame_equal(OPEN.conform(shuffled), expected)


@pytest.mark.parametrize("value", ["three", 2**40])
def test_conform_refuses_what_it_cannot_cast(value) -> None:
    with pytest.raises(TableError, match=r"^toy: "):
        CLOSED.conform(pl.DataFrame({"item_id": ["a"], "n": [value], "x_nats": [1.0]}))


def test_conform_names_all_missing_columns() -> None:
    with pytest.raises(TableError, match="toy: columns n, x_nats are missing"):
        CLOSED.conform(pl.DataFrame({"item_id": ["a"]}))


def test_conform_checks_what_it_made() -> None:
    with pytest.raises(TableError, match="2 rows share a key"):
        CLOSED.conform(pl.DataFrame({"item_id": ["a", "a"], "n": [1, 1], "x_nats": [1, 2]}))


def test_the_empty_table_keeps_the_schema() -> None:
    CLOSED.check(CLOSED.empty())
    assert CLOSED.empty().height == 0


def test_the_dictionary_says_what_null_means() -> None:
    expected = pl.DataFrame(
        {
            "column": ["item_id", "n", "x_nats"],
            "type": ["String", "Int32", "Float64"],
            "unit": ["-", "tokens", "nats"],
            "meaning": ["the item", "how many", "a number"],
            "null_means": ["never null", "never null", "undefined"],
        }
    )
    assert_frame_equal(CLOSED.dictionary(), expected)
