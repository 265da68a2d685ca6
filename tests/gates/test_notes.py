"""What is said whatever the verdict is: several models or controls, missing values, items left out."""

import json
import xml.etree.ElementTree as ET

import pytest

from memprobe.gates.github import annotations
from memprobe.gates.judge import gate
from memprobe.gates.junit import to_junit
from memprobe.gates.listing import plain_lines
from memprobe.gates.markdown import to_markdown
from memprobe.gates.sarif import to_sarif
from tests.gates.conftest import row

LOW = "max = 0.1"


def test_a_rule_that_names_no_model_judges_all_and_says_which(judge):
    rows = [row(0, model="base"), row(90, model="tuned")]
    result = judge(rows, LOW)
    assert (result.exit_code, [each.verdict for each in result.rules[0].rows]) == (1, ["passed", "failed"])
    assert result.rules[0].notes == ("the rule names no model, so all of these are judged: base, tuned",)
    assert judge(rows, f'{LOW}\nwhere = {{ model = "base" }}').rules[0].notes == ()


def test_the_control_is_called_so(judge):
    control = {"model": "twin", "revision": "step10", "label": "twin"}
    (note,) = judge([row(0), row(0, model="twin")], LOW, control=control).rules[0].notes
    assert note.endswith("judged: m, twin (the control)")


def test_a_model_whose_rows_the_rule_misses_is_no_pass(judge):
    # Of k the group is not there, as where no item of it fits the context.
    rows = [row(0, group="a"), row(0), row(0, model="k")]
    result = judge(rows, f'{LOW}\nwhere = {{ group = "a" }}')
    assert result.exit_code == 3
    assert result.rules[0].reason == "no row of k is selected: name `model` in `where` if that is intended"
    assert judge(rows, f'{LOW}\nwhere = {{ group = "a", model = "m" }}').exit_code == 0


def test_a_step_that_only_one_model_has_is_meant(judge):
    rows = [row(0, step=10), row(0, model="k", step=20)]
    result = judge(rows, f"{LOW}\nwhere = {{ step = 10 }}")
    assert result.exit_code == 0
    assert "without such a number: k" in result.rules[0].notes[0]


def test_a_model_without_the_last_checkpoint_is_no_pass(judge):
    rows = [row(0, step=10), row(0, step=20), row(0, model="k", step=10)]
    run = {"state": "incomplete", "failures": [{"model": "k", "revision": "step20", "step": 20}]}
    result = judge(rows, f'{LOW}\nwhere = {{ step = "last" }}', allow_incomplete=True, **run)
    assert result.exit_code == 3
    assert result.notes == ("judged by what there is: 1 checkpoint of the run failed, the first k step20",)


def test_several_controls_are_named(judge):
    about = {"metric": "exact_excess_frac", "ci_method": "newcombe"}
    rows = [row(3, **about, condition=f"control={each}") for each in ("never-trained", "twin")]
    (note,) = judge(rows, 'metric = "exact_excess_frac"\nmax = 0.9').rules[0].notes
    assert note.endswith("is judged: never-trained, twin")


@pytest.mark.parametrize(
    ("n_missing", "code"),
    [
        (1, 0),
        # 11 of 111 are 9.9%, 12 of 112 are 10.7%.
        (11, 0),
        (12, 3),
    ],
)
def test_items_without_a_value_are_counted_and_many_are_no_pass(n_missing, code, judge):
    result = judge([row(0) | {"n_missing": n_missing}], LOW)
    assert result.exit_code == code
    assert result.rules[0].notes == (f"{n_missing} of {100 + n_missing} items have no value",)


def test_that_most_items_were_never_learned_is_no_missing_value(judge):
    told = row(3, probe="forgetting", metric="never_learned_frac", step=None, revision=None)
    body = 'probe = "forgetting"\nmetric = "never_learned_frac"\nmin = 0.001'
    assert judge([told | {"n_missing": 900}], body, steps=[10]).rules[0].verdict == "passed"


def test_a_maximum_of_what_is_less_memory_is_asked_about(judge, made, ruled):
    run = made([row(3, probe="forgetting", metric="never_learned_frac", step=None, revision=None)])
    file = run / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["probes"]["forgetting"]["metrics"][0]["more_is_memorized"] = False
    file.write_text(json.dumps(manifest))
    body = 'probe = "forgetting"\nmetric = "never_learned_frac"\nmax = 0.9'
    (note,) = gate(run, ruled(body)).rules[0].notes
    assert note.startswith("more never_learned_frac means less memorized")


def test_items_that_were_left_out_of_the_run_are_counted(made, ruled):
    run = made([row(0)], items=[{"item_id": "a"}])
    file = run / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["items"] |= {"n_skipped": 2, "n_unfit": 1}
    manifest["flags"] = {"limit": 100}
    file.write_text(json.dumps(manifest))
    assert gate(run, ruled(LOW)).notes == (
        "the run holds only the first 100 items of its files (--limit)",
        "2 items left out as bad input (skipped.jsonl)",
        "1 item left out of some probe, which cannot measure them (skipped.jsonl)",
    )


def test_rules_that_only_warn_are_told_of(judge):
    result = judge([row(90)], f'{LOW}\nseverity = "warn"')
    assert (result.exit_code, result.notes) == (0, ("every rule is of severity warn: nothing can fail",))


def test_every_form_says_the_notes_and_the_verdict_last(judge, tmp_path):
    rows = [row(0, model="base"), row(0, model="tuned")]
    result = judge(rows, LOW, f'{LOW}\nseverity = "warn"')
    note = "so all of these are judged: base, tuned"
    assert plain_lines(result)[-1] == result.line
    assert note in to_markdown(result)
    assert to_markdown(result).rstrip().endswith("**")
    assert note in "".join(ET.fromstring(to_junit(result)).itertext())
    assert note in to_sarif(result, tmp_path)
    assert note in json.dumps(result.document())
    assert [line for line in annotations(result, tmp_path) if line.startswith("::notice::")]
