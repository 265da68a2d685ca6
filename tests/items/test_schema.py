"""The item table's columns, and the names kept from the user."""

import subprocess
import sys

from memprobe.items import CONTENT, ITEMS, is_reserved
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
    assert not [name for name in GIVEN if is_reserved(name)]
    named = {"model", "revision", "step", "n_tokens", "n_prefix_tokens", "n_foil_tokens", "boundary_shift"}
    named |= {"content_hash", "source_file", "source_line", "cohort_step", "same_content_as"}
    # Columns of probes' tables, those among them that only some settings write.
    named |= {"hit_frac", "greedy", "gen_text", "prompt_ids", "n_at_p0.5"}
    assert [name for name in named if not is_reserved(name)] == []
    assert not is_reserved("colour")


def test_content_columns_are_in_the_table() -> None:
    assert set(CONTENT) < set(ITEMS.columns)


def test_importing_items_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'huggingface_hub', 'pyarrow', 'scipy'}"
    code = f"import sys, memprobe.items; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
