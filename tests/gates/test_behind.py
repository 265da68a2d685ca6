"""The items behind a row: what no model could have learned is no pass of a limit on memory."""

import json

import pytest

from memprobe.bench.templates import placeholder_hashes, template_names
from memprobe.gates.dry_run import dry_run
from memprobe.gates.judge import gate
from memprobe.items import read_items
from memprobe.shipped import shipped_folder
from tests.gates.conftest import row

LOW, UNTRAINED = "max = 0.1", "\nuntrained = true"


def items(n, **facts):
    return [{"item_id": f"{facts.get('group')}-{i}", **facts} for i in range(n)]


def verdicts(result):
    return [each.verdict for each in result.rules[0].rows]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"exposures": 0}, "none of its 100 items was ever trained on"),
        ({"first_step": None}, "none of its 100 items was ever trained on"),
        ({"trained": False}, "none of its 100 items was ever trained on"),
        # The only checkpoint is of step 10.
        ({"first_step": 11}, "none of its 100 items was trained on by then"),
        ({"exposures": 4, "first_step": 11}, "none of its 100 items was trained on by then"),
    ],
)
def test_a_limit_that_only_unlearned_items_meet_is_no_pass(facts, said, judge):
    result = judge([row(0)], LOW, items=items(100, **facts))
    assert (result.exit_code, verdicts(result)) == (3, ["could not judge"])
    assert said in result.rules[0].rows[0].reason
    assert "untrained = true" in result.rules[0].rows[0].reason
    # That it is meant is for the rule to say.
    assert judge([row(0)], LOW + UNTRAINED, items=items(100, **facts)).exit_code == 0


@pytest.mark.parametrize(
    "facts", [{"exposures": 3}, {"first_step": 10}, {"first_step": 0}, {"trained": True}, {}]
)
def test_items_that_may_have_been_learned_are_judged(facts, judge):
    assert judge([row(0)], LOW, items=items(100, **facts)).exit_code == 0


def test_what_fails_fails_though_nothing_was_trained_on(judge):
    assert judge([row(60)], LOW, items=items(100, exposures=0)).exit_code == 1


def test_a_limit_from_below_is_judged_whoever_was_trained_on(judge):
    assert judge([row(100)], "min = 0.9", items=items(100, exposures=0)).exit_code == 0
    # The fewer are never learned, the more is memorized: here it is the minimum that caps memory.
    told = row(90, probe="forgetting", metric="never_learned_frac", step=None, revision=None)
    body = 'probe = "forgetting"\nmetric = "never_learned_frac"\nmin = 0.1'
    assert judge([told], body, items=items(100, exposures=0), steps=[10]).exit_code == 0


def test_early_checkpoints_may_stand_beside_one_that_trained_on_the_items(judge):
    rows = [row(0, step=step) for step in (0, 10)]
    assert judge(rows, LOW, items=items(100, first_step=5)).exit_code == 0
    first = f'{LOW}\nwhere = {{ step = "first" }}'
    assert judge(rows, first, items=items(100, first_step=5)).exit_code == 3
    assert judge(rows, f'{LOW}\nwhere = {{ step = "last" }}', items=items(100, first_step=5)).exit_code == 0


def test_the_group_that_a_row_is_about_counts(judge):
    held = items(50, group="canary", exposures=0) + items(50, group="text", exposures=4)
    rows = [row(0, 50, group="canary"), row(0, 50, group="text"), row(0, 50, condition="exposures=4")]
    for where, code in (('group = "canary"', 3), ('group = "text"', 0), ("exposures = 4", 0)):
        assert judge(rows, f"{LOW}\nwhere = {{ {where} }}", items=held).exit_code == code, where


def test_a_rule_about_untrained_items_does_not_judge_others(judge):
    held = items(99, exposures=0) + items(1, exposures=4)
    result = judge([row(0)], LOW + UNTRAINED, items=held)
    assert result.exit_code == 3
    assert "1 of 100 items may have been trained on" in result.rules[0].rows[0].reason


def test_where_may_say_that_untrained_items_are_meant(judge):
    rows = [row(0, condition=f"trained={each}") for each in ("true", "false")]
    held = items(50, exposures=0) + items(50, exposures=4)
    assert judge(rows, f"{LOW}\nwhere = {{ trained = false }}", items=held).exit_code == 0


def test_the_control_model_trained_on_nothing(judge):
    control = {"model": "m", "revision": "step10", "label": "m"}
    result = judge([row(0)], LOW, items=items(100, exposures=4), control=control)
    assert result.exit_code == 3


def test_a_pooled_row_says_how_many_of_its_items_are_controls(judge):
    held = items(60, group="control", exposures=0) + items(40, group="canary", exposures=4)
    told = judge([row(0), row(0, 40, group="canary")], LOW, items=held).rules[0]
    assert told.notes == (
        "60 of 100 items were never trained on and count here too: `group`, or `trained = true`, selects "
        "the others",
    )
    named = f'{LOW}\nwhere = {{ group = "canary" }}'
    assert judge([row(0), row(0, 40, group="canary")], named, items=held).rules[0].notes == ()


def test_the_items_of_every_template_are_known_by_their_content():
    for name in template_names():
        file = shipped_folder("data") / "templates" / name / "items.jsonl"
        assert set(read_items([str(file)]).table["content_hash"]) <= placeholder_hashes(), name


def test_a_single_placeholder_is_no_pass_and_no_failure(judge, tmp_path):
    held = items(99, exposures=4, content_hash="own")
    held += items(1, exposures=4, content_hash=min(placeholder_hashes()))
    for hits in (0, 90):
        result = judge([row(hits)], LOW, items=held)
        assert result.exit_code == 3
        assert "1 of its 100 items are the template's placeholder items" in result.rules[0].rows[0].reason


def test_a_dry_run_says_it_before(made, ruled):
    dry = dry_run(made([row(0)], items=items(100, exposures=0)), ruled(LOW))
    (told,) = dry.rules
    assert not told.is_ready
    assert "ever trained on" in told.reason
    assert dry.line == (
        "dry run: 1 rule, 0 with too few items or none, 1 that could not be judged otherwise; "
        "nothing was judged"
    )
    assert "ever trained on" in json.dumps(dry.document())
    assert dry_run(made([row(0)], items=items(100, exposures=2)), ruled(LOW)).rules[0].is_ready


def test_a_run_without_its_table_of_items_is_not_judged(made, ruled):
    run = made([row(0)], items=items(100, exposures=4))
    (run / "tables" / "items.parquet").unlink()
    result = gate(run, ruled(LOW))
    assert result.exit_code == 3
    assert "table of items is missing" in result.rules[0].reason
