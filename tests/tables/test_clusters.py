"""Clusters of items: documents, copies, and what joins both. Rungs: by hand, a search in the test, order."""

import numpy as np
import polars as pl
import pytest

from memprobe.tables.clusters import cluster_names, components, connected

SCHEMA = dict.fromkeys(("item_id", "doc_id", "content_hash", "same_content_as"), pl.String)


def items(*rows: tuple[str, str | None, str, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_documents_and_copies_join_into_connected_components() -> None:
    # a and b share a document, b and c a text, c and d a document; e is alone.
    found = cluster_names(
        items(("a", "X", "1", None), ("b", "X", "2", None), ("c", "Y", "2", None), ("d", "Y", "3", None),
              ("e", None, "4", None))
    )  # fmt: skip
    assert found.to_list() == ["doc X"] * 4 + ["item e"]


def test_what_scoring_sees_as_the_same_joins_items_of_other_hashes() -> None:
    found = cluster_names(items(("a", None, "1", "a"), ("b", None, "2", "a"), ("c", None, "3", None)))
    assert found.to_list() == ["item a", "item a", "item c"]


def test_without_copies_a_cluster_is_the_document_or_the_item() -> None:
    frame = items(("a", "X", "1", None), ("b", "X", "2", None), ("c", None, "3", None))
    assert cluster_names(frame).to_list() == ["doc X", "doc X", "item c"]
    assert cluster_names(frame.drop("content_hash", "same_content_as")).to_list() == [
        "doc X",
        "doc X",
        "item c",
    ]


def test_batches_are_joined_by_copies_too() -> None:
    frame = items(("a", "B", "1", None), ("b", "B", "2", None), ("c", None, "2", None))
    found = cluster_names(frame.rename({"doc_id": "batch_id"}), "batch_id")
    assert found.to_list() == ["batch B"] * 3


@pytest.mark.parametrize("seed", range(20))
def test_components_are_those_of_a_search_and_do_not_depend_on_the_order(seed) -> None:
    rng = np.random.default_rng(seed)
    n = 30
    frame = pl.DataFrame(
        {
            "item_id": [f"i{k:02d}" for k in range(n)],
            "doc_id": [f"d{k}" if k < 12 else None for k in rng.integers(0, 25, n)],
            "content_hash": [f"h{k}" for k in rng.integers(0, 40, n)],
        },
        schema_overrides={"doc_id": pl.String},
    )
    rows = frame.rows()
    reached = {i: {i} for i in range(n)}
    for _ in range(n):
        for i in range(n):
            for j in range(n):
                same_document = rows[i][1] is not None and rows[i][1] == rows[j][1]
                if same_document or rows[i][2] == rows[j][2]:
                    reached[i] |= reached[j]
    lowest = [min(reached[i]) for i in range(n)]
    assert components(frame["doc_id"], frame["content_hash"]) == lowest
    names = dict(zip(frame["item_id"], cluster_names(frame), strict=True))
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    assert dict(zip(shuffled["item_id"], cluster_names(shuffled), strict=True)) == names
    together = [names[f"i{i:02d}"] == names[f"i{j:02d}"] for i in range(n) for j in range(n)]
    assert together == [lowest[i] == lowest[j] for i in range(n) for j in range(n)]


def test_rows_that_nothing_connects_are_alone() -> None:
    assert connected(4, []) == [0, 1, 2, 3]
    assert connected(5, [[4, 2], [2, 1]]) == [0, 1, 1, 3, 1]
    assert components(pl.Series([None, None], dtype=pl.String)) == [0, 1]
