"""The item table's columns, and the names kept from the user."""

import subprocess
import sys

from memprobe.items import CONTENT, ITEMS, RESERVED
from memprobe.items.schema import GIVEN


def test_columns_stand_in_the_order_of_writing() -> None:
    order = "item_id content_hash group exposures first_step last_step exposure_steps"
    order += " trained task_end_step batch_id doc_id foil_kind text prefix suffix foil input_ids"
    order += " segment_1 segment_2 source_id excerpt_id excerpt_words segment_words distance_words"
    order += " distance_bin excerpt_start_frac earlier_first split"
    order += " source_file source_line"
    assert list(ITEMS.columns) == order.split()
    assert ITEMS.open_ended


def test_reserved_names_are_none_that_a_file_may_give() -> None:
    assert not RESERVED & set(GIVEN)
    named = {"model", "revision", "step", "n_tokens", "n_prefix_tokens", "n_foil_tokens", "boundary_shift"}
    assert named | {"content_hash", "source_file", "source_line", "cohort_step"} <= RESERVED


def test_content_columns_are_in_the_table() -> None:
    assert set(CONTENT) < set(ITEMS.columns)


def test_importing_items_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'huggingface_hub', 'pyarrow', 'scipy'}"
    code = f"import sys, memprobe.items; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
