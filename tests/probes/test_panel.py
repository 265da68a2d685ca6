"""Items beside checkpoints."""

import polars as pl
from polars.testing import assert_frame_equal

from memprobe.probes.panel import cluster_numbers, sequence_frame, wide
from memprobe.probes.stability.tables import STABILITY_GAPS


def test_items_stand_beside_steps_in_the_order_of_their_ids_and_gaps_are_null() -> None:
    rows = pl.DataFrame(
        {"item_id": ["b", "a", "b"], "step": [20, 10, 10], "exact": [True, False, None], "other": [1, 2, 3]}
    )
    expected = pl.DataFrame({"item_id": ["a", "b"], "10": [0.0, None], "20": [None, 1.0]})
    assert_frame_equal(wide(rows, (10, 20), "exact"), expected)
    assert wide(rows, (20,), "exact").columns == ["item_id", "20"]


def test_items_of_one_document_have_one_number_and_an_id_is_no_document() -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "doc_id": ["item b", None, None, "item b"]})
    found = cluster_numbers(items)
    assert found.min() == 0
    assert found[0] == found[3]
    assert len(set(found.tolist())) == 3


def test_what_a_row_lacks_is_null_and_model_is_left_to_the_pipeline() -> None:
    found = sequence_frame([{"switch_step": 3, "eval_set": "a"}], STABILITY_GAPS)
    assert found.columns == [name for name in STABILITY_GAPS.columns if name != "model"]
    assert found["depth_of_gap"].to_list() == [None]
    assert sequence_frame([], STABILITY_GAPS).height == 0
